//! Standard output: written as a whole, flushed, and its errors told, except that a reader who went away is
//! no error.
//!
//! Commands that print a document do so through [`write()`] alone; nothing else here prints.

use std::io::{self, BufWriter, ErrorKind, Write};

use super::Failure;

/// Runs `print` on standard output and flushes it.
///
/// # Errors
/// [`Failure::cannot`] where the output failed, such as on a full disk. A closed pipe (`loopscope | head`) is
/// none: what was wanted has been read.
pub fn write(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = print(&mut out).and_then(|()| out.flush());
    // What a failed write left in the buffer must not be tried again by its drop.
    let _ = out.into_parts();
    ignore_closed_pipe(result)
}

/// The failure of an output's `result`; a closed pipe is none.
///
/// # Errors
/// As [`write()`].
pub fn ignore_closed_pipe(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::cannot(format!(
            "cannot write to standard output: {error}; the output is incomplete, send it elsewhere"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_who_went_away_is_no_failure_but_a_full_disk_is() {
        assert_eq!(ignore_closed_pipe(Err(ErrorKind::BrokenPipe.into())), Ok(()));
        assert_eq!(ignore_closed_pipe(Err(ErrorKind::StorageFull.into())).unwrap_err().code, 1);
    }
}
