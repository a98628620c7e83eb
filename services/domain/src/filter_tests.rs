//! Promises of the filter language.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ids::{JobId, Namespace};
use crate::resources::Demand;
use crate::spec::{Clocks, Network, OnLost, PullPolicy, Reuse};

fn spec() -> JobSpec {
    JobSpec {
        image: "busybox".into(),
        command: vec![],
        env: BTreeMap::new(),
        working_dir: String::new(),
        demand: Demand { cpu_millis: 1, memory_bytes: 1, ..Demand::default() },
        priority: 50,
        clocks: Clocks::default(),
        max_retries: 0,
        labels: [("team".to_owned(), "ml".to_owned())].into(),
        on_lost: OnLost::Retry,
        network: Network::Bridge,
        pull_policy: PullPolicy::Missing,
        reuse: Reuse::None,
        namespace: Namespace::trusted("default"),
    }
}

fn matches(filter: &str) -> bool {
    let job = Job::new(JobId::trusted("j1"), "train".into(), &spec(), 0);
    Filter::parse(filter).expect("it is a filter").matches(&job, Some(&spec()))
}

#[test]
fn conditions_hold_as_written() {
    for yes in [
        "",
        "state = PENDING",
        "state=pending",
        "state = JOB_STATE_PENDING",
        "state != RUNNING",
        "label.team = ml AND name = \"train\"",
        "NOT label.team = x",
        "priority > 40 AND priority <= 50",
        "state = RUNNING OR state = PENDING",
        "(state = RUNNING OR id = j1) AND NOT priority < 50",
        "label.absent != x",
        "state = RUNNING AND id = j2 OR id = j1",
    ] {
        assert!(matches(yes), "{yes}");
    }
    for no in
        ["state = RUNNING", "label.team = x", "label.absent = x", "exit_code = 0", "id = j1 AND (id = j2)"]
    {
        assert!(!matches(no), "{no}");
    }
}

#[test]
fn a_wrong_filter_says_what_and_where() {
    for (filter, message) in [
        ("stat = x", format!("\"stat\" is no field; fields are {FIELDS} at character 1")),
        ("state = bogus", "\"bogus\" is no state; states are PENDING, ASSIGNED, RUNNING, SUCCEEDED, FAILED, ABORTED at character 9".into()),
        ("state =", "expected a value, not the end at character 8".into()),
        ("(state = RUNNING", "expected \")\", not the end at character 17".into()),
        ("id = \"x", "the text has no closing quote at character 6".into()),
        ("id = a b", "expected AND, OR or the end, not \"b\" at character 8".into()),
    ] {
        assert_eq!(Filter::parse(filter).expect_err("must be refused").to_string(), message);
    }
    assert!(Filter::parse(&"(".repeat(4_000)).is_err(), "nesting is bounded");
    assert!(Filter::parse(&"NOT ".repeat(1_000)).is_err(), "nesting is bounded");
}

#[test]
fn a_filter_for_one_job_names_it() {
    assert_eq!(Filter::parse("id = \"a\" AND state = RUNNING").expect("parses").only_id(), Some("a"));
    assert_eq!(Filter::parse("id = a OR id = b").expect("parses").only_id(), None);
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in "[a-z =!<>()\"\\\\.ANDORT]{0,60}") {
        let _ = Filter::parse(&text);
    }
}
