//! Steps through a run, and lets happen what its plan says.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use berth_store::model::{Faults, Snapshot};

use super::fault::{Engine, Fault, Kind, Process, Silence, Way};
use super::plan::Plan;
use super::world::{World, at_ms};
use crate::failpoints::Harm;
use crate::seen::{Copy, Seen};

/// How long a run may take, in simulated time.
const LIMIT: Duration = Duration::from_secs(1_500);
/// When a process that ended by itself is started again.
const SUPERVISED: Duration = Duration::from_millis(500);
/// By default a message takes so long at the most.
pub const LATENCY: Duration = Duration::from_millis(20);
/// On a slow connection.
const SLOW: Duration = Duration::from_secs(2);
/// What a call of a slow store takes.
const SLOW_STORE: Duration = Duration::from_millis(500);
/// How often the store's sets are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(700);
/// After the last fault and the last end: whoever is away comes back, and stops what is no longer wanted; a
/// second end of any job would follow.
const QUIET_FOR: Duration = Duration::from_secs(40);
/// After the last fault, in some runs: by then whoever is still away is so without a reason.
const CALM_FOR: Duration = Duration::from_secs(100);

/// A run under way.
pub struct Play<'a, 'b> {
    sim: &'a mut turmoil::Sim<'b>,
    world: &'a World,
    seen: &'a Seen,
    plan: &'a Plan,
    /// Faults that have begun and are not over, by their number.
    active: BTreeMap<usize, &'a Fault>,
    /// Processes that are down, and until when.
    down: BTreeMap<Process, Duration>,
    /// Those of them that ended by themselves.
    supervised: BTreeSet<Process>,
    /// How long a process stays down that dies at one of its points.
    falls: BTreeMap<Process, Duration>,
    /// Copies for fail-overs, by the fault's number.
    copies: BTreeMap<usize, (Snapshot, Copy)>,
    /// The kinds that happened, and how often.
    happened: BTreeMap<&'static str, usize>,
}

/// What became of a run.
pub struct Played {
    /// The kinds of fault that happened, and how often.
    pub happened: BTreeMap<&'static str, usize>,
    /// When the last of them was over.
    pub calm_since: Duration,
    /// It came to its end by itself.
    pub is_complete: bool,
}

/// What is due in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    /// The store is copied for a later fail-over.
    Copy,
    Begin,
    End,
}

impl<'a, 'b> Play<'a, 'b> {
    /// Prepares a run.
    pub fn new(sim: &'a mut turmoil::Sim<'b>, plan: &'a Plan, world: &'a World, seen: &'a Seen) -> Self {
        Self {
            sim,
            world,
            seen,
            plan,
            active: BTreeMap::new(),
            down: BTreeMap::new(),
            supervised: BTreeSet::new(),
            falls: BTreeMap::new(),
            copies: BTreeMap::new(),
            happened: BTreeMap::new(),
        }
    }

    /// Plays it to its end.
    pub fn run(mut self) -> Played {
        let mut due = self.due();
        let (mut looked, mut over_since) = (Duration::ZERO, None);
        let mut calm_since = Duration::ZERO;
        self.settle();
        loop {
            let now = self.sim.elapsed();
            while let Some((_, act, number)) = due.first().copied().filter(|(at, ..)| *at <= now) {
                due.pop_first();
                self.act(act, number);
            }
            self.look_after_processes();
            if !due.is_empty() || self.is_harmed(now) {
                calm_since = now;
            }
            if now - looked >= LOOK_EVERY {
                looked = now;
                self.look_at_sets();
                if over_since.is_none() && due.is_empty() && self.is_over(now) {
                    over_since = Some(now);
                    self.world
                        .processes()
                        .into_iter()
                        .for_each(|process| self.world.lives(process).points.disarm());
                }
                if over_since.is_some_and(|since| now - since >= QUIET_FOR)
                    && now - calm_since >= self.calm_for()
                {
                    self.seen.set_over();
                    return Played { happened: self.happened, calm_since, is_complete: true };
                }
            }
            if now >= LIMIT {
                return Played { happened: self.happened, calm_since, is_complete: false };
            }
            self.sim.step().expect("nothing but the cluster may break");
        }
    }

    /// How long a run goes on after the last fault at least: some show that nobody stays away.
    fn calm_for(&self) -> Duration {
        if self.plan.seed.is_multiple_of(4) { CALM_FOR } else { Duration::ZERO }
    }

    /// Says whether a process is away, beside those that are dead for good.
    fn is_away(&self) -> bool {
        self.down.values().any(|until| *until != Duration::MAX)
    }

