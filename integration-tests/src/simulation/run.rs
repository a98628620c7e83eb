//! One run: a plan, played and gathered into a history.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use berth_store::model::Tapped;
use berth_store::{Call, Change, Mutation};

use super::clients::{Simulated, WATCHES, use_cluster};
use super::plan::{Part, Plan};
use super::play::{LATENCY, Play, Played};
use super::world::{EPOCH_MS, World, at_ms, now_ms};
use super::{Report, panics};
use crate::clients::Caller;
use crate::history::{By, History};
use crate::seen::Seen;

/// No executor is judged lost sooner after its registration: schedulers are started with their defaults.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// A runtime that ends drops its tasks by their number, modulo this.
const SHARDS: u64 = 4;

/// Plays a plan. In one process, no two may be played at the same time: what happens would depend on it.
pub fn play(plan: &Plan) -> Report {
    panics::note();
    align_tasks();
    let mut sim = turmoil::Builder::new()
        .rng_seed(plan.seed)
        .epoch(std::time::UNIX_EPOCH + Duration::from_millis(EPOCH_MS))
        .tick_duration(plan.tick)
        .simulation_duration(Duration::from_secs(1_000_000))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(LATENCY)
        .tcp_capacity(4_096)
        .enable_random_order()
        .build();
    let seen = Seen::default();
    let world = World::new(&mut sim, plan);
    let tapped = seen.clone();
    world.store.set_tap(move |Tapped { generation, call, entries }| {
        let by = |change: &Change| call.map(|call| whose(call, change));
        tapped.record().note(generation, now_ms(), entries, by);
    });
    seen.record().watches.resize_with(WATCHES, Vec::new);
    seen.record().reads.resize_with(1, Vec::new);
    let ways = Arc::new(Simulated { schedulers: plan.schedulers });
    let caller = Caller { ways, seen: seen.clone(), turn: Arc::default() };
    sim.client("clients", use_cluster(caller, plan.clone()));
    let Played { happened: faults, calm_since, is_complete } = Play::new(&mut sim, plan, &world, &seen).run();
    let end_ms = at_ms(sim.elapsed());
    let mut record = seen.record();
    let unanswered = plan.jobs.iter().filter(|wish| !record.is_acknowledged(wish.number));
    let unanswered = unanswered.map(|wish| format!("the submit of {}", Part::Job(wish.number))).collect();
    // What was lost when it was read, and was there again afterwards, may have been read in any order.
    let returned = std::mem::take(&mut record.returned);
    record.reads.iter_mut().for_each(|reads| reads.retain(|read| !returned.contains(&read.job)));
    let history = History {
        submits: std::mem::take(&mut record.submits),
        aborts: std::mem::take(&mut record.aborts),
        log: std::mem::take(&mut record.log),
        tail: std::mem::take(&mut record.tail),
        sets: std::mem::take(&mut record.sets),
        watches: std::mem::take(&mut record.watches),
        reads: std::mem::take(&mut record.reads),
        runs: world.runs(end_ms),
        neighbours: world.neighbours(end_ms),
        // Within a tick, two processes do not agree on what time it is.
        lost_after_ms: at_ms(LOST_AFTER - plan.tick) - EPOCH_MS,
        unanswered,
        is_quiet: true,
        calm_since_ms: at_ms(calm_since),
        until_ms: end_ms,
        lost_ms: record.lost_ms,
    };
    let store_skew_ms = world.store_skew_ms.load(Ordering::SeqCst);
    Report {
        history,
        faults,
        drains: record.drains,
        panics: panics::taken(),
        is_complete,
        took: sim.elapsed(),
        store_skew_ms,
    }
}

/// By whose word a commit made a change.
fn whose(call: &Call, change: &Change) -> By {
    let told = call.mutations.iter().find_map(|mutation| match (mutation, change) {
        (Mutation::Update { job, session, attempt }, Change::Job(changed)) if job.id == changed.id => {
            Some((session.as_ref().map(|(_, session)| session.clone()), *attempt))
        }
        _ => None,
    });
    let (session, attempt) = told.unwrap_or_default();
    By { epoch: call.leader.as_ref().map(|guard| guard.epoch), session, attempt }
}

/// Tasks are numbered throughout a process, and a process of the simulation that crashes drops its tasks in
/// an order that these numbers determine. A run that begins with the same remainder is the same.
fn align_tasks() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    let next = || runtime.spawn(async {}).id().to_string().parse::<u64>();
    while next().is_ok_and(|number| number % SHARDS != 0) {}
}
