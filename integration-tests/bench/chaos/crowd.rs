//! Those who use the cluster: they keep a queue of jobs before it, abort some, repeat some submits, and
//! watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use berth_api::v1;
use berth_domain::job::JobState;
use berth_integration_tests::clients::{ANSWER, Caller, Order, PAUSE, Ways};
use berth_integration_tests::docker;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::witness::FILE;

/// Submits under way at the same time.
const WORKERS: usize = 6;
/// So many jobs are there that have not ended, if submits are answered at all.
const OUTSTANDING: usize = 45;
/// Clients that watch.
pub const WATCHES: usize = 2;

/// The replicas' addresses.
pub struct Network(pub Vec<String>);

#[async_trait]
impl Ways for Network {
    fn count(&self) -> usize {
        self.0.len()
    }

    async fn channel(&self, index: usize) -> Option<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.0[index])).ok()?;
        let endpoint = endpoint.connect_timeout(Duration::from_millis(500));
        tokio::time::timeout(ANSWER, endpoint.connect()).await.ok()?.ok()
    }

    fn now_ms(&self) -> u64 {
        crate::now_ms()
    }

    fn may_return(&self) -> bool {
        false
    }
}

/// A crowd at work.
pub struct Crowd {
    stop: CancellationToken,
    ordered: Arc<AtomicUsize>,
    workers: JoinSet<()>,
    watchers: JoinSet<()>,
}

impl Crowd {
    /// Begins to submit and to watch.
    pub fn begin(seed: u64, caller: &Caller, runtime: &Handle) -> Self {
        let (stop, ordered) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let (mut workers, mut watchers) = (JoinSet::new(), JoinSet::new());
        for _ in 0..WORKERS {
            workers.spawn_on(work(seed, caller.clone(), stop.clone(), ordered.clone()), runtime);
        }
        caller.seen.record().watches.resize_with(WATCHES, Vec::new);
        for number in 0..WATCHES {
            watchers.spawn_on(caller.clone().watch(number), runtime);
        }
        caller.seen.record().reads.resize_with(1, Vec::new);
        watchers.spawn_on(caller.clone().read(0), runtime);
        Self { stop, ordered, workers, watchers }
    }

    /// Submits nothing more. Whoever waits for an answer goes on.
    pub fn finish(&self) {
        self.stop.cancel();
    }

    /// Says whether every submit was answered.
    pub fn is_answered(&mut self) -> bool {
        while self.workers.try_join_next().is_some() {}
        self.workers.is_empty()
    }

    /// How many jobs were wanted.
    pub fn ordered(&self) -> usize {
        self.ordered.load(Ordering::SeqCst)
    }

    /// Ends, once the run is over.
    pub async fn end(mut self) {
        while self.workers.join_next().await.is_some() {}
        while self.watchers.join_next().await.is_some() {}
    }
}

async fn work(seed: u64, caller: Caller, stop: CancellationToken, ordered: Arc<AtomicUsize>) {
    let mut aborts = JoinSet::new();
    while !stop.is_cancelled() && !caller.seen.is_over() {
        if caller.seen.record().count(|state| !state.is_terminal()) >= OUTSTANDING {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let number = ordered.fetch_add(1, Ordering::SeqCst);
        let mut rng = StdRng::seed_from_u64(seed ^ (number as u64 + 1).rotate_left(32));
        let order = order(number, &mut rng);
        let Some(id) = caller.submit(&order).await else { continue };
        if rng.random_bool(0.02) {
            let pause = Duration::from_millis(rng.random_range(0..8_000));
            aborts.spawn(caller.clone().abort(id, pause));
        }
        if rng.random_bool(0.05) {
            caller.submit(&order).await;
        }
        if rng.random_bool(0.02) {
            let spec = v1::JobSpec { command: vec!["false".to_owned()], ..order.spec.clone() };
            caller
                .submit(&Order {
                    spec,
                    words: "another one, under the same key".to_owned(),
                    end: JobState::Failed,
                    code: 1,
                    ..order
                })
                .await;
        }
    }
    while aborts.join_next().await.is_some() {}
}

/// What a job does: one of three takes its time, nearly all succeed.
fn order(number: usize, rng: &mut StdRng) -> Order {
    let duration = |ms: u64| Some(berth_api::convert::duration(ms));
    let mut seconds =
        if number.is_multiple_of(3) { rng.random_range(10.1..13.0) } else { rng.random_range(0.2..3.0) };
    let mut code = if rng.random_bool(0.02) { rng.random_range(1..100) } else { 0 };
    let run_timeout = if rng.random_bool(0.01) { duration(2_000) } else { None };
    if run_timeout.is_some() {
        (seconds, code) = (60.0, 1);
    }
    let line = format!(
        "trap 'exit 143' TERM; echo begin >> {FILE}; sleep {seconds:.1} & wait $!; echo end >> {FILE}; exit {code}"
    );
    let on_lost = match rng.random_range(0..10) {
        0..6 => v1::OnLost::Retry,
        6..8 => v1::OnLost::Fail,
        _ => v1::OnLost::Hold,
    };
    let resources = v1::Resources {
        cpu_millis: rng.random_range(500..900),
        memory_bytes: 32 << 20,
        gpu_count: i32::from(rng.random_bool(0.04)),
        gpu_models: Vec::new(),
    };
    let words = format!("{line} {on_lost:?} {resources:?}");
    let spec = v1::JobSpec {
        image: docker::IMAGE.to_owned(),
        command: ["sh", "-c", &line].map(str::to_owned).to_vec(),
        on_lost: on_lost.into(),
        resources: Some(resources),
        priority: Some(rng.random_range(0..100)),
        // It waits for ever.
        queue_timeout: duration(0),
        run_timeout,
        network: "none".to_owned(),
        ..v1::JobSpec::default()
    };
    let end = if code == 0 { JobState::Succeeded } else { JobState::Failed };
    Order { number, spec, words, end, code }
}
