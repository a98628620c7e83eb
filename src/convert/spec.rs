//! A job's spec: every check a spec has to pass, with a hint for each.

use std::collections::BTreeMap;

use berth_domain::constraint::{Constraint, MAX_CONSTRAINTS};
use berth_domain::ids::Namespace;
use berth_domain::resources::Demand;
use berth_domain::spec::{
    Clocks, DEFAULT_CPU_MILLIS, DEFAULT_MEMORY_BYTES, DEFAULT_PRIORITY, DEFAULT_PULL_TIMEOUT_MS,
    DEFAULT_STOP_GRACE_MS, JobSpec, MAX_ENV_ENTRIES, MAX_LABELS, MAX_SPEC_BYTES, MIN_MEMORY_BYTES, Network,
    OnLost, PullPolicy, Reuse,
};
use prost::Message;

use super::scalar::{duration, duration_ms, signed};
use crate::status::{Problem, Violation};
use crate::v1;

/// The namespace of a job that names none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The labels that only Berth sets.
const RESERVED_LABEL_PREFIX: &str = "berth.";
const MAX_IMAGE_BYTES: usize = 512;
const MAX_TEXT_BYTES: usize = 256;
const MAX_GPUS: i32 = 1_024;
const MAX_RETRIES: i32 = 100;

struct Checks {
    prefix: &'static str,
    violations: Vec<Violation>,
}

impl Checks {
    fn refuse(&mut self, field: &str, description: impl Into<String>) {
        self.violations
            .push(Violation { field: format!("{}{field}", self.prefix), description: description.into() });
    }

    fn clock(&mut self, field: &str, value: Option<&prost_types::Duration>) -> Option<u64> {
        match duration_ms(&format!("{}{field}", self.prefix), value?) {
            Ok(ms) => Some(ms),
            Err(violation) => {
                self.violations.push(violation);
                None
            }
        }
    }
}

/// Checks a spec from outside. `default_queue_timeout_ms` is the cluster's; 0 waits for ever.
///
/// # Errors
/// Lists every field that was refused, with what to write instead.
pub fn spec_from_wire(spec: Option<&v1::JobSpec>, default_queue_timeout_ms: u64) -> Result<JobSpec, Problem> {
    let spec = spec.ok_or_else(|| Problem::field("spec", "must be set; it needs at least an image"))?;
    let mut checks = Checks { prefix: "spec.", violations: Vec::new() };
    let size = spec.encoded_len();
    if size > MAX_SPEC_BYTES {
        // One finding is enough: the fields of an oversized spec are not looked at.
        return Err(Problem::field(
            "spec",
            format!("is {size} bytes; the limit is {MAX_SPEC_BYTES}. Pass large inputs by reference"),
        ));
    }
    check_image(&mut checks, &spec.image);
    check_texts(&mut checks, spec);
    let constraints = constraints(&mut checks, &spec.constraints);
    let demand = Demand { constraints, ..demand(&mut checks, spec.resources.as_ref()) };
    let clocks = clocks(&mut checks, spec, default_queue_timeout_ms);
    let on_lost = on_lost(&mut checks, spec);
    let namespace = namespace(&mut checks, &spec.namespace);
    let (network, pull_policy) = choices(&mut checks, spec);
    let reuse = reuse(&mut checks, spec, on_lost);
    let priority = match spec.priority {
        None => DEFAULT_PRIORITY,
        Some(priority) => u8::try_from(priority).ok().filter(|p| *p <= 100).unwrap_or_else(|| {
            checks.refuse("priority", format!("is {priority}; use 0 to 100, higher first"));
            DEFAULT_PRIORITY
        }),
    };
    if !checks.violations.is_empty() {
        return Err(Problem::Invalid(checks.violations));
    }
    Ok(JobSpec {
        image: spec.image.clone(),
        command: spec.command.clone(),
        env: spec.env.clone(),
        working_dir: spec.working_dir.clone(),
        demand,
        priority,
        clocks,
        max_retries: u32::try_from(spec.max_retries).unwrap_or(0),
        labels: spec.labels.clone(),
        on_lost,
        network,
        pull_policy,
        namespace,
        reuse,
    })
}

