//! How output lies on disk: frames of a mark, the stream, the time, the length and the bytes. A
//! frame that was cut off by a crash is recognised and ends the file.

use berth_domain::ids::AttemptRef;
use bytes::Bytes;

use crate::runtime::{OutputLine, OutputStream};

/// The first byte of every frame.
const MARK: u8 = 0xB5;
/// Mark, stream, time (8) and length (4).
pub(crate) const HEADER_BYTES: usize = 14;
/// The largest payload of a frame; longer pieces are cut.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 64 << 10;

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const SYSTEM: u8 = 3;
const END: u8 = 4;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A piece of output.
    Line(OutputLine),
    /// The output is complete, and so many bytes of it were dropped.
    End {
        /// Bytes that were not kept.
        dropped_bytes: u64,
    },
}

/// Names the file of an attempt's output.
pub(crate) fn path(attempt: &AttemptRef) -> String {
    format!("logs/{}.log", crate::outbox::file_stem(attempt))
}

/// Writes a frame behind others.
pub(crate) fn encode(frame: &Frame, out: &mut Vec<u8>) {
    let (kind, time_ns, payload): (u8, u64, &[u8]) = match frame {
        Frame::Line(line) => {
            let kind = match line.stream {
                OutputStream::Stdout => STDOUT,
                OutputStream::Stderr => STDERR,
                OutputStream::System => SYSTEM,
            };
            (kind, line.time_ns, &line.bytes)
        }
        Frame::End { dropped_bytes } => (END, *dropped_bytes, &[]),
    };
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&[MARK, kind]);
    out.extend_from_slice(&time_ns.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(payload);
}

/// What stands at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// A frame, and the bytes it takes.
    Frame(Frame, usize),
    /// The start of a frame: more bytes are needed.
    Partial,
    /// No frame.
    Damaged,
}

/// Reads the frame at the start of some bytes.
pub(crate) fn decode(bytes: &[u8]) -> Decoded {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return if bytes.first().is_none_or(|first| *first == MARK) {
            Decoded::Partial
        } else {
            Decoded::Damaged
        };
    };
    let stream = match (header[0], header[1]) {
        (MARK, STDOUT) => Some(OutputStream::Stdout),
        (MARK, STDERR) => Some(OutputStream::Stderr),
        (MARK, SYSTEM) => Some(OutputStream::System),
        (MARK, END) => None,
        _ => return Decoded::Damaged,
    };
    let time_ns = u64::from_le_bytes(array(&header[2..10]));
    let length = u32::from_le_bytes(array(&header[10..14])) as usize;
    if length > MAX_PAYLOAD_BYTES {
        return Decoded::Damaged;
    }
    let Some(payload) = rest.get(..length) else { return Decoded::Partial };
    let frame = match stream {
        Some(stream) => Frame::Line(OutputLine { stream, time_ns, bytes: Bytes::copy_from_slice(payload) }),
        None => Frame::End { dropped_bytes: time_ns },
    };
    Decoded::Frame(frame, HEADER_BYTES + length)
}

/// Copies a slice whose length is known.
fn array<const N: usize>(slice: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(slice);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &'static str) -> Frame {
        let bytes = Bytes::from_static(text.as_bytes());
        Frame::Line(OutputLine { stream: OutputStream::Stderr, time_ns: 7, bytes })
    }

    #[test]
    fn frames_read_back_and_every_cut_is_seen() {
        for frame in [line("hello\n"), line(""), Frame::End { dropped_bytes: 9 }] {
            let mut bytes = Vec::new();
            encode(&frame, &mut bytes);
            assert_eq!(decode(&bytes), Decoded::Frame(frame, bytes.len()));
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), Decoded::Partial, "cut at {cut}");
            }
        }
    }

    #[test]
    fn zeros_and_rubbish_are_no_frames() {
        assert_eq!(decode(&[0; 64]), Decoded::Damaged);
        assert_eq!(decode(b"x"), Decoded::Damaged);
        assert_eq!(decode(&[MARK, STDOUT, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]), Decoded::Damaged);
    }
}
