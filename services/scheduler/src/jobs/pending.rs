//! Why a job waits, in the words and numbers that clients are shown.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_api::convert::timestamp;
use berth_api::v1;
use berth_api::v1::pending_reason::{Blocker, Code};
use berth_domain::executor::{Executor, ExecutorState};
use berth_domain::ids::ExecutorId;
use berth_domain::job::Job;
use berth_domain::placement::{Node, Obstacle, explain};
use berth_domain::resources::Demand;
use berth_domain::spec::OnLost;
use tokio::time::Instant;

use crate::image::{Image, queue_limit_ms};

/// Whether an executor is kept for jobs that have waited longer.
type IsKept<'a> = &'a dyn Fn(&ExecutorId) -> bool;

/// Why jobs wait: executors are looked at once for those that ask for the same.
pub struct Reasons<'a> {
    image: &'a Image,
    /// Now, and how long after its last heartbeat an executor is judged lost.
    times: (u64, u64),
    is_kept: IsKept<'a>,
    nodes: OnceCell<BTreeMap<ExecutorId, Node>>,
    /// What stands in the way of a demand.
    found: BTreeMap<Demand, Found>,
}

/// From so many executors on, what was found is good for a while: to look at all of them for every submit would keep
/// everybody else waiting.
const MANY: usize = 256;
/// That long.
const FRESH: Duration = Duration::from_secs(1);
/// Demands that are remembered.
const MOST_DEMANDS: usize = 1_000;

/// What was found of late in a large cluster.
#[derive(Default)]
pub struct Remembered(Mutex<(Option<Instant>, BTreeMap<Demand, Found>)>);

impl Remembered {
    /// Lets reasons be told with what is remembered; what they find is remembered in turn.
    pub fn with<T>(&self, reasons: Reasons<'_>, tell: impl FnOnce(&mut Reasons<'_>) -> T) -> T {
        let mut reasons = reasons;
        if reasons.image.executors().nth(MANY).is_none() {
            return tell(&mut reasons);
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, found) = &mut *known;
        if since.is_none_or(|since| since.elapsed() > FRESH) || found.len() > MOST_DEMANDS {
            *since = Some(Instant::now());
            found.clear();
        }
        reasons.found = std::mem::take(found);
        let told = tell(&mut reasons);
        *found = reasons.found;
        told
    }
}

/// What stands in the way of a demand.
#[derive(Clone)]
struct Found {
    obstacle: Obstacle,
    /// Whether an executor has room, be it kept for others or not.
    has_room: bool,
    /// Whether one has that is not kept.
    is_open: bool,
    blockers: Vec<Blocker>,
}

impl<'a> Reasons<'a> {
    /// Begins to look at executors.
    pub fn new(image: &'a Image, times: (u64, u64), is_kept: IsKept<'a>) -> Self {
        Self { image, times, is_kept, nodes: OnceCell::new(), found: BTreeMap::new() }
    }

    /// Says why a job waits.
    pub fn of(&mut self, job: &Job) -> v1::PendingReason {
        let found = match self.found.get(&job.demand) {
            Some(found) => found.clone(),
            None => {
                let found = self.look(&job.demand);
                self.found.insert(job.demand.clone(), found.clone());
                found
            }
        };
        let (code, message, queue_position, blockers) = why(self.image, job, self.times, found);
        v1::PendingReason {
            code: i32::from(code),
            message,
            queue_position: i32::try_from(queue_position).unwrap_or(i32::MAX),
            blockers,
            evaluate_time: Some(timestamp(self.times.0)),
        }
    }

    fn look(&self, demand: &Demand) -> Found {
        let nodes = self.nodes.get_or_init(|| self.image.nodes());
        let free = || nodes.values().filter(|node| node.takes_jobs && node.fits(demand));
        let obstacle = explain(demand, nodes.values());
        let is_busy = matches!(obstacle, Obstacle::Busy { .. });
        let blockers = if is_busy { blockers(demand, nodes.values()) } else { Vec::new() };
        let is_open = free().any(|node| !(self.is_kept)(&node.id));
        Found { obstacle, has_room: free().next().is_some(), is_open, blockers }
    }
}

