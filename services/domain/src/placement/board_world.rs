//! A cluster as a test keeps it by itself, beside a board that is told the same: what is where, who waits, and what a
//! round may make of that. Nothing of the board's own reckoning is used.

use std::fmt;

use proptest::prelude::*;

use super::*;

/// What an executor is for new jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It takes jobs.
    Open,
    /// It is drained, or not ready.
    Closed,
    /// It is lost; jobs are on it all the same.
    Lost,
}

/// An executor.
#[derive(Debug, Clone)]
pub struct Host {
    pub capacity: Capacity,
    pub labels: Labels,
    pub standing: Standing,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// A job is submitted.
    Submit(Request),
    /// One of the jobs that have a place ends.
    End(usize),
    /// One of those that wait is withdrawn.
    Withdraw(usize),
    /// An executor changes what it is.
    Stand(usize, Standing),
    /// A round, of which so many places are carried out.
    Round(usize),
    /// A round as a leader's: so many places at most, so many jobs put in order.
    Short(usize, usize),
    /// So many milliseconds pass.
    Pass(u64),
}

/// The cluster.
#[derive(Clone)]
pub struct World {
    pub board: Board,
    policy: Policy,
    /// Executors that take no jobs: the more there are, the more may be kept at a time.
    drained: usize,
    submitted: usize,
    pub hosts: BTreeMap<ExecutorId, Host>,
    pub held: BTreeMap<JobId, Holding>,
    pub waiting: BTreeMap<JobId, Request>,
    pub now_ms: u64,
}

const MODELS: [&str; 3] = ["a100", "t4", "v100"];
const ZONES: [&str; 3] = ["", "a", "b"];
const CONSTRAINTS: [&str; 8] = ["", "", "", "", "zone=a", "zone!=a", "!zone", "zone in (a, b)"];
const MOST_HOSTS: usize = 5;
/// CPU and memory are small numbers, so that jobs fit exactly.
const MOST: u64 = 12;

pub fn demands() -> impl Strategy<Value = Demand> {
    let amount = || prop_oneof![3 => 1..4_u64, 1 => 1..=MOST];
    let gpus = prop_oneof![3 => Just(0), 2 => 1..3_u32, 1 => 3..5_u32];
    let models = prop::collection::btree_set(0..3_usize, 0..3);
    (amount(), amount(), gpus, models, 0..CONSTRAINTS.len()).prop_map(
        |(cpu_millis, memory_bytes, gpu_count, models, at)| Demand {
            cpu_millis,
            memory_bytes,
            gpu_count,
            gpu_models: models
                .into_iter()
                .filter(|_| gpu_count > 0)
                .map(|at| MODELS[at].to_owned())
                .collect(),
            constraints: constraints(CONSTRAINTS[at]),
        },
    )
}

/// Jobs that wait; some have waited for too long.
pub fn requests() -> impl Strategy<Value = Request> {
    let whose = (0..3_u8, 0..2_usize, any::<bool>());
    let avoid = prop::option::of(0..MOST_HOSTS);
    let timeout = prop::option::of(1..4_u64);
    (demands(), whose, avoid, timeout, any::<bool>(), 0..3_u64).prop_map(
        |(demand, (priority, namespace, may_repeat), avoid, timeout, is_aged, image_hash)| {
            let request = Request {
                demand,
                avoid: avoid.map(|at| ExecutorId::trusted(format!("e{at}"))),
                priority,
                namespace: Namespace::trusted(["one", "two"][namespace]),
                run_timeout_ms: timeout.map(|minutes| minutes * 60_000),
                may_repeat,
                image_hash,
                ..request("drawn", 0, 0)
            };
            if is_aged { aged(request) } else { request }
        },
    )
}

fn hosts() -> impl Strategy<Value = Host> {
    let models = prop::collection::vec(0..3_usize, 0..6);
    let standing =
        prop_oneof![6 => Just(Standing::Open), 1 => Just(Standing::Closed), 1 => Just(Standing::Lost)];
    (1..=MOST, 1..=MOST, models, 0..ZONES.len(), standing).prop_map(
        |(cpu, memory, models, zone, standing)| {
            let models: Vec<&str> = models.into_iter().map(|at| MODELS[at]).collect();
            // The name of the executor is part of those of its devices, and not known yet.
            let capacity = Capacity { memory_bytes: memory, ..capacity("gpu", cpu, &models) };
            Host { capacity, labels: labels(ZONES[zone]), standing }
        },
    )
}

