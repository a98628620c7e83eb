//! Why jobs wait, as people read it.

use berth_api::v1::explain_job_response::Verdict;
use berth_api::v1::pending_reason::Code;
use berth_api::v1::{ExplainJobResponse, Job, JobState};

use super::{fields, names, table};
use crate::client::has_ended;

/// Lays out why a job waits, or what would become of it were it submitted again.
pub fn of_job(job: &Job, answer: &ExplainJobResponse) -> String {
    let outcome = match (job.state(), has_ended(job)) {
        (_, true) => ("Again", outcome(answer)),
        (JobState::Pending, false) if answer.reason.is_none() => ("Next", outcome(answer)),
        (JobState::Pending, false) => ("Why", message(answer)),
        (_, false) => ("Executor", answer.executor_id.clone()),
    };
    let about = fields(&[
        ("Id", job.id.clone()),
        ("Name", job.display_name.clone()),
        ("State", names::state(job).to_owned()),
        ("End", if has_ended(job) { super::jobs::why(job) } else { String::new() }),
        outcome,
        ("Queue position", position(answer)),
    ]);
    about + &executors(answer)
}

/// Lays out what would become of a job.
pub fn of_spec(answer: &ExplainJobResponse) -> String {
    let about = fields(&[("Outcome", outcome(answer)), ("Queue position", position(answer))]);
    about + &executors(answer)
}

/// Lays out what would become of jobs, one line each.
pub fn of_list(answers: &[ExplainJobResponse], wide: bool) -> String {
    let mut header = vec!["JOB", "OUTCOME"];
    if wide {
        header.extend(["FIT NOW", "FIT EMPTY", "EXECUTORS"]);
    }
    let count = |answer: &ExplainJobResponse, fits: fn(&Verdict) -> bool| {
        answer.verdicts.iter().filter(|verdict| fits(verdict)).count().to_string()
    };
    let row = |(index, answer): (usize, &ExplainJobResponse)| {
        let mut row = vec![format!("[{index}]"), outcome(answer)];
        if wide {
            row.push(count(answer, |verdict| verdict.fits_now));
            row.push(count(answer, |verdict| verdict.fits_empty));
            row.push(count(answer, |_| true));
        }
        row
    };
    table(&header, &answers.iter().enumerate().map(row).collect::<Vec<_>>())
}

fn outcome(answer: &ExplainJobResponse) -> String {
    match answer.reason.as_ref().map(|reason| reason.code()) {
        None => format!("starts now on {}", answer.executor_id),
        Some(Code::TooLarge | Code::Constraints) => format!("never fits: {}", message(answer)),
        Some(_) => format!("waits: {}", message(answer)),
    }
}

fn message(answer: &ExplainJobResponse) -> String {
    answer.reason.as_ref().map(|reason| reason.message.clone()).unwrap_or_default()
}

fn position(answer: &ExplainJobResponse) -> String {
    let position = answer.reason.as_ref().map(|reason| reason.queue_position).filter(|at| *at > 0);
    position.map(|at| at.to_string()).unwrap_or_default()
}

/// Lays out what each executor says, those that suit best first.
fn executors(answer: &ExplainJobResponse) -> String {
    if answer.verdicts.is_empty() {
        return String::new();
    }
    let mut verdicts: Vec<&Verdict> = answer.verdicts.iter().collect();
    verdicts.sort_by_key(|verdict| (!verdict.fits_now, !verdict.fits_empty));
    let yes_no = |holds: bool| if holds { "yes" } else { "no" }.to_owned();
    let row = |verdict: &&Verdict| {
        let why = if verdict.message.is_empty() { "-".to_owned() } else { verdict.message.clone() };
        vec![verdict.executor_id.clone(), yes_no(verdict.fits_now), yes_no(verdict.fits_empty), why]
    };
    let rows: Vec<Vec<String>> = verdicts.iter().map(row).collect();
    format!("\n{}", table(&["EXECUTOR", "FITS NOW", "FITS EMPTY", "WHY"], &rows))
}
