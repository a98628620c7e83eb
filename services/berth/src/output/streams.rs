//! Writes to stdout and stderr without ever panicking: a reader that is gone is an error on stdout, and nothing
//! on stderr.

use std::io::Write;

/// Writes a text to stdout.
///
/// # Errors
/// Fails when stdout cannot be written, for example as its reader is gone.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// Writes a line to stdout.
///
/// # Errors
/// See [`print()`].
pub fn print_line(text: &str) -> anyhow::Result<()> {
    print_bytes(format!("{text}\n").as_bytes())
}

/// Writes bytes to stdout.
///
/// # Errors
/// See [`print()`].
pub fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

/// Writes a line to stderr. Where nobody can read it, there is nobody to tell either.
pub fn note(line: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", line.as_ref());
}

/// Makes one harmless line of a text from elsewhere: control characters could move the cursor or forge lines.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\nc"), "a [2Jb c");
    }
}
