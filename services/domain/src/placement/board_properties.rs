//! Promises of placement, as properties over random clusters and queues.

use proptest::prelude::*;

use super::*;

const TICK_MS: u64 = 10_000;
const LONGEST_MS: u64 = 600_000;
const LONGEST_START_MS: u64 = 60_000;

/// Small jobs that come and go without end, and large ones, of two namespaces, that ask for all of an executor.
#[derive(Debug, Clone)]
struct Stream {
    executors: Vec<u64>,
    jobs: Vec<Small>,
    /// On which executor each of the large ones would fit.
    larges: Vec<usize>,
}

/// A small job.
#[derive(Debug, Clone)]
struct Small {
    cpu_millis: u64,
    lasts_ms: u64,
    run_timeout_ms: Option<u64>,
    /// How long it has a place before it starts.
    starts_after_ms: u64,
}

fn streams() -> impl Strategy<Value = Stream> {
    let says = prop_oneof![3 => Just(true), 1 => any::<bool>()];
    let times = (TICK_MS..LONGEST_MS, TICK_MS..LONGEST_MS, 0..LONGEST_START_MS);
    let one = (500..3_000_u64, times, says);
    let executors = prop::collection::vec(4_000..8_000_u64, 1..5);
    let larges = prop::collection::vec(0..5_usize, 1..4);
    (executors, prop::collection::vec(one, 5..40), any::<(bool, bool)>(), larges).prop_map(
        |(executors, jobs, (all_say, all_start), larges)| {
            let small = |(cpu_millis, (one, other, starts_after_ms), says): (u64, (u64, u64, u64), bool)| {
                let run_timeout_ms = (says || all_say).then_some(one.max(other));
                let starts_after_ms = if all_start { 0 } else { starts_after_ms };
                Small { cpu_millis, lasts_ms: one.min(other), run_timeout_ms, starts_after_ms }
            };
            Stream { executors, jobs: jobs.into_iter().map(small).collect(), larges }
        },
    )
}

impl Stream {
    /// Plays it until all large jobs have a place, or for far too long; tells how long the last one waited. Fails where
    /// somebody waits though his start was foreseen, and all that jobs take to be started and stopped has passed since.
    fn waited_ms(&self) -> u64 {
        let mut board = Board::new(Placement { policy: Policy::Auto, age_limit_ms: AGE_LIMIT_MS });
        for (at, cpu) in self.executors.iter().enumerate() {
            let name = format!("e{at}");
            put(&mut board, &name, &capacity(&name, *cpu, &[]), true);
        }
        let (mut next, mut waiting) = (0, BTreeMap::new());
        let slowest_ms = self.jobs.iter().map(|small| small.starts_after_ms).max().unwrap_or_default();
        // Of a job on an executor that is kept, start and end are seen a tick late each.
        let mut foreseen = Foreseen { starts_ms: BTreeMap::new(), most_late_ms: slowest_ms + 2 * TICK_MS };
        // By when it changes: those that have not started, and those that have.
        let mut assigned = BTreeMap::<(u64, JobId), (Holding, Request, u64)>::new();
        let mut running = BTreeMap::<(u64, JobId), Holding>::new();
        let mut larges = 0;
        for tick in 0..100 * LONGEST_MS / TICK_MS {
            let (passed_ms, now_ms) = (tick * TICK_MS, NOW_MS + tick * TICK_MS);
            while let Some(first) = assigned.first_entry().filter(|first| first.key().0 <= now_ms) {
                let ((_, job), (mut holding, request, lasts_ms)) = first.remove_entry();
                board.release(&holding);
                holding.ends = Ends::new(Some(now_ms), request.run_timeout_ms);
                board.hold(&holding);
                running.insert((now_ms + lasts_ms, job), holding);
            }
            while let Some(first) = running.first_entry().filter(|first| first.key().0 <= now_ms) {
                board.release(&first.remove());
            }
            while waiting.len() < 20 {
                let small = &self.jobs[next % self.jobs.len()];
                let request = Request {
                    run_timeout_ms: small.run_timeout_ms,
                    create_time_ms: now_ms,
                    ready_time_ms: now_ms,
                    ..request(&format!("{next:06}"), small.cpu_millis, 0)
                };
                board.push(request.clone());
                waiting.insert(request.job.clone(), (request, small.lasts_ms, small.starts_after_ms));
                next += 1;
            }
            for (at, executor) in self.larges.iter().enumerate().filter(|_| tick == 1) {
                let request = Request {
                    create_time_ms: at as u64,
                    ready_time_ms: now_ms,
                    namespace: Namespace::trusted(["one", "two"][at % 2]),
                    run_timeout_ms: Some(LONGEST_MS),
                    ..request(&format!("large-{at}"), self.executors[executor % self.executors.len()], 0)
                };
                board.push(request.clone());
                waiting.insert(request.job.clone(), (request, TICK_MS, 0));
                larges += 1;
            }
            for (job, choice) in board.plan(&Moment { now_ms, ..MOMENT }).placed {
                let (request, lasts_ms, starts_after_ms) = waiting.remove(&job).expect("it waits");
                larges -= usize::from(job.as_str().starts_with("large"));
                if larges == 0 && tick > 0 {
                    return passed_ms;
                }
                board.withdraw(&request);
                let holding = Holding {
                    demand: request.demand.clone(),
                    namespace: request.namespace.clone(),
                    ends: Ends::new(None, request.run_timeout_ms),
                    ..holding(job.as_str(), choice.executor.as_str(), 0, None)
                };
                board.hold(&holding);
                assigned.insert((now_ms + starts_after_ms, job), (holding, request, lasts_ms));
            }
            foreseen.holds(waiting.keys(), &board, now_ms);
        }
        u64::MAX
    }
}

