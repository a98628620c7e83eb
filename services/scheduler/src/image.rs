//! What is going on in the cluster, in memory: every job that has not ended and every executor.
//! Fed by the change log; entries apply by revision, so applying one twice changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_domain::executor::{Executor, ExecutorState};
use berth_domain::ids::{ExecutorId, JobId, SessionId};
use berth_domain::job::{Job, JobIndex, JobState};
use berth_domain::placement::{Board, Ends, Holding, Moment, Node, Placement, Plan, Request, Trial};
use berth_domain::spec::OnLost;
use berth_store::{Change, Position};

use crate::ranked::Ranked;

/// So many ready jobs at most are put in order at once, the hardest first.
const WINDOW: usize = 4_096;

/// The order of the queue: priority falling, then time of submission, then id.
type QueueKey = (u8, u64, JobId);

/// The image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The newest change that has been applied.
    pub position: Position,
    /// Who leads: epoch and name.
    pub leader: Option<(u64, String)>,
    /// The newest epoch of any leader; it outlives a release of the lock.
    pub epoch: u64,
    /// When the store's generation began, by the store's clock.
    pub generation_since_ms: u64,
    jobs: BTreeMap<JobId, Arc<Job>>,
    pending: Ranked<QueueKey>,
    delayed: BTreeSet<(u64, JobId)>,
    /// The earliest time at which the queue clock of a job may run out.
    timeouts: BTreeSet<(u64, JobId)>,
    assigned: BTreeMap<ExecutorId, BTreeSet<JobId>>,
    executors: BTreeMap<ExecutorId, Arc<Executor>>,
    /// Whose session it is.
    sessions: BTreeMap<SessionId, ExecutorId>,
    /// The same as placement sees it.
    board: Board,
    /// Executors that the newest round kept for jobs that have waited for too long.
    kept: BTreeMap<ExecutorId, JobId>,
}

impl Default for Image {
    fn default() -> Self {
        Self::new(Placement::default())
    }
}

fn queue_key(job: &Job) -> QueueKey {
    (100 - job.priority.min(100), job.create_time_ms, job.id.clone())
}

/// The limit that the queue clock of a ready job runs against.
pub fn queue_limit_ms(job: &Job) -> Option<u64> {
    // After a first allocation only the requeue timeout counts.
    if job.attempt == 0 { job.queue_timeout_ms } else { job.requeue_timeout_ms }
}

fn takes_jobs(executor: &Executor) -> bool {
    executor.takes_jobs() && executor.session.is_some()
}

fn request(job: &Job) -> Request {
    Request {
        job: job.id.clone(),
        demand: job.demand.clone(),
        avoid: job.avoid_executor.clone(),
        priority: job.priority,
        namespace: job.namespace.clone(),
        create_time_ms: job.create_time_ms,
        ready_time_ms: job.ready_time_ms,
        run_timeout_ms: job.run_timeout_ms,
        may_repeat: job.on_lost == OnLost::Retry,
        image_hash: job.image_hash,
    }
}

fn holding(job: &Job, executor: &ExecutorId) -> Holding {
    Holding {
        job: job.id.clone(),
        executor: executor.clone(),
        demand: job.demand.clone(),
        gpu_device_ids: job.gpu_device_ids.clone(),
        namespace: job.namespace.clone(),
        ends: Ends::new(job.start_time_ms, job.run_timeout_ms),
    }
}

impl Image {
    /// Knows of nothing yet.
    pub fn new(placement: Placement) -> Self {
        Self {
            position: Position::default(),
            leader: None,
            epoch: 0,
            generation_since_ms: 0,
            jobs: BTreeMap::new(),
            pending: Ranked::default(),
            delayed: BTreeSet::new(),
            timeouts: BTreeSet::new(),
            assigned: BTreeMap::new(),
            executors: BTreeMap::new(),
            sessions: BTreeMap::new(),
            board: Board::new(placement),
            kept: BTreeMap::new(),
        }
    }

    /// Takes over what an older image knows of the jobs that were submitted of late, of where images have run, and of what
    /// is kept for whom. The first image counts those that it has.
    pub fn inherit(&mut self, older: &Self) {
        if older.position == Position::default() {
            for job in self.jobs.values() {
                self.board.count_arrivals(&job.demand, 1);
            }
        }
        for (demand, count) in older.board.arrivals() {
            self.board.count_arrivals(&demand, count);
        }
        let known = |executor: &&ExecutorId| self.executors.contains_key(*executor);
        for (executor, image) in older.board.images().filter(|(executor, _)| known(executor)) {
            self.board.note_image(executor, image);
        }
        for (job, reservation) in older.board.reservations() {
            if let Some(job) = self.jobs.get(job).filter(|job| job.index() == JobIndex::Pending) {
                self.board.keep(&request(job), reservation);
            }
        }
    }

