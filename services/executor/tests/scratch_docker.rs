//! scratch
use berth_domain::ids::{AttemptRef, ExecutorId, JobId};
use berth_domain::spec::Network;
use berth_executor::clock::TokioClock;
use berth_executor::config::LogLimits;
use berth_executor::disk::MemoryDisk;
use berth_executor::logs::*;
use berth_executor::random::SeededRandom;
use berth_executor::runtime::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn attempt(n: &str) -> AttemptRef {
    AttemptRef { job: JobId::trusted(n), number: 1, epoch: 5 }
}
fn owner() -> Owner {
    Owner { cluster: "scratch-exec".into(), executor: "e1".into() }
}
fn plan(n: &str, cmd: &[&str]) -> ContainerPlan {
    ContainerPlan {
        name: ContainerName::new(&owner(), &attempt(n)),
        image: "berth-exec-test:local".into(),
        command: cmd.iter().map(|s| s.to_string()).collect(),
        env: BTreeMap::from([("A".into(), "x y".into())]),
        working_dir: String::new(),
        labels: attempt_labels(&owner(), &attempt(n), "h", "b"),
        cpu_millis: 500,
        memory_bytes: 64 << 20,
        gpus: vec![],
        network: Network::None,
    }
}
async fn go(rt: &DockerRuntime, p: &ContainerPlan) -> Result<Inspected, String> {
    let t = Instant::now();
    rt.create(p).await.map_err(|e| format!("create {e:?}"))?;
    println!("  create {:?}", t.elapsed());
    let t = Instant::now();
    if let Err(e) = rt.start(&p.name).await {
        let i = rt.inspect(&p.name).await;
        rt.remove(&p.name).await.unwrap();
        return Err(format!("start {e:?} {i:?}"));
    }
    println!("  start {:?}", t.elapsed());
    let t = Instant::now();
    rt.wait(&p.name).await.map_err(|e| format!("wait {e:?}"))?;
    println!("  wait {:?}", t.elapsed());
    let t = Instant::now();
    let i = rt.inspect(&p.name).await.map_err(|e| format!("{e:?}"))?.ok_or("gone")?;
    println!("  inspect {:?}", t.elapsed());
    Ok(i)
}
#[tokio::test]
async fn scratch() {
    let rt = Arc::new(DockerRuntime::new(DockerSettings::default()));
    for (n, cmd) in [
        ("t", vec!["true"]),
        ("x3", vec!["sh", "-c", "exit 3"]),
        ("nf", vec!["nope"]),
        ("np", vec!["/tmp"]),
        ("abs", vec!["/bin/nope"]),
        ("oom", vec!["sh", "-c", "x=; while true; do x=$x$x$x$x0123456789012345678901234567890; done"]),
    ] {
        println!("{n}");
        let p = plan(n, &cmd);
        println!("{:?}", go(&rt, &p).await);
        rt.remove(&p.name).await.unwrap();
    }
    let mut p = plan("br", &["true"]);
    p.network = Network::Bridge;
    println!("bridge {:?}", go(&rt, &p).await);
    rt.remove(&p.name).await.unwrap();
    // signals
    let p = plan("sig", &["sh", "-c", "trap '' TERM; sleep 100"]);
    rt.create(&p).await.unwrap();
    rt.create(&p).await.expect("adopted");
    println!("created {:?} {:?}", rt.inspect(&p.name).await, rt.signal(&p.name, Signal::Term).await);
    rt.start(&p.name).await.unwrap();
    rt.start(&p.name).await.unwrap();
    println!("list {:?}", rt.list(&owner()).await);
    println!("{:?}", rt.signal(&p.name, Signal::Term).await);
    tokio::time::sleep(Duration::from_millis(300)).await;
    println!("{:?}", rt.inspect(&p.name).await);
    println!("{:?}", rt.signal(&p.name, Signal::Kill).await);
    rt.wait(&p.name).await.unwrap();
    println!("{:?}", rt.inspect(&p.name).await);
    println!("after {:?}", rt.signal(&p.name, Signal::Kill).await);
    rt.remove(&p.name).await.unwrap();
    rt.remove(&p.name).await.unwrap();
    println!("wait gone {:?}", rt.wait(&p.name).await);
    // pulls
    for image in ["doesnotexist:1", "127.0.0.1:9/x:1", "UPPER"] {
        let (s, _r) = tokio::sync::watch::channel(PullProgress::default());
        println!("{image} {:?}", rt.pull(image, s).await);
        let mut p = plan("img", &["true"]);
        p.image = image.into();
        println!("{:?}", rt.create(&p).await);
    }
    println!("{:?}", rt.images().await);
    // logs
    let clock = Arc::new(TokioClock::new());
    let store = LogStore::new(Arc::new(MemoryDisk::new(clock.clone())), LogLimits::default());
    let cap =
        Capture { runtime: rt.clone(), store: store.clone(), clock, random: Arc::new(SeededRandom::new(1)) };
    let p = plan(
        "logs",
        &[
            "sh",
            "-c",
            "i=0; while [ $i -lt 20000 ]; do echo out$i; i=$((i+1)); done; echo err >&2; echo -n last",
        ],
    );
    rt.create(&p).await.unwrap();
    rt.start(&p.name).await.unwrap();
    let t = Instant::now();
    // interrupted captures: cut short several times
    for _ in 0..20 {
        let _ = tokio::time::timeout(Duration::from_millis(40), cap.run(&attempt("logs"), &p.name)).await;
    }
    cap.run(&attempt("logs"), &p.name).await;
    println!("captured after {:?} {:?}", t.elapsed(), rt.inspect(&p.name).await);
    let mut r = store.reader(&attempt("logs"), 0, false).await.unwrap().unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(b) = r.next().await.unwrap() {
        for (_, l) in b.lines {
            if l.stream == OutputStream::Stdout {
                out.extend_from_slice(&l.bytes)
            } else {
                err.extend_from_slice(&l.bytes)
            }
        }
    }
    let mut want = String::new();
    for i in 0..20000 {
        want += &format!("out{i}\n");
    }
    want += "last";
    println!("equal {} err {:?}", out == want.as_bytes(), String::from_utf8_lossy(&err));
    rt.remove(&p.name).await.unwrap();
    let _ = ExecutorId::trusted("x");
}
