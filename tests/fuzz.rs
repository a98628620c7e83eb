//! Whatever comes in, it is taken or refused, and never more than that: texts that are near what is right,
//! and bytes that are near a message. `PROPTEST_CASES` says how many of each; what once failed is kept
//! beside this file and tried first.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

use berth_api::convert::{
    attempt_end_from_wire, attempt_end_to_wire, attempt_from_wire, capacity_from_wire, duration_ms,
    spec_from_wire, spec_to_wire,
};
use berth_api::v1;
use berth_domain::constraint::Constraint;
use berth_domain::filter::Filter;
use berth_domain::ids::{ExecutorId, JobId, Namespace};
use berth_domain::quantity::{parse_cpus, parse_gpus, parse_memory};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

/// Changes of a text: where, what is done there, and with which byte.
type Edits = Vec<(u16, u8, u8)>;

fn edits() -> impl Strategy<Value = Edits> {
    vec((any::<u16>(), 0..4_u8, any::<u8>()), 0..10)
}

/// Changes bytes here and there.
fn edited(mut bytes: Vec<u8>, edits: &Edits) -> Vec<u8> {
    for (at, act, byte) in edits {
        let at = usize::from(*at) % (bytes.len() + 1);
        match act {
            0 if at < bytes.len() => bytes[at] = *byte,
            1 if at < bytes.len() => {
                bytes.remove(at);
            }
            2 => bytes.extend_from_within(at..),
            _ => bytes.insert(at, *byte),
        }
    }
    bytes.truncate(4_096);
    bytes
}

/// Texts near those of a corpus.
fn texts(corpus: &'static str) -> impl Strategy<Value = String> {
    let lines: Vec<&str> = corpus.lines().collect();
    (prop::sample::select(lines), edits()).prop_map(|(line, edits)| {
        String::from_utf8_lossy(&edited(line.as_bytes().to_vec(), &edits)).into_owned()
    })
}

fn a_spec(image: &str) -> v1::JobSpec {
    v1::JobSpec {
        image: image.to_owned(),
        command: vec!["sh".into(), "-c".into(), "exit 3".into()],
        env: [("A".to_owned(), "b".to_owned())].into(),
        resources: Some(v1::Resources {
            cpu_millis: 500,
            memory_bytes: 64 << 20,
            gpu_count: 1,
            gpu_models: vec!["a100".into()],
        }),
        priority: Some(7),
        run_timeout: Some(berth_api::convert::duration(1_500)),
        labels: [("team".to_owned(), "x".to_owned())].into(),
        on_lost: v1::OnLost::Hold.into(),
        working_dir: "/work".into(),
        namespace: "default".into(),
        network: "none".into(),
        ..v1::JobSpec::default()
    }
}

/// Messages near one: its bytes are changed, and what still decodes is given.
fn messages<M: Message + Default + Clone + std::fmt::Debug + 'static>(
    message: &M,
) -> impl Strategy<Value = M> + use<M> {
    let bytes = message.encode_to_vec();
    edits().prop_filter_map("it does not decode", move |edits| {
        M::decode(edited(bytes.clone(), &edits).as_slice()).ok()
    })
}

fn a_result() -> v1::AttemptResult {
    let reference = v1::JobRef { job_id: "j".into(), attempt: 1, epoch: 7 };
    v1::AttemptResult {
        r#ref: Some(reference),
        exit_code: Some(3),
        message: "m".into(),
        ..Default::default()
    }
}

/// What is taken once is taken again, and is the same.
fn survives(spec: &v1::JobSpec) {
    let Ok(taken) = spec_from_wire(Some(spec), 15_000) else { return };
    let again = spec_from_wire(Some(&spec_to_wire(&taken)), 15_000).expect("it was taken before");
    assert_eq!(again, taken);
}

/// As many cases as `PROPTEST_CASES` says, or 2,000.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_some() {
        config
    } else {
        ProptestConfig { cases: 2_000, ..config }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn filters(text in texts(include_str!("corpus/filter.txt"))) {
        let _ = Filter::parse(&text);
    }

    #[test]
    fn constraints(text in texts(include_str!("corpus/constraint.txt"))) {
        if let Ok(taken) = Constraint::parse(&text) {
            let again = Constraint::parse(&taken.to_string());
            prop_assert_eq!(again.expect("it was taken before"), taken);
        }
    }

    #[test]
    fn amounts_of_memory(text in texts(include_str!("corpus/memory.txt"))) {
        let _ = parse_memory(&text);
    }

    #[test]
    fn amounts_of_cpus(text in texts(include_str!("corpus/cpus.txt"))) {
        let _ = parse_cpus(&text);
    }

    #[test]
    fn amounts_of_gpus(text in texts(include_str!("corpus/gpus.txt"))) {
        let _ = parse_gpus(&text);
    }

    #[test]
    fn ids(text in texts(include_str!("corpus/id.txt"))) {
        for shown in [
            JobId::parse(&text).map(|id| id.to_string()),
            ExecutorId::parse(&text).map(|id| id.to_string()),
            Namespace::parse(&text).map(|id| id.to_string()),
        ] {
            prop_assert!(shown.is_err() || shown.as_deref() == Ok(text.as_str()));
        }
    }

    #[test]
    fn image_references(text in texts(include_str!("corpus/image.txt"))) {
        survives(&a_spec(&text));
        let taken = spec_from_wire(Some(&a_spec(&text)), 0);
        prop_assert!(taken.is_err() || !text.chars().any(char::is_control), "{text:?}");
    }

    #[test]
    fn specs(spec in messages(&a_spec("busybox"))) {
        survives(&spec);
    }

    #[test]
    fn labels_and_environment(
        key in texts(include_str!("corpus/id.txt")),
        value in texts(include_str!("corpus/filter.txt")),
    ) {
        let pair: std::collections::BTreeMap<String, String> = [(key, value)].into();
        survives(&v1::JobSpec { labels: pair.clone(), env: pair, ..a_spec("busybox") });
    }

    #[test]
    fn results_of_attempts(result in messages(&a_result())) {
        if let Ok(end) = attempt_end_from_wire(&result, 0) {
            let again = attempt_end_from_wire(&attempt_end_to_wire(&end), 0).expect("it was taken before");
            prop_assert_eq!(again, end);
        }
        let _ = attempt_from_wire(result.r#ref.as_ref());
    }

    #[test]
    fn capacities(resources in messages(&a_spec("i").resources.unwrap()), id in any::<String>()) {
        let gpu = v1::GpuDevice { id, model: "a100".into(), emulated: true };
        let _ = capacity_from_wire(Some(&resources), &[gpu.clone(), gpu]);
    }

    #[test]
    fn durations(seconds in any::<i64>(), nanos in any::<i32>()) {
        let _ = duration_ms("field", &prost_types::Duration { seconds, nanos });
    }
}
