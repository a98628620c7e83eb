//! Reads Docker's output stream: each piece starts with the time at which Docker read it.

use bollard::container::LogOutput;
use bytes::Bytes;

use super::seen::time_ns;
use crate::runtime::{OutputLine, OutputStream};

/// Reads one piece; `None` for what is no output.
pub(super) fn line(piece: LogOutput) -> Option<OutputLine> {
    let (stream, message) = match piece {
        LogOutput::StdOut { message } => (OutputStream::Stdout, message),
        LogOutput::StdErr { message } => (OutputStream::Stderr, message),
        LogOutput::StdIn { .. } | LogOutput::Console { .. } => return None,
    };
    let (time_ns, bytes) = split(message)?;
    Some(OutputLine { stream, time_ns, bytes })
}

fn split(message: Bytes) -> Option<(u64, Bytes)> {
    let space = message.iter().position(|byte| *byte == b' ')?;
    let time = std::str::from_utf8(&message[..space]).ok().and_then(time_ns)?;
    Some((time, message.slice(space + 1..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_taken_off_and_the_bytes_stay_as_they_are() {
        let message = Bytes::from_static(b"1970-01-01T00:00:01.000000000Z \xff a b\n");
        let line = line(LogOutput::StdErr { message }).expect("it is output");
        assert_eq!((line.stream, line.time_ns), (OutputStream::Stderr, 1_000_000_000));
        assert_eq!(&line.bytes[..], b"\xff a b\n");
    }

    #[test]
    fn what_has_no_time_is_no_output() {
        assert_eq!(line(LogOutput::StdOut { message: Bytes::from_static(b"hello") }), None);
    }
}