fn check_image(checks: &mut Checks, image: &str) {
    if image.is_empty() {
        checks.refuse("image", "must not be empty; for example \"busybox:latest\"");
    } else if image.len() > MAX_IMAGE_BYTES {
        checks.refuse("image", format!("is longer than {MAX_IMAGE_BYTES} bytes"));
    } else if !is_reference(image) {
        checks.refuse(
            "image",
            "is not an image reference; write [REGISTRY/]NAME[:TAG] or NAME@DIGEST, without credentials",
        );
    }
}

/// Says whether a text has the form of an image reference: close enough that nothing in it can mean
/// anything else to an engine.
fn is_reference(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':');
    let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let is_digest = |digest: &str| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty()
                && algorithm.bytes().all(|b| b.is_ascii_alphanumeric())
                && hex.len() >= 32
                && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    };
    starts_well && name.bytes().all(plain) && digest.is_none_or(is_digest)
}

fn check_texts(checks: &mut Checks, spec: &v1::JobSpec) {
    if spec.command.iter().any(|argument| argument.contains('\0')) {
        checks.refuse("command", "must not contain NUL bytes");
    }
    if spec.command.first().is_some_and(|program| program.is_empty()) {
        checks.refuse("command", "must start with a program's name");
    }
    if spec.env.len() > MAX_ENV_ENTRIES {
        checks.refuse("env", format!("has {} entries; the limit is {MAX_ENV_ENTRIES}", spec.env.len()));
    }
    if let Some(name) = spec.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        checks.refuse(
            "env",
            format!("has the name {:?}; a name is not empty and has no '=' or NUL", shorten(name)),
        );
    }
    if let Some((name, _)) = spec.env.iter().find(|(_, value)| value.contains('\0')) {
        checks.refuse("env", format!("has a NUL byte in the value of {:?}", shorten(name)));
    }
    if !spec.working_dir.is_empty() && (!spec.working_dir.starts_with('/') || spec.working_dir.contains('\0'))
    {
        checks.refuse("working_dir", "must be an absolute path inside the container");
    }
    if !(0..=MAX_RETRIES).contains(&spec.max_retries) {
        checks.refuse("max_retries", format!("is {}; use 0 to {MAX_RETRIES}", spec.max_retries));
    }
    check_labels(checks, &spec.labels);
}

fn check_labels(checks: &mut Checks, labels: &BTreeMap<String, String>) {
    if labels.len() > MAX_LABELS {
        checks.refuse("labels", format!("has {} entries; the limit is {MAX_LABELS}", labels.len()));
    }
    for (name, value) in labels {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
        if name.is_empty() || name.len() > MAX_TEXT_BYTES || !name.bytes().all(plain) {
            checks.refuse(
                "labels",
                format!(
                    "has the name {:?}; use 1 to {MAX_TEXT_BYTES} of a-z, A-Z, 0-9, '.', '_', '-' and '/'",
                    shorten(name)
                ),
            );
        } else if name.starts_with(RESERVED_LABEL_PREFIX) {
            checks.refuse(
                "labels",
                format!("has {name:?}; names that start with \"{RESERVED_LABEL_PREFIX}\" are Berth's own"),
            );
        }
        if value.len() > MAX_TEXT_BYTES || value.chars().any(char::is_control) {
            checks.refuse("labels", format!("has a value of {:?} that is longer than {MAX_TEXT_BYTES} bytes or has control characters", shorten(name)));
        }
    }
}

