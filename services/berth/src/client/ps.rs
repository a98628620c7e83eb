//! `berth ps`: lists jobs. Unless told otherwise, those that are active and those that ended within the last
//! hour; how many are hidden is said on stderr.

use std::ops::ControlFlow;

use berth_api::v1::{GetStatsRequest, Job, Stats};
use jiff::{SignedDuration, Timestamp};

use super::connection::{CallError, Connection, cluster};
use super::listing::{LARGEST_PAGE, all_of, quoted, visit_jobs};
use super::outcome::has_ended;
use crate::output::{self, Format, Forms, age, json};
use crate::values;

/// What counts as recent.
const RECENT: SignedDuration = SignedDuration::from_hours(1);
/// After this many jobs in a row that ended before that, older ones are not looked at: jobs come in the order
/// of their submission, and a list must not read a million of them for one that ran long.
const ENOUGH_OLD_JOBS: usize = 2_000;
const ACTIVE: &str = "state = PENDING OR state = ASSIGNED OR state = RUNNING";
const ENDED: &str = "state = SUCCEEDED OR state = FAILED OR state = ABORTED";

/// Which jobs to list, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// All jobs, also those that ended long ago
    #[arg(short, long)]
    all: bool,
    /// Jobs with this label
    #[arg(short, long, value_parser = values::key_value, value_name = "KEY=VALUE")]
    label: Vec<(String, String)>,
    /// Jobs in this state; may be given several times
    #[arg(long, value_parser = values::state, value_name = "STATE")]
    state: Vec<&'static str>,
    /// Jobs that meet a condition, such as 'priority > 50 AND NOT image = "busybox"'
    #[arg(long, value_name = "CONDITION")]
    filter: Option<String>,
    /// Jobs of this tenant
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Args {
    fn conditions(&self) -> Vec<String> {
        let mut conditions: Vec<String> =
            self.label.iter().map(|(key, value)| format!("label.{key} = {}", quoted(value))).collect();
        if !self.state.is_empty() {
            let states: Vec<String> = self.state.iter().map(|state| format!("state = {state}")).collect();
            conditions.push(states.join(" OR "));
        }
        conditions.extend(self.namespace.iter().map(|name| format!("namespace = {}", quoted(name))));
        conditions.extend(self.filter.clone());
        conditions
    }
}

/// Lists jobs, the latest submitted first.
///
/// # Errors
/// Fails as the calls and the output do.
pub async fn execute(connection: &Connection, args: Args) -> anyhow::Result<u8> {
    let conditions = args.conditions();
    if args.all {
        list_all(connection, &all_of(&conditions), args.output).await?;
        return Ok(0);
    }
    let (jobs, hidden) = recent(connection, &conditions).await?;
    print_jobs(&jobs, args.output)?;
    if let Some(sentence) = hidden.sentence() {
        output::note(sentence);
    }
    Ok(0)
}