    /// Applies one change of the log; one that the image already shows changes nothing.
    pub fn apply(&mut self, revision: u64, change: &Change) {
        if revision <= self.position.revision {
            return;
        }
        match change {
            Change::Job(job) => {
                if job.state == JobState::Pending && job.attempt == 0 && !self.jobs.contains_key(&job.id) {
                    self.board.count_arrivals(&job.demand, 1);
                }
                self.put_job(Arc::clone(job));
            }
            Change::JobDeleted(id) => self.remove_job(id),
            Change::Executor(executor) => self.put_executor(executor),
            Change::Leader { epoch, scheduler_id } => {
                // What is kept is for the leader to say.
                self.kept.clear();
                self.board.forget_reservations();
                self.epoch = self.epoch.max(*epoch);
                self.leader = (!scheduler_id.is_empty()).then(|| (*epoch, scheduler_id.clone()));
            }
        }
        self.position.revision = revision;
    }

    /// The executors that a change concerns which is about to be applied: who has the job, and who had it.
    pub fn concerned(&self, change: &Change) -> BTreeSet<ExecutorId> {
        let holder = |job: &Job| match job.index() {
            JobIndex::Assigned(executor) => Some(executor),
            JobIndex::Pending | JobIndex::Delayed(_) | JobIndex::Finished(_) => None,
        };
        let held = |id: &JobId| self.jobs.get(id).and_then(|job| holder(job));
        match change {
            Change::Job(job) => holder(job).into_iter().chain(held(&job.id)).collect(),
            Change::JobDeleted(id) => held(id).into_iter().collect(),
            Change::Executor(executor) => BTreeSet::from([executor.id.clone()]),
            Change::Leader { .. } => BTreeSet::new(),
        }
    }

    /// Takes a job's record over, unless a newer one is known.
    pub fn put_job(&mut self, job: impl Into<Arc<Job>>) {
        let job = job.into();
        if self.jobs.get(&job.id).is_some_and(|known| known.revision >= job.revision) {
            return;
        }
        self.remove_job(&job.id);
        match job.index() {
            JobIndex::Pending => {
                self.pending.insert(queue_key(&job));
                self.board.push(request(&job));
                if let Some(limit) = queue_limit_ms(&job) {
                    self.timeouts.insert((job.ready_time_ms.saturating_add(limit), job.id.clone()));
                }
            }
            JobIndex::Delayed(due) => {
                self.delayed.insert((due, job.id.clone()));
            }
            JobIndex::Assigned(executor) => {
                self.board.hold(&holding(&job, &executor));
                if job.state == JobState::Running {
                    self.board.note_image(&executor, job.image_hash);
                }
                self.assigned.entry(executor).or_default().insert(job.id.clone());
            }
            // An ended job needs nobody's attention.
            JobIndex::Finished(_) => return,
        }
        self.jobs.insert(job.id.clone(), job);
    }

    fn remove_job(&mut self, id: &JobId) {
        let Some(job) = self.jobs.remove(id) else { return };
        match job.index() {
            JobIndex::Pending => {
                self.pending.remove(&queue_key(&job));
                self.board.withdraw(&request(&job));
                if let Some(limit) = queue_limit_ms(&job) {
                    self.timeouts.remove(&(job.ready_time_ms.saturating_add(limit), job.id.clone()));
                }
            }
            JobIndex::Delayed(due) => {
                self.delayed.remove(&(due, job.id.clone()));
            }
            JobIndex::Assigned(executor) => {
                self.board.release(&holding(&job, &executor));
                if let Some(jobs) = self.assigned.get_mut(&executor) {
                    jobs.remove(id);
                }
            }
            JobIndex::Finished(_) => {}
        }
    }

    /// Takes an executor's record over, unless a newer one is known.
    pub fn put_executor(&mut self, executor: &Executor) {
        let newer = self.executors.get(&executor.id).is_none_or(|known| known.revision < executor.revision);
        if newer {
            match executor.state {
                ExecutorState::Active => {
                    let takes_jobs = takes_jobs(executor);
                    self.board.put_executor(&executor.id, &executor.capacity, &executor.labels, takes_jobs);
                }
                ExecutorState::Lost => self.board.remove_executor(&executor.id),
            }
            let before = self.executors.insert(executor.id.clone(), Arc::new(executor.clone()));
            if let Some(session) = before.as_ref().and_then(|before| before.session.as_ref()) {
                self.sessions.remove(session);
            }
            if let Some(session) = &executor.session {
                self.sessions.insert(session.clone(), executor.id.clone());
            }
        }
    }

