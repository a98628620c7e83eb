//! Jobs as people read them: rows of a list, and one job in full.

use std::collections::BTreeMap;

use berth_api::v1::{Job, JobSpec, JobState, Resources};
use berth_domain::quantity::{show_cpus, show_memory};
use jiff::Timestamp;

use super::age::{between, instant, since, wire};
use super::{fields, names, table};
use crate::client::has_ended;

/// Lays out jobs, one line each.
pub fn list(jobs: &[Job], wide: bool, now: Timestamp) -> String {
    let mut header = vec!["ID", "NAME", "STATE", "EXIT", "EXECUTOR", "AGE", "RAN", "WHY"];
    if wide {
        header.extend([
            "IMAGE",
            "COMMAND",
            "CPUS",
            "MEMORY",
            "GPUS",
            "ATTEMPT",
            "PRIORITY",
            "LABELS",
            "NAMESPACE",
        ]);
    }
    let rows: Vec<Vec<String>> = jobs.iter().map(|job| row(job, wide, now)).collect();
    table(&header, &rows)
}

fn row(job: &Job, wide: bool, now: Timestamp) -> Vec<String> {
    let mut row = vec![
        job.id.clone(),
        or_dash(&job.display_name),
        names::state(job).to_owned(),
        job.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
        or_dash(&job.executor_id),
        since(instant(job.create_time.as_ref()), now),
        or_dash(&ran(job, now)),
        why(job),
    ];
    if wide {
        let spec = job.spec.clone().unwrap_or_default();
        let resources = spec.resources.clone().unwrap_or_default();
        row.extend([
            or_dash(&spec.image),
            or_dash(&shorten(&command(&spec), 60)),
            or_dash(&cpus(&resources)),
            or_dash(&memory(&resources)),
            resources.gpu_count.to_string(),
            job.attempt.to_string(),
            spec.priority.map_or_else(|| "-".to_owned(), |priority| priority.to_string()),
            or_dash(&pairs(&spec.labels)),
            or_dash(&job.namespace),
        ]);
    }
    row
}

/// Lays out all that is known of a job, one line a fact.
pub fn detail(job: &Job, now: Timestamp) -> String {
    let spec = job.spec.clone().unwrap_or_default();
    let resources = spec.resources.clone().unwrap_or_default();
    let state = match names::phase(job) {
        "" => names::state(job).to_owned(),
        phase => format!("{} ({phase})", names::state(job)),
    };
    let notes = [
        (job.unreachable, "its executor is out of touch; the state is the last known one"),
        (job.abort_requested && !has_ended(job), "it is being aborted"),
        (job.stop_unconfirmed, "nobody saw its container stop"),
    ];
    let notes: Vec<&str> = notes.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| note).collect();
    let gpus = match (resources.gpu_count, resources.gpu_models.join(",")) {
        (0, _) => String::new(),
        (count, models) => format!("{count} {models}").trim_end().to_owned(),
    };
    let attempt = if job.attempt == 0 { String::new() } else { job.attempt.to_string() };
    fields(&[
        ("Id", job.id.clone()),
        ("Name", job.display_name.clone()),
        ("Namespace", job.namespace.clone()),
        ("State", state),
        ("Why", why(job)),
        ("Note", notes.join("; ")),
        ("Exit code", job.exit_code.map(|code| code.to_string()).unwrap_or_default()),
        ("Executor", job.executor_id.clone()),
        ("Attempt", attempt),
        ("Submitted", moment(job.create_time.as_ref(), now)),
        ("Started", moment(job.start_time.as_ref(), now)),
        ("Ended", moment(job.end_time.as_ref(), now)),
        ("Ran", ran(job, now)),
        ("Image", spec.image.clone()),
        ("Command", command(&spec)),
        ("Directory", spec.working_dir.clone()),
        ("CPUs", cpus(&resources)),
        ("Memory", memory(&resources)),
        ("GPUs", gpus),
        ("Constraints", spec.constraints.join(", ")),
        ("GPU devices", job.gpu_device_ids.join(", ")),
        ("Priority", spec.priority.map(|priority| priority.to_string()).unwrap_or_default()),
        ("Run timeout", wire(spec.run_timeout.as_ref())),
        ("Queue timeout", wire(spec.queue_timeout.as_ref())),
        ("Labels", pairs(&spec.labels)),
        ("Environment", spec.env.keys().cloned().collect::<Vec<_>>().join(", ")),
        ("Retry of", job.retry_of.clone()),
    ])
}

/// Says why a job waits, or how it ended.
pub fn why(job: &Job) -> String {
    match job.state() {
        JobState::Pending => {
            let reason = job.pending_reason.as_ref().map(|reason| reason.message.clone());
            reason.filter(|message| !message.is_empty()).unwrap_or_else(|| job.message.clone())
        }
        JobState::Succeeded => job.message.clone(),
        JobState::Failed | JobState::Aborted if job.message.is_empty() => names::end_reason(job).to_owned(),
        JobState::Failed | JobState::Aborted => format!("{}: {}", names::end_reason(job), job.message),
        JobState::Assigned if job.unreachable => "out of touch".to_owned(),
        JobState::Running if job.unreachable => "out of touch".to_owned(),
        JobState::Assigned => names::phase(job).to_ascii_lowercase(),
        JobState::Running if job.abort_requested => "being aborted".to_owned(),
        JobState::Running | JobState::Unspecified => String::new(),
    }
}

/// Says how long the job's current or last attempt has run; empty when it has not started.
fn ran(job: &Job, now: Timestamp) -> String {
    match (instant(job.start_time.as_ref()), job.state()) {
        (None, _) | (_, JobState::Pending | JobState::Assigned) => String::new(),
        (Some(start), _) => between(start, instant(job.end_time.as_ref()).unwrap_or(now)),
    }
}

fn moment(time: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    let words = |then: Timestamp| format!("{then:.0} ({} ago)", between(then, now));
    instant(time).map(words).unwrap_or_default()
}

fn command(spec: &JobSpec) -> String {
    let quoted = |argument: &String| {
        let bare = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
        if !argument.is_empty() && argument.chars().all(bare) {
            argument.clone()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    spec.command.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn cpus(resources: &Resources) -> String {
    positive(resources.cpu_millis).map(show_cpus).unwrap_or_default()
}

fn memory(resources: &Resources) -> String {
    positive(resources.memory_bytes).map(show_memory).unwrap_or_default()
}

fn positive(amount: i64) -> Option<u64> {
    u64::try_from(amount).ok().filter(|amount| *amount > 0)
}

fn pairs(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn shorten(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest.saturating_sub(3)).chain("...".chars()).collect()
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
