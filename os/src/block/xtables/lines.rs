//! What a program prints, piece by piece, as lines.

/// A longer line is dropped whole. What iptables-save and ipset print for a rule or a member is a few
/// hundred bytes, comments of 256 included.
const LINE_MAX: usize = 8 * 1024;

/// Puts pieces together to lines.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
    too_long: bool,
}

impl Lines {
    /// Hands on every line that ends in this piece. One that is not UTF-8 or too long is not handed on.
    pub fn take(&mut self, piece: &[u8], mut each: impl FnMut(&str)) {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.begun.is_empty() && !self.too_long {
                hand_on(line, &mut each);
            } else {
                self.add(line);
                if !self.too_long {
                    hand_on(&self.begun, &mut each);
                }
            }
            self.begun.clear();
            self.too_long = false;
            rest = after;
        }
        self.add(rest);
    }

    fn add(&mut self, bytes: &[u8]) {
        self.too_long |= self.begun.len() + bytes.len() > LINE_MAX;
        if !self.too_long {
            self.begun.extend_from_slice(bytes);
        }
    }
}

fn hand_on(line: &[u8], each: &mut impl FnMut(&str)) {
    if line.len() <= LINE_MAX {
        _ = std::str::from_utf8(line).map(each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines_and_what_is_no_line_is_dropped() {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        let long = vec![b'x'; LINE_MAX];
        for piece in [&b"one\ntw"[..], b"o\n", &long, b"y\n", b"\xff\n\nthree\nnever ended", &long] {
            lines.take(piece, |line| got.push(line.to_owned()));
        }
        assert_eq!(got, ["one", "two", "", "three"]);
    }
}