    /// Finds a job that has not ended.
    pub fn job(&self, id: &JobId) -> Option<&Arc<Job>> {
        self.jobs.get(id)
    }

    /// Finds an executor.
    pub fn executor(&self, id: &ExecutorId) -> Option<&Arc<Executor>> {
        self.executors.get(id)
    }

    /// Finds the executor of a session.
    pub fn executor_of(&self, session: &SessionId) -> Option<&Arc<Executor>> {
        self.executors.get(self.sessions.get(session)?)
    }

    /// Lists all executors, those that are lost too.
    pub fn executors(&self) -> impl Iterator<Item = &Arc<Executor>> {
        self.executors.values()
    }

    /// Lists the jobs of an executor, by id.
    pub fn assigned_to(&self, executor: &ExecutorId) -> impl Iterator<Item = &Arc<Job>> {
        self.assigned.get(executor).into_iter().flatten().filter_map(|id| self.jobs.get(id))
    }

    /// Counts the ready jobs before this one in the queue.
    pub fn queue_position(&self, job: &Job) -> usize {
        self.pending.rank(&queue_key(job))
    }

    /// Tells when the oldest ready job became ready.
    pub fn oldest_ready_ms(&self) -> Option<u64> {
        self.pending.iter().filter_map(|(_, _, id)| self.jobs.get(id)).map(|job| job.ready_time_ms).min()
    }

    /// Says whether there is any executor, be it lost.
    pub fn has_executors(&self) -> bool {
        !self.executors.is_empty()
    }

    /// Shows the executors as placement sees them.
    pub fn nodes(&self) -> BTreeMap<ExecutorId, Node> {
        let node = |executor: &Arc<Executor>| Node {
            id: executor.id.clone(),
            takes_jobs: takes_jobs(executor),
            capacity: executor.capacity.clone(),
            labels: executor.labels.clone(),
            reserved: self.board.reserved(&executor.id).cloned().unwrap_or_default(),
        };
        self.executors
            .values()
            .filter(|executor| executor.state != ExecutorState::Lost)
            .map(|executor| (executor.id.clone(), node(executor)))
            .collect()
    }

    /// Tells until when the store's generation is in quarantine: its server was restarted or replaced
    /// while executors were registered, and may have lost what they were told to run. `None` when
    /// there was nobody to be told anything.
    pub fn quarantine_until_ms(&self, lost_after_ms: u64) -> Option<u64> {
        let since_ms = self.generation_since_ms;
        let had_executors = self.executors.values().any(|executor| executor.register_time_ms < since_ms);
        had_executors.then(|| since_ms.saturating_add(lost_after_ms))
    }

    /// Decides where ready jobs go now, `limit` of them at most.
    pub fn plan(&mut self, now_ms: u64, lost_after_ms: u64, limit: usize) -> Plan {
        let plan = self.board.plan(&self.moment(now_ms, lost_after_ms, limit));
        if plan.is_complete {
            self.kept.clear();
        }
        self.kept.extend(plan.reserved.iter().map(|(job, executor)| (executor.clone(), job.clone())));
        plan
    }

    /// Tells what would become of a job now that is ready, or that would be.
    pub fn try_out(&mut self, job: &Job, now_ms: u64, lost_after_ms: u64) -> Trial {
        self.board.try_out(&request(job), &self.moment(now_ms, lost_after_ms, usize::MAX))
    }

    fn moment(&self, now_ms: u64, lost_after_ms: u64, limit: usize) -> Moment {
        let quarantine = self.quarantine_until_ms(lost_after_ms);
        let with_unrepeatable = quarantine.is_none_or(|until_ms| now_ms >= until_ms);
        Moment { now_ms, limit, window: WINDOW, with_unrepeatable }
    }

    /// The executors that the newest round of this replica kept, each for a job that has waited for too long.
    pub fn kept(&self) -> &BTreeMap<ExecutorId, JobId> {
        &self.kept
    }

    /// Lists held-back jobs whose time has come.
    pub fn due(&self, now_ms: u64) -> impl Iterator<Item = &Arc<Job>> {
        self.delayed.iter().take_while(move |(due, _)| *due <= now_ms).filter_map(|(_, id)| self.jobs.get(id))
    }

    /// Lists ready jobs whose queue clock may have run out.
    pub fn overdue(&self, now_ms: u64) -> impl Iterator<Item = &Arc<Job>> {
        self.timeouts.iter().take_while(move |(at, _)| *at <= now_ms).filter_map(|(_, id)| self.jobs.get(id))
    }

