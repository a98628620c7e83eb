//! Specs of jobs that this replica has stored of late: an executor that is about to start one is most often told from
//! here, without a read. A spec never changes while its job is kept; the store alone is asked for what is not here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use berth_domain::digest::SpecHash;
use berth_domain::ids::JobId;
use berth_domain::job::Job;
use berth_domain::spec::JobSpec;

/// So many bytes of specs at most are kept, about.
const MOST_BYTES: usize = 32 << 20;
/// What one takes beside its texts, about, and a text beside its bytes.
const BYTES_EACH: usize = 512;
const BYTES_A_TEXT: usize = 48;

/// A spec, by its content's name: another job may have had the same id.
#[derive(Debug)]
struct Known {
    hash: SpecHash,
    spec: Arc<JobSpec>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Shelf {
    known: BTreeMap<JobId, Known>,
    /// Oldest first; some may have been taken.
    order: VecDeque<JobId>,
    bytes: usize,
}

/// Specs that need not be read.
#[derive(Debug, Default)]
pub struct Specs(Mutex<Shelf>);

impl Specs {
    /// Keeps the spec of a job that has just been stored.
    pub fn keep(&self, job: &Job, spec: &Arc<JobSpec>) {
        let bytes = BYTES_EACH + texts(spec);
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = Known { hash: job.spec_hash, spec: Arc::clone(spec), bytes };
        shelf.drop_one(&job.id);
        shelf.known.insert(job.id.clone(), known);
        shelf.order.push_back(job.id.clone());
        shelf.bytes += bytes;
        while shelf.bytes > MOST_BYTES
            && let Some(oldest) = shelf.order.pop_front()
        {
            shelf.drop_one(&oldest);
        }
        shelf.forget_taken();
    }

    /// Takes the spec of a job, which seldom starts twice; `None` where it has to be read.
    pub fn take(&self, job: &Job) -> Option<Arc<JobSpec>> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shelf.drop_one(&job.id)?;
        (known.hash == job.spec_hash).then_some(known.spec)
    }
}

impl Shelf {
    fn drop_one(&mut self, id: &JobId) -> Option<Known> {
        let known = self.known.remove(id)?;
        self.bytes -= known.bytes;
        Some(known)
    }

    /// Keeps the order from growing with what is gone.
    fn forget_taken(&mut self) {
        if self.order.len() > 2 * self.known.len() + 64 {
            let Self { known, order, .. } = self;
            order.retain(|id| known.contains_key(id));
        }
    }
}

/// What the texts of a spec take, about, the empty ones too.
fn texts(spec: &JobSpec) -> usize {
    let pairs = spec.env.iter().chain(&spec.labels).flat_map(|(key, value)| [key, value]);
    let single =
        [&spec.image, &spec.working_dir].into_iter().chain(&spec.command).chain(&spec.demand.gpu_models);
    let constraints = spec.demand.constraints.iter().map(|constraint| constraint.to_string().len());
    let all = pairs.chain(single).map(String::len).chain(constraints);
    all.map(|bytes| BYTES_A_TEXT + bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(command: &str) -> Arc<JobSpec> {
        Arc::new(JobSpec { command: vec![command.into()], ..crate::samples::spec() })
    }

    fn job(id: &str, spec: &JobSpec) -> Job {
        Job::new(JobId::trusted(id), String::new(), spec, 0)
    }

    #[test]
    fn a_spec_is_taken_once_and_never_for_another_job_of_that_id() {
        let (specs, one, other) = (Specs::default(), spec("one"), spec("other"));
        specs.keep(&job("a", &one), &one);
        assert_eq!(specs.take(&job("a", &other)), None);
        specs.keep(&job("a", &one), &one);
        specs.keep(&job("a", &other), &other);
        assert_eq!(specs.take(&job("a", &other)), Some(other.clone()));
        assert_eq!(specs.take(&job("a", &other)), None);
    }

    #[test]
    fn the_oldest_go_where_there_is_no_more_room() {
        let (specs, large) = (Specs::default(), spec(&"x".repeat(MOST_BYTES / 4)));
        for id in ["a", "b", "c", "d", "e"] {
            specs.keep(&job(id, &large), &large);
        }
        let kept = |id: &str| specs.take(&job(id, &large)).is_some();
        assert_eq!(["a", "b", "c", "d", "e"].map(kept), [false, false, true, true, true]);
        let shelf = specs.0.lock().unwrap();
        assert_eq!((shelf.bytes, shelf.known.len()), (0, 0));
    }

    #[test]
    fn what_is_taken_leaves_nothing_behind() {
        let (specs, small) = (Specs::default(), spec("s"));
        for number in 0..1_000 {
            let job = job(&format!("j{number}"), &small);
            specs.keep(&job, &small);
            specs.take(&job);
        }
        let shelf = specs.0.lock().unwrap();
        assert!(shelf.order.len() < 100 && shelf.bytes == 0, "{} stay", shelf.order.len());
    }
}