async fn list_all(connection: &Connection, filter: &str, format: Format) -> anyhow::Result<()> {
    let by_line = matches!(format, Format::Name | Format::Jsonl);
    let mut jobs = Vec::new();
    let mut printed = Ok(());
    visit_jobs(connection, filter, LARGEST_PAGE, |page| {
        if !by_line {
            jobs.extend(page);
            return ControlFlow::Continue(());
        }
        // Lines need no whole: a million jobs are printed page by page.
        printed = print_jobs(&page, format);
        if printed.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .await?;
    printed?;
    if by_line { Ok(()) } else { print_jobs(&jobs, format) }
}

/// How many jobs a list leaves out.
#[derive(Debug, PartialEq, Eq)]
struct Hidden {
    count: usize,
    /// True when there may be more.
    at_least: bool,
}

impl Hidden {
    fn sentence(&self) -> Option<String> {
        let more = if self.at_least { "at least " } else { "" };
        match self.count {
            0 => None,
            1 => Some(format!("{more}1 older job is hidden; -a shows all")),
            count => Some(format!("{more}{count} older jobs are hidden; -a shows all")),
        }
    }
}

async fn recent(connection: &Connection, conditions: &[String]) -> Result<(Vec<Job>, Hidden), CallError> {
    let with = |condition: &str| all_of(&[conditions, &[condition.to_owned()]].concat());
    let mut shown = Vec::new();
    visit_jobs(connection, &with(ACTIVE), LARGEST_PAGE, |page| {
        shown.extend(page);
        ControlFlow::Continue(())
    })
    .await?;
    let cut = age::now().saturating_sub(RECENT).unwrap_or(Timestamp::MIN);
    let mut hidden = Hidden { count: 0, at_least: false };
    let mut old_in_a_row = 0;
    visit_jobs(connection, &with(ENDED), LARGEST_PAGE, |page| {
        for job in page {
            if ended_after(&job, cut) {
                old_in_a_row = 0;
                shown.push(job);
            } else {
                old_in_a_row += 1;
                hidden.count += 1;
            }
        }
        hidden.at_least = old_in_a_row >= ENOUGH_OLD_JOBS;
        if hidden.at_least { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .await?;
    if hidden.at_least && conditions.is_empty() {
        hidden = count_hidden(connection, &shown).await?;
    }
    // A job that ended between the two lists is in both; the first of the two is its newer revision.
    shown.sort_by(newest_first);
    shown.dedup_by(|next, kept| next.id == kept.id);
    Ok((shown, hidden))
}

fn newest_first(a: &Job, b: &Job) -> std::cmp::Ordering {
    let key = |job: &Job| {
        let created = job.create_time.unwrap_or_default();
        (created.seconds, created.nanos, job.id.clone(), job.generation, job.revision)
    };
    key(b).cmp(&key(a))
}

fn ended_after(job: &Job, cut: Timestamp) -> bool {
    age::instant(job.end_time.as_ref()).is_none_or(|end| end >= cut)
}

async fn count_hidden(connection: &Connection, shown: &[Job]) -> Result<Hidden, CallError> {
    let answer = connection
        .call(|channel| async move { cluster(channel).get_stats(GetStatsRequest {}).await })
        .await?;
    let Stats { succeeded_count, failed_count, aborted_count, .. } = answer.stats.unwrap_or_default();
    let ended = usize::try_from(succeeded_count + failed_count + aborted_count).unwrap_or(0);
    let shown = shown.iter().filter(|job| has_ended(job)).count();
    Ok(Hidden { count: ended.saturating_sub(shown), at_least: false })
}

fn print_jobs(jobs: &[Job], format: Format) -> anyhow::Result<()> {
    let now = age::now();
    let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
    let forms = Forms { table: &|wide| output::jobs::list(jobs, wide, now), json: &|| Ok(json::jobs(jobs)) };
    output::print_list(format, &ids, "jobs", &forms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_domain::filter::Filter;

    #[test]
    fn options_become_one_filter() {
        let args = Args {
            all: true,
            label: vec![("team".into(), "m\"l".into())],
            state: vec!["FAILED", "ABORTED"],
            filter: Some("priority > 50 OR attempt > 1".into()),
            namespace: None,
            output: Format::Table,
        };
        let filter = all_of(&args.conditions());
        assert_eq!(
            filter,
            r#"(label.team = "m\"l") AND (state = FAILED OR state = ABORTED) AND (priority > 50 OR attempt > 1)"#
        );
        assert!(Filter::parse(&filter).is_ok());
        assert!(Filter::parse(ACTIVE).is_ok() && Filter::parse(ENDED).is_ok());
    }

    #[test]
    fn what_is_hidden_is_said() {
        let say = |count, at_least| Hidden { count, at_least }.sentence();
        assert_eq!(say(0, false), None);
        assert_eq!(say(1, false).as_deref(), Some("1 older job is hidden; -a shows all"));
        assert_eq!(say(2_000, true).as_deref(), Some("at least 2000 older jobs are hidden; -a shows all"));
    }
}