fn demand(checks: &mut Checks, resources: Option<&v1::Resources>) -> Demand {
    let unset = v1::Resources::default();
    let resources = resources.unwrap_or(&unset);
    let amount =
        |checks: &mut Checks, field: &str, value: i64, default: u64, most: u64| match u64::try_from(value) {
            Ok(0) => default,
            Ok(value) if value <= most => value,
            Ok(_) => {
                checks.refuse(field, format!("is {value}; the limit is {most}"));
                default
            }
            Err(_) => {
                checks.refuse(
                    field,
                    format!("is {value}; it must be positive, or left out for the default of {default}"),
                );
                default
            }
        };
    let cpu_millis =
        amount(checks, "resources.cpu_millis", resources.cpu_millis, DEFAULT_CPU_MILLIS, 1_000_000_000);
    let memory_bytes =
        amount(checks, "resources.memory_bytes", resources.memory_bytes, DEFAULT_MEMORY_BYTES, 1 << 52);
    if memory_bytes < MIN_MEMORY_BYTES {
        checks.refuse(
            "resources.memory_bytes",
            format!("is {memory_bytes}; a container needs {MIN_MEMORY_BYTES} (6Mi) at least. Was a unit left out, as in 512m?"),
        );
    }
    if !(0..=MAX_GPUS).contains(&resources.gpu_count) {
        checks.refuse("resources.gpu_count", format!("is {}; use 0 to {MAX_GPUS}", resources.gpu_count));
    }
    let mut gpu_models: Vec<String> =
        resources.gpu_models.iter().map(|model| model.to_ascii_lowercase()).collect();
    gpu_models.sort();
    gpu_models.dedup();
    let plain = |model: &String| {
        !model.is_empty()
            && model.len() <= MAX_TEXT_BYTES
            && model.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    if gpu_models.len() > MAX_LABELS || !gpu_models.iter().all(plain) {
        checks.refuse(
            "resources.gpu_models",
            format!("must be at most {MAX_LABELS} model names such as \"a100\""),
        );
    }
    if !gpu_models.is_empty() && resources.gpu_count == 0 {
        checks.refuse("resources.gpu_models", "is set without gpu_count; say how many GPUs");
    }
    Demand {
        cpu_millis,
        memory_bytes,
        gpu_count: u32::try_from(resources.gpu_count).unwrap_or(0),
        gpu_models,
        constraints: Vec::new(),
    }
}

fn constraints(checks: &mut Checks, texts: &[String]) -> Vec<Constraint> {
    if texts.len() > MAX_CONSTRAINTS {
        checks.refuse("constraints", format!("has {} entries; the limit is {MAX_CONSTRAINTS}", texts.len()));
        return Vec::new();
    }
    let mut constraints = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match Constraint::parse(text) {
            Ok(constraint) => constraints.push(constraint),
            Err(error) => {
                checks.refuse(&format!("constraints[{index}]"), format!("{:?} {error}", shorten(text)));
            }
        }
    }
    constraints.sort();
    constraints.dedup();
    constraints
}

fn clocks(checks: &mut Checks, spec: &v1::JobSpec, default_queue_timeout_ms: u64) -> Clocks {
    let positive = |ms: u64| (ms > 0).then_some(ms);
    let queue = checks.clock("queue_timeout", spec.queue_timeout.as_ref());
    let requeue = checks.clock("requeue_timeout", spec.requeue_timeout.as_ref());
    let run = checks.clock("run_timeout", spec.run_timeout.as_ref());
    let grace = checks.clock("stop_grace", spec.stop_grace.as_ref());
    let pull = checks.clock("pull_timeout", spec.pull_timeout.as_ref());
    Clocks {
        queue_timeout_ms: positive(queue.unwrap_or(default_queue_timeout_ms)),
        requeue_timeout_ms: requeue.and_then(positive),
        run_timeout_ms: run.and_then(positive),
        stop_grace_ms: grace.unwrap_or(DEFAULT_STOP_GRACE_MS),
        pull_timeout_ms: pull.and_then(positive).unwrap_or(DEFAULT_PULL_TIMEOUT_MS),
    }
}

fn on_lost(checks: &mut Checks, spec: &v1::JobSpec) -> OnLost {
    let on_lost = match v1::OnLost::try_from(spec.on_lost) {
        Ok(v1::OnLost::Unspecified | v1::OnLost::Retry) => OnLost::Retry,
        Ok(v1::OnLost::Fail) => OnLost::Fail,
        Ok(v1::OnLost::Hold) => OnLost::Hold,
        Err(_) => {
            checks.refuse("on_lost", format!("is {}; use RETRY, FAIL or HOLD", spec.on_lost));
            OnLost::Retry
        }
    };
    if on_lost == OnLost::Fail && spec.max_retries > 0 {
        checks.refuse("max_retries", "must be 0 with on_lost FAIL, which promises at most one start");
    }
    on_lost
}

fn namespace(checks: &mut Checks, name: &str) -> Namespace {
    let name = if name.is_empty() { DEFAULT_NAMESPACE } else { name };
    Namespace::parse(name).unwrap_or_else(|error| {
        checks.refuse("namespace", error.to_string());
        Namespace::trusted(DEFAULT_NAMESPACE)
    })
}

fn choices(checks: &mut Checks, spec: &v1::JobSpec) -> (Network, PullPolicy) {
    let network = match spec.network.as_str() {
        "" | "bridge" => Network::Bridge,
        "none" => Network::None,
        other => {
            checks.refuse("network", format!("is {:?}; use \"bridge\" or \"none\"", shorten(other)));
            Network::Bridge
        }
    };
    let pull_policy = match spec.pull_policy.as_str() {
        "" | "missing" => PullPolicy::Missing,
        "never" => PullPolicy::Never,
        other => {
            checks.refuse("pull_policy", format!("is {:?}; use \"missing\" or \"never\"", shorten(other)));
            PullPolicy::Missing
        }
    };
    (network, pull_policy)
}