/// The first start that was foreseen of each job.
struct Foreseen {
    starts_ms: BTreeMap<JobId, u64>,
    most_late_ms: u64,
}

impl Foreseen {
    /// Fails where one of those who wait should have started, and notes what is foreseen now.
    fn holds<'a>(&mut self, waiting: impl Iterator<Item = &'a JobId>, board: &Board, now_ms: u64) {
        for job in waiting {
            let late_ms = self.starts_ms.get(job).map_or(0, |starts_ms| now_ms.saturating_sub(*starts_ms));
            assert!(late_ms <= self.most_late_ms, "{job} was to start {late_ms} ms ago");
        }
        for (job, kept) in board.reservations().filter(|(_, kept)| kept.promise.limit_ms < u64::MAX) {
            self.starts_ms.entry(job.clone()).or_insert(kept.promise.limit_ms);
        }
    }
}

/// A cluster and a queue, by numbers.
#[derive(Debug, Clone)]
struct Scene {
    executors: Vec<(u64, Vec<usize>, usize)>,
    jobs: Vec<Request>,
}

type Drawn = (u64, u32, BTreeSet<usize>, u8, usize, bool, usize);

const MODELS: [&str; 3] = ["a100", "t4", "v100"];
const ZONES: [&str; 3] = ["", "a", "b"];
const CONSTRAINTS: [&str; 6] = ["", "", "zone=a", "zone!=a", "!zone", "zone in (a, b)"];

fn jobs() -> impl Strategy<Value = Vec<Request>> {
    let models = prop::collection::btree_set(0..3_usize, 0..3);
    let one = (1..6_000_u64, 0..4_u32, models, 0..3_u8, 0..2_usize, any::<bool>(), 0..6_usize);
    prop::collection::vec(one, 1..30).prop_map(|all| {
        let request =
            |(at, (cpu, gpus, models, priority, namespace, is_aged, constraint)): (usize, Drawn)| {
                let models: Vec<&str> = models.into_iter().map(|model| MODELS[model]).collect();
                let demand = demand(cpu, gpus, if gpus == 0 { &[] } else { &models });
                let request = Request {
                    demand: Demand { constraints: constraints(CONSTRAINTS[constraint]), ..demand },
                    priority,
                    namespace: Namespace::trusted(["one", "two"][namespace]),
                    ..request(&format!("{at:02}"), 0, 0)
                };
                if is_aged { aged(request) } else { request }
            };
        all.into_iter().enumerate().map(request).collect()
    })
}

