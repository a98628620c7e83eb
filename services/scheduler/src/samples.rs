//! What tests of this crate begin with.

use std::collections::BTreeMap;

use berth_domain::ids::Namespace;
use berth_domain::resources::Demand;
use berth_domain::spec::{Clocks, JobSpec, Network, OnLost, PullPolicy, Reuse};

/// A small job that may be tried again and waits for ever.
pub fn spec() -> JobSpec {
    JobSpec {
        image: "image".into(),
        command: vec![],
        env: BTreeMap::new(),
        working_dir: String::new(),
        demand: Demand { cpu_millis: 100, memory_bytes: 10, ..Demand::default() },
        priority: 50,
        clocks: Clocks::default(),
        max_retries: 0,
        labels: BTreeMap::new(),
        on_lost: OnLost::Retry,
        network: Network::Bridge,
        pull_policy: PullPolicy::Missing,
        reuse: Reuse::None,
        namespace: Namespace::trusted("default"),
    }
}
