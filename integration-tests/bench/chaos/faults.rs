//! How a fault is brought about, and how it is ended.

use std::time::Duration;

use berth_integration_tests::seen::Seen;
use berth_integration_tests::wait::until;

use crate::hosts::Way;
use crate::plan::{Fault, Kind};
use crate::reader::Reader;
use crate::stage::{Actor, Stage};
use crate::witness::Witness;

/// Of so many answers of the store, one is lost.
const LOSE_EVERY: usize = 15;
/// How long a process is given to stop in order.
const STOPS: Duration = Duration::from_secs(30);

/// Where faults happen.
pub struct Ground<'a> {
    /// The processes.
    pub stage: &'a mut Stage,
    /// Reads the log.
    pub reader: &'a Reader,
    /// What was seen.
    pub seen: &'a Seen,
    /// Listens to the engine of their own.
    pub witness: Option<&'a std::sync::Mutex<Witness>>,
    /// What was not as it must be, beside what a history tells.
    pub complaints: &'a mut Vec<String>,
}

/// A fault under way.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    kind: Kind,
    /// The replica or executor that has it.
    index: usize,
    /// When it began.
    since_s: u64,
}

impl Ground<'_> {
    /// Lets a fault begin.
    pub fn begin(&mut self, fault: Fault) -> Begun {
        let index = match fault.kind {
            Kind::LeaderKilled | Kind::LeaderStopped | Kind::LeaderPaused | Kind::LeaderCutOff => {
                self.leader()
            }
            Kind::FollowerKilled => (self.leader() + 1) % self.stage.schedulers.len(),
            _ => fault.victim,
        };
        let stage = &mut *self.stage;
        match fault.kind {
            Kind::LeaderKilled | Kind::FollowerKilled => stage.schedulers[index].process.kill(),
            Kind::LeaderStopped => stage.schedulers[index].process.signal("TERM"),
            Kind::LeaderPaused => stage.schedulers[index].process.signal("STOP"),
            Kind::LeaderCutOff => stage.schedulers[index].host.cut(Way::Both),
            Kind::ExecutorKilled | Kind::ExecutorLost => stage.executors[index].process.kill(),
            Kind::ExecutorStopped => stage.executors[index].process.signal("TERM"),
            Kind::ExecutorPaused => stage.executors[index].process.signal("STOP"),
            Kind::ExecutorMute => stage.executors[index].host.cut(Way::Out),
            Kind::ExecutorSlow => stage.executors[index].host.slow_down(),
            Kind::ExecutorCutOff => stage.executors[index].host.cut(Way::Both),
            Kind::ExecutorDeaf => stage.executors[index].host.cut(Way::In),
            Kind::RedisKilled => stage.redis.kill(),
            Kind::RedisPaused => stage.redis.signal("STOP"),
            Kind::RedisUnheard => stage.door.hold(false, true),
            Kind::RedisAnswersLost => stage.door.lose_every(LOSE_EVERY),
            Kind::RedisPromoted => stage.wire.hold(true, true),
            Kind::EngineKilled => self.engine(|engine| engine.process.kill()),
            Kind::EnginePaused => self.engine(|engine| engine.process.signal("STOP")),
        }
        Begun { kind: fault.kind, index, since_s: crate::now_ms() / 1_000 }
    }

    /// Ends it, and waits until whoever was away is there again.
    pub fn end(&mut self, begun: Begun) {
        let (stage, index) = (&mut *self.stage, begun.index);
        match begun.kind {
            Kind::LeaderKilled | Kind::FollowerKilled => again(&mut stage.schedulers[index], "scheduler"),
            Kind::LeaderStopped => self.stopped(index, true),
            Kind::LeaderPaused => stage.schedulers[index].process.signal("CONT"),
            Kind::LeaderCutOff => stage.schedulers[index].host.mend(Way::Both),
            Kind::ExecutorKilled | Kind::ExecutorLost => again(&mut stage.executors[index], "executor"),
            Kind::ExecutorStopped => self.stopped(index, false),
            Kind::ExecutorPaused => stage.executors[index].process.signal("CONT"),
            Kind::ExecutorMute => stage.executors[index].host.mend(Way::Out),
            Kind::ExecutorSlow => stage.executors[index].host.speed_up(),
            Kind::ExecutorCutOff => stage.executors[index].host.mend(Way::Both),
            Kind::ExecutorDeaf => stage.executors[index].host.mend(Way::In),
            Kind::RedisKilled => stage.redis.up(),
            Kind::RedisPaused => stage.redis.signal("CONT"),
            Kind::RedisUnheard | Kind::RedisAnswersLost => stage.door.open(),
            Kind::RedisPromoted => self.promote(),
            Kind::EngineKilled => {
                self.engine(|engine| engine.again());
                if let Some(witness) = self.witness {
                    witness.lock().expect("nobody broke it").again(begun.since_s.saturating_sub(1));
                }
            }
            Kind::EnginePaused => self.engine(|engine| engine.process.signal("CONT")),
        }
    }

    fn leader(&self) -> usize {
        until("one of the replicas leads", || {
            let record = self.seen.record();
            let leader = record.leader()?;
            self.stage.schedulers.iter().position(|actor| actor.name == leader)
        })
    }

    fn engine(&mut self, act: impl FnOnce(&mut berth_integration_tests::dockerd::Dockerd)) {
        if let Some(engine) = &mut self.stage.engine {
            act(engine);
        }
    }

    fn stopped(&mut self, index: usize, is_scheduler: bool) {
        let actors = if is_scheduler { &mut self.stage.schedulers } else { &mut self.stage.executors };
        let code = actors[index].process.ended(STOPS);
        if code != Some(0) {
            self.complaints.push(format!("{} stopped in order with {code:?}", actors[index].name));
        }
        again(&mut actors[index], if is_scheduler { "scheduler" } else { "executor" });
    }

    /// The replica takes the place of the store, without the newest writes.
    fn promote(&mut self) {
        self.stage.door.cut();
        self.reader.catch_up(&self.stage.redis);
        self.stage.redis.kill();
        self.stage.promote();
        self.reader.go_over(&self.stage.redis);
        self.stage.door.point_at(&self.stage.redis.address());
        self.stage.door.open();
    }
}

fn again(actor: &mut Actor, role: &str) {
    actor.again();
    actor.process.line(&format!("ready role={role}"));
}
