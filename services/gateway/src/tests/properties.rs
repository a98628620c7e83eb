//! Whatever is sent, the gateway answers, and never with a fault of its own.

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::Rest;
use crate::json::{decode, from_json, parse, parse_submit, render, to_json};

const NAMES: &[&str] = &[
    "spec",
    "image",
    "command",
    "env",
    "resources",
    "cpus",
    "memory",
    "gpus",
    "cpu_millis",
    "memoryBytes",
    "gpuCount",
    "gpu_models",
    "runTimeout",
    "name",
    "display_name",
    "requestId",
    "labels",
    "onLost",
    "priority",
    "type",
    "count",
    "requests",
];

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        prop_oneof![".{0,12}", "[0-9.]{1,8}[a-zA-Z]{0,3}", Just("all".to_owned())].prop_map(Json::from),
    ];
    let name = prop_oneof![4 => prop::sample::select(NAMES).prop_map(str::to_owned), 1 => ".{0,8}"];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|entries| Json::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// As many cases as `PROPTEST_CASES` says, or as many as are given.
fn cases(usual: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_some() {
        config
    } else {
        ProptestConfig { cases: usual, ..config }
    }
}

/// Texts near requests that people write.
fn near_requests() -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<&str> = include_str!("corpus/submit.jsonl").lines().collect();
    let edits = prop::collection::vec((any::<u16>(), 0..3_u8, any::<u8>()), 0..6);
    (prop::sample::select(lines), edits).prop_map(|(line, edits)| {
        let mut bytes = line.as_bytes().to_vec();
        for (at, act, byte) in edits {
            let at = usize::from(at) % (bytes.len() + 1);
            match act {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => {
                    bytes.remove(at);
                }
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn requests_near_those_that_people_write_are_taken_or_refused(bytes in near_requests()) {
        if let Ok(Ok(request)) = parse(&bytes).map(parse_submit) {
            let shown = render("berth.v1.SubmitJobRequest", &request);
            prop_assert!(shown.is_object(), "{shown}");
        }
    }

    #[test]
    fn no_json_breaks_the_reader_and_what_was_read_reads_back(value in any_json()) {
        if let Ok(request) = parse_submit(value.clone()) {
            let shown = render("berth.v1.SubmitJobRequest", &request);
            // An amount that was left out is shown as 0, which may not be written.
            let resources = request.spec.as_ref().and_then(|spec| spec.resources.as_ref());
            if resources.is_none_or(|r| r.cpu_millis != 0 && r.memory_bytes != 0) {
                prop_assert_eq!(parse_submit(shown), Ok(request));
            }
        }
        for name in ["berth.v1.BatchSubmitJobsRequest", "berth.v1.ExplainJobRequest", "berth.v1.Job"] {
            let _ = from_json(name, value.clone());
        }
    }

    #[test]
    fn no_bytes_break_the_parser_or_the_printer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
        for name in ["berth.v1.Job", "berth.v1.LogEntry", "google.rpc.Status", "berth.v1.Stats"] {
            if let Ok(message) = decode(name, &bytes) {
                let _ = to_json(&message).to_string();
            }
        }
    }

    #[test]
    fn a_strict_parser_reads_what_serde_writes(value in any_json()) {
        let text = value.to_string();
        prop_assert_eq!(parse(text.as_bytes()), Ok(serde_json::from_str::<Json>(&text).expect("it is JSON")));
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn no_request_gets_a_fault(
        verb in prop::sample::select(vec!["GET", "POST", "PUT", "HEAD", "OPTIONS"]),
        path in prop_oneof![
            "/[a-z0-9:%/._-]{0,20}",
            "/v1/jobs/[a-z0-9:%]{1,8}(:wait|:abort|:explain|/logs)",
            Just("/jobs".to_owned()),
        ],
        query in "[a-zA-Z_=&%.0-9+]{0,40}",
        body in any_json(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
        let answer = runtime.block_on(Rest::new().ask(verb, &format!("{path}?{query}"), &[], body.to_string()));
        prop_assert!(answer.status != 500, "{}", answer.body);
    }
}

#[test]
fn an_unknown_message_is_an_error_and_no_panic() {
    assert!(from_json("berth.v1.Nothing", json!({})).is_err());
    assert_eq!(render("berth.v1.Nothing", &())["error"]["code"], 500);
}
