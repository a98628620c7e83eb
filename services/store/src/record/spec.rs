//! Specs: written once, beside the job's record.

use berth_domain::ids::Namespace;
use berth_domain::spec::{Clocks, JobSpec, Network, PullPolicy, Reuse};
use prost::Message;

use super::job::{demand_from_record, demand_to_record, on_lost_from_record, on_lost_to_record};
use super::{absent, pb, priority, undecodable, unknown};
use crate::StoreError;

/// Encodes a spec.
pub(crate) fn encode_spec(spec: &JobSpec) -> Vec<u8> {
    pb::JobSpec {
        image: spec.image.clone(),
        command: spec.command.clone(),
        env: spec.env.clone(),
        working_dir: spec.working_dir.clone(),
        demand: Some(demand_to_record(&spec.demand)),
        priority: u32::from(spec.priority),
        clocks: Some(clocks_to_record(&spec.clocks)),
        max_retries: spec.max_retries,
        labels: spec.labels.clone(),
        on_lost: on_lost_to_record(spec.on_lost).into(),
        network: network_to_record(spec.network).into(),
        pull_policy: pull_policy_to_record(spec.pull_policy).into(),
        namespace: spec.namespace.as_str().to_owned(),
        reuse: reuse_to_record(spec.reuse).into(),
    }
    .encode_to_vec()
}

/// Decodes a spec.
pub(crate) fn decode_spec(bytes: &[u8]) -> Result<JobSpec, StoreError> {
    let record = pb::JobSpec::decode(bytes).map_err(|error| undecodable("spec", &error))?;
    Ok(JobSpec {
        image: record.image,
        command: record.command,
        env: record.env,
        working_dir: record.working_dir,
        demand: demand_from_record(record.demand)?,
        priority: priority(record.priority)?,
        clocks: clocks_from_record(record.clocks)?,
        max_retries: record.max_retries,
        labels: record.labels,
        on_lost: on_lost_from_record(record.on_lost)?,
        network: network_from_record(record.network)?,
        pull_policy: pull_policy_from_record(record.pull_policy)?,
        namespace: Namespace::trusted(record.namespace),
        reuse: reuse_from_record(record.reuse)?,
    })
}

fn clocks_to_record(clocks: &Clocks) -> pb::Clocks {
    pb::Clocks {
        queue_timeout_ms: clocks.queue_timeout_ms,
        requeue_timeout_ms: clocks.requeue_timeout_ms,
        run_timeout_ms: clocks.run_timeout_ms,
        stop_grace_ms: clocks.stop_grace_ms,
        pull_timeout_ms: clocks.pull_timeout_ms,
    }
}

fn clocks_from_record(record: Option<pb::Clocks>) -> Result<Clocks, StoreError> {
    let record = record.ok_or_else(|| absent("clocks"))?;
    Ok(Clocks {
        queue_timeout_ms: record.queue_timeout_ms,
        requeue_timeout_ms: record.requeue_timeout_ms,
        run_timeout_ms: record.run_timeout_ms,
        stop_grace_ms: record.stop_grace_ms,
        pull_timeout_ms: record.pull_timeout_ms,
    })
}

fn network_to_record(network: Network) -> pb::Network {
    match network {
        Network::Bridge => pb::Network::Bridge,
        Network::None => pb::Network::None,
    }
}

fn network_from_record(value: i32) -> Result<Network, StoreError> {
    match pb::Network::try_from(value) {
        Ok(pb::Network::Bridge) => Ok(Network::Bridge),
        Ok(pb::Network::None) => Ok(Network::None),
        Ok(pb::Network::Unspecified) | Err(_) => Err(unknown("network", value)),
    }
}

fn pull_policy_to_record(policy: PullPolicy) -> pb::PullPolicy {
    match policy {
        PullPolicy::Missing => pb::PullPolicy::Missing,
        PullPolicy::Never => pb::PullPolicy::Never,
    }
}

fn pull_policy_from_record(value: i32) -> Result<PullPolicy, StoreError> {
    match pb::PullPolicy::try_from(value) {
        Ok(pb::PullPolicy::Missing) => Ok(PullPolicy::Missing),
        Ok(pb::PullPolicy::Never) => Ok(PullPolicy::Never),
        Ok(pb::PullPolicy::Unspecified) | Err(_) => Err(unknown("pull policy", value)),
    }
}

fn reuse_to_record(reuse: Reuse) -> pb::Reuse {
    match reuse {
        Reuse::None => pb::Reuse::Unspecified,
        Reuse::Warm => pb::Reuse::Warm,
    }
}

fn reuse_from_record(value: i32) -> Result<Reuse, StoreError> {
    match pb::Reuse::try_from(value) {
        Ok(pb::Reuse::Unspecified) => Ok(Reuse::None),
        Ok(pb::Reuse::Warm) => Ok(Reuse::Warm),
        Err(_) => Err(unknown("reuse", value)),
    }
}
