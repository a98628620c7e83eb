//! Describes an attempt's container: image and command of its spec, limits of its demand, and what
//! Berth tells the job in its environment.

use std::collections::BTreeMap;

use berth_domain::ids::AttemptRef;
use berth_domain::resources::GpuDevice;
use berth_domain::spec::{JobSpec, OnLost};

use super::types::Order;
use crate::runtime::{ContainerName, ContainerPlan, Owner, attempt_labels, labels};

/// The longest time between the two signals of a job that is stopped because the lease has ended.
const MOST_FENCE_GRACE_MS: u64 = 5_000;

/// What is the same for every container of an executor.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub owner: Owner,
    pub boot_id: String,
    pub gpus: BTreeMap<String, GpuDevice>,
}

/// How long a job has to end when the lease has ended; `None` for jobs that run on.
pub(super) fn fence_grace_ms(spec: &JobSpec) -> Option<u64> {
    match spec.on_lost {
        OnLost::Fail => Some(spec.clocks.stop_grace_ms.min(MOST_FENCE_GRACE_MS)),
        OnLost::Retry | OnLost::Hold => None,
    }
}

impl Surroundings {
    /// Names an attempt's container.
    pub fn name(&self, attempt: &AttemptRef) -> ContainerName {
        ContainerName::new(&self.owner, attempt)
    }

    /// Describes an attempt's container; `Err` names a device that this executor does not have.
    pub fn plan(&self, attempt: &AttemptRef, order: &Order, spec: &JobSpec) -> Result<ContainerPlan, String> {
        let mut gpus = Vec::new();
        for id in &order.gpu_device_ids {
            let gpu = self.gpus.get(id).ok_or_else(|| format!("GPU device {id} is not on this executor"))?;
            gpus.push(gpu.clone());
        }
        let spec_hash = spec.content_hash();
        let mut all_labels = attempt_labels(&self.owner, attempt, spec_hash, &self.boot_id);
        if let Some(grace_ms) = fence_grace_ms(spec) {
            all_labels.insert(labels::FENCE.to_owned(), grace_ms.to_string());
        }
        Ok(ContainerPlan {
            name: self.name(attempt),
            image: spec.image.clone(),
            command: spec.command.clone(),
            env: self.env(attempt, order, spec, &gpus),
            working_dir: spec.working_dir.clone(),
            labels: all_labels,
            cpu_millis: spec.demand.cpu_millis,
            memory_bytes: spec.demand.memory_bytes,
            gpus,
            network: spec.network,
            namespace: spec.namespace.clone(),
            reuse: spec.reuse,
        })
    }

    /// The job's own entries, then Berth's, which nobody can forge.
    fn env(
        &self,
        attempt: &AttemptRef,
        order: &Order,
        spec: &JobSpec,
        gpus: &[GpuDevice],
    ) -> BTreeMap<String, String> {
        let mut env = spec.env.clone();
        if !order.traceparent.is_empty() {
            env.entry("TRACEPARENT".to_owned()).or_insert_with(|| order.traceparent.clone());
        }
        let mut set = |key: &str, value: String| env.insert(key.to_owned(), value);
        set("BERTH_JOB_ID", attempt.job.to_string());
        set("BERTH_ATTEMPT", attempt.number.to_string());
        set("BERTH_EXECUTOR_ID", self.owner.executor.clone());
        if let Some(index) = order.array_index {
            set("BERTH_ARRAY_INDEX", index.to_string());
        }
        if !gpus.is_empty() {
            let join = |part: fn(&GpuDevice) -> &str| gpus.iter().map(part).collect::<Vec<_>>().join(",");
            set("BERTH_GPU_DEVICE_IDS", join(|gpu| &gpu.id));
            set("BERTH_GPU_MODELS", join(|gpu| &gpu.model));
        }
        env
    }
}
