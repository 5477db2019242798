//! A document as JSON: one object on one line, nothing else.
//!
//! The names and their order are those of the types; nothing is renamed or left out here.

use std::io::{self, Write};

use serde::Serialize;

/// Writes `document` and a newline.
pub fn write(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    // From keeps the kind of an error of the output, so that a closed pipe is still known as one.
    serde_json::to_writer(&mut *out, document).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::super::document::Report;
    use super::*;

    #[test]
    fn a_document_is_one_line() {
        let mut out = Vec::new();
        write(&Report { host: "a\nb".to_owned(), ..Report::default() }, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.ends_with("}\n"), "{text}");
    }

    #[test]
    fn a_closed_pipe_is_reported_as_one() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = write(&Report::default(), &mut Closed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