fn reuse(checks: &mut Checks, spec: &v1::JobSpec, on_lost: OnLost) -> Reuse {
    match spec.reuse.as_str() {
        "" | "none" => return Reuse::None,
        "warm" => {}
        other => {
            checks.refuse("reuse", format!("is {:?}; use \"none\" or \"warm\"", shorten(other)));
            return Reuse::None;
        }
    }
    if on_lost != OnLost::Retry {
        let text = "\"warm\" needs on_lost RETRY: what ran in a container that ends under it runs again";
        checks.refuse("reuse", text);
    }
    if spec.command.is_empty() {
        checks.refuse("reuse", "\"warm\" needs a command: write out the image's own, which runs only once");
    }
    if spec.resources.as_ref().is_some_and(|resources| resources.gpu_count > 0) {
        checks.refuse("reuse", "\"warm\" needs a gpu_count of 0; use \"none\" for jobs with GPUs");
    }
    Reuse::Warm
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Shows a spec on the wire, with every default filled in.
pub fn spec_to_wire(spec: &JobSpec) -> v1::JobSpec {
    v1::JobSpec {
        image: spec.image.clone(),
        command: spec.command.clone(),
        env: spec.env.clone(),
        resources: Some(v1::Resources {
            cpu_millis: signed(spec.demand.cpu_millis),
            memory_bytes: signed(spec.demand.memory_bytes),
            gpu_count: i32::try_from(spec.demand.gpu_count).unwrap_or(i32::MAX),
            gpu_models: spec.demand.gpu_models.clone(),
        }),
        priority: Some(i32::from(spec.priority)),
        run_timeout: spec.clocks.run_timeout_ms.map(duration),
        // Waiting for ever is 0 on the wire; unset would read as the cluster's default.
        queue_timeout: Some(duration(spec.clocks.queue_timeout_ms.unwrap_or(0))),
        max_retries: i32::try_from(spec.max_retries).unwrap_or(i32::MAX),
        labels: spec.labels.clone(),
        on_lost: i32::from(match spec.on_lost {
            OnLost::Retry => v1::OnLost::Retry,
            OnLost::Fail => v1::OnLost::Fail,
            OnLost::Hold => v1::OnLost::Hold,
        }),
        stop_grace: Some(duration(spec.clocks.stop_grace_ms)),
        pull_timeout: Some(duration(spec.clocks.pull_timeout_ms)),
        requeue_timeout: spec.clocks.requeue_timeout_ms.map(duration),
        working_dir: spec.working_dir.clone(),
        namespace: spec.namespace.to_string(),
        constraints: spec.demand.constraints.iter().map(ToString::to_string).collect(),
        network: match spec.network {
            Network::Bridge => "bridge".to_owned(),
            Network::None => "none".to_owned(),
        },
        pull_policy: match spec.pull_policy {
            PullPolicy::Missing => "missing".to_owned(),
            PullPolicy::Never => "never".to_owned(),
        },
        reuse: match spec.reuse {
            Reuse::None => "none".to_owned(),
            Reuse::Warm => "warm".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> v1::JobSpec {
        v1::JobSpec { image: "busybox".into(), ..v1::JobSpec::default() }
    }

    fn refused(spec: &v1::JobSpec) -> Vec<String> {
        match spec_from_wire(Some(spec), 15_000) {
            Err(Problem::Invalid(violations)) => violations.into_iter().map(|v| v.field).collect(),
            Err(other) => panic!("{other}"),
            Ok(_) => Vec::new(),
        }
    }

    #[test]
    fn a_spec_that_says_nothing_gets_the_documented_defaults() {
        let spec = spec_from_wire(Some(&minimal()), 15_000).expect("it is valid");
        assert_eq!((spec.demand.cpu_millis, spec.demand.memory_bytes), (1_000, 256 << 20));
        assert_eq!(spec.clocks.queue_timeout_ms, Some(15_000));
        assert_eq!(spec.clocks.stop_grace_ms, 10_000);
    }

    #[test]
    fn what_was_checked_reads_back_the_same() {
        let spec = spec_from_wire(Some(&minimal()), 0).expect("it is valid");
        assert_eq!(spec_from_wire(Some(&spec_to_wire(&spec)), 15_000), Ok(spec));
    }

    #[test]
    fn every_refused_field_is_listed() {
        let bad = v1::JobSpec {
            image: String::new(),
            resources: Some(v1::Resources { cpu_millis: -1, gpu_count: -1, ..v1::Resources::default() }),
            priority: Some(101),
            on_lost: 9,
            network: "host".into(),
            run_timeout: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
            labels: [("berth.job".to_owned(), "x".to_owned())].into(),
            ..v1::JobSpec::default()
        };
        let expected = [
            "spec.image",
            "spec.labels",
            "spec.resources.cpu_millis",
            "spec.resources.gpu_count",
            "spec.run_timeout",
            "spec.on_lost",
            "spec.network",
            "spec.priority",
        ];
        assert_eq!(refused(&bad), expected);
    }

    #[test]
    fn oversized_and_crowded_specs_are_refused() {
        let large = v1::JobSpec { command: vec!["x".repeat(MAX_SPEC_BYTES)], ..minimal() };
        assert_eq!(refused(&large), ["spec"]);
        let env = (0..10_000).map(|i| (format!("E{i}"), String::new())).collect();
        assert_eq!(refused(&v1::JobSpec { env, ..minimal() }), ["spec.env"]);
    }

    #[test]
    fn an_image_is_a_reference_without_credentials() {
        let digest = format!("host:5000/a/b@sha256:{}", "0a".repeat(32));
        for good in ["busybox", "busybox:1.35", "127.0.0.1:5000/a/b:c", &digest] {
            let spec = v1::JobSpec { image: good.into(), ..v1::JobSpec::default() };
            assert_eq!(refused(&spec), [] as [&str; 0], "{good}");
        }
        for bad in ["-v", "a b", "user:secret@host/x", "a@sha256:xyz", "http://a/b?c", "é"] {
            let spec = v1::JobSpec { image: bad.into(), ..v1::JobSpec::default() };
            assert_eq!(refused(&spec), ["spec.image"], "{bad}");
        }
    }

    #[test]
    fn constraints_are_read_and_each_wrong_one_is_named() {
        let with = |texts: &[&str]| v1::JobSpec {
            constraints: texts.iter().map(|text| (*text).to_owned()).collect(),
            ..minimal()
        };
        let spec = spec_from_wire(Some(&with(&["zone == b", "!spot", "zone=b"])), 0).expect("it is valid");
        assert_eq!(spec_to_wire(&spec).constraints, ["!spot", "zone=b"]);
        assert_eq!(
            refused(&with(&["zone=a", "zone>a", "a b"])),
            ["spec.constraints[1]", "spec.constraints[2]"]
        );
        assert_eq!(refused(&with(&["a"; 17])), ["spec.constraints"]);
    }

    #[test]
    fn a_container_is_reused_only_by_jobs_that_can_run_twice_and_name_their_command() {
        let warm = || v1::JobSpec { command: vec!["true".into()], reuse: "warm".into(), ..minimal() };
        let spec = spec_from_wire(Some(&warm()), 0).expect("it is valid");
        assert_eq!((spec.reuse, spec_to_wire(&spec).reuse.as_str()), (Reuse::Warm, "warm"));
        let plain = spec_from_wire(Some(&minimal()), 0).expect("it is valid");
        assert_eq!((plain.reuse, spec_to_wire(&plain).reuse.as_str()), (Reuse::None, "none"));
        let resources = Some(v1::Resources { gpu_count: 1, ..v1::Resources::default() });
        for bad in [
            v1::JobSpec { reuse: "hot".into(), ..minimal() },
            v1::JobSpec { on_lost: i32::from(v1::OnLost::Fail), ..warm() },
            v1::JobSpec { on_lost: i32::from(v1::OnLost::Hold), ..warm() },
            v1::JobSpec { command: Vec::new(), ..warm() },
            v1::JobSpec { resources, ..warm() },
        ] {
            assert_eq!(refused(&bad), ["spec.reuse"]);
        }
    }

    #[test]
    fn at_most_once_jobs_have_no_retries() {
        let spec = v1::JobSpec { on_lost: i32::from(v1::OnLost::Fail), max_retries: 1, ..minimal() };
        assert_eq!(refused(&spec), ["spec.max_retries"]);
    }
}
