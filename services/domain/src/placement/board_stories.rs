//! Promises of placement on clusters on which jobs run, in the course of events: checked by a cluster that the test
//! keeps by itself.

use proptest::prelude::*;

use super::world::{Event, Standing, World, demands, events, requests, worlds};
use super::*;

/// What a round did, as it is to be judged: on a world before any of it is carried out.
struct Judged<'a> {
    world: &'a World,
    plan: &'a Plan,
    moment: Moment,
    /// What was kept for whom before the round.
    before: BTreeMap<JobId, Reservation>,
    /// What is kept now.
    after: BTreeMap<JobId, Reservation>,
}

/// Says whether a demand fits an executor beside what is reserved.
fn fits(world: &World, id: &ExecutorId, demand: &Demand, reserved: &Reserved) -> bool {
    let host = &world.hosts[id];
    demand.suits(&host.labels) && demand.fits(&host.capacity, reserved)
}

fn reservations(board: &Board) -> BTreeMap<JobId, Reservation> {
    board.reservations().map(|(job, kept)| (job.clone(), kept.clone())).collect()
}

impl<'a> Judged<'a> {
    fn request(&self, job: &JobId) -> &'a Request {
        &self.world.waiting[job]
    }

    fn open(&self) -> impl Iterator<Item = &'a ExecutorId> {
        let hosts = self.world.hosts.iter();
        hosts.filter(|(_, host)| host.standing == Standing::Open).map(|(id, _)| id)
    }

    /// What is reserved once those who are no less urgent have their places.
    fn beside_betters(&self, priority: u8) -> BTreeMap<ExecutorId, Reserved> {
        let all = self.world.hosts.keys().map(|id| (id.clone(), self.world.reserved(id)));
        let mut reserved: BTreeMap<ExecutorId, Reserved> = all.collect();
        for (job, choice) in &self.plan.placed {
            let request = self.request(job);
            if request.priority >= priority {
                let here = reserved.get_mut(&choice.executor).expect("it is there");
                here.add(&request.demand, &choice.gpu_device_ids);
            }
        }
        reserved
    }

    fn is_aged(&self, request: &Request) -> bool {
        request.create_time_ms.max(request.ready_time_ms) + AGE_LIMIT_MS <= self.moment.now_ms
    }

    fn is_asked(&self, request: &Request) -> bool {
        request.may_repeat || self.moment.with_unrepeatable
    }

    /// Those that were asked, and have no place.
    fn left(&self) -> impl Iterator<Item = &'a Request> {
        let is_placed = |job: &JobId| self.plan.placed.iter().any(|(placed, _)| placed == job);
        self.world.waiting.values().filter(move |request| self.is_asked(request) && !is_placed(&request.job))
    }

    /// Carries out one place after the other.
    fn places_can_be_carried_out(&self) {
        let mut reserved = self.beside_betters(u8::MAX);
        for (at, (job, choice)) in self.plan.placed.iter().enumerate() {
            let (request, host) = (self.request(job), &self.world.hosts[&choice.executor]);
            let here = reserved.get_mut(&choice.executor).expect("it is there");
            assert!(self.plan.placed[..at].iter().all(|(other, _)| other != job), "{job} is placed twice");
            assert!(self.is_asked(request), "{job} must not start yet");
            assert_eq!(host.standing, Standing::Open, "{job} goes where none must go");
            assert!(fits(self.world, &choice.executor, &request.demand, here), "{job} does not fit");
            assert_eq!(choice.gpu_device_ids.len(), request.demand.gpu_count as usize);
            for id in &choice.gpu_device_ids {
                let device = host.capacity.gpus.iter().find(|gpu| gpu.id == *id).expect("it is there");
                assert!(request.demand.accepts_model(&device.model), "{job} has a model that will not do");
                assert!(!here.gpu_ids.contains(id), "{id} is in use");
            }
            here.add(&request.demand, &choice.gpu_device_ids);
            self.nobody_is_where_he_was_lost_without_need(at, &reserved);
        }
    }

    /// With what is reserved once the job at this position of the plan is placed.
    fn nobody_is_where_he_was_lost_without_need(&self, at: usize, reserved: &BTreeMap<ExecutorId, Reserved>) {
        let (job, choice) = &self.plan.placed[at];
        let request = self.request(job);
        if request.avoid.as_ref() != Some(&choice.executor) {
            return;
        }
        let is_kept = |id: &ExecutorId| {
            self.before.values().chain(self.after.values()).any(|kept| kept.executor == *id)
        };
        for id in self.open().filter(|id| **id != choice.executor && !is_kept(id)) {
            assert!(
                !fits(self.world, id, &request.demand, &reserved[id]),
                "{job} need not be on {}",
                choice.executor
            );
        }
    }

    /// Whoever is no less urgent may stand in the way, and what is kept for him; nobody else.
    fn nobody_is_left_who_fits_beside_his_betters(&self) {
        for request in self.left() {
            let reserved = self.beside_betters(request.priority);
            for id in self.open().filter(|id| fits(self.world, id, &request.demand, &reserved[*id])) {
                let (job, kept) = (&request.job, self.plan.reserved.iter().find(|(_, kept)| kept == id));
                let Some((keeper, _)) = kept else { panic!("{job} fits on {id}") };
                assert!(
                    self.request(keeper).priority >= request.priority,
                    "{job} fits on {id}, kept for {keeper}"
                );
                // By now nobody may know when he starts: somebody more urgent is there.
                let is_known = self.opening(id, self.request(keeper)).0 < u64::MAX;
                let starts_ms = self.after[keeper].promise.limit_ms;
                let ends_ms = request.run_timeout_ms.map(|lasts_ms| self.moment.now_ms + lasts_ms);
                let is_first = self.is_aged(request) && self.request(keeper).priority == request.priority;
                let is_in_time = is_known && ends_ms.is_some_and(|ends_ms| ends_ms <= starts_ms);
                assert!(is_first || !is_in_time, "{job} ends before {keeper} starts on {id}");
            }
        }
    }

    /// Of those who are not before him, nobody puts off who has an executor kept, or takes what he lacks.
    fn nobody_takes_what_is_kept(&self) {
        for (job, id) in &self.plan.reserved {
            let keeper = self.request(job);
            let is_before = |other: &Request| {
                other.priority > keeper.priority || other.priority == keeper.priority && self.is_aged(other)
            };
            let placed = self.plan.placed.iter().filter(|(job, _)| is_before(self.request(job)));
            let plan = Plan { placed: placed.cloned().collect(), ..Plan::default() };
            let (before, after, moment) = (BTreeMap::new(), BTreeMap::new(), self.moment);
            let without = Judged { world: self.world, plan: &plan, moment, before, after };
            let (then, now) = (without.opening(id, keeper), self.opening(id, keeper));
            assert!(now.0 <= then.0, "{job} is put off on {id}: {then:?}, {now:?}");
            assert!(then.0 < u64::MAX || now.1 <= then.1, "{job} lacks more on {id}: {then:?}, {now:?}");
        }
    }

    /// Who has waited for too long and fits nowhere has an executor kept, unless another one has; the one where he
    /// can start first, or that lacks least.
    fn who_has_waited_for_too_long_has_the_best_executor_kept(&self) {
        for (at, (job, id)) in self.plan.reserved.iter().enumerate() {
            let request = self.request(job);
            assert!(self.is_aged(request) && self.is_asked(request), "{job} has not waited for long");
            assert!(self.left().any(|left| left.job == *job), "{job} has a place, and one kept");
            assert!(self.plan.reserved[..at].iter().all(|(_, other)| other != id), "{id} is kept twice");
            assert!(self.open().any(|open| open == id), "{id} takes no jobs");
            assert!(fits(self.world, id, &request.demand, &Reserved::default()), "{job} never fits on {id}");
        }
        let is_ever =
            |id: &ExecutorId, request: &Request| fits(self.world, id, &request.demand, &Reserved::default());
        let Some((job, kept)) = self.plan.reserved.first() else {
            for request in self.left().filter(|request| self.is_aged(request)) {
                assert!(!self.open().any(|id| is_ever(id, request)), "nothing is kept for {}", request.job);
            }
            return;
        };
        let request = self.request(job);
        let is_others = |id: &ExecutorId| {
            let all = self.before.iter().chain(&self.after);
            all.filter(|(other, _)| *other != job).any(|(_, other)| other.executor == *id)
        };
        let own = self.opening(kept, request);
        for id in self.open().filter(|id| is_ever(id, request) && !is_others(id)) {
            let other = self.opening(id, request);
            assert!(own.0 <= other.0, "{job} can start sooner on {id} than on {kept}: {other:?}, {own:?}");
            let is_known = own.0 < u64::MAX;
            assert!(
                is_known || own.1 <= other.1,
                "{job} lacks less on {id} than on {kept}: {other:?}, {own:?}"
            );
        }
    }

    /// When a job can start on an executor, if nothing else came, and what it lacks there now, as a share of what it
    /// asks for.
    fn opening(&self, id: &ExecutorId, request: &Request) -> (u64, (u64, u64)) {
        let here = self.world.held.values().filter(|holding| holding.executor == *id);
        let held = here.map(|holding| (holding.ends, &holding.demand, &holding.gpu_device_ids));
        let placed =
            self.plan.placed.iter().filter(|(_, choice)| choice.executor == *id).map(|(job, choice)| {
                let placed = self.request(job);
                (Ends::new(None, placed.run_timeout_ms), &placed.demand, &choice.gpu_device_ids)
            });
        let all: Vec<(Ends, &Demand, &Vec<String>)> = held.chain(placed).collect();
        let at = |then_ms: u64| {
            let mut reserved = Reserved::default();
            let stay = all.iter().filter(|(ends, ..)| ends.by_ms(self.moment.now_ms) > then_ms);
            stay.for_each(|(_, demand, gpu_device_ids)| reserved.add(demand, gpu_device_ids));
            reserved
        };
        let mut times: Vec<u64> = all.iter().map(|(ends, ..)| ends.by_ms(self.moment.now_ms)).collect();
        times.sort_unstable();
        let starts = times.into_iter().find(|ms| fits(self.world, id, &request.demand, &at(*ms)));
        let (capacity, demand, reserved) = (&self.world.hosts[id].capacity, &request.demand, at(0));
        let usable = demand.usable_gpus(capacity, &reserved).count() as u64;
        let lack = |asked: u64, free: u64| asked.saturating_sub(free) * 1_000 / asked.max(1);
        let lacks = [
            lack(u64::from(demand.gpu_count), usable),
            lack(demand.cpu_millis, capacity.cpu_millis - reserved.cpu_millis),
            lack(demand.memory_bytes, capacity.memory_bytes - reserved.memory_bytes),
        ];
        let most = lacks.into_iter().max().unwrap_or_default();
        (starts.unwrap_or(u64::MAX), (most, lacks.into_iter().sum()))
    }

    /// What was kept and promised before the round holds, unless the executor is there no more or somebody more urgent
    /// has one kept.
    fn a_promise_is_held(&self) {
        for request in self.left() {
            let Some(before) = self.before.get(&request.job) else { continue };
            let is_there = self.open().any(|id| *id == before.executor)
                && fits(self.world, &before.executor, &request.demand, &Reserved::default());
            // Who was placed, and this was not carried out, has his executor kept beside the next one.
            let is_alone =
                self.before.keys().all(|job| *job == request.job || !self.world.waiting.contains_key(job));
            let mut keepers = self.plan.reserved.iter().map(|(keeper, _)| self.request(keeper).priority);
            if !is_there || !is_alone || keepers.any(|priority| priority > request.priority) {
                continue;
            }
            let after = self.after.get(&request.job);
            let after = after.unwrap_or_else(|| panic!("{} was kept {}", request.job, before.executor));
            let (then_ms, now_ms) = (before.promise.limit_ms, after.promise.limit_ms);
            assert!(now_ms <= then_ms, "{} was to start by {then_ms}, now by {now_ms}", request.job);
        }
    }
}

