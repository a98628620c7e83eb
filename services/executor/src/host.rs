//! What the machine has: CPU, memory, GPUs, its name and its current boot.

use berth_domain::ids::ExecutorId;
use berth_domain::resources::{Capacity, GpuDevice};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use thiserror::Error;

use crate::config::{GpuOverride, Overrides, UNNAMED_GPU_MODEL};

/// What was found on the machine; a simulation makes its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The machine's name.
    pub hostname: String,
    /// Names the current boot; another one means that every process of before is gone.
    pub boot_id: String,
    /// Logical cores.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Real GPU devices.
    pub gpus: Vec<GpuDevice>,
}

/// Says what could not be found out.
#[derive(Debug, Error)]
pub enum HostError {
    /// The kernel tells no boot id.
    #[error("the boot id cannot be read from /proc/sys/kernel/random/boot_id")]
    BootId(#[source] std::io::Error),
    /// CPU and memory are unknown.
    #[error("CPU and memory of this machine cannot be found out: set EXECUTOR_CPUS and EXECUTOR_MEMORY")]
    System(#[source] sysinfo::Error),
}

/// Looks at the machine.
///
/// # Errors
/// Fails when `/proc` is not there; a missing GPU driver is no error.
pub fn probe() -> Result<Host, HostError> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(HostError::BootId)?;
    let wanted = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(wanted).map_err(HostError::System)?;
    Ok(Host {
        hostname: System::host_name().unwrap_or_else(|_| "executor".to_owned()),
        boot_id: boot_id.trim().to_owned(),
        cores: system.cpus().len().max(1),
        memory_bytes: system.total_memory(),
        gpus: probe_gpus(),
    })
}

fn probe_gpus() -> Vec<GpuDevice> {
    match list_gpus() {
        Ok(gpus) => {
            tracing::info!(count = gpus.len(), "gpu devices found");
            gpus
        }
        Err(error) => {
            tracing::info!(reason = %error, "no gpu driver: this executor has no real gpu devices");
            Vec::new()
        }
    }
}

fn list_gpus() -> Result<Vec<GpuDevice>, NvmlError> {
    let nvml = Nvml::init()?;
    let mut gpus = Vec::new();
    for index in 0..nvml.device_count()? {
        let device = nvml.device_by_index(index)?;
        gpus.push(GpuDevice { id: device.uuid()?, model: model_name(&device.name()?), emulated: false });
    }
    gpus.sort();
    Ok(gpus)
}

/// Makes a model of what the driver calls a device: lower case, without the maker's name, hyphens
/// for spaces. `NVIDIA A100-SXM4-80GB` is `a100-sxm4-80gb`, `Tesla T4` is `t4`.
pub fn model_name(driver_name: &str) -> String {
    let mut name = driver_name.trim().to_ascii_lowercase();
    for maker in ["nvidia ", "tesla "] {
        if let Some(rest) = name.strip_prefix(maker) {
            name = rest.trim_start().to_owned();
        }
    }
    name.split_whitespace().collect::<Vec<_>>().join("-")
}

/// Says what the executor offers: what was found, or what the operator named instead. With real
/// devices present, GPUs named by the operator choose among them; without any, they are emulated.
pub fn capacity(host: &Host, overrides: &Overrides, executor: &ExecutorId) -> Capacity {
    let mut gpus = match &overrides.gpus {
        None => host.gpus.clone(),
        Some(wanted) if host.gpus.is_empty() => emulate(wanted, executor),
        Some(wanted) => choose(wanted, &host.gpus),
    };
    gpus.sort();
    Capacity {
        cpu_millis: overrides.cpu_millis.unwrap_or((host.cores as u64).saturating_mul(1_000)),
        memory_bytes: overrides.memory_bytes.unwrap_or(host.memory_bytes),
        gpus,
    }
}

/// Makes devices named `<executor id>-<model>-<n>`, counted from 0 within a model.
fn emulate(wanted: &[GpuOverride], executor: &ExecutorId) -> Vec<GpuDevice> {
    let mut gpus: Vec<GpuDevice> = Vec::new();
    for part in wanted {
        let model = part.model.as_deref().unwrap_or(UNNAMED_GPU_MODEL);
        let first = gpus.iter().filter(|gpu| gpu.model == model).count();
        gpus.extend((first..first + part.count as usize).map(|n| GpuDevice {
            id: format!("{executor}-{model}-{n}"),
            model: model.to_owned(),
            emulated: true,
        }));
    }
    gpus
}

fn choose(wanted: &[GpuOverride], found: &[GpuDevice]) -> Vec<GpuDevice> {
    let mut free: Vec<GpuDevice> = found.to_vec();
    let mut chosen = Vec::new();
    for part in wanted {
        let fits = |gpu: &GpuDevice| part.model.as_ref().is_none_or(|model| gpu.model == *model);
        for _ in 0..part.count {
            match free.iter().position(fits) {
                Some(at) => chosen.push(free.remove(at)),
                None => {
                    let model = part.model.as_deref().unwrap_or("any");
                    tracing::warn!(model, "fewer gpu devices are present than EXECUTOR_GPUS names");
                    break;
                }
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_gpu_override;

    fn host(gpus: Vec<GpuDevice>) -> Host {
        Host { hostname: "h".into(), boot_id: "b".into(), cores: 2, memory_bytes: 1 << 30, gpus }
    }

    fn overridden(gpus: &str) -> Overrides {
        Overrides { gpus: Some(parse_gpu_override(gpus).expect("valid")), ..Overrides::default() }
    }

    #[test]
    fn models_lose_the_makers_name() {
        assert_eq!(model_name("NVIDIA A100-SXM4-80GB"), "a100-sxm4-80gb");
        assert_eq!(model_name("Tesla T4"), "t4");
        assert_eq!(model_name("NVIDIA GeForce RTX 3090"), "geforce-rtx-3090");
    }

    #[test]
    fn emulated_devices_have_names_of_their_own() {
        let executor = ExecutorId::trusted("e1");
        let capacity = capacity(&host(Vec::new()), &overridden("a100:2,t4:1,a100:1"), &executor);
        let ids: Vec<_> = capacity.gpus.iter().map(|gpu| gpu.id.as_str()).collect();
        assert_eq!(ids, ["e1-a100-0", "e1-a100-1", "e1-a100-2", "e1-t4-0"]);
        assert!(capacity.gpus.iter().all(|gpu| gpu.emulated));
        assert_eq!((capacity.cpu_millis, capacity.memory_bytes), (2_000, 1 << 30));
    }

    #[test]
    fn real_devices_are_chosen_among_and_never_emulated() {
        let real = |id: &str| GpuDevice { id: id.into(), model: "a100".into(), emulated: false };
        let host = host(vec![real("GPU-1"), real("GPU-2")]);
        let executor = ExecutorId::trusted("e1");
        assert_eq!(capacity(&host, &overridden("a100:1"), &executor).gpus, [real("GPU-1")]);
        assert_eq!(capacity(&host, &overridden("a100:4"), &executor).gpus.len(), 2);
        assert_eq!(capacity(&host, &overridden("none"), &executor).gpus, []);
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let host = probe().expect("/proc is there");
        assert!(host.memory_bytes > 0 && !host.boot_id.is_empty());
    }
}
