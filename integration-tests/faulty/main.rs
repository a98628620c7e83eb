//! A scheduler or an executor wired as the daemons wire them, whose every call of store, engine, disk
//! and connection passes a point at which it can be made to die.
//!
//! `faulty scheduler CLUSTER ID REDIS_URL GRPC_LISTEN` and `faulty executor CLUSTER ID FOLDER SCHEDULERS`;
//! FAULTY names the armed point.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's program says what it expects"
)]

use std::sync::Arc;
use std::time::Duration;

use berth_domain::ids::{ExecutorId, SchedulerId};
use berth_executor::clock::TokioClock;
use berth_executor::config::Overrides;
use berth_executor::connect::TcpConnect;
use berth_executor::disk::RealDisk;
use berth_executor::random::SeededRandom;
use berth_executor::runtime::{DockerRuntime, DockerSettings};
use berth_executor::{ExecutorConfig, host};
use berth_integration_tests::failpoints::{FaultyConnect, FaultyDisk, FaultyEngine, FaultyStore, Points};
use berth_scheduler::{Replica, SchedulerConfig, SeededEntropy};
use berth_store::redis::{RedisConfig, RedisStore};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let points = Arc::new(Points::from_environment());
    let stop = CancellationToken::new();
    let told = stop.clone();
    let mut term =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("signals are heard");
    tokio::spawn(async move {
        term.recv().await;
        told.cancel();
    });
    match arguments.as_slice() {
        ["scheduler", cluster, id, redis_url, listen] => {
            scheduler(points, stop, (*cluster, *id), redis_url, listen).await;
        }
        ["executor", cluster, id, folder, schedulers] => {
            executor(points, stop, (*cluster, *id), folder, schedulers).await;
        }
        _ => panic!(
            "usage: faulty scheduler CLUSTER ID REDIS_URL LISTEN | executor CLUSTER ID FOLDER SCHEDULERS"
        ),
    }
}

async fn scheduler(
    points: Arc<Points>,
    stop: CancellationToken,
    (cluster, id): (&str, &str),
    redis_url: &str,
    listen: &str,
) {
    let listener = TcpListener::bind(listen).await.expect("the address is free");
    let address = listener.local_addr().expect("it listens");
    let config =
        RedisConfig { url: redis_url.to_owned(), cluster: cluster.to_owned(), ..RedisConfig::default() };
    let redis = RedisStore::connect(config).await.expect("redis is there");
    let store = Arc::new(FaultyStore { inner: Arc::new(redis), points });
    let deps = berth_scheduler::Deps {
        store,
        entropy: Arc::new(SeededEntropy::from_os()),
        connect: Arc::new(berth_scheduler::TcpConnect),
    };
    let config = SchedulerConfig {
        advertise: address.to_string(),
        lock_ttl: Duration::from_secs(1),
        ..SchedulerConfig::new(SchedulerId::parse(id).expect("an id"), cluster)
    };
    let replica = Replica::start(deps, config, stop).await.expect("it starts");
    println!("ready role=scheduler id={id} grpc={address} http= pid={}", std::process::id());
    replica.serve(TcpListenerStream::new(listener)).await.expect("it serves");
}

async fn executor(
    points: Arc<Points>,
    stop: CancellationToken,
    (cluster, id): (&str, &str),
    folder: &str,
    schedulers: &str,
) {
    let (ready, mut registered) = watch::channel(None);
    let config = ExecutorConfig {
        executor_id: Some(ExecutorId::parse(id).expect("an id")),
        cluster: cluster.to_owned(),
        cleanup_after: Duration::from_secs(1),
        safety_interval: Duration::from_secs(1),
        overrides: Overrides { cpu_millis: Some(2_000), memory_bytes: Some(1 << 30), gpus: None },
        ..ExecutorConfig::new(folder, schedulers.split(',').map(str::to_owned).collect())
    };
    let deps = berth_executor::Deps {
        runtime: Arc::new(FaultyEngine {
            inner: Arc::new(DockerRuntime::new(DockerSettings { host: docker_host() })),
            points: points.clone(),
        }),
        connector: Arc::new(FaultyConnect { inner: Arc::new(TcpConnect), points: points.clone() }),
        disk: Arc::new(FaultyDisk {
            inner: Arc::new(RealDisk::open(std::path::Path::new(folder)).expect("the folder can be used")),
            points,
        }),
        host: host::probe().expect("this machine can be looked at"),
        clock: Arc::new(TokioClock::new()),
        random: Arc::new(SeededRandom::from_system()),
        ready,
    };
    let announced = tokio::spawn(async move {
        if registered.wait_for(Option::is_some).await.is_ok() {
            println!("ready role=executor pid={}", std::process::id());
        }
    });
    berth_executor::run(deps, config, stop).await.expect("it runs");
    announced.abort();
}

/// The engine that the test uses.
fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())
}
