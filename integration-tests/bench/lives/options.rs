//! What is asked for on the command line.

use std::path::PathBuf;

use berth_integration_tests::tools;

/// How it is used.
pub const USAGE: &str = "usage: ./run bench lives [--seconds N] [--limit-seconds N] [--executors N] [--batch N] \
                         [--replicas N] [--fsync everysec|always] [--profile FOLDER]";

/// What is measured.
pub struct Options {
    /// How long.
    pub seconds: u64,
    /// How long Redis alone is.
    pub limit_seconds: u64,
    /// With how many executors.
    pub executors: usize,
    /// Jobs of a batch.
    pub batch: usize,
    /// Scheduler replicas.
    pub replicas: usize,
    /// When Redis writes to the disk.
    pub fsync: String,
    /// Where it is written what the first replica and Redis spend their time on, if it is looked at.
    pub profile: Option<PathBuf>,
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            seconds: 60,
            limit_seconds: 10,
            executors: 100,
            batch: 1_000,
            replicas: 1,
            fsync: "everysec".to_owned(),
            profile: None,
        };
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} has no value."))?;
            let number = || match value.parse::<usize>() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{name} {value}: is no number above 0.")),
            };
            match name.as_str() {
                "--seconds" => options.seconds = number()? as u64,
                "--limit-seconds" => options.limit_seconds = number()? as u64,
                "--executors" => options.executors = number()?,
                "--batch" => options.batch = number()?.min(1_000),
                "--replicas" => options.replicas = number()?,
                "--fsync" if ["everysec", "always"].contains(&value.as_str()) => options.fsync = value,
                "--profile" => options.profile = Some(tools::from_caller(&value)),
                "--fsync" => return Err(format!("--fsync {value}: must be everysec or always.")),
                _ => return Err(format!("There is no option {name}.")),
            }
        }
        Ok(options)
    }
}
