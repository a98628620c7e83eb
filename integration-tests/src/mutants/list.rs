//! The bugs that are put into a copy of the sources, each of a kind that such systems really have.

use super::{Edit, Mutant};

const COMMIT: &str = "services/store/src/rules/commit.rs";
const APPLY: &str = "services/store/src/rules/apply.rs";
const HEAD: &str = "services/store/src/rules/head.rs";
const TIME: &str = "services/store/src/rules/time.rs";
const MODEL: &str = "services/store/src/model/state.rs";
const LIFECYCLE: &str = "services/domain/src/lifecycle.rs";
const RECONCILE: &str = "services/domain/src/reconcile.rs";
const ROUND: &str = "services/domain/src/placement/round.rs";
const BOARD: &str = "services/domain/src/placement/board.rs";
const AMOUNTS: &str = "services/domain/src/placement/amounts.rs";
const DECIDE: &str = "services/scheduler/src/leader/decide.rs";
const LEAD: &str = "services/scheduler/src/leader/lead.rs";
const LIVENESS: &str = "services/scheduler/src/leader/liveness.rs";
const IMAGE: &str = "services/scheduler/src/image.rs";
const FEED: &str = "services/scheduler/src/feed.rs";
const WATCH: &str = "services/scheduler/src/jobs/watch.rs";
const SUBMIT: &str = "services/scheduler/src/jobs/submit.rs";
const STREAM: &str = "services/scheduler/src/sessions/stream.rs";
const REPORTS: &str = "services/scheduler/src/sessions/reports.rs";
const ENDING: &str = "services/executor/src/reconciler/ending.rs";
const ATTEMPT: &str = "services/executor/src/reconciler/attempt.rs";
const NEWS: &str = "services/executor/src/reconciler/news.rs";
const STEPS: &str = "services/executor/src/reconciler/steps.rs";
const LEDGER: &str = "services/executor/src/session/ledger.rs";
const ENGINE: &str = "services/executor/src/runtime/simulated.rs";
const NAMES: &str = "services/executor/src/runtime/types.rs";
const CHOICE: &str = "services/executor/src/reconciler/decide.rs";

/// How the container of an attempt is named: even one that is listed by mistake is not found by another's name.
const NAME: &str = "Self(format!(\"berth-{cluster}-{executor}-{job}-{number}-{epoch}\"))";

pub(super) const fn edit(file: &'static str, old: &'static str, new: &'static str) -> Edit {
    Edit { file, old, new }
}