    /// Says whether a fault or an operator does harm now. A process that ended by itself is none.
    fn is_harmed(&self, now: Duration) -> bool {
        let is_down = |(process, until): (&Process, &Duration)| {
            *until != Duration::MAX && !self.supervised.contains(process)
        };
        let is_drained = self.plan.rounds.iter().any(|round| round.begins + round.lasts > now);
        let mut processes = self.world.processes().into_iter();
        self.down.iter().any(is_down)
            || is_drained
            || processes.any(|process| self.world.lives(process).points.is_pausing())
    }

    /// Says whether nothing goes wrong any more, and every job has ended.
    fn is_over(&self, now: Duration) -> bool {
        let record = self.seen.record();
        let mut jobs = self.plan.jobs.iter();
        !self.is_harmed(now)
            && !self.is_away()
            && jobs.all(|wish| record.is_acknowledged(wish.number))
            && record.have_all_ended()
    }

    fn look_at_sets(&self) {
        let mut record = self.seen.record();
        if record.has_news() {
            record.note_sets(&self.world.store.snapshot());
        }
    }

    fn due(&self) -> BTreeSet<(Duration, Act, usize)> {
        let mut due = BTreeSet::new();
        for fault in &self.plan.faults {
            due.insert((fault.at, Act::Begin, fault.number));
            due.insert((fault.at + fault.lasts, Act::End, fault.number));
            if let Kind::FailOver(lag) = fault.kind {
                due.insert((fault.at.saturating_sub(lag), Act::Copy, fault.number));
            }
        }
        due
    }

    fn act(&mut self, act: Act, number: usize) {
        let all = &self.plan.faults;
        let fault = all.iter().find(|fault| fault.number == number).expect("it is one of the plan's");
        match act {
            Act::Copy => {
                self.copies.insert(number, (self.world.store.snapshot(), self.seen.record().copy()));
            }
            Act::Begin => {
                *self.happened.entry(fault.kind.name()).or_default() += 1;
                self.active.insert(number, fault);
                self.begin(fault);
            }
            Act::End => {
                self.active.remove(&number);
                self.end(fault);
            }
        }
        self.settle();
    }

    fn begin(&mut self, fault: &Fault) {
        let until = fault.at + fault.lasts;
        match &fault.kind {
            Kind::Crash(process) => self.kill(*process, until),
            Kind::CrashAt(process, site, pass) => {
                self.world.lives(*process).points.arm(site, *pass, Harm::Death);
                self.falls.insert(*process, fault.lasts);
            }
            Kind::PauseAt(process, site, pass) => {
                self.world.lives(*process).points.arm(site, *pass, Harm::Pause(fault.lasts));
            }
            Kind::Stop(process) => {
                if !self.down.contains_key(process) {
                    self.world.lives(*process).stop();
                    self.down.insert(*process, until);
                }
            }
            Kind::Reboot(index, code) => {
                self.kill(Process::Executor(*index), until);
                self.turn_off(*index, *code);
            }
            Kind::EngineCrash(index, code) => self.end_containers(*index, *code),
            Kind::Death(index) => {
                self.kill(Process::Executor(*index), Duration::MAX);
                self.turn_off(*index, 137);
            }
            Kind::Freeze(process) => {
                self.world.lives(*process).points.hold(true);
                self.break_ways(&fault.kind);
            }
            Kind::Way(..) | Kind::Split(..) => self.break_ways(&fault.kind),
            Kind::StoreRestart => self.world.store.restart(),
            Kind::FailOver(_) => {
                let (store, seen) = self.copies.remove(&fault.number).expect("it was made before");
                self.seen.record().go_back(seen, at_ms(self.sim.elapsed()));
                self.world.store.fail_over(store);
            }
            Kind::ClockStep(by_ms) => {
                self.world.store_skew_ms.fetch_add(*by_ms, Ordering::SeqCst);
            }
            Kind::Store(..) | Kind::StoreFull | Kind::Engine(..) | Kind::DiskFull(_) => {}
        }
    }

    fn end(&mut self, fault: &Fault) {
        for (way, executor, scheduler) in self.ways(&fault.kind) {
            self.set_way(way, executor, scheduler, false);
        }
        if let Kind::Freeze(process) = fault.kind {
            let is_frozen = self.active.values().any(|other| other.kind == fault.kind);
            self.world.lives(process).points.hold(is_frozen);
        }
        // Another fault may still break one of them.
        self.active.values().for_each(|other| self.break_ways(&other.kind));
    }

    fn break_ways(&self, kind: &Kind) {
        for (way, executor, scheduler) in self.ways(kind) {
            self.set_way(way, executor, scheduler, true);
        }
    }

