//! Says how an attempt ended, from what the engine shows of its container and what this executor
//! did to it. Success is only ever an exit code 0 that was observed.

use berth_domain::lifecycle::EndCause;
use berth_domain::quantity::show_memory;
use berth_domain::reconcile::{Stop, StopCause};

use crate::runtime::Inspected;

/// Exit codes that an engine's own end gives to containers it takes with it.
pub(super) const ENGINE_CODES: [i32; 3] = [137, 143, 255];
/// Exit codes of a process that was ended by SIGKILL or SIGTERM.
const SIGNAL_CODES: [i32; 2] = [137, 143];
/// How long after its SIGKILL was due a stop may still end a process.
const KILL_WAIT_MS: u64 = 30_000;
/// SIGKILL, as the kernel sends it for lack of memory.
const OUT_OF_MEMORY_CODE: i32 = 137;

/// Everything a verdict rests on.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The container, ended.
    pub seen: Inspected,
    /// The stop that was begun, if one was.
    pub stop: Option<Stop>,
    /// A stop of which nobody knows whether its SIGTERM has arrived.
    pub asked: Option<Stop>,
    /// The stop was this executor's own, because its lease had ended.
    pub fenced: bool,
    /// The engine told of the exit while it happened.
    pub witnessed: bool,
    /// The container was made in the machine's current boot.
    pub same_boot: bool,
    /// How long it was allowed to run.
    pub run_timeout_ms: Option<u64>,
    /// Its memory limit.
    pub memory_bytes: Option<u64>,
}

/// Gives the cause and a sentence for people; an empty one lets the lifecycle write its own.
pub(super) fn conclude(facts: &Facts) -> (EndCause, String) {
    let code = facts.seen.exit_code;
    if !facts.same_boot {
        let message = "The machine was rebooted while it ran, so its exit code means nothing.";
        return (EndCause::ExecutorFault, message.to_owned());
    }
    // What ends by a signal, and may have been sent one, was stopped by it; any other end is its own.
    let stop = facts.stop.or(facts.asked.filter(|asked| was_stopped(facts, asked)));
    if stop.is_some() && facts.fenced {
        let message = "Stopped by its executor, which had been out of touch for longer than its lease.";
        return (EndCause::ExecutorFault, message.to_owned());
    }
    match stop.map(|stop| stop.cause) {
        Some(StopCause::Abort) => (EndCause::Aborted { code: Some(code) }, String::new()),
        Some(StopCause::RunTimeout) => (EndCause::RunTimeout { code: Some(code) }, String::new()),
        Some(StopCause::Superseded) => {
            let message = "Stopped by its executor, because the schedulers no longer wanted it there.";
            (EndCause::ExecutorFault, message.to_owned())
        }
        None => by_itself(facts),
    }
}

/// Says whether a stop that may have arrived explains the end: by a signal, within its time, and not for lack of
/// memory.
fn was_stopped(facts: &Facts, asked: &Stop) -> bool {
    let in_time = facts.seen.finished_ms.is_none_or(|at_ms| at_ms <= asked.kill_at_ms + KILL_WAIT_MS);
    SIGNAL_CODES.contains(&facts.seen.exit_code) && in_time && !facts.seen.oom_killed
}

fn by_itself(facts: &Facts) -> (EndCause, String) {
    let Inspected { exit_code: code, oom_killed: oom, .. } = facts.seen;
    if !facts.witnessed && !oom && ENGINE_CODES.contains(&code) {
        if ran_out_of_time(facts) {
            return (EndCause::RunTimeout { code: Some(code) }, String::new());
        }
        let message =
            format!("Its exit code {code} was not witnessed: the container engine or the executor stopped.");
        return (EndCause::ExecutorFault, message);
    }
    let message = match facts.memory_bytes {
        Some(limit) if oom && code == OUT_OF_MEMORY_CODE => {
            format!("Killed: it used more than its {} of memory.", show_memory(limit))
        }
        Some(_) | None => facts.seen.error.clone(),
    };
    (EndCause::Exited { code, oom }, message)
}