fn why(
    image: &Image,
    job: &Job,
    (now_ms, lost_after_ms): (u64, u64),
    found: Found,
) -> (Code, String, usize, Vec<Blocker>) {
    if let Some(due_ms) = job.due_time_ms {
        let seconds = due_ms.saturating_sub(now_ms).div_ceil(1_000);
        return (Code::Backoff, format!("Tried again in {seconds} s. {}", job.message), 0, Vec::new());
    }
    let ahead = image.queue_position(job);
    if image.leader.is_none() {
        let message = "No scheduler leads at the moment; the queue clock stands still.".to_owned();
        return (Code::NoLeader, message, ahead + 1, Vec::new());
    }
    let quarantine = image.quarantine_until_ms(lost_after_ms).filter(|until_ms| *until_ms > now_ms);
    if let Some(until_ms) = quarantine.filter(|_| job.on_lost != OnLost::Retry) {
        let seconds = until_ms.saturating_sub(now_ms).div_ceil(1_000);
        let message = format!(
            "The store was restarted; a job that must not run twice waits {seconds} s for executors to be heard of."
        );
        return (Code::Quarantine, message, ahead + 1, Vec::new());
    }
    let (code, message) = match found.obstacle {
        Obstacle::NoExecutors if image.has_executors() => {
            (Code::NoExecutors, "Every executor is lost. See: berth executors.".to_owned())
        }
        Obstacle::NoExecutors => {
            let message = "No executor is registered. Start one: berth executor --schedulers HOST:PORT.";
            (Code::NoExecutors, message.to_owned())
        }
        Obstacle::TooLarge(_) | Obstacle::Unsuited(_) if let Some(lost) = lost(image, job) => {
            let message = format!("Fits only executors that are lost, such as {}.", lost.id);
            (Code::NoExecutors, format!("{message} {}", ends(job, "one that does joins")))
        }
        Obstacle::TooLarge(why) => (Code::TooLarge, format!("{why} {}", ends(job, "a larger one joins"))),
        Obstacle::Unsuited(why) => (Code::Constraints, format!("{why} {}", ends(job, "one that does joins"))),
        Obstacle::Busy { .. } if found.is_open => {
            (Code::Queued, format!("Is being placed; {}.", jobs_ahead(ahead)))
        }
        Obstacle::Busy { .. } if found.has_room => {
            let message = "Where there is room, it is kept for jobs that have waited longer";
            (Code::Reserved, format!("{message}; {}.", jobs_ahead(ahead)))
        }
        Obstacle::Busy { fitting, out_of_service } => (Code::Busy, busy(fitting, out_of_service, ahead)),
    };
    let blockers = if code == Code::Busy { found.blockers } else { Vec::new() };
    (code, message, ahead + 1, blockers)
}

/// An executor that would do if it were not lost.
fn lost<'a>(image: &'a Image, job: &Job) -> Option<&'a Executor> {
    let mut lost = image.executors().filter(|executor| executor.state == ExecutorState::Lost);
    let would_do =
        |known: &&Arc<Executor>| job.demand.suits(&known.labels) && job.demand.fits_empty(&known.capacity);
    lost.find(would_do).map(Arc::as_ref)
}

fn busy(fitting: usize, out_of_service: usize, ahead: usize) -> String {
    let executors = if fitting == 1 { "executor" } else { "executors" };
    let state = match out_of_service {
        0 => "none free now".to_owned(),
        1 if fitting == 1 => "which takes no jobs now".to_owned(),
        out if out == fitting => "none of which takes jobs now".to_owned(),
        1 => "none free now, and 1 of them takes no jobs".to_owned(),
        out => format!("none free now, and {out} of them take no jobs"),
    };
    format!("Fits {fitting} {executors}, {state}; {}.", jobs_ahead(ahead))
}

/// Counts jobs in words.
pub fn jobs_ahead(ahead: usize) -> String {
    format!("{ahead} {} ahead", if ahead == 1 { "job" } else { "jobs" })
}

/// What becomes of a job for which there is no executor, unless that changes.
fn ends(job: &Job, unless: &str) -> String {
    match queue_limit_ms(job) {
        Some(limit) => {
            format!("It fails in {} s unless {unless}; --queue-timeout 0 waits.", limit.div_ceil(1_000))
        }
        None => format!("It waits until {unless}."),
    }
}

/// Counts, for each dimension, the executors that are large enough but have too little of it free.
fn blockers<'a>(demand: &Demand, nodes: impl Iterator<Item = &'a Node>) -> Vec<Blocker> {
    let mut short: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for node in nodes.filter(|node| node.fits_empty(demand)) {
        let free_cpu = node.capacity.cpu_millis.saturating_sub(node.reserved.cpu_millis);
        let free_memory = node.capacity.memory_bytes.saturating_sub(node.reserved.memory_bytes);
        let free_gpus = demand.usable_gpus(&node.capacity, &node.reserved).count();
        let lacks = [
            ("cpu", free_cpu < demand.cpu_millis),
            ("memory", free_memory < demand.memory_bytes),
            ("gpu", free_gpus < demand.gpu_count as usize),
            ("executor_state", !node.takes_jobs),
        ];
        for (dimension, _) in lacks.into_iter().filter(|(_, lacks)| *lacks) {
            short.entry(dimension).or_default().push(node.id.to_string());
        }
    }
    let blocker = |(dimension, executors): (&str, Vec<String>)| Blocker {
        dimension: dimension.to_owned(),
        executor_count: i32::try_from(executors.len()).unwrap_or(i32::MAX),
        example_executor_ids: executors.into_iter().take(3).collect(),
    };
    short.into_iter().map(blocker).collect()
}
