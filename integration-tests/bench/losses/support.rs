//! What rows share: clocks, jobs, a client that repeats itself, and a reader of the change log that holds
//! every change against what may never happen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_domain::job::{Job, JobState};
use berth_integration_tests::cluster::{Cluster, Size, id_of, job};
use berth_integration_tests::docker::is_running;
use berth_integration_tests::wait::until_within;
use berth_integration_tests::{docker, http};
use berth_store::redis::{RedisConfig, RedisStore};
use berth_store::{Change, Changes, Position, Store};
use serde_json::{Value, json};

/// Clocks under which verdicts come within seconds.
pub const CLOCKS: [&str; 8] =
    ["--heartbeat-interval", "1s", "--lease", "3s", "--lost-after", "13s", "--lock-ttl", "1s"];
/// `--lost-after` of [`CLOCKS`].
pub const LOST_AFTER: Duration = Duration::from_secs(13);
/// An executor's size.
pub const SIZE: Size<'static> = Size { cpus: "4", memory: "1g", gpus: "" };
/// Runs until it is let go, then exits with 7; SIGTERM ends it with 143.
pub const UNTIL_LET_GO: &str = "trap 'exit 143' TERM; while ! [ -e /tmp/go ]; do sleep 0.1; done; exit 7";

/// A job that runs until it is let go, and is treated as said when its executor is lost.
pub fn held(on_lost: &str) -> Value {
    with(job(&["sh", "-c", UNTIL_LET_GO]), on_lost)
}

/// The same, whose later attempts end with 8 at once.
pub fn twice(on_lost: &str) -> Value {
    let line = format!("[ \"$BERTH_ATTEMPT\" != 1 ] && exit 8; {UNTIL_LET_GO}");
    with(job(&["sh", "-c", &line]), on_lost)
}

/// A job that waits for ever and is treated as said when its executor is lost.
pub fn with(mut job: Value, on_lost: &str) -> Value {
    job["onLost"] = json!(format!("ON_LOST_{on_lost}"));
    job["queueTimeout"] = json!("0s");
    job
}

/// A small job that waits for an executor for ever.
pub fn patient(command: &[&str]) -> Value {
    with(job(command), "RETRY")
}

/// Waits until a container has stopped, and gives how long that took.
pub fn stopped_within(patience: Duration, what: &str, container: &str) -> Duration {
    let began = Instant::now();
    until_within(patience, what, || (!is_running(container)).then_some(()));
    began.elapsed()
}

/// Waits until an executor is shown in a state.
pub fn executor_is(cluster: &Cluster, id: &str, state: &str, patience: Duration) {
    until_within(patience, &format!("{id} is {state}"), || {
        executor_state(&cluster.scheduler.http, id).is_some_and(|seen| seen == state).then_some(())
    });
}

/// An executor's state, where a replica answers.
pub fn executor_state(address: &str, id: &str) -> Option<String> {
    let answer = http::request_if_served(address, "GET", "/executors", &[], b"")?;
    let all = answer.json();
    let found = all["executors"].as_array()?.iter().find(|executor| executor["id"] == id)?.clone();
    Some(found["state"].as_str()?.to_owned())
}

/// Asks for a job's end; nobody waits for the answer, which comes with that.
pub fn abort(cluster: &Cluster, id: &str, body: Value) {
    let (address, path) = (cluster.scheduler.http.clone(), format!("/jobs/{id}/abort"));
    std::thread::spawn(move || http::post_if_served(&address, &path, &body));
}

/// Reads a job from a replica that may be away; `None` without an answer, null where it is unknown.
pub fn read(address: &str, id: &str) -> Option<Value> {
    let answer = http::request_if_served(address, "GET", &format!("/jobs/{id}"), &[], b"")?;
    match answer.status {
        200 => Some(answer.json()),
        404 => Some(Value::Null),
        _ => None,
    }
}

/// Waits until a job has ended, whatever replica is there; gives it.
pub fn ended_at(address: &str, id: &str, patience: Duration) -> Value {
    until_within(patience, &format!("job {id} ends"), || {
        let job = read(address, id)?;
        let state = job["state"].as_str()?;
        ["SUCCEEDED", "FAILED", "ABORTED"].contains(&state).then_some(job)
    })
}

/// What a job's end was, in short.
pub fn end_of(job: &Value) -> (String, i64, i64) {
    let text = job["state"].as_str().unwrap_or_default().to_owned();
    (text, job["exitCode"].as_i64().unwrap_or(-1), job["attempt"].as_i64().unwrap_or(-1))
}

/// A client that submits one job after the other and repeats each until it is acknowledged.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<(String, String)>>>,
    thread: Option<std::thread::JoinHandle<usize>>,
}

