//! What is asked for on the command line.

/// How it is used.
pub const USAGE: &str = "usage: ./run bench control [--runs N] [--rates R,...] [--seconds N] [--executors N] [--replicas N] \
                         [--fsync everysec|always]";

/// What is measured.
pub struct Options {
    /// Jobs, one at a time.
    pub runs: usize,
    /// Submits a second, one after the other.
    pub rates: Vec<u32>,
    /// How long each rate lasts.
    pub seconds: u32,
    /// With how many executors.
    pub executors: usize,
    /// Scheduler replicas.
    pub replicas: usize,
    /// When Redis writes to the disk.
    pub fsync: String,
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            runs: 2_000,
            rates: vec![500, 1_000, 2_000],
            seconds: 15,
            executors: 100,
            replicas: 1,
            fsync: "everysec".to_owned(),
        };
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} has no value."))?;
            let number = |text: &str| match text.parse::<u32>() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{name} {value}: is no number above 0.")),
            };
            match name.as_str() {
                "--runs" => options.runs = number(&value)? as usize,
                "--rates" => options.rates = value.split(',').map(number).collect::<Result<_, _>>()?,
                "--seconds" => options.seconds = number(&value)?,
                "--executors" => options.executors = number(&value)? as usize,
                "--replicas" => options.replicas = number(&value)? as usize,
                "--fsync" if ["everysec", "always"].contains(&value.as_str()) => options.fsync = value,
                "--fsync" => return Err(format!("--fsync {value}: must be everysec or always.")),
                _ => return Err(format!("There is no option {name}.")),
            }
        }
        Ok(options)
    }
}
