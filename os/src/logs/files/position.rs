//! How far a path was read, as a text to keep.
//!
//! `1 MARK[ MARK...]`, oldest file first; a mark is decimal fields joined by `:`
//!
//! | field | what |
//! |---|---|
//! | device, inode | which file it was; the device may have another number after a reboot |
//! | offset | start of the first line not handed out, in bytes |
//! | length | of the head, 0..=256: fewer when the file was shorter |
//! | hash | FNV-1a, 64 bits, of the head: the file's first bytes |

use std::fmt::Write;

/// How much of a file's beginning tells it from another: two or three log lines with their times.
pub(super) const HEAD: usize = 256;

/// More marks than a path can have files at once are not ours.
const MARKS_MAX: usize = 32;

/// Which file, as the kernel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    pub(super) dev: u64,
    pub(super) ino: u64,
}

/// How far one file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) id: FileId,
    pub(super) offset: u64,
    pub(super) head: usize,
    pub(super) hash: u64,
}

/// FNV-1a (Fowler, Noll, Vo): the same on every machine and in every version. An attacker who can
/// make two heads collide writes the log already.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Writes the marks into `out`, which is emptied first.
pub(super) fn write(marks: impl Iterator<Item = Mark>, out: &mut String) {
    out.clear();
    out.push('1');
    for m in marks {
        write!(out, " {}:{}:{}:{}:{}", m.id.dev, m.id.ino, m.offset, m.head, m.hash).expect("writing to a String cannot fail");
    }
}

/// Reads what [`write()`] wrote. `None` for anything else.
pub(super) fn read(text: &str) -> Option<Vec<Mark>> {
    let mut words = text.split(' ');
    if words.next() != Some("1") {
        return None;
    }
    let marks: Vec<Mark> = words.map(mark).take(MARKS_MAX + 1).collect::<Option<_>>()?;
    (1..=MARKS_MAX).contains(&marks.len()).then_some(marks)
}

fn mark(word: &str) -> Option<Mark> {
    let mut fields = word.split(':').map(|field| field.parse::<u64>().ok());
    let mut next = || fields.next().flatten();
    let id = FileId { dev: next()?, ino: next()? };
    let (offset, head, hash) = (next()?, usize::try_from(next()?).ok()?, next()?);
    (fields.next().is_none() && head <= HEAD).then_some(Mark { id, offset, head, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip_and_garbage_is_none() {
        let marks = [
            Mark { id: FileId { dev: 1, ino: 2 }, offset: 3, head: 4, hash: u64::MAX },
            Mark { id: FileId { dev: 9, ino: 8 }, offset: 0, head: 0, hash: hash(b"") },
        ];
        let mut text = String::from("old");
        write(marks.into_iter(), &mut text);
        assert_eq!(read(&text).as_deref(), Some(&marks[..]));
        for wrong in ["", "1", "2 1:2:3:4:5", "1 1:2:3:4", "1 1:2:3:4:5:6", "1 1:2:3:257:5", "1 a:2:3:4:5", "1 1:2:3:4:5  "] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert_eq!(read(&format!("1{}", " 1:2:3:4:5".repeat(1000))), None);
        // The published test vector: kept texts must not change their meaning.
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
