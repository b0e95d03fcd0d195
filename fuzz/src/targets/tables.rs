//! Any bytes as a table of any format: read the same in whatever pieces they come, and nothing panics.
use palisade_core::tables::{Format, Item, REASON_MAX, Reader};
use palisade_core::time::Stamp;

const NOW: Stamp = Stamp(1_795_366_800_000);

fn items(format: Format, table: &[u8], piece: usize) -> Vec<(u64, Item)> {
    let mut all = Vec::new();
    let mut reader = Reader::new(format, NOW);
    for bytes in table.chunks(piece) {
        reader.push(bytes, &mut |line, item| all.push((line, item)));
    }
    reader.finish(&mut |line, item| all.push((line, item)));
    all
}

/// Tries one input.
pub fn run(data: &[u8]) {
    let Some(([format, piece], table)) = data.split_first_chunk() else { return };
    let format = Format::ALL[usize::from(*format) % Format::ALL.len()];
    let whole = items(format, table, table.len().max(1));
    assert_eq!(items(format, table, usize::from(*piece).max(1)), whole);
    for (_, item) in whole {
        if let Item::Ban(row) = item {
            assert!(row.reason.len() <= REASON_MAX && row.offences > 0);
        }
    }
}