    /// Tells the next time after `now_ms` at which `due` or `overdue` may gain a job.
    pub fn next_deadline_ms(&self, now_ms: u64) -> Option<u64> {
        let due = self.delayed.iter().map(|(at, _)| *at).find(|at| *at > now_ms);
        let overdue = self.timeouts.iter().map(|(at, _)| *at).find(|at| *at > now_ms);
        due.into_iter().chain(overdue).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_domain::ids::SchedulerId;
    use berth_domain::job::JobState;
    use berth_domain::resources::{Capacity, Demand};
    use berth_domain::spec::{Clocks, JobSpec};

    fn job(id: &str, priority: u8, revision: u64) -> Job {
        let spec = JobSpec {
            priority,
            clocks: Clocks { queue_timeout_ms: Some(15_000), ..Clocks::default() },
            ..crate::samples::spec()
        };
        Job { revision, ..Job::new(JobId::trusted(id), String::new(), &spec, 1_000) }
    }

    #[test]
    fn the_queue_is_ordered_by_priority_then_submission() {
        let mut image = Image::default();
        for (revision, (id, priority)) in [("b", 50), ("a", 50), ("urgent", 90)].into_iter().enumerate() {
            image.put_job(job(id, priority, revision as u64 + 1));
        }
        let position = |id: &str, priority| image.queue_position(&job(id, priority, 0));
        assert_eq!([position("urgent", 90), position("a", 50), position("b", 50)], [0, 1, 2]);
    }

    #[test]
    fn an_entry_applied_late_or_twice_changes_nothing() {
        let mut image = Image::default();
        let pending = job("j", 50, 1);
        let running = Job {
            state: JobState::Running,
            executor: Some(ExecutorId::trusted("e")),
            revision: 3,
            ..pending.clone()
        };
        for entry in [&pending, &running, &running, &pending] {
            image.put_job(entry.clone());
        }
        assert_eq!(image.oldest_ready_ms(), None);
        assert_eq!(image.assigned_to(&ExecutorId::trusted("e")).count(), 1);
        let reserved = |image: &Image| image.board.reserved(&ExecutorId::trusted("e")).map(|r| r.cpu_millis);
        assert_eq!(reserved(&image), Some(100));
        image.put_job(Job { state: JobState::Succeeded, revision: 4, ..running });
        assert_eq!(reserved(&image), Some(0));
    }

    #[test]
    fn what_is_kept_for_a_job_stays_kept_in_the_image_that_is_read_anew() {
        let executor = |name: &str, revision| {
            let capacity = Capacity { cpu_millis: 200, memory_bytes: 100, gpus: vec![] };
            let scheduler = SchedulerId::trusted("s");
            let new = Executor::new(ExecutorId::trusted(name), scheduler, capacity, 0);
            Executor { session: Some(SessionId::trusted("s")), revision, ..new }
        };
        let held = |id: &str, on: &str, cpu_millis, revision| {
            let demand = Demand { cpu_millis, memory_bytes: 1, ..Demand::default() };
            let executor = Some(ExecutorId::trusted(on));
            Job { state: JobState::Running, executor, demand, ..job(id, 50, revision) }
        };
        let large = Job {
            demand: Demand { cpu_millis: 200, memory_bytes: 1, ..Demand::default() },
            ..job("large", 50, 5)
        };
        let image = |held: &[Job]| {
            let mut image = Image::default();
            ["a", "b"].iter().zip(1..).for_each(|(name, at)| image.put_executor(&executor(name, at)));
            held.iter().chain([&large]).for_each(|job| image.put_job((*job).clone()));
            image
        };
        let kept_on = |image: &mut Image| image.plan(400_000, 0, 1).reserved[0].1.to_string();
        let mut older = image(&[held("x", "a", 2, 3), held("y", "b", 1, 4)]);
        assert_eq!(kept_on(&mut older), "b", "it lacks less");
        let mut newer = image(&[held("x", "a", 1, 3), held("y", "b", 1, 4)]);
        assert_eq!(kept_on(&mut newer.clone()), "a", "the first");
        newer.inherit(&older);
        assert_eq!(kept_on(&mut newer), "b");
    }

    #[test]
    fn a_release_of_the_lock_does_not_lower_the_epoch_that_executors_are_told() {
        let mut image = Image::default();
        image.apply(1, &Change::Leader { epoch: 7, scheduler_id: "s".into() });
        image.apply(2, &Change::Leader { epoch: 7, scheduler_id: String::new() });
        assert_eq!((image.epoch, image.leader), (7, None));
    }
}
