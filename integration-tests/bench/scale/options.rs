//! What is asked for on the command line.

/// How it is used.
pub const USAGE: &str = "usage: ./run bench scale [--sessions N] [--pending N]";

/// What is measured.
pub struct Options {
    /// Sessions of executors, in the end.
    pub sessions: usize,
    /// Jobs that wait, in the end.
    pub pending: usize,
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { sessions: 10_000, pending: 1_000_000 };
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} has no value."))?;
            let number = match value.parse::<usize>() {
                Ok(number) if number >= 1_000 => number,
                _ => return Err(format!("{name} {value}: is no number from 1000 on.")),
            };
            match name.as_str() {
                "--sessions" => options.sessions = number,
                "--pending" => options.pending = number,
                _ => return Err(format!("There is no option {name}.")),
            }
        }
        Ok(options)
    }
}
