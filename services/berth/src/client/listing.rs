//! Lists page by page, and words filters.

use std::ops::ControlFlow;

use berth_api::v1;

use super::connection::{CallError, Connection, cluster, jobs};

/// The most that one page may have.
pub const LARGEST_PAGE: i32 = 1_000;

/// Hands every job that `filter` selects to `visit`, page by page, the latest submitted first, until it has had enough.
///
/// # Errors
/// Fails as the calls do.
pub async fn visit_jobs(
    connection: &Connection,
    filter: &str,
    page_size: i32,
    mut visit: impl FnMut(Vec<v1::Job>) -> ControlFlow<()>,
) -> Result<(), CallError> {
    let mut request = v1::ListJobsRequest { page_size, filter: filter.to_owned(), ..Default::default() };
    loop {
        let page = connection
            .call(|channel| {
                let request = request.clone();
                async move { jobs(channel).list_jobs(request).await }
            })
            .await?;
        if visit(page.jobs).is_break() || page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
}

/// Lists every executor, ordered by id.
///
/// # Errors
/// Fails as the calls do.
pub async fn all_executors(connection: &Connection) -> Result<Vec<v1::Executor>, CallError> {
    let mut request = v1::ListExecutorsRequest { page_size: LARGEST_PAGE, ..Default::default() };
    let mut executors = Vec::new();
    loop {
        let page = connection
            .call(|channel| {
                let request = request.clone();
                async move { cluster(channel).list_executors(request).await }
            })
            .await?;
        executors.extend(page.executors);
        if page.next_page_token.is_empty() {
            return Ok(executors);
        }
        request.page_token = page.next_page_token;
    }
}

/// Reads one job.
///
/// # Errors
/// Fails as the call does; NOT_FOUND where there is no such job.
pub async fn get_job(connection: &Connection, id: &str) -> Result<v1::Job, CallError> {
    let answer = connection
        .call(|channel| {
            let request = v1::GetJobRequest { id: id.to_owned() };
            async move { jobs(channel).get_job(request).await }
        })
        .await?;
    Ok(answer.job.unwrap_or_default())
}

/// Writes a text as a value of the filter language.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Joins conditions so that all must hold; none selects everything.
pub fn all_of(conditions: &[String]) -> String {
    match conditions {
        [] => String::new(),
        [one] => one.clone(),
        several => several.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" AND "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_domain::filter::Filter;

    #[test]
    fn composed_filters_are_of_the_servers_language() {
        let name = format!("display_name = {}", quoted("a \"b\" \\c"));
        let both = all_of(&[name.clone(), "state = FAILED OR state = ABORTED".to_owned()]);
        assert_eq!(both, format!("({name}) AND (state = FAILED OR state = ABORTED)"));
        assert!(Filter::parse(&both).is_ok());
        assert_eq!(all_of(&[]), "");
    }
}