/// Plays a round, judges it, and carries out the first places.
fn round(world: &mut World, (moment, carried): (Moment, usize)) -> usize {
    let before = reservations(&world.board);
    let plan = world.board.plan(&moment);
    let after = reservations(&world.board);
    let judged = Judged { world, plan: &plan, moment, before, after };
    judged.places_can_be_carried_out();
    judged.nobody_takes_what_is_kept();
    assert!(plan.placed.len() <= moment.limit);
    if plan.is_complete {
        judged.nobody_is_left_who_fits_beside_his_betters();
        judged.who_has_waited_for_too_long_has_the_best_executor_kept();
        judged.a_promise_is_held();
    }
    let carried = carried.min(plan.placed.len());
    world.carry_out(&plan.placed[..carried]);
    carried
}

fn play(world: &mut World, events: Vec<Event>) {
    for event in events {
        match event {
            Event::Round(carried) => {
                round(world, (world.moment(), carried));
            }
            Event::Short(limit, window) => {
                round(world, (Moment { limit, window, ..world.moment() }, limit));
            }
            Event::Submit(_) | Event::End(_) | Event::Withdraw(_) | Event::Stand(..) | Event::Pass(_) => {
                world.apply(event);
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_a_plan_can_be_carried_out_and_leaves_nobody_who_fits_beside_his_betters(
        world in worlds(), events in prop::collection::vec(events(), 0..40), with_unrepeatable in any::<bool>(),
    ) {
        let mut world = world;
        play(&mut world, events);
        let moment = Moment { with_unrepeatable, ..world.moment() };
        round(&mut world, (moment, usize::MAX));
    }

    #[test]
    fn short_rounds_end_with_nobody_left_who_fits(
        world in worlds(), limit in 1..4_usize, window in 1..4_usize,
    ) {
        let mut world = world;
        let moment = Moment { limit, window, ..world.moment() };
        while round(&mut world, (moment, limit)) > 0 {}
        prop_assert!(world.board.plan(&moment).is_complete);
        let moment = world.moment();
        round(&mut world, (moment, 0));
    }

    #[test]
    fn a_busy_cluster_gets_the_same_plan_however_it_came_about(
        world in worlds(), events in prop::collection::vec(events(), 0..20),
    ) {
        let mut world = world;
        play(&mut world, events);
        let moment = world.moment();
        let plan = world.told_anew(false).plan(&moment);
        prop_assert_eq!(&world.told_anew(true).plan(&moment), &plan);
        let short = Moment { limit: 2, window: 3, ..moment };
        prop_assert_eq!(world.told_anew(true).plan(&short), world.told_anew(false).plan(&short));
    }

    #[test]
    fn what_is_explained_is_what_the_next_round_does(
        world in worlds(), events in prop::collection::vec(events(), 0..20), asked in requests(), at in 0..8_usize,
    ) {
        let mut world = world;
        play(&mut world, events);
        // One that waits, or one more.
        let request = world.waiting.values().nth(at).cloned();
        let request = request.unwrap_or(Request { job: JobId::trusted("tried"), ..asked });
        let moment = world.moment();
        let trial = world.board.try_out(&request, &moment);
        let mut next = world.board.clone();
        if next.push(request.clone()) {
            next.count_arrivals(&request.demand, 1);
        }
        let plan = next.plan(&moment);
        let choice = plan.placed.iter().find(|(job, _)| *job == request.job).map(|(_, choice)| choice);
        prop_assert_eq!(trial.choice.as_ref(), choice);
        explained(&world, &request, &trial);
    }

    #[test]
    fn executors_are_told_apart_as_a_round_does(world in worlds(), demand in demands()) {
        let nodes = world.nodes();
        let mut world = world;
        let waiting: Vec<JobId> = world.waiting.keys().cloned().collect();
        waiting.into_iter().for_each(|_| world.apply(Event::Withdraw(0)));
        let alone = Request { demand, ..request("alone", 0, 0) };
        let trial = world.board.try_out(&alone, &world.moment());
        let now = nodes.iter().filter(|node| node.takes_jobs && fit(&alone.demand, node).now);
        let now: Vec<&ExecutorId> = now.map(|node| &node.id).collect();
        match &trial.choice {
            Some(choice) => prop_assert!(now.contains(&&choice.executor)),
            None => prop_assert!(now.is_empty(), "{now:?}"),
        }
    }
}

/// Holds a trial against what is said of each executor, and of all.
fn explained(world: &World, request: &Request, trial: &Trial) {
    let (nodes, demand) = (world.nodes(), &request.demand);
    let suited = |id: &ExecutorId| nodes.iter().find(|node| node.id == *id).map(|node| fit(demand, node));
    let fitting = nodes.iter().filter(|node| fit(demand, node).empty);
    let open = fitting.clone().filter(|node| node.takes_jobs);
    match explain(demand, nodes.iter()) {
        Obstacle::Busy { fitting: told, out_of_service } => {
            assert_eq!((told, out_of_service), (fitting.count(), told - open.clone().count()));
        }
        Obstacle::NoExecutors | Obstacle::TooLarge(_) | Obstacle::Unsuited(_) => {
            assert_eq!((fitting.count(), &trial.choice, &trial.opening), (0, &None, &None));
        }
    }
    if let Some(choice) = &trial.choice {
        assert!(suited(&choice.executor).is_some_and(|fit| fit.now && fit.empty));
        assert_eq!(trial.opening, None);
        return;
    }
    let is_others =
        |id: &ExecutorId| trial.reserved.iter().any(|(job, kept)| kept == id && *job != request.job);
    let Some(opening) = &trial.opening else {
        let mut open = open.filter(|node| !is_others(&node.id));
        assert_eq!(open.next(), None, "there will be room for {}", request.job);
        return;
    };
    assert!(!is_others(&opening.executor) && open.clone().any(|node| node.id == opening.executor));
    // Once so many of the jobs there have ended there is room, and no sooner.
    let here = world.held.values().filter(|holding| holding.executor == opening.executor);
    let mut here: Vec<&Holding> = here.collect();
    here.sort_by_key(|holding| {
        (holding.ends.by_ms(world.now_ms), std::cmp::Reverse(holding.demand.gpu_count))
    });
    let beside = |ended: usize| {
        let mut reserved = Reserved::default();
        here[ended..].iter().for_each(|holding| reserved.add(&holding.demand, &holding.gpu_device_ids));
        fits(world, &opening.executor, demand, &reserved)
    };
    assert!(beside(opening.jobs), "{opening:?}");
    assert!(opening.jobs == 0 || !beside(opening.jobs - 1), "{opening:?}");
    let last_ms = here[..opening.jobs].last().map_or(0, |last| last.ends.by_ms(world.now_ms));
    assert_eq!(opening.by_ms.unwrap_or(u64::MAX), last_ms);
}
