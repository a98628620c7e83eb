//! Lists jobs, newest first, page by page.

use std::collections::BTreeMap;

use berth_api::convert::{ExecutorContext, executor_to_wire};
use berth_api::status::Problem;
use berth_api::v1;
use berth_domain::executor::Executor;
use berth_domain::filter::Filter;
use berth_domain::ids::{ExecutorId, JobId};
use berth_domain::job::Job;
use berth_domain::spec::JobSpec;
use berth_store::{Cursor, Page, Scope};

use super::show::show_with;
use crate::context::Context;

const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 1_000;
/// The most specs read at once: at their largest, 2 MiB.
const MAX_SPECS: usize = 8;
/// A page ends once its specs have about this size, so that it fits a client's default limit of 4 MiB.
const MAX_PAGE_BYTES: usize = 1 << 20;
/// The most records one call looks at; a page may be short and have a token.
const MAX_LOOKED_AT: usize = 2_000;

/// Lists jobs that match a filter.
///
/// # Errors
/// Refuses a malformed filter, order or page token.
pub async fn list(context: &Context, request: v1::ListJobsRequest) -> Result<v1::ListJobsResponse, Problem> {
    let size = page_size(request.page_size)?;
    if !matches!(request.order_by.as_str(), "" | "create_time desc") {
        return Err(Problem::field("order_by", "must be empty or \"create_time desc\""));
    }
    let filter = parse_filter(&request.filter)?;
    let mut after = read_token(&request.page_token, &request.filter)?;
    let mut jobs: Vec<Job> = Vec::new();
    let mut specs: BTreeMap<JobId, JobSpec> = BTreeMap::new();
    let (mut looked_at, mut bytes) = (0, 0);
    loop {
        let limit = (size - jobs.len()).min(MAX_LOOKED_AT - looked_at);
        let page = read(context, &filter, after.as_ref(), limit).await?;
        let count = page.jobs.len();
        looked_at += limit.max(count);
        let mut next = page.next;
        let mut taken = 0;
        // Specs are read a few at a time, so that neither the store nor the answer is strained.
        for some in page.jobs.chunks(MAX_SPECS) {
            taken += some.len();
            for (job, spec) in matching(context, &filter, some.to_vec()).await? {
                if let Some(spec) = spec {
                    bytes += spec.approximate_bytes();
                    specs.insert(job.id.clone(), spec);
                }
                jobs.push(job);
            }
            if bytes >= MAX_PAGE_BYTES {
                break;
            }
        }
        if taken < count {
            // The rest belongs to the next page: the cursor is moved to where this one stopped.
            next = read(context, &filter, after.as_ref(), taken).await?.next;
        }
        after = next;
        if after.is_none() || jobs.len() >= size || looked_at >= MAX_LOOKED_AT || bytes >= MAX_PAGE_BYTES {
            break;
        }
    }
    let next_page_token = after.map(|cursor| write_token(&cursor, &request.filter)).unwrap_or_default();
    Ok(v1::ListJobsResponse { jobs: show_with(context, &jobs, &specs).await?, next_page_token })
}

/// Reads the next records that a filter may match; a filter for one id needs no search.
async fn read(
    context: &Context,
    filter: &Filter,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<Page, Problem> {
    if let Some(id) = filter.only_id() {
        let Ok(id) = JobId::parse(id) else { return Ok(Page::default()) };
        let jobs = context.store.jobs(&[id]).await.map_err(|e| context.problem(&e))?;
        return Ok(Page { jobs: jobs.into_iter().flatten().collect(), next: None });
    }
    let page = context.store.page(&Scope::All, after, limit.max(1)).await.map_err(|e| context.problem(&e))?;
    context.note_answer();
    Ok(page)
}

/// Reads the specs of jobs and keeps what the filter matches.
///
/// # Errors
/// Fails when the store fails.
pub async fn matching(
    context: &Context,
    filter: &Filter,
    jobs: Vec<Job>,
) -> Result<Vec<(Job, Option<JobSpec>)>, Problem> {
    let jobs: Vec<Job> = if filter.needs_spec() {
        jobs
    } else {
        jobs.into_iter().filter(|job| filter.matches(job, None)).collect()
    };
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id.clone()).collect();
    let specs = context.store.specs(&ids).await.map_err(|e| context.problem(&e))?;
    Ok(jobs.into_iter().zip(specs).filter(|(job, spec)| filter.matches(job, spec.as_ref())).collect())
}