pub fn events() -> impl Strategy<Value = Event> {
    let standing =
        prop_oneof![3 => Just(Standing::Open), 1 => Just(Standing::Closed), 1 => Just(Standing::Lost)];
    prop_oneof![
        6 => requests().prop_map(Event::Submit),
        2 => any::<usize>().prop_map(Event::End),
        1 => any::<usize>().prop_map(Event::Withdraw),
        1 => (0..MOST_HOSTS, standing).prop_map(|(at, standing)| Event::Stand(at, standing)),
        4 => (0..6_usize).prop_map(Event::Round),
        1 => (1..4_usize, 1..4_usize).prop_map(|(limit, window)| Event::Short(limit, window)),
        2 => prop_oneof![1..120_000_u64, AGE_LIMIT_MS..2 * AGE_LIMIT_MS].prop_map(Event::Pass),
    ]
}

/// Clusters on which jobs run: those of the earlier ones that fit where they are drawn to.
pub fn worlds() -> impl Strategy<Value = World> {
    let ends = prop_oneof![
        2 => (0..600_000_u64).prop_map(|ms| Ends::By(NOW_MS - 60_000 + ms)),
        1 => (0..600_000_u64).prop_map(Ends::Within),
        1 => Just(Ends::Unknown),
    ];
    let earlier = prop::collection::vec((0..MOST_HOSTS, demands(), ends, 0..2_usize), 0..12);
    let policy = prop_oneof![3 => Just(Policy::Auto), 1 => Just(Policy::BestFit)];
    let later = prop::collection::vec(requests(), 0..12);
    let drained = prop_oneof![4 => Just(0), 1 => Just(190)];
    (policy, drained, prop::collection::vec(hosts(), 1..=MOST_HOSTS), earlier, later).prop_map(
        |(policy, drained, hosts, earlier, later)| {
            let mut world = World::new(policy, drained, hosts);
            for (at, (host, demand, ends, namespace)) in earlier.into_iter().enumerate() {
                let executor = ExecutorId::trusted(format!("e{host}"));
                let namespace = Namespace::trusted(["one", "two"][namespace]);
                world.begin(JobId::trusted(format!("old-{at:02}")), executor, demand, (ends, namespace));
            }
            later.into_iter().for_each(|request| world.apply(Event::Submit(request)));
            world
        },
    )
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = (self.now_ms - NOW_MS, self.policy, &self.hosts, &self.held, &self.waiting);
        f.debug_tuple("World").field(&all).finish()
    }
}

