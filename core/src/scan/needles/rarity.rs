//! How rare a text is in ordinary logs: guessed from its letters and from words that are everywhere.

/// Shorter ones stand in every other line.
const SHORT: usize = 3;

/// Words that stand in many innocent lines. A needle made of them weighs little.
const COMMON: &[u8] =
    b"from user User for port the to in on of by at is not and client server host login connection Connection connect request \
    address error warning info root session closed open opened auth ssh2 pid uid index php html http https HTTP POST GET \
    HEAD post get head admin with name method authentication Authentication authenticated Authenticated received Received \
    disconnect disconnected Disconnected COMMAND Mozilla mozilla ://";

/// How rare a text is in ordinary logs, roughly: what its bytes weigh, those of common words and
/// numbers next to nothing.
pub(in super::super) fn weight(text: &[u8]) -> u32 {
    if text.len() < SHORT {
        return 0;
    }
    let same = |a: &u8, b: &u8| a.is_ascii_alphanumeric() == b.is_ascii_alphanumeric();
    let pieces = text.split(|byte| *byte == b' ').flat_map(|word| word.chunk_by(same));
    pieces.map(piece_weight).sum::<u32>() + u32::from(text.contains(&b' '))
}

/// The same of a word, or of what stands between words.
fn piece_weight(piece: &[u8]) -> u32 {
    // A piece of a common word is as common.
    if piece.len() > 1 && memchr::memmem::find(COMMON, piece).is_some() {
        return 2;
    }
    // A dash, a bracket, a colon; a letter that was cut off its word.
    if piece.len() == 1 {
        return 1;
    }
    piece
        .iter()
        .map(|byte| match byte {
            b'0'..=b'9' => 1,
            b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 2,
            b'A'..=b'Z' => 4,
            _ => 3,
        })
        .sum()
}
