//! Commands that do something: end, wait, use up memory or a core, write, connect, listen.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::{self, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixListener, UnixStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::{Failure, Outcome};

/// Bytes in one of `alloc`'s megabytes, which are Docker's: powers of two.
const MEGABYTE_BYTES: usize = 1024 * 1024;

/// Ends with the given status.
pub fn exit(status: &str) -> Outcome {
    status
        .parse::<u8>()
        .map(ExitCode::from)
        .map_err(|_| Failure::Usage(format!("a status is 0 to 255, not {status:?}")))
}

/// Waits for the given number of seconds.
pub fn sleep(seconds: &str) -> Outcome {
    std::thread::sleep(parse_seconds(seconds)?);
    Ok(ExitCode::SUCCESS)
}

/// Allocates memory, touches every page, says so, and holds it for the given number of seconds.
///
/// The memory grows by one megabyte at a time, so that a limit is met as an ordinary program meets it.
pub fn alloc(megabytes: &str, seconds: &str) -> Outcome {
    let count: usize = parse_count(megabytes)?;
    let hold = parse_seconds(seconds)?;
    let mut held = Vec::new();
    for done in 0..count {
        let mut block: Vec<u8> = Vec::new();
        block
            .try_reserve_exact(MEGABYTE_BYTES)
            .map_err(|_| Failure::Work(format!("no memory after {done} MB")))?;
        block.resize(MEGABYTE_BYTES, 1);
        held.push(black_box(block));
    }
    writeln!(io::stdout(), "allocated {count} MB")?;
    std::thread::sleep(hold);
    black_box(&held);
    Ok(ExitCode::SUCCESS)
}

/// Keeps one core busy for the given number of seconds.
pub fn hog(seconds: &str) -> Outcome {
    let duration = parse_seconds(seconds)?;
    let started = Instant::now();
    let mut spun = 0u64;
    while started.elapsed() < duration {
        for _ in 0..10_000 {
            spun = black_box(spun.wrapping_add(1));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the words, separated by spaces, as one line.
pub fn echo(out: &mut dyn Write, words: &[&str]) -> Outcome {
    writeln!(out, "{}", words.join(" "))?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Prints numbered lines from `line 1`, each padded to at least the given length, its newline included.
pub fn lines(count: &str, bytes: &str) -> Outcome {
    let count: u64 = parse_count(count)?;
    let width = parse_count::<usize>(bytes)?.saturating_sub(1);
    let mut out = BufWriter::new(io::stdout().lock());
    for number in 1..=count {
        let mut text = format!("line {number}");
        if text.len() < width {
            text.push(' ');
            text.extend(std::iter::repeat_n('.', width - text.len()));
        }
        writeln!(out, "{text}")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Appends a line to a file and returns only when it is on disk.
pub fn write_witness(file: &str, text: &str) -> Outcome {
    let name = |error| Failure::Work(format!("{file}: {error}"));
    let mut witness = OpenOptions::new().create(true).append(true).open(file).map_err(name)?;
    witness.write_all(format!("{text}\n").as_bytes()).map_err(name)?;
    witness.sync_all().map_err(name)?;
    Ok(ExitCode::SUCCESS)
}

/// Opens a TCP connection, names resolved as for any program, and prints whom it reached; or one to an abstract
/// name of this network namespace.
pub fn connect(address: &str) -> Outcome {
    if let Some(name) = address.strip_prefix('@') {
        let work = |error| Failure::Work(format!("{address}: {error}"));
        let reached = unix::SocketAddr::from_abstract_name(name);
        reached.and_then(|name| UnixStream::connect_addr(&name)).map_err(work)?;
        writeln!(io::stdout(), "connected {address}")?;
        return Ok(ExitCode::SUCCESS);
    }
    if !address.contains(':') {
        return Err(Failure::Usage(format!("an address is HOST:PORT, not {address:?}")));
    }
    let peer = TcpStream::connect(address)
        .and_then(|stream| stream.peer_addr())
        .map_err(|error| Failure::Work(format!("{address}: {error}")))?;
    writeln!(io::stdout(), "connected {peer}")?;
    Ok(ExitCode::SUCCESS)
}

/// Listens at a TCP address or an abstract name, says so, and prints the first bytes that each connection brings.
pub fn listen(address: &str) -> Outcome {
    let work = |error| Failure::Work(format!("{address}: {error}"));
    let mut out = io::stdout();
    if let Some(name) = address.strip_prefix('@') {
        let name = unix::SocketAddr::from_abstract_name(name).map_err(work)?;
        let listener = UnixListener::bind_addr(&name).map_err(work)?;
        writeln!(out, "listening {address}")?;
        for stream in listener.incoming() {
            tell(&mut out, stream.map_err(work)?)?;
        }
    } else {
        let listener = TcpListener::bind(address).map_err(work)?;
        writeln!(out, "listening {}", listener.local_addr().map_err(work)?)?;
        for stream in listener.incoming() {
            tell(&mut out, stream.map_err(work)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(out: &mut dyn Write, mut stream: impl Read) -> io::Result<()> {
    let mut bytes = [0; 256];
    let count = stream.read(&mut bytes)?;
    writeln!(out, "heard {}", String::from_utf8_lossy(&bytes[..count]).trim_end())?;
    out.flush()
}

fn parse_seconds(text: &str) -> Result<Duration, Failure> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| Failure::Usage(format!("seconds are a number from 0, not {text:?}")))
}

fn parse_count<T: std::str::FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::Usage(format!("a whole number from 0 is due, not {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_accept_fractions_and_refuse_what_is_no_duration() {
        assert_eq!(parse_seconds("0.25").ok(), Some(Duration::from_millis(250)));
        for text in ["", "-1", "NaN", "inf", "5s"] {
            assert!(matches!(parse_seconds(text), Err(Failure::Usage(_))), "{text:?}");
        }
    }

    #[test]
    fn exit_refuses_a_status_that_no_process_can_have() {
        assert!(exit("255").is_ok());
        assert!(matches!(exit("256"), Err(Failure::Usage(_))));
        assert!(matches!(exit("-1"), Err(Failure::Usage(_))));
    }
}
