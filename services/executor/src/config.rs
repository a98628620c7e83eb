//! What an operator sets. It is read from flags, environment and file by the `berth` binary; here
//! it is only described and checked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use berth_domain::ids::ExecutorId;
use berth_domain::quantity::{InvalidQuantity, parse_gpus, show_cpus, show_memory};
use thiserror::Error;

/// The model of emulated GPUs that were given by number alone.
pub const UNNAMED_GPU_MODEL: &str = "gpu";
/// The most GPUs an override may name.
const MAX_GPUS: u32 = 1_024;
/// The most network namespaces that may be kept ready.
const MOST_NETWORK_SLOTS: usize = 1_000;
/// How many are on small machines: jobs that wait there for their start hold one already.
const USUAL_NETWORK_SLOTS: usize = 32;
/// The longest a container name may be; cluster and executor id are parts of it.
const MAX_CLUSTER_BYTES: usize = 63;

/// Says which setting is wrong and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    /// The setting, as its flag is named.
    pub setting: &'static str,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

/// GPUs that an operator names instead of those that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuOverride {
    /// The model in lower case; `None` is any model.
    pub model: Option<String>,
    /// How many.
    pub count: u32,
}

/// Amounts that an operator names instead of those that were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// CPU in thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// GPUs; an empty list means none.
    pub gpus: Option<Vec<GpuOverride>>,
}

/// Bounds of the output that is kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes kept of one attempt; what comes later is dropped, and a line says so.
    pub attempt_bytes: u64,
    /// Bytes kept in all; the oldest complete ones are dropped first.
    pub total_bytes: u64,
    /// How long the output of an ended attempt is kept.
    pub age: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { attempt_bytes: 64 << 20, total_bytes: 1 << 30, age: Duration::from_secs(7 * 86_400) }
    }
}

/// Everything an executor is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorConfig {
    /// The executor's name; by default made of the host's name and a persisted identity.
    pub executor_id: Option<ExecutorId>,
    /// The cluster it belongs to.
    pub cluster: String,
    /// Addresses of schedulers, host:port each.
    pub schedulers: Vec<String>,
    /// The folder of identity, outbox and logs.
    pub data_dir: PathBuf,
    /// How long an ended container is kept, for people who want to look inside.
    pub cleanup_after: Duration,
    /// How many containers are made or started at the same time; by default twice the cores.
    pub runtime_parallelism: Option<usize>,
    /// How many network namespaces are kept ready for jobs at most, 0 for none; by default 32, on large machines
    /// twice as many as containers are started at the same time. There are never more than jobs at the same time.
    pub network_slots: Option<usize>,
    /// Amounts instead of those that were found.
    pub overrides: Overrides,
    /// Labels that constraints of jobs may name.
    pub labels: BTreeMap<String, String>,
    /// How often everything is compared without a reason. Never needed while all goes well.
    pub safety_interval: Duration,
    /// Bounds of the kept output.
    pub logs: LogLimits,
}

impl ExecutorConfig {
    /// Gives every setting its default.
    pub fn new(data_dir: impl Into<PathBuf>, schedulers: Vec<String>) -> Self {
        Self {
            executor_id: None,
            cluster: "berth".to_owned(),
            schedulers,
            data_dir: data_dir.into(),
            cleanup_after: Duration::from_secs(120),
            runtime_parallelism: None,
            network_slots: None,
            overrides: Overrides::default(),
            labels: BTreeMap::new(),
            safety_interval: Duration::from_secs(10),
            logs: LogLimits::default(),
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first setting that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |setting, problem: String| Err(ConfigError { setting, problem });
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if self.cluster.is_empty()
            || self.cluster.len() > MAX_CLUSTER_BYTES
            || !self.cluster.bytes().all(plain)
        {
            return refuse(
                "cluster",
                format!("{:?} must be 1 to 63 of a-z, A-Z, 0-9, '.', '_' and '-'", self.cluster),
            );
        }
        if self.schedulers.is_empty() {
            return refuse("schedulers", "name at least one, as host:port,host:port".to_owned());
        }
        for address in &self.schedulers {
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if !port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0)) {
                return refuse("schedulers", format!("{address:?} is not host:port"));
            }
        }
        if self.runtime_parallelism == Some(0) {
            return refuse("runtime-parallelism", "must be at least 1".to_owned());
        }
        if self.network_slots.is_some_and(|slots| slots > MOST_NETWORK_SLOTS) {
            return refuse("network-slots", format!("must be \"off\" or 1 to {MOST_NETWORK_SLOTS}"));
        }
        if self.safety_interval < Duration::from_millis(100) {
            return refuse("safety-interval", "must be at least 100ms".to_owned());
        }
        if self.logs.attempt_bytes < 4_096 || self.logs.total_bytes < self.logs.attempt_bytes {
            let problem = "a job's share must be at least 4Ki, and the total at least one share";
            return refuse("log limits", problem.to_owned());
        }
        Ok(())
    }

    /// Tells how many containers may be made or started at once on a machine with so many cores:
    /// twice the cores, and no more than 4 on up to 4 cores, where the engine only gets slower.
    pub fn parallelism(&self, cores: usize) -> usize {
        self.runtime_parallelism.unwrap_or(if cores <= 4 { 4.min(2 * cores.max(1)) } else { 2 * cores })
    }

    /// Tells how many network namespaces are kept ready at most on a machine with so many cores.
    pub fn network_slots(&self, cores: usize) -> usize {
        let by_cores = (2 * self.parallelism(cores)).clamp(USUAL_NETWORK_SLOTS, MOST_NETWORK_SLOTS);
        self.network_slots.unwrap_or(by_cores)
    }
}