/// An earlier process of this executor may have stopped it, and been stopped itself.
fn ran_out_of_time(facts: &Facts) -> bool {
    match (facts.run_timeout_ms, facts.seen.started_ms, facts.seen.finished_ms) {
        (Some(limit), Some(started), Some(finished)) => finished.saturating_sub(started) >= limit,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::EngineState;

    fn facts(exit_code: i32) -> Facts {
        Facts {
            seen: Inspected {
                state: EngineState::Exited,
                exit_code,
                oom_killed: false,
                started_ms: Some(1_000),
                finished_ms: Some(9_000),
                error: String::new(),
            },
            stop: None,
            asked: None,
            fenced: false,
            witnessed: true,
            same_boot: true,
            run_timeout_ms: None,
            memory_bytes: Some(256 << 20),
        }
    }

    fn stopped(cause: StopCause) -> Facts {
        Facts { stop: Some(Stop { cause, kill_at_ms: 0, killed: true }), ..facts(0) }
    }

    #[test]
    fn an_exit_of_its_own_is_its_exit_code() {
        for code in [0, 1, 137, 255] {
            assert_eq!(conclude(&facts(code)).0, EndCause::Exited { code, oom: false });
        }
    }

    #[test]
    fn a_reboot_is_never_a_success() {
        for code in [0, 255] {
            let facts = Facts { same_boot: false, ..facts(code) };
            assert_eq!(conclude(&facts).0, EndCause::ExecutorFault);
        }
    }

    #[test]
    fn an_exit_nobody_witnessed_is_believed_unless_an_engine_gives_that_code() {
        let unseen = |code| Facts { witnessed: false, ..facts(code) };
        assert_eq!(conclude(&unseen(0)).0, EndCause::Exited { code: 0, oom: false });
        assert_eq!(conclude(&unseen(3)).0, EndCause::Exited { code: 3, oom: false });
        for code in ENGINE_CODES {
            assert_eq!(conclude(&unseen(code)).0, EndCause::ExecutorFault);
            let late = Facts { run_timeout_ms: Some(8_000), ..unseen(code) };
            assert_eq!(conclude(&late).0, EndCause::RunTimeout { code: Some(code) });
        }
    }

    #[test]
    fn running_out_of_memory_names_the_limit() {
        let mut facts = facts(137);
        facts.seen.oom_killed = true;
        facts.witnessed = false;
        let (cause, message) = conclude(&facts);
        assert_eq!(cause, EndCause::Exited { code: 137, oom: true });
        assert_eq!(message, "Killed: it used more than its 256Mi of memory.");
    }

    #[test]
    fn a_stop_that_may_have_arrived_explains_the_end_by_a_signal_alone() {
        let stop = Stop { cause: StopCause::Abort, kill_at_ms: 8_500, killed: false };
        let asked = |code| Facts { asked: Some(stop), ..facts(code) };
        let long_ago = Stop { kill_at_ms: 0, ..stop };
        let mut later = Facts { asked: Some(long_ago), ..facts(143) };
        later.seen.finished_ms = Some(60_000);
        assert_eq!(conclude(&later).0, EndCause::Exited { code: 143, oom: false }, "it ran on for long");
        let mut starved = asked(137);
        starved.seen.oom_killed = true;
        assert_eq!(conclude(&starved).0, EndCause::Exited { code: 137, oom: true });
        assert_eq!(conclude(&asked(143)).0, EndCause::Aborted { code: Some(143) });
        assert_eq!(conclude(&asked(3)).0, EndCause::Exited { code: 3, oom: false });
        assert_eq!(conclude(&asked(0)).0, EndCause::Exited { code: 0, oom: false });
    }

    #[test]
    fn a_stop_is_told_by_its_cause_even_with_exit_code_zero() {
        assert_eq!(conclude(&stopped(StopCause::Abort)).0, EndCause::Aborted { code: Some(0) });
        assert_eq!(conclude(&stopped(StopCause::RunTimeout)).0, EndCause::RunTimeout { code: Some(0) });
        assert_eq!(conclude(&stopped(StopCause::Superseded)).0, EndCause::ExecutorFault);
        let fenced = Facts { fenced: true, ..stopped(StopCause::Abort) };
        assert_eq!(conclude(&fenced).0, EndCause::ExecutorFault);
    }
}