fn scenes() -> impl Strategy<Value = Scene> {
    let executors =
        prop::collection::vec((1..16_000_u64, prop::collection::vec(0..3_usize, 0..6), 0..3_usize), 1..6);
    (executors, jobs()).prop_map(|(executors, jobs)| Scene { executors, jobs })
}

impl Scene {
    fn executors(&self) -> Vec<(ExecutorId, Capacity, Labels)> {
        let one = |(at, (cpu, models, zone)): (usize, &(u64, Vec<usize>, usize))| {
            let models: Vec<&str> = models.iter().map(|model| MODELS[*model]).collect();
            let name = format!("e{at}");
            (ExecutorId::trusted(name.as_str()), capacity(&name, *cpu, &models), labels(ZONES[*zone]))
        };
        self.executors.iter().enumerate().map(one).collect()
    }

    fn board(&self, is_reversed: bool) -> Board {
        let mut board = Board::new(Placement::default());
        let (mut executors, mut jobs) = (self.executors(), self.jobs.clone());
        if is_reversed {
            executors.reverse();
            jobs.reverse();
        }
        executors.iter().for_each(|(id, capacity, labels)| board.put_executor(id, capacity, labels, true));
        jobs.into_iter().for_each(|job| assert!(board.push(job)));
        board
    }

    /// What is reserved on each executor once a plan is carried out; fails where it could not be.
    fn reserved(&self, plan: &Plan) -> BTreeMap<ExecutorId, Reserved> {
        let mut reserved: BTreeMap<ExecutorId, Reserved> = BTreeMap::new();
        let of = |(id, capacity, labels)| (id, (capacity, labels));
        let executors: BTreeMap<ExecutorId, (Capacity, Labels)> =
            self.executors().into_iter().map(of).collect();
        for (job, choice) in &plan.placed {
            let request = self.jobs.iter().find(|request| request.job == *job).expect("it waits");
            let ((capacity, labels), reserved) =
                (&executors[&choice.executor], reserved.entry(choice.executor.clone()).or_default());
            assert!(request.demand.suits(labels), "{job} must not go there");
            assert!(request.demand.fits(capacity, reserved), "{job} does not fit");
            assert_eq!(choice.gpu_device_ids.len(), request.demand.gpu_count as usize);
            for id in &choice.gpu_device_ids {
                let device = capacity.gpus.iter().find(|gpu| gpu.id == *id).expect("it is there");
                assert!(request.demand.accepts_model(&device.model) && !reserved.gpu_ids.contains(id));
            }
            reserved.add(&request.demand, &choice.gpu_device_ids);
        }
        reserved
    }
}