impl fmt::Display for ExecutorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.executor_id.as_ref().map_or("(persisted)", ExecutorId::as_str);
        write!(f, "executor-id={id} cluster={} schedulers={}", self.cluster, self.schedulers.join(","))?;
        write!(f, " data-dir={} cleanup-after={:?}", self.data_dir.display(), self.cleanup_after)?;
        let cpus = self.overrides.cpu_millis.map_or_else(|| "(found)".to_owned(), show_cpus);
        let memory = self.overrides.memory_bytes.map_or_else(|| "(found)".to_owned(), show_memory);
        write!(f, " cpus={cpus} memory={memory} safety-interval={:?}", self.safety_interval)?;
        match self.network_slots {
            Some(slots) => write!(f, " network-slots={slots}"),
            None => f.write_str(" network-slots=(by cores)"),
        }
    }
}

/// Reads how many network namespaces are kept ready: `off`, or a number.
///
/// # Errors
/// Says what to write instead.
pub fn parse_network_slots(text: &str) -> Result<usize, String> {
    let read = if text == "off" { Some(0) } else { text.parse().ok() };
    let problem = || format!("write \"off\", or a number up to {MOST_NETWORK_SLOTS}");
    read.filter(|slots| *slots <= MOST_NETWORK_SLOTS).ok_or_else(problem)
}

/// Reads EXECUTOR_GPUS: `a100:4`, `a100:2,t4:1`, `2`, or `none`.
///
/// # Errors
/// Says which part is no model with a number.
pub fn parse_gpu_override(text: &str) -> Result<Vec<GpuOverride>, InvalidQuantity> {
    if matches!(text.trim(), "" | "none" | "0") {
        return Ok(Vec::new());
    }
    let mut gpus = Vec::new();
    let mut total = 0_u32;
    for part in text.split(',') {
        let (model, count) = parse_gpus(part)?;
        total = total.saturating_add(count);
        gpus.push(GpuOverride { model, count });
    }
    if total > MAX_GPUS {
        let text = text.chars().take(60).collect();
        return Err(InvalidQuantity::OutOfRange { text, what: "GPUs", range: "0 to 1024" });
    }
    Ok(gpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ExecutorConfig {
        ExecutorConfig::new("/tmp/x", vec!["127.0.0.1:50051".to_owned()])
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(config().validate(), Ok(()));
    }

    #[test]
    fn wrong_settings_are_named() {
        let cases = [
            ExecutorConfig { schedulers: Vec::new(), ..config() },
            ExecutorConfig { schedulers: vec!["host".into()], ..config() },
            ExecutorConfig { schedulers: vec![":1".into()], ..config() },
            ExecutorConfig { schedulers: vec!["host:0".into()], ..config() },
        ];
        for case in cases {
            assert_eq!(case.validate().expect_err("it is wrong").setting, "schedulers");
        }
        let case = ExecutorConfig { cluster: "a b".into(), ..config() };
        assert_eq!(case.validate().expect_err("it is wrong").setting, "cluster");
    }

    #[test]
    fn gpus_are_read_as_models_with_numbers() {
        let gpu = |model: &str, count| GpuOverride { model: Some(model.to_owned()), count };
        assert_eq!(parse_gpu_override("a100:4"), Ok(vec![gpu("a100", 4)]));
        assert_eq!(parse_gpu_override("A100:2, t4:1"), Ok(vec![gpu("a100", 2), gpu("t4", 1)]));
        assert_eq!(parse_gpu_override("2"), Ok(vec![GpuOverride { model: None, count: 2 }]));
        assert_eq!(parse_gpu_override("none"), Ok(Vec::new()));
        for bad in ["all", "a100:x", "a100:-1", ",", "a100:5000"] {
            assert!(parse_gpu_override(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn network_slots_are_a_number_or_off() {
        assert_eq!(["off", "0", "12"].map(parse_network_slots), [Ok(0), Ok(0), Ok(12)]);
        for bad in ["", "on", "-1", "1001"] {
            assert!(parse_network_slots(bad).is_err(), "{bad:?} must be refused");
        }
        assert_eq!([2, 8, 32, 512].map(|cores| config().network_slots(cores)), [32, 32, 128, 1_000]);
        assert_eq!(ExecutorConfig { network_slots: Some(0), ..config() }.network_slots(8), 0);
        let many = ExecutorConfig { network_slots: Some(1_001), ..config() };
        assert_eq!(many.validate().expect_err("it is wrong").setting, "network-slots");
    }

    #[test]
    fn small_machines_start_four_at_once_at_most() {
        let at_once = |cores| config().parallelism(cores);
        assert_eq!([at_once(1), at_once(2), at_once(4), at_once(8)], [2, 4, 4, 16]);
    }
}
