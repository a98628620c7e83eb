//! Promises of a spec's name.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::constraint::Constraint;

fn spec() -> JobSpec {
    JobSpec {
        image: "busybox".into(),
        command: vec!["a".into(), "b".into()],
        env: BTreeMap::new(),
        working_dir: String::new(),
        demand: Demand { cpu_millis: 1, memory_bytes: 1, ..Demand::default() },
        priority: 50,
        clocks: Clocks::default(),
        max_retries: 0,
        labels: BTreeMap::new(),
        on_lost: OnLost::Retry,
        network: Network::Bridge,
        pull_policy: PullPolicy::Missing,
        namespace: Namespace::trusted("default"),
        reuse: Reuse::None,
    }
}

type Change = fn(&mut JobSpec);

#[test]
fn every_part_of_a_spec_is_in_its_name() {
    let changes: &[Change] = &[
        |_| (),
        |spec| spec.image.push('x'),
        |spec| spec.command.truncate(1),
        |spec| spec.command = vec!["ab".into()],
        |spec| spec.command = vec![String::new(), "ab".into()],
        |spec| drop(spec.env.insert("a".into(), "b".into())),
        |spec| spec.working_dir.push('/'),
        |spec| spec.demand.cpu_millis += 1,
        |spec| spec.demand.memory_bytes += 1,
        |spec| spec.demand.gpu_count += 1,
        |spec| spec.demand.gpu_models.push("t4".into()),
        |spec| spec.demand.constraints.push(Constraint::parse("zone=a").expect("it is one")),
        |spec| spec.priority += 1,
        |spec| spec.clocks.queue_timeout_ms = Some(0),
        |spec| spec.clocks.requeue_timeout_ms = Some(0),
        |spec| spec.clocks.run_timeout_ms = Some(0),
        |spec| spec.clocks.stop_grace_ms += 1,
        |spec| spec.clocks.pull_timeout_ms += 1,
        |spec| spec.max_retries += 1,
        |spec| drop(spec.labels.insert("a".into(), "b".into())),
        |spec| spec.on_lost = OnLost::Hold,
        |spec| spec.network = Network::None,
        |spec| spec.pull_policy = PullPolicy::Never,
        |spec| spec.namespace = Namespace::trusted("other"),
        |spec| spec.reuse = Reuse::Warm,
    ];
    let name = |change: &Change| {
        let mut spec = spec();
        change(&mut spec);
        spec.content_hash().to_string()
    };
    let names: BTreeSet<String> = changes.iter().map(name).collect();
    assert_eq!(names.len(), changes.len(), "no two are alike");
    assert!(changes.iter().all(|change| names.contains(&name(change))), "the same spec has the same name");
}