    /// Lists the ways between executors and schedulers that a fault breaks, and how.
    fn ways(&self, kind: &Kind) -> Vec<(Way, usize, usize)> {
        let all = 0..self.plan.schedulers;
        match kind {
            Kind::Way(way, executor, None) => all.map(|scheduler| (*way, *executor, scheduler)).collect(),
            Kind::Way(way, executor, Some(scheduler)) => vec![(*way, *executor, *scheduler)],
            Kind::Freeze(Process::Executor(executor)) => {
                all.map(|scheduler| (Way::Held, *executor, scheduler)).collect()
            }
            Kind::Freeze(Process::Scheduler(scheduler)) => {
                let executors = 0..self.plan.machines.len();
                executors.map(|executor| (Way::Held, executor, *scheduler)).collect()
            }
            Kind::Split(here, executor) => {
                let others = all.filter(|scheduler| scheduler != here);
                others.map(|scheduler| (Way::Cut, *executor, scheduler)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Sets what depends on all faults that are active.
    fn settle(&mut self) {
        let kinds = || self.active.values().map(|fault| &fault.kind);
        for (index, handle) in self.world.handles.iter().enumerate() {
            let is = |silence: Silence| {
                kinds().any(|kind| match kind {
                    Kind::Store(known, who) => *known == silence && who.is_none_or(|who| who == index),
                    Kind::Split(scheduler, _) => silence == Silence::Stalled && *scheduler == index,
                    _ => false,
                })
            };
            let every = |silence: Silence| if is(silence) { 3 } else { 0 };
            handle.set_faults(Faults {
                lose_reply_every: every(Silence::LostReplies),
                lose_request_every: every(Silence::LostRequests),
                refuse_every: every(Silence::Refused),
                latency: if is(Silence::Slow) { SLOW_STORE } else { self.plan.store_latency },
                unavailable: is(Silence::Unavailable),
                stalled: is(Silence::Stalled),
            });
        }
        self.world.store.set_full(kinds().any(|kind| *kind == Kind::StoreFull));
        for (index, site) in self.world.sites.iter().enumerate() {
            let quirk = |kind: &Kind| match kind {
                Kind::Engine(quirk, executor) if *executor == index => Some(*quirk),
                Kind::EngineCrash(executor, _) if *executor == index => Some(Engine::Stopped),
                _ => None,
            };
            let quirks: Vec<Engine> = kinds().filter_map(quirk).collect();
            site.quirks.set(quirks);
            site.disk.set_full(kinds().any(|kind| *kind == Kind::DiskFull(index)));
        }
    }

    /// Kills a process, for so long at least.
    fn kill(&mut self, process: Process, until: Duration) {
        // Its next life does not stand still.
        self.world.lives(process).points.hold(false);
        let known = self.down.get(&process).copied().unwrap_or_default();
        self.sim.crash(process.to_string());
        self.down.insert(process, until.max(known));
        self.supervised.remove(&process);
    }

    fn turn_off(&self, index: usize, code: i32) {
        self.world.sites[index].boots.fetch_add(1, Ordering::SeqCst);
        self.end_containers(index, code);
    }

    fn end_containers(&self, index: usize, code: i32) {
        let site = &self.world.sites[index];
        site.engine.reboot(at_ms(self.sim.elapsed()).saturating_add_signed(site.skew_ms), code);
    }

    /// Kills what reached its point, and starts what is to be started again.
    fn look_after_processes(&mut self) {
        let now = self.sim.elapsed();
        for process in self.world.processes() {
            let lives = self.world.lives(process);
            if lives.fell.swap(false, Ordering::SeqCst) {
                let lasts = self.falls.get(&process).copied().unwrap_or_default();
                self.kill(process, now + lasts);
            }
            if lives.ended.swap(false, Ordering::SeqCst)
                && let Entry::Vacant(down) = self.down.entry(process)
            {
                down.insert(now + SUPERVISED);
                self.supervised.insert(process);
            }
            if self.down.get(&process).is_some_and(|until| *until <= now) {
                self.down.remove(&process);
                self.supervised.remove(&process);
                self.sim.bounce(process.to_string());
            }
        }
    }

    fn set_way(&self, way: Way, executor: usize, scheduler: usize, broken: bool) {
        let (from, to) = (Process::Executor(executor).to_string(), Process::Scheduler(scheduler).to_string());
        let sim = &self.sim;
        match (way, broken) {
            (Way::Cut, true) => sim.partition(from, to),
            (Way::Cut, false) => sim.repair(from, to),
            (Way::Upwards, true) => sim.partition_oneway(from, to),
            (Way::Upwards, false) => sim.repair_oneway(from, to),
            (Way::Downwards, true) => sim.partition_oneway(to, from),
            (Way::Downwards, false) => sim.repair_oneway(to, from),
            (Way::Held, true) => sim.hold(from, to),
            (Way::Held, false) => sim.release(from, to),
            (Way::Slow, true) => sim.set_link_max_message_latency(from, to, SLOW),
            (Way::Slow, false) => sim.set_link_max_message_latency(from, to, LATENCY),
        }
    }
}
