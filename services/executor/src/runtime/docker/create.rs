//! Makes Docker's description of a container, from typed fields only: nothing a job says is passed
//! through, and everything that could leave the box is off.

use std::collections::HashMap;

use berth_domain::spec::Network;
use bollard::models::{
    ContainerCreateBody, DeviceRequest, HostConfig, HostConfigLogConfig, Mount, MountType, RestartPolicy,
    RestartPolicyNameEnum,
};

use super::engine::BRIDGE;
use super::slots::Slot;
use crate::runtime::ContainerPlan;

/// Docker's smallest memory limit. A smaller demand gets this much: it was reserved with less, but
/// a job that asks for so little would not start at all.
const LEAST_MEMORY_BYTES: u64 = 6 << 20;
/// The scheduler period of a CPU quota, in microseconds: the kernel's default.
const CPU_PERIOD_MICROS: u64 = 100_000;
/// The period of the smallest quotas, in microseconds: the kernel takes no quota below 1 ms, and a
/// thousandth of a core is just that in a second.
const LONG_CPU_PERIOD_MICROS: u64 = 1_000_000;
/// The smallest quota the kernel takes, in microseconds.
const LEAST_CPU_QUOTA_MICROS: u64 = 1_000;
/// The most processes and threads of a container.
const MOST_PROCESSES: i64 = 512;

/// Describes the container. `init` says whether the engine has an init process to put in front; in a slot, the
/// container has no network of its own.
pub(super) fn body(plan: &ContainerPlan, init: bool, slot: Option<&Slot>) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(plan.image.clone()),
        cmd: (!plan.command.is_empty()).then(|| plan.command.clone()),
        env: Some(plan.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        working_dir: (!plan.working_dir.is_empty()).then(|| plan.working_dir.clone()),
        labels: Some(plan.labels.clone().into_iter().collect()),
        tty: Some(false),
        open_stdin: Some(false),
        host_config: Some(host_config(plan, init, slot)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(plan: &ContainerPlan, init: bool, slot: Option<&Slot>) -> HostConfig {
    let (period, quota) = cpu_quota(plan.cpu_millis);
    let memory_bytes = signed(plan.memory_bytes.max(LEAST_MEMORY_BYTES));
    let network =
        slot.map_or_else(|| network_mode(plan.network).to_owned(), |slot| format!("container:{}", slot.id));
    HostConfig {
        cpu_period: Some(period),
        cpu_quota: Some(quota),
        memory: Some(memory_bytes),
        // The same as memory: no swap.
        memory_swap: Some(memory_bytes),
        pids_limit: Some(MOST_PROCESSES),
        device_requests: device_requests(plan),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        init: Some(init),
        ipc_mode: Some("private".to_owned()),
        network_mode: Some(network),
        mounts: slot.map(files),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            ..RestartPolicy::default()
        }),
        auto_remove: Some(false),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            // The output is captured as it comes; this much outlives a pause of the capture.
            config: Some(HashMap::from([
                ("max-size".to_owned(), "16m".to_owned()),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    }
}

/// A network as Docker names it.
pub(super) fn network_mode(network: Network) -> &'static str {
    match network {
        Network::Bridge => BRIDGE,
        Network::None => "none",
    }
}

/// Mounts the files that belong to a slot's network read-only: Docker mounts them by itself, but for writing, so
/// that one job could leave names to the next.
fn files(slot: &Slot) -> Vec<Mount> {
    let files = [
        ("/etc/hosts", &slot.hosts),
        ("/etc/resolv.conf", &slot.resolv_conf),
        ("/etc/hostname", &slot.hostname),
    ];
    let mount = |(target, source): (&str, &String)| Mount {
        target: Some(target.to_owned()),
        source: Some(source.clone()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..Mount::default()
    };
    files.map(mount).to_vec()
}

/// A hard quota as (period, quota) in microseconds. Docker's NanoCpus would do the same, but it
/// refuses more CPUs than the machine has, which an operator may have overridden, and less than a
/// hundredth of one.
fn cpu_quota(cpu_millis: u64) -> (i64, i64) {
    let quota = |period: u64| cpu_millis.saturating_mul(period / 1_000);
    let period = if quota(CPU_PERIOD_MICROS) < LEAST_CPU_QUOTA_MICROS {
        LONG_CPU_PERIOD_MICROS
    } else {
        CPU_PERIOD_MICROS
    };
    (signed(period), signed(quota(period).max(LEAST_CPU_QUOTA_MICROS)))
}

/// Asks for the real devices by their ids. Emulated ones exist in the environment only.
fn device_requests(plan: &ContainerPlan) -> Option<Vec<DeviceRequest>> {
    let ids: Vec<String> = plan.gpus.iter().filter(|gpu| !gpu.emulated).map(|gpu| gpu.id.clone()).collect();
    (!ids.is_empty()).then(|| {
        vec![DeviceRequest {
            driver: Some("nvidia".to_owned()),
            device_ids: Some(ids),
            capabilities: Some(vec![vec!["gpu".to_owned()]]),
            ..DeviceRequest::default()
        }]
    })
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_demand_of_cpu_has_an_exact_quota() {
        assert_eq!(cpu_quota(1_000), (100_000, 100_000));
        assert_eq!(cpu_quota(64_000), (100_000, 6_400_000));
        assert_eq!(cpu_quota(10), (100_000, 1_000));
        assert_eq!(cpu_quota(9), (1_000_000, 9_000));
        assert_eq!(cpu_quota(1), (1_000_000, 1_000));
    }
}
