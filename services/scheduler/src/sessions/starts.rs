//! Messages that tell an executor to start jobs, each with its spec, and to stop those that are to end.

use std::sync::Arc;

use berth_api::convert::{attempt_to_wire, duration, spec_to_wire};
use berth_api::v1::session_response::{Start, Stop};
use berth_domain::ids::JobId;
use berth_domain::job::Job;
use berth_domain::spec::JobSpec;
use berth_store::StoreError;
use prost::Message;

use crate::context::Context;

/// The most bytes of starts in one message, unless a single one has more: it stays well below the message limit.
const MOST_BYTES: usize = 1 << 20;

/// Starts, and the stops that were asked for meanwhile.
#[derive(Debug, Default)]
pub(super) struct Starts {
    pub starts: Vec<Start>,
    pub stops: Vec<Stop>,
}

/// Makes the starts of jobs, as many together as a message holds.
///
/// # Errors
/// As the store says, where specs have to be read.
pub(super) async fn messages(context: &Context, jobs: &[Arc<Job>]) -> Result<Vec<Starts>, StoreError> {
    let (mut messages, mut last, mut bytes) = (Vec::new(), Starts::default(), 0);
    for (job, spec) in jobs.iter().zip(specs(context, jobs).await?) {
        let start = start(job, spec.as_deref());
        let size = start.encoded_len();
        if bytes > 0 && bytes + size > MOST_BYTES {
            messages.push(std::mem::take(&mut last));
            bytes = 0;
        }
        bytes += size;
        last.starts.push(start);
        last.stops.extend(stop(job));
    }
    messages.push(last);
    Ok(messages)
}

fn start(job: &Job, spec: Option<&JobSpec>) -> Start {
    Start {
        r#ref: Some(attempt_to_wire(&job.last_attempt())),
        spec: spec.map(spec_to_wire),
        gpu_device_ids: job.gpu_device_ids.clone(),
        traceparent: String::new(),
        array_index: 0,
    }
}

/// The specs of jobs, in their order: those that are not at hand are read.
async fn specs(context: &Context, jobs: &[Arc<Job>]) -> Result<Vec<Option<Arc<JobSpec>>>, StoreError> {
    let mut specs: Vec<_> = jobs.iter().map(|job| context.specs.take(job)).collect();
    let absent: Vec<usize> = (0..jobs.len()).filter(|at| specs[*at].is_none()).collect();
    if absent.is_empty() {
        return Ok(specs);
    }
    let ids: Vec<JobId> = absent.iter().map(|at| jobs[*at].id.clone()).collect();
    for (at, spec) in absent.into_iter().zip(context.store.specs(&ids).await?) {
        specs[at] = spec.map(Arc::new);
    }
    Ok(specs)
}

/// The stop that goes with a job that is aborted, or put back.
pub(super) fn stop(job: &Job) -> Option<Stop> {
    job.is_to_stop().then(|| Stop {
        r#ref: Some(attempt_to_wire(&job.last_attempt())),
        grace_period: job.abort_grace_ms.map(duration),
    })
}