/// Reads a filter from a request.
///
/// # Errors
/// Says what is wrong with it, and where.
pub fn parse_filter(text: &str) -> Result<Filter, Problem> {
    Filter::parse(text).map_err(|error| Problem::field("filter", error.to_string()))
}

fn page_size(size: i32) -> Result<usize, Problem> {
    match usize::try_from(size) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(size) => Ok(size.min(MAX_PAGE)),
        Err(_) => Err(Problem::field("page_size", format!("is {size}; it must not be negative"))),
    }
}

/// A token carries the cursor and a mark of the filter it belongs to.
fn write_token(cursor: &Cursor, filter: &str) -> String {
    let text = format!("{:016x}{}", mark(filter), cursor.0);
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn read_token(token: &str, filter: &str) -> Result<Option<Cursor>, Problem> {
    if token.is_empty() {
        return Ok(None);
    }
    let refuse = |what: &str| Problem::field("page_token", what);
    let decoded = || -> Option<String> {
        let bytes = token.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        });
        String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
    };
    let text = decoded().filter(|text| text.len() > 16 && text.is_char_boundary(16));
    let text =
        text.ok_or_else(|| refuse("is not a token of this cluster; leave it empty for the first page"))?;
    let (marked, cursor) = text.split_at(16);
    if u64::from_str_radix(marked, 16) != Ok(mark(filter)) {
        return Err(refuse("belongs to another filter; repeat the filter of the first page"));
    }
    Ok(Some(Cursor(cursor.to_owned())))
}

/// FNV-1a (Fowler, Noll, Vo), 64 bits: tells filters apart, protects nothing.
fn mark(filter: &str) -> u64 {
    filter
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Lists executors by id, page by page.
///
/// # Errors
/// Refuses a malformed page size or token, and filters, which this version does not serve.
pub async fn executors(
    context: &Context,
    request: v1::ListExecutorsRequest,
) -> Result<v1::ListExecutorsResponse, Problem> {
    let size = page_size(request.page_size)?;
    if !request.filter.is_empty() {
        return Err(Problem::field("filter", "is not served for executors by this version; leave it empty"));
    }
    let after = read_token(&request.page_token, "executors")?.map(|cursor| ExecutorId::trusted(cursor.0));
    let all = context.store.executors().await.map_err(|e| context.problem(&e))?;
    context.note_answer();
    let rest = all.into_iter().filter(|executor| after.as_ref().is_none_or(|after| executor.id > *after));
    let mut page: Vec<_> = rest.take(size + 1).collect();
    let more = page.len() > size;
    page.truncate(size);
    let next_page_token = match page.last() {
        Some(last) if more => write_token(&Cursor(last.id.to_string()), "executors"),
        Some(_) | None => String::new(),
    };
    let executors = page.iter().map(|executor| show_executor(context, executor)).collect();
    Ok(v1::ListExecutorsResponse { executors, next_page_token })
}

/// Shows an executor with what this replica knows beside its record.
pub fn show_executor(context: &Context, executor: &Executor) -> v1::Executor {
    let beside = ExecutorContext {
        now_ms: context.clock.now_ms(),
        lease_ms: context.config.lease_ms(),
        job_count: context.with_image(|image| image.assigned_to(&executor.id).count()),
        used: context.sessions.used(&executor.id),
    };
    executor_to_wire(executor, beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_is_bound_to_its_filter() {
        let token = write_token(&Cursor("42:x".into()), "state = RUNNING");
        assert_eq!(read_token(&token, "state = RUNNING"), Ok(Some(Cursor("42:x".into()))));
        let error = read_token(&token, "").expect_err("another filter");
        assert_eq!(
            error.to_string(),
            "page_token: belongs to another filter; repeat the filter of the first page"
        );
        for bad in ["x", "00", "zz", "é", &"0".repeat(33)] {
            assert!(read_token(bad, "").is_err(), "{bad:?} is no token");
        }
    }
}