impl World {
    fn new(policy: Policy, drained: usize, hosts: Vec<Host>) -> Self {
        let named = hosts.into_iter().enumerate().map(|(at, mut host)| {
            host.capacity.gpus.iter_mut().for_each(|gpu| gpu.id = format!("e{at}-{}", gpu.id));
            (ExecutorId::trusted(format!("e{at}")), host)
        });
        let mut world = Self {
            board: empty(policy, drained),
            policy,
            drained,
            submitted: 0,
            hosts: named.collect(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            now_ms: NOW_MS,
        };
        let all: Vec<ExecutorId> = world.hosts.keys().cloned().collect();
        all.iter().for_each(|id| tell(&mut world.board, id, &world.hosts[id]));
        world
    }

    /// The same by a board that is told of all in another order, and of some that is no more.
    pub fn told_anew(&self, is_reversed: bool) -> Board {
        let mut board = empty(self.policy, self.drained);
        let (mut hosts, mut held): (Vec<_>, Vec<_>) =
            (self.hosts.iter().collect(), self.held.values().collect());
        let mut waiting: Vec<&Request> = self.waiting.values().collect();
        if is_reversed {
            hosts.reverse();
            held.reverse();
            waiting.reverse();
            // Jobs may be known before their executors are, and all of it may have been there before.
            held.iter().for_each(|holding| board.hold(holding));
            held.iter().for_each(|holding| board.release(holding));
            held.iter().for_each(|holding| board.hold(holding));
            waiting.iter().for_each(|request| {
                board.push(Request::clone(request));
                board.withdraw(request);
            });
        }
        hosts.iter().for_each(|(id, host)| tell(&mut board, id, host));
        if !is_reversed {
            held.iter().for_each(|holding| board.hold(holding));
        }
        waiting.iter().for_each(|request| assert!(board.push(Request::clone(request))));
        for (job, reservation) in self.board.reservations() {
            board.keep(&self.waiting[job], reservation);
        }
        board
    }

    fn begin(
        &mut self,
        job: JobId,
        executor: ExecutorId,
        demand: Demand,
        (ends, namespace): (Ends, Namespace),
    ) {
        let Some(host) = self.hosts.get(&executor) else { return };
        let reserved = self.reserved(&executor);
        if !demand.suits(&host.labels) || !demand.fits(&host.capacity, &reserved) {
            return;
        }
        let usable = demand.usable_gpus(&host.capacity, &reserved).take(demand.gpu_count as usize);
        let gpu_device_ids = usable.map(|gpu| gpu.id.clone()).collect();
        let holding = Holding { job: job.clone(), executor, demand, gpu_device_ids, namespace, ends };
        self.board.hold(&holding);
        self.held.insert(job, holding);
    }

    /// What the jobs on an executor have.
    pub fn reserved(&self, id: &ExecutorId) -> Reserved {
        let mut reserved = Reserved::default();
        let here = self.held.values().filter(|holding| holding.executor == *id);
        here.for_each(|holding| reserved.add(&holding.demand, &holding.gpu_device_ids));
        reserved
    }

    /// The executors as an explanation sees them.
    pub fn nodes(&self) -> Vec<Node> {
        let known = self.hosts.iter().filter(|(_, host)| host.standing != Standing::Lost);
        let node = |(id, host): (&ExecutorId, &Host)| Node {
            id: id.clone(),
            takes_jobs: host.standing == Standing::Open,
            capacity: host.capacity.clone(),
            reserved: self.reserved(id),
            labels: host.labels.clone(),
        };
        known.map(node).collect()
    }

    pub fn moment(&self) -> Moment {
        Moment { now_ms: self.now_ms, ..MOMENT }
    }

    /// Lets something happen; rounds are for [`World::carry_out`].
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Submit(request) => {
                let job = JobId::trusted(format!("{:03}", self.submitted));
                let since_ms = self.now_ms - (NOW_MS - request.create_time_ms);
                let request = Request { job, create_time_ms: since_ms, ready_time_ms: since_ms, ..request };
                assert!(self.board.push(request.clone()));
                self.waiting.insert(request.job.clone(), request);
                self.submitted += 1;
            }
            Event::End(at) => {
                let job = nth(&self.held, at);
                if let Some(holding) = job.and_then(|job| self.held.remove(&job)) {
                    self.board.release(&holding);
                }
            }
            Event::Withdraw(at) => {
                let job = nth(&self.waiting, at);
                if let Some(request) = job.and_then(|job| self.waiting.remove(&job)) {
                    self.board.withdraw(&request);
                }
            }
            Event::Stand(at, standing) => {
                let id = ExecutorId::trusted(format!("e{at}"));
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.standing = standing;
                    tell(&mut self.board, &id, host);
                }
            }
            Event::Pass(ms) => self.now_ms += ms,
            Event::Round(_) | Event::Short(..) => {}
        }
    }

    /// Carries out places of a plan.
    pub fn carry_out(&mut self, placed: &[(JobId, Choice)]) {
        for (job, choice) in placed {
            let request = self.waiting.remove(job).expect("it waits");
            self.board.withdraw(&request);
            let Choice { executor, gpu_device_ids } = choice.clone();
            let Request { demand, namespace, run_timeout_ms, .. } = request;
            let ends = Ends::new(None, run_timeout_ms);
            let holding = Holding { job: job.clone(), executor, demand, gpu_device_ids, namespace, ends };
            self.board.hold(&holding);
            self.held.insert(job.clone(), holding);
        }
    }
}

fn empty(policy: Policy, drained: usize) -> Board {
    let mut board = Board::new(Placement { policy, age_limit_ms: AGE_LIMIT_MS });
    for at in 0..drained {
        put(&mut board, &format!("drained-{at:03}"), &capacity("drained", 1, &[]), false);
    }
    board
}

fn tell(board: &mut Board, id: &ExecutorId, host: &Host) {
    match host.standing {
        Standing::Lost => board.remove_executor(id),
        Standing::Open | Standing::Closed => {
            board.put_executor(id, &host.capacity, &host.labels, host.standing == Standing::Open);
        }
    }
}

fn nth<T>(all: &BTreeMap<JobId, T>, at: usize) -> Option<JobId> {
    all.keys().nth(at % all.len().max(1)).cloned()
}