impl Load {
    /// Begins, at whichever of the addresses answers.
    pub fn begin(addresses: &[&str], body: &Value, pause: Duration) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let addresses: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
        let (is_over, kept, body) = (stop.clone(), acknowledged.clone(), body.to_string());
        let thread = std::thread::spawn(move || {
            let mut repeats = 0;
            for index in 0.. {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let key = format!("load-{index}");
                repeats += submit_until_answered(&addresses, &key, &body, &kept);
                std::thread::sleep(pause);
            }
            repeats
        });
        Self { stop, acknowledged, thread: Some(thread) }
    }

    /// How many jobs were acknowledged so far.
    pub fn count(&self) -> usize {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until so many more jobs were acknowledged.
    pub fn goes_on(&self, more: usize) {
        let before = self.count();
        until_within(Duration::from_secs(60), "submits are acknowledged", || {
            (self.count() >= before + more).then_some(())
        });
    }

    /// Ends; gives the acknowledged jobs' ids and how many submits were repeated.
    pub fn end(mut self) -> (Vec<String>, usize) {
        self.stop.store(true, Ordering::SeqCst);
        let repeats = self.thread.take().map_or(0, |thread| thread.join().expect("the client ends"));
        let kept = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().map(|(_, id)| id.clone()).collect(), repeats)
    }
}

fn submit_until_answered(
    addresses: &[String],
    key: &str,
    body: &str,
    kept: &Mutex<Vec<(String, String)>>,
) -> usize {
    let end = Instant::now() + Duration::from_secs(60);
    for turn in 0.. {
        let address = &addresses[turn % addresses.len()];
        let headers = [("Idempotency-Key", key)];
        let answer = http::request_if_served(address, "POST", "/jobs", &headers, body.as_bytes());
        if let Some(answer) = answer.filter(|answer| answer.status == 200) {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push((key.to_owned(), id_of(&answer.json())));
            return turn;
        }
        assert!(Instant::now() < end, "no replica has answered {key} for a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
    0
}

/// Every change of the store's log, as it came.
#[derive(Default)]
pub struct Seen {
    /// Jobs with the revisions at which they changed.
    pub jobs: Vec<(Position, Job)>,
    /// How often the log had a gap, or another generation began.
    pub resyncs: usize,
}

/// Reads the change log.
pub struct History {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl History {
    /// Begins to read what changes from now on.
    pub fn begin(cluster: &Cluster) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let config =
            RedisConfig { url: cluster.redis.url(), cluster: cluster.name.clone(), ..RedisConfig::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (is_over, kept) = (stop.clone(), seen.clone());
        let store = runtime.block_on(RedisStore::connect(config)).expect("the store is there");
        let from = runtime.block_on(store.head()).expect("the store has a head");
        let thread = std::thread::spawn(move || runtime.block_on(follow(&store, from, &is_over, &kept)));
        Self { stop, seen, thread: Some(thread) }
    }

    /// Ends once the log is read to its end; holds what was seen against what may never happen.
    pub fn end(mut self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the reader ends");
        }
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        check(&seen.jobs);
        seen
    }
}

async fn follow(store: &RedisStore, mut at: Position, is_over: &AtomicBool, kept: &Mutex<Seen>) {
    loop {
        let last = is_over.load(Ordering::SeqCst);
        match store.changes(at, Duration::from_millis(300)).await {
            Ok(Changes::Entries { entries, position }) => {
                let mut seen = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if entries.is_empty() && last {
                    return;
                }
                for (revision, change) in entries {
                    if let Change::Job(job) = change {
                        seen.jobs.push((Position { revision, ..position }, Arc::unwrap_or_clone(job)));
                    }
                }
                at = position;
            }
            Ok(Changes::Resync) => {
                kept.lock().unwrap_or_else(PoisonError::into_inner).resyncs += 1;
                if let Ok(head) = store.head().await {
                    at = head;
                }
            }
            Err(_) if last => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Within a generation: attempts rise by one, no ended job changes, and no leader's commit comes after one
/// of a later leader.
fn check(jobs: &[(Position, Job)]) {
    let (mut last, mut epoch): (BTreeMap<&str, &Job>, u64) = (BTreeMap::new(), 0);
    for (position, job) in jobs {
        let before = last.insert(job.id.as_str(), job);
        if let Some(before) = before {
            assert!(!before.state.is_terminal(), "{} ended twice, at {position:?}", job.id);
            assert!(
                job.attempt == before.attempt || job.attempt == before.attempt + 1,
                "{} at {position:?}",
                job.id
            );
        }
        // One that is running when it is seen again after a gap was assigned in it.
        let is_new = before.is_some_and(|before| before.attempt < job.attempt);
        if is_new && job.state == JobState::Assigned {
            assert!(job.attempt_epoch >= epoch, "a deposed leader assigned {} at {position:?}", job.id);
            epoch = epoch.max(job.attempt_epoch);
        }
    }
}

/// Sends a signal to a process that is not a child.
pub fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success(), "{pid} can be signalled");
}

/// Makes `/tmp/go` where the container still is.
pub fn let_go(container: &str) {
    docker::let_go(container);
}
