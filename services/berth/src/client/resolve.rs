//! Finds the job that a person means: by id, a unique prefix of it, a name (the newest of that name), or `last`.

use std::ops::ControlFlow;

use berth_api::v1::Job;
use berth_domain::ids::JobId;
use tonic::Code;

use super::connection::Connection;
use super::listing::{LARGEST_PAGE, get_job, quoted, visit_jobs};
use crate::failure::{Failure, USAGE};

/// Means the job submitted last.
const LAST: &str = "last";
/// A shorter prefix is a typing error more often than a choice.
const SHORTEST_PREFIX: usize = 4;
/// How many candidates an ambiguous prefix names.
const CANDIDATES: usize = 5;

/// Finds the job that `text` means.
///
/// # Errors
/// Fails when there is none, when a prefix means several, and as the calls do.
pub async fn job(connection: &Connection, text: &str) -> anyhow::Result<Job> {
    if text == LAST {
        return last(connection).await?.ok_or_else(|| {
            Failure::not_found("there is no job yet").hint("Submit one: berth run busybox echo hi").into()
        });
    }
    if JobId::parse(text).is_ok() {
        match get_job(connection, text).await {
            Ok(job) => return Ok(job),
            Err(error) if error.code() == Code::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    by_name_or_prefix(connection, text).await
}

async fn last(connection: &Connection) -> anyhow::Result<Option<Job>> {
    let mut newest = None;
    visit_jobs(connection, "", 1, |page| {
        newest = page.into_iter().next();
        if newest.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .await?;
    Ok(newest)
}

async fn by_name_or_prefix(connection: &Connection, text: &str) -> anyhow::Result<Job> {
    let mut named = None;
    let mut prefixed = Vec::new();
    visit_jobs(connection, &condition(text), LARGEST_PAGE, |page| {
        for job in page {
            if job.display_name == text {
                // The newest of that name comes first, and a name goes before a prefix.
                named = Some(job);
                return ControlFlow::Break(());
            }
            prefixed.push(job);
        }
        ControlFlow::Continue(())
    })
    .await?;
    if let Some(job) = named {
        return Ok(job);
    }
    match prefixed.len() {
        0 => Err(missing(text).into()),
        1 => Ok(prefixed.remove(0)),
        count => Err(ambiguous(text, count, &prefixed).into()),
    }
}

/// Selects the jobs of that name, and those whose id begins so.
fn condition(text: &str) -> String {
    let name = format!("display_name = {}", quoted(text));
    if text.len() < SHORTEST_PREFIX || JobId::parse(text).is_err() {
        return name;
    }
    // '~' stands behind every character of an id.
    let beyond = format!("{text}~");
    format!("{name} OR (id >= {} AND id < {})", quoted(text), quoted(&beyond))
}

fn missing(text: &str) -> Failure {
    let about_prefixes = if text.len() < SHORTEST_PREFIX {
        format!(" A prefix of an id needs {SHORTEST_PREFIX} characters.")
    } else {
        String::new()
    };
    Failure::not_found(format!("no job has the id, prefix or name {text:?}.{about_prefixes}"))
        .hint("See all jobs: berth ps -a")
}

fn ambiguous(text: &str, count: usize, jobs: &[Job]) -> Failure {
    let mut ids: Vec<&str> = jobs.iter().take(CANDIDATES).map(|job| job.id.as_str()).collect();
    if count > CANDIDATES {
        ids.push("...");
    }
    let message = format!("{text:?} means {count} jobs: {}", ids.join(", "));
    Failure { exit: USAGE, message, hint: Some("Give more characters of the id.".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_domain::filter::Filter;

    #[test]
    fn conditions_are_of_the_servers_language() {
        assert_eq!(condition("0193ab"), r#"display_name = "0193ab" OR (id >= "0193ab" AND id < "0193ab~")"#);
        assert_eq!(condition("abc"), r#"display_name = "abc""#);
        assert_eq!(condition("my job"), r#"display_name = "my job""#);
        for text in ["0193ab", "abc", "a \"quoted\" name"] {
            assert!(Filter::parse(&condition(text)).is_ok(), "{text}");
        }
    }

    #[test]
    fn an_ambiguous_prefix_names_candidates() {
        let jobs: Vec<Job> = (0..7).map(|n| Job { id: format!("0193ab{n}"), ..Default::default() }).collect();
        let failure = ambiguous("0193ab", jobs.len(), &jobs);
        assert_eq!(
            failure.to_string(),
            "\"0193ab\" means 7 jobs: 0193ab0, 0193ab1, 0193ab2, 0193ab3, 0193ab4, ..."
        );
    }
}