proptest! {
    #[test]
    fn a_plan_can_be_carried_out_and_leaves_nobody_who_fits_beside_his_betters(scene in scenes()) {
        let plan = scene.board(false).plan(&MOMENT);
        scene.reserved(&plan);
        let kept: Vec<&ExecutorId> = plan.reserved.iter().map(|(_, executor)| executor).collect();
        let find = |id: &JobId| scene.jobs.iter().find(|job| job.job == *id).expect("it waits");
        for job in &scene.jobs {
            if plan.placed.iter().any(|(placed, _)| *placed == job.job) {
                continue;
            }
            // Of those placed, only who has the same priority or a higher one may stand in the way.
            let betters = plan.placed.iter().filter(|(id, _)| find(id).priority >= job.priority);
            let plan = Plan { placed: betters.cloned().collect(), ..Plan::default() };
            let reserved = scene.reserved(&plan);
            for (id, capacity, labels) in scene.executors() {
                let fits = job.demand.suits(&labels) && job.demand.fits(&capacity, reserved.get(&id).unwrap_or(&Reserved::default()));
                prop_assert!(kept.contains(&&id) || !fits, "{} fits on {id}", job.job);
            }
        }
    }

    #[test]
    fn what_a_trial_says_is_what_the_next_round_does(scene in scenes(), asked in jobs()) {
        let mut scene = scene;
        let mut request = asked[0].clone();
        request.job = JobId::trusted("tried");
        let mut board = scene.board(false);
        // A plan that is not carried out is remembered all the same as far as executors are kept.
        let before = board.clone().plan(&MOMENT);
        let trial = board.try_out(&request, &MOMENT);
        prop_assert_eq!(&board.clone().plan(&MOMENT), &before);
        board.count_arrivals(&request.demand, 1);
        board.push(request.clone());
        let plan = board.plan(&MOMENT);
        let choice = plan.placed.iter().find(|(job, _)| *job == request.job).map(|(_, choice)| choice);
        prop_assert_eq!(trial.choice.as_ref(), choice);
        // Whoever comes after it is not looked at.
        prop_assert!(plan.reserved.starts_with(&trial.reserved));
        // With nobody else about, it goes where it fits, and fits where it goes.
        scene.jobs.clear();
        let trial = scene.board(false).try_out(&request, &MOMENT);
        let fits = |(id, capacity, labels): (ExecutorId, Capacity, Labels)| {
            let (takes_jobs, reserved) = (true, Reserved::default());
            let node = Node { id, takes_jobs, capacity, reserved, labels };
            fit(&request.demand, &node).now.then_some(node.id)
        };
        let fitting: Vec<ExecutorId> = scene.executors().into_iter().filter_map(fits).collect();
        match &trial.choice {
            Some(choice) => prop_assert!(fitting.contains(&choice.executor)),
            None => prop_assert_eq!(fitting, []),
        }
    }

    #[test]
    fn the_same_cluster_gets_the_same_plan_however_it_came_about(scene in scenes()) {
        let plan = scene.board(false).plan(&MOMENT);
        prop_assert_eq!(&scene.board(true).plan(&MOMENT), &plan);
        // Having planned before changes nothing.
        let mut board = scene.board(false);
        (0..3).for_each(|_| drop(board.plan(&Moment { limit: 1, ..MOMENT })));
        prop_assert_eq!(&board.plan(&MOMENT), &plan);
    }

    #[test]
    fn nobody_waits_for_longer_than_what_ran_when_an_executor_was_kept(stream in streams()) {
        let waited_ms = stream.waited_ms();
        let is_known = stream.jobs.iter().all(|small| small.run_timeout_ms.is_some());
        // One executor is kept at a time: for a small job that came to be old first, then for each of the large ones.
        let turns = 1 + stream.larges.len() as u64;
        // Where ends are not known, another executor may come to lack less, over and over, but never more.
        let times = if is_known { 1 } else { 20 };
        let longest_ms = AGE_LIMIT_MS + turns * (times * LONGEST_MS + LONGEST_START_MS + TICK_MS);
        prop_assert!(waited_ms <= longest_ms, "{waited_ms} ms, {turns} turns");
    }

    #[test]
    fn who_has_waited_for_too_long_comes_before_who_has_not(scene in scenes()) {
        let mut scene = scene;
        let mut large = aged(request("large", 1_000, 0));
        large.demand = demand(scene.executors[0].0, 0, &[]);
        large.priority = 9;
        scene.jobs.push(large);
        let plan = scene.board(false).plan(&MOMENT);
        let is_placed = plan.placed.iter().any(|(job, _)| job.as_str() == "large");
        prop_assert!(is_placed, "the highest of all, and some executor is as large");
    }
}