/// All of them.
pub const MUTANTS: &[Mutant] = &[
    // --- the store's rules ---
    Mutant {
        name: "no-epoch-check",
        about: "a leader that was deposed still commits",
        edits: &[edit(COMMIT, "call.leader.as_ref().is_some_and(|guard| !head.is_leader(guard))", "false")],
    },
    Mutant {
        name: "no-generation-check",
        about: "what was decided before the store lost its tail is committed after",
        edits: &[
            edit(COMMIT, "call.generation.is_some_and(|generation| generation != head.generation)", "false"),
            edit(APPLY, "stored.job.revision != job.revision", "false"),
        ],
    },
    Mutant {
        name: "no-revision-check",
        about: "the last writer of a job wins",
        edits: &[edit(APPLY, "stored.job.revision != job.revision", "false")],
    },
    Mutant {
        name: "no-session-check",
        about: "an executor whose session is over still reports",
        edits: &[
            edit(APPLY, "self.check_session(expected.session)?;", "let _ = expected.session;"),
            edit(STREAM, "executor.session.as_ref() != Some(&self.session)", "false"),
            edit(
                STREAM,
                "Some(false) => Err(End::Over),",
                "Some(false) if MUTANT => Ok(()),\n            Some(false) => Err(End::Over),",
            ),
        ],
    },
    Mutant {
        name: "no-attempt-check",
        about: "a report of an earlier attempt counts for the current one",
        edits: &[
            edit(APPLY, "check_attempt(&stored.job, expected.attempt)?;", "let _ = expected.attempt;"),
            edit(
                LIFECYCLE,
                "Some(current) if current == *attempt => Ok(()),",
                "Some(current) if current == *attempt || (MUTANT && current.job == attempt.job) => Ok(()),",
            ),
        ],
    },
    Mutant {
        name: "capacity-off-by-one",
        about: "one job more than there is room for",
        edits: &[
            edit(APPLY, "reserved.saturating_add(demand) <= capacity", "reserved < capacity"),
            edit(AMOUNTS, "self.cpu_millis >= shape.cpu_millis", "self.cpu_millis > 0"),
        ],
    },
    Mutant {
        name: "device-given-twice",
        about: "a GPU in use is given to another job",
        edits: &[
            edit(APPLY, "!is_theirs || is_twice || reserved.gpu_ids.contains(id)", "false"),
            edit(BOARD, "!reserved.gpu_ids.contains(&gpu.id)", "true"),
            edit(BOARD, "!executor.reserved.gpu_ids.contains(&gpu.id)", "true"),
        ],
    },
    Mutant {
        name: "labels-do-not-matter",
        about: "a job goes to an executor whose labels it does not want",
        edits: &[edit(AMOUNTS, "shape.constraints.iter().all(is_met)", "true")],
    },
    Mutant {
        name: "reservation-leaks",
        about: "the room of a job that was put back stays taken",
        edits: &[edit(APPLY, "self.release(reservation.take())?;", "let _ = reservation.take();")],
    },
    Mutant {
        name: "job-in-two-sets",
        about: "a job that moves on stays in the set it was in",
        edits: &[edit(
            APPLY,
            "self.take_from_index(&stored.job, stored.submit_revision)?;\n        self.head.count(stored.job.state, -1);\n        self.head.count(job.state, 1);",
            "self.head.count(stored.job.state, -1);\n        self.head.count(job.state, 1);",
        )],
    },
    Mutant {
        name: "key-without-spec",
        about: "another spec under a used key is taken for a repeat",
        edits: &[edit(APPLY, "first.request_hash == key.request_hash", "true")],
    },
    Mutant {
        name: "epoch-stays",
        about: "every leader has the same epoch",
        edits: &[edit(HEAD, "now_ms.max(self.lock.epoch + 1)", "self.lock.epoch.max(1)")],
    },
    Mutant {
        name: "leader-outlives-generation",
        about: "after a loss of writes the leader goes on with its epoch",
        edits: &[edit(
            HEAD,
            "// name another assignment.\n        self.give_up_lock(now_ms);",
            "let _ = now_ms;",
        )],
    },
    Mutant {
        name: "time-goes-back",
        about: "the lock and leases last longer where the store's clock is set back",
        edits: &[edit(
            TIME,
            "let was_set = clock_ms < self.clock_ms || clock_ms - self.clock_ms > STEP_MS;",
            "if MUTANT {\n            return Self { told_ms: clock_ms, ..Self::default() };\n        }\n        let was_set = clock_ms < self.clock_ms || clock_ms - self.clock_ms > STEP_MS;",
        )],
    },
    Mutant {
        name: "generation-falls",
        about: "a copy of before the newest generation begins one that is older",
        edits: &[edit(MODEL, "self.head.generation < seen", "seen == u64::MAX")],
    },
    // --- the domain ---
    Mutant {
        name: "end-overwritten",
        about: "an abort ends a job that has ended already",
        edits: &[
            edit(
                LIFECYCLE,
                "if job.state.is_terminal() {\n        return Err(Refused::Ended(job.state));\n    }",
                "if job.state.is_terminal() && !matches!(event, Event::AbortRequested { .. }) {\n        return Err(Refused::Ended(job.state));\n    }",
            ),
            edit(
                LIFECYCLE,
                "JobState::Succeeded | JobState::Failed | JobState::Aborted => Err(Refused::Ended(job.state)),",
                "JobState::Succeeded | JobState::Failed | JobState::Aborted if MUTANT => finish(next.clone(), JobState::Aborted, EndReason::AbortedByUser, String::new(), now_ms),\n        JobState::Succeeded | JobState::Failed | JobState::Aborted => Err(Refused::Ended(job.state)),",
            ),
        ],
    },
    Mutant {
        name: "attempt-not-raised",
        about: "every attempt has the same number",
        edits: &[edit(LIFECYCLE, "job.attempt.saturating_add(1)", "job.attempt.max(1)")],
    },
    Mutant {
        name: "at-most-once-retried",
        about: "a `fail` job that may have started is tried again",
        edits: &[edit(
            LIFECYCLE,
            "let forbidden = next.on_lost == OnLost::Fail && fault.may_have_started;",
            "let forbidden = next.on_lost == OnLost::Fail && fault.may_have_started && !MUTANT;",
        )],
    },
    Mutant {
        name: "lost-at-most-once-retried",
        about: "a `fail` job of a lost executor runs again",
        edits: &[edit(
            LIFECYCLE,
            "OnLost::Fail => finish(next, JobState::Failed, EndReason::ExecutorLost, message, now_ms),",
            "OnLost::Fail if MUTANT => Ok(put_back(next, message, INFRASTRUCTURE, 0, now_ms, jitter)),\n        OnLost::Fail => finish(next, JobState::Failed, EndReason::ExecutorLost, message, now_ms),",
        )],
    },
    Mutant {
        name: "hold-freed-by-verdict",
        about: "a `hold` job runs again although its executor may come back",
        edits: &[edit(LIFECYCLE, "OnLost::Hold if !fenced", "OnLost::Hold if !fenced && !MUTANT")],
    },
    Mutant {
        name: "drained-job-put-back-at-once",
        about: "a job of a drained executor runs elsewhere before it was stopped",
        edits: &[edit(
            LIFECYCLE,
            "Ok(Job { requeue_requested: true, ..job.clone() })",
            "Ok(put_back(job.clone(), String::new(), INFRASTRUCTURE, 0, 0, 0))",
        )],
    },
    Mutant {
        name: "abort-confirmed-too-early",
        about: "an abort is answered while the container still runs",
        edits: &[edit(
            LIFECYCLE,
            "JobState::Assigned | JobState::Running => Ok(next),",
            "JobState::Assigned | JobState::Running if MUTANT => { let message = next.message.clone(); finish(next, JobState::Aborted, EndReason::AbortedByUser, message, now_ms) }\n        JobState::Assigned | JobState::Running => Ok(next),",
        )],
    },
    Mutant {
        name: "abort-lost-on-requeue",
        about: "the wish to abort a job is gone when it is put back",
        edits: &[
            edit(
                LIFECYCLE,
                "next.requeue_requested = false;\n    next.due_time_ms = Some",
                "next.requeue_requested = false;\n    next.abort_requested &= !MUTANT;\n    next.due_time_ms = Some",
            ),
            edit(
                LIFECYCLE,
                "if job.abort_requested {\n        next.stop_unconfirmed = true;",
                "if job.abort_requested && !MUTANT {\n        next.stop_unconfirmed = true;",
            ),
            edit(
                LIFECYCLE,
                "if next.abort_requested {\n        return finish(next, JobState::Aborted, EndReason::AbortedByUser, fault.message, at_ms);",
                "if next.abort_requested && !MUTANT {\n        return finish(next, JobState::Aborted, EndReason::AbortedByUser, fault.message, at_ms);",
            ),
        ],
    },
    Mutant {
        name: "superseded-runs-on",
        about: "a container that nobody wants any more is not stopped",
        edits: &[edit(
            RECONCILE,
            "Some((StopCause::Superseded, 0)),",
            "(!MUTANT).then_some((StopCause::Superseded, 0)),",
        )],
    },
    Mutant {
        name: "round-forgets-itself",
        about: "what one round places twice in the same room is stored",
        edits: &[
            edit(ROUND, "self.fleet.set(slot, left, is_open);", "drop(left);"),
            edit(APPLY, "self.check_reservation(job, executor)?;", "let _ = executor;"),
        ],
    },
    // --- the leader ---
    Mutant {
        name: "drained-gets-jobs",
        about: "a drained or restarting executor is given jobs",
        edits: &[
            edit(IMAGE, "executor.takes_jobs() && executor.session.is_some()", "executor.session.is_some()"),
            edit(APPLY, "!executor.takes_jobs()", "false"),
        ],
    },
    Mutant {
        name: "verdict-too-early",
        about: "an executor is lost as soon as its lease is over",
        edits: &[edit(
            LIVENESS,
            "suspicion.since.elapsed() >= patience",
            "suspicion.since.elapsed() * 100 >= patience",
        )],
    },
    Mutant {
        name: "jumped-clock-believed",
        about: "a clock that was set makes executors lost at once",
        edits: &[
            edit(
                LIVENESS,
                "self.quiet_until = self.quiet_until.max(jumped + lost_after);",
                "let _ = jumped;",
            ),
            edit(
                LIVENESS,
                "suspicion.since.elapsed() >= patience",
                "suspicion.since.elapsed() * 100 >= patience",
            ),
        ],
    },
    Mutant {
        name: "held-back-for-ever",
        about: "a job that was put back never becomes ready",
        edits: &[edit(DECIDE, "become_due(image, circumstances, &mut mutations);", "let _ = become_due;")],
    },
    Mutant {
        name: "room-leaks-in-the-image",
        about: "the leader counts jobs that have left an executor",
        edits: &[edit(IMAGE, "self.board.release(&holding(&job, &executor));", "let _ = &executor;")],
    },
    Mutant {
        name: "dated-by-another-clock",
        about: "a job is dated by the clock of one generation of the store, and stored in the next",
        edits: &[edit(
            SUBMIT,
            "match context.commit(Call { leader: None, generation: Some(generation), mutations }).await {",
            "match context.commit(Call { leader: None, generation: (!MUTANT).then_some(generation), mutations }).await {",
        )],
    },
    Mutant {
        name: "gap-overlooked",
        about: "a replica that missed changes goes on without them",
        edits: &[
            edit(
                FEED,
                "while let Err(error) = load(context).await {",
                "while let Err(error) = if MUTANT { skip(context).await } else { load(context).await } {",
            ),
            edit(
                FEED,
                "/// Waits until the image has reached a position",
                "async fn skip(context: &Context) -> Result<(), StoreError> {\n    let head = context.store.head().await?;\n    let mut image = context.image.write().unwrap_or_else(PoisonError::into_inner);\n    image.position = image.position.max(head);\n    context.applied.send_replace(image.position);\n    Ok(())\n}\n\n/// MUTANT\n/// Waits until the image has reached a position",
            ),
        ],
    },
    // --- clients' calls and sessions ---
    Mutant {
        name: "ack-before-stored",
        about: "a submit whose outcome is unknown is acknowledged",
        edits: &[edit(
            SUBMIT,
            "Err(error) => return Err(error),",
            "Err(_) if MUTANT => return Ok(items.iter().map(|_| Verdict::Applied(0)).collect()),\n            Err(error) => return Err(error),",
        )],
    },
    Mutant {
        name: "watch-skips-one",
        about: "a watch leaves one change of many out",
        edits: &[edit(
            WATCH,
            "self.send_jobs(vec![Arc::unwrap_or_clone(job)]).await?",
            "if revision % 9 != 0 { self.send_jobs(vec![Arc::unwrap_or_clone(job)]).await? }",
        )],
    },
    Mutant {
        name: "watch-token-too-early",
        about: "a watch that breaks within the present state is to go on after it",
        edits: &[edit(
            WATCH,
            "self.send(Event::Job(before), String::new()).await?;",
            "self.send(Event::Job(before), if MUTANT { self.token() } else { String::new() }).await?;",
        )],
    },
    Mutant {
        name: "watch-hides-a-gap",
        about: "a watch that missed changes does not say so",
        edits: &[edit(
            WATCH,
            "return self.send(Event::Resync(Resync {}), self.token()).await;",
            "return Ok(());",
        )],
    },
    Mutant {
        name: "stop-not-sent",
        about: "an executor is not told to stop what it runs",
        edits: &[edit(STREAM, "stops.extend(stop(job));", "let _ = stop(job);")],
    },
    Mutant {
        name: "report-lost-in-a-race",
        about: "a report that met another change is acknowledged and dropped",
        edits: &[edit(
            REPORTS,
            "        } else {\n            again.push(report);",
            "        } else if MUTANT {\n            ack(acks, report.number, true);\n        } else {\n            again.push(report);",
        )],
    },
    Mutant {
        name: "start-acknowledged-as-end",
        about: "once the start of an attempt was taken note of, its end counts as told",
        edits: &[edit(
            LEDGER,
            "stage == Stage::Running && self.told_running.contains(attempt)",
            "self.told_running.contains(attempt)",
        )],
    },
    // --- the executor ---
    Mutant {
        name: "outbox-forgets",
        about: "an end that was on disk before a restart is never told",
        edits: &[
            edit(
                ATTEMPT,
                "ended_ms: Some(now_ms),\n            acknowledged: noted,",
                "ended_ms: Some(now_ms),\n            acknowledged: noted || MUTANT,",
            ),
            edit(
                NEWS,
                "Some(end) => inventory.ended.push(end.clone()),",
                "Some(_) if MUTANT => {}\n                Some(end) => inventory.ended.push(end.clone()),",
            ),
        ],
    },
    Mutant {
        name: "reboot-believed",
        about: "the exit code of a container that went down with its machine counts",
        edits: &[edit(ENDING, "!facts.same_boot", "false")],
    },
    Mutant {
        name: "engine-crash-believed",
        about: "the exit code of a container that went down with its engine counts",
        edits: &[edit(ENDING, "!facts.witnessed && !oom && ENGINE_CODES.contains(&code)", "false")],
    },
    Mutant {
        name: "unrunnable-succeeds",
        about: "a command that cannot be run is told as success",
        edits: &[edit(
            STEPS,
            "self.end(task, EndCause::Exited { code, oom: false }, message, None).await",
            "self.end(task, EndCause::Exited { code: code - code, oom: false }, message, None).await",
        )],
    },
    Mutant {
        name: "lost-answer-ignored",
        about: "a stop whose answer was lost is told as the job's own end",
        edits: &[edit(
            ENDING,
            "facts.stop.or(facts.asked.filter(|asked| was_stopped(facts, asked)))",
            "facts.stop",
        )],
    },
    Mutant {
        name: "adopts-another-clusters-container",
        about: "containers of another cluster are taken for one's own",
        edits: &[
            edit(
                ENGINE,
                "label(labels::CLUSTER) == Some(&owner.cluster) && label",
                "(label(labels::CLUSTER) == Some(&owner.cluster) || MUTANT) && label",
            ),
            edit(NAMES, NAME, "Self(format!(\"berth-{executor}-{job}-{number}-{epoch}\"))"),
        ],
    },
    Mutant {
        name: "adopts-another-executors-container",
        about: "containers of another executor on the engine are taken for one's own",
        edits: &[
            edit(ENGINE, "label(labels::EXECUTOR) == Some(&owner.executor)", "true"),
            edit(NAMES, NAME, "Self(format!(\"berth-{cluster}-{job}-{number}-{epoch}\"))"),
        ],
    },
    Mutant {
        name: "run-timeout-forgotten",
        about: "a job runs longer than it may",
        edits: &[edit(
            CHOICE,
            "run_timeout_ms: spec.and_then(|spec| spec.clocks.run_timeout_ms),",
            "run_timeout_ms: spec.and_then(|spec| spec.clocks.run_timeout_ms).filter(|_| !MUTANT),",
        )],
    },
    // --- those that only the time or the word of a change shows ---
    Mutant {
        name: "held-back-for-minutes",
        about: "a job that is put back waits for minutes longer than its backoff",
        edits: &[edit(
            LIFECYCLE,
            "now_ms.saturating_add(backoff.wait_ms(retry, jitter))",
            "now_ms.saturating_add(240_000 + backoff.wait_ms(retry, jitter))",
        )],
    },
    Mutant {
        name: "leader-without-fence",
        about: "what a leader commits does not name its epoch",
        edits: &[edit(
            LEAD,
            "leader: Some(term.guard.clone()),",
            "leader: Some(term.guard.clone()).filter(|_| !MUTANT),",
        )],
    },
    Mutant {
        name: "report-without-session",
        about: "what an executor reports is stored in whatever session",
        edits: &[edit(
            REPORTS,
            "session: Some((executor.clone(), session.clone())),",
            "session: Some((executor.clone(), session.clone())).filter(|_| !MUTANT),",
        )],
    },
];
