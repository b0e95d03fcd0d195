//! What a program prints, line by line, so that a list of any length needs the memory of one line.

use std::io::{self, Write};

use super::{Tool, ToolError};

/// A line is cut here: far above what a firewall's program prints of one rule, state or address.
const LINE_MAX: usize = 4096;

/// Pieces in, lines out.
struct Lines<F> {
    rest: Vec<u8>,
    each: F,
}

impl<F: FnMut(&str) -> io::Result<()>> Lines<F> {
    fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let room = LINE_MAX.saturating_sub(self.rest.len());
            self.rest.extend_from_slice(&text[..text.len().min(room)]);
            if part.len() > text.len() {
                self.end()?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let done = (self.each)(&String::from_utf8_lossy(&self.rest));
        self.rest.clear();
        done
    }
}

impl Tool {
    /// Runs it with this on its standard input and hands on each line it prints that is not empty, cut
    /// at 4096 bytes, and with what is no UTF-8 replaced. What it wrote to standard error, printable and cut.
    ///
    /// # Errors
    /// As [`Tool::run`], but for the length of what it prints.
    pub fn lines(
        &self,
        arguments: &[&str],
        input: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
        mut each: impl FnMut(&str),
    ) -> Result<String, ToolError> {
        let each = |line: &str| {
            each(line);
            Ok(())
        };
        self.try_lines(arguments, input, each)
    }

    /// As [`Self::lines`], until `each` has enough.
    ///
    /// # Errors
    /// As there, and that of `each`.
    pub fn try_lines(
        &self,
        arguments: &[&str],
        input: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
        each: impl FnMut(&str) -> io::Result<()>,
    ) -> Result<String, ToolError> {
        let mut lines = Lines { rest: Vec::new(), each };
        let ran = self.stream(arguments, input, |piece| lines.push(piece))?;
        lines.end().map_err(|source| ToolError::Run { call: self.call(arguments), source })?;
        if ran.status.success() {
            return Ok(ran.complaint);
        }
        Err(ToolError::Failed { call: self.call(arguments), status: ran.status, complaint: ran.complaint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_the_pieces_are_cut() {
        let text = b"one\n\ntwo two\nthree";
        for size in 1..text.len() {
            let mut all = Vec::new();
            let each = |line: &str| {
                all.push(line.to_owned());
                Ok(())
            };
            let mut lines = Lines { rest: Vec::new(), each };
            text.chunks(size).for_each(|piece| lines.push(piece).unwrap());
            lines.end().unwrap();
            assert_eq!(all, ["one", "two two", "three"], "pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_an_end_needs_no_memory() {
        let mut longest = 0;
        let each = |line: &str| {
            longest = longest.max(line.len());
            Ok(())
        };
        let mut lines = Lines { rest: Vec::new(), each };
        (0..100).for_each(|_| lines.push(&[b'x'; 1000]).unwrap());
        lines.push(b"\n").unwrap();
        assert_eq!((longest, LINE_MAX), (LINE_MAX, 4096));
    }

    #[test]
    fn an_exit_code_is_an_error_with_what_was_said() {
        let sh = Tool::find("sh", &["/bin".into()]).unwrap();
        let mut printed = Vec::new();
        let error = sh.lines(&["-c", "echo half; echo why >&2; exit 2"], |_| Ok(()), |line| printed.push(line.to_owned())).unwrap_err();
        assert_eq!((error.code(), error.complaint(), printed.as_slice()), (Some(2), "why", &["half".to_owned()][..]));
    }
}
