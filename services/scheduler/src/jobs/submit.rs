//! Submits: checked whole, then stored; a repeat with the same key finds the first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_api::convert::spec_from_wire;
use berth_api::status::{Problem, Violation, status_message};
use berth_api::v1;
use berth_api::v1::batch_submit_jobs_response::{Result as ItemResult, result::Outcome};
use berth_domain::ids::JobId;
use berth_domain::job::{Job, JobState};
use berth_domain::spec::JobSpec;
use berth_store::{Call, Conflict, IdempotencyKey, MAX_MUTATIONS, Mutation, StoreError, Verdict};
use prost::Message;
use uuid::Uuid;

use crate::context::Context;

/// How long an idempotency key is kept.
const KEY_TTL: Duration = Duration::from_secs(24 * 3_600);
const MAX_KEY_BYTES: usize = 128;
const MAX_NAME_BYTES: usize = 256;
const MAX_BATCH: usize = 1_000;
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How often a submit whose outcome is unknown is asked again.
const TRIES: u32 = 3;

/// A submit that passed every check.
struct Checked {
    job: Arc<Job>,
    spec: Arc<JobSpec>,
    key: Option<IdempotencyKey>,
}

/// Submits one job.
///
/// # Errors
/// Refuses a malformed request, a key used for another job, and what the store has no room or no time for.
pub async fn submit(context: &Context, request: v1::SubmitJobRequest) -> Result<v1::Job, Problem> {
    let mut checked = check(context, &request, request.request_id.clone()).map_err(Problem::Invalid)?;
    if request.validate_only {
        let specs = [(checked.job.id.clone(), Arc::unwrap_or_clone(checked.spec))].into();
        let shown = super::show::show_with(context, &[Arc::unwrap_or_clone(checked.job)], &specs).await?;
        return shown.into_iter().next().ok_or_else(not_shown);
    }
    let _place = context.admission.enter(1, request.encoded_len())?;
    let verdict =
        commit(context, std::slice::from_mut(&mut checked)).await.map_err(|e| context.problem(&e))?;
    let job = settled(context, &checked, verdict.first()).await?;
    // Shown with the spec at hand, which equals the stored one: what was stored is acknowledged
    // even where the store cannot be read right after.
    let specs = [(job.id.clone(), Arc::unwrap_or_clone(checked.spec))].into();
    let shown = super::show::show_with(context, &[job], &specs).await?;
    shown.into_iter().next().ok_or_else(not_shown)
}

/// Submits many jobs: all are checked before any is stored; then each has its own outcome.
///
/// # Errors
/// Refuses the whole batch when any item is malformed, it is too large, or too many jobs wait to be stored.
pub async fn batch(
    context: &Context,
    request: v1::BatchSubmitJobsRequest,
) -> Result<v1::BatchSubmitJobsResponse, Problem> {
    let size = request.encoded_len();
    if request.requests.is_empty() || request.requests.len() > MAX_BATCH || size > MAX_BATCH_BYTES {
        return Err(Problem::field(
            "requests",
            format!(
                "has {} items in {size} bytes; a batch has 1 to {MAX_BATCH} items and at most {MAX_BATCH_BYTES} bytes",
                request.requests.len()
            ),
        ));
    }
    let _place = context.admission.enter(request.requests.len(), size)?;
    let mut items = check_all(context, &request).await.map_err(Problem::Invalid)?;
    let mut results = Vec::with_capacity(items.len());
    for chunk in items.chunks_mut(MAX_MUTATIONS) {
        match commit(context, chunk).await {
            Ok(verdicts) => results.extend(outcomes(context, chunk, &verdicts).await),
            Err(error) => {
                // Items of later chunks may still be stored; a repeat of the batch completes it.
                let status = status_message(context.problem(&error));
                results.extend(
                    chunk.iter().map(|_| ItemResult { outcome: Some(Outcome::Error(status.clone())) }),
                );
            }
        }
    }
    Ok(v1::BatchSubmitJobsResponse { results })
}

/// Checks a spec, and gives the job that it would be.
///
/// # Errors
/// Refuses a malformed spec.
pub fn candidate(context: &Context, spec: Option<v1::JobSpec>) -> Result<Job, Problem> {
    let request = v1::SubmitJobRequest { spec, ..v1::SubmitJobRequest::default() };
    check(context, &request, String::new())
        .map(|checked| Arc::unwrap_or_clone(checked.job))
        .map_err(Problem::Invalid)
}

fn is_key(key: &str) -> bool {
    key.len() <= MAX_KEY_BYTES && key.bytes().all(|b| b.is_ascii_graphic())
}

async fn check_all(
    context: &Context,
    request: &v1::BatchSubmitJobsRequest,
) -> Result<Vec<Checked>, Vec<Violation>> {
    let mut violations = Vec::new();
    if !is_key(&request.request_id) {
        let description = format!("must be at most {MAX_KEY_BYTES} visible ASCII characters");
        violations.push(Violation { field: "request_id".to_owned(), description });
    }
    let mut items = Vec::with_capacity(request.requests.len());
    for (i, item) in request.requests.iter().enumerate() {
        if i % MAX_MUTATIONS == MAX_MUTATIONS - 1 {
            // Heartbeats and reports wait for a part of a batch at most.
            tokio::task::yield_now().await;
        }
        let key =
            if request.request_id.is_empty() { String::new() } else { format!("{}#{i}", request.request_id) };
        let mut refuse = |field: &str, description: &str| {
            let field = format!("requests[{i}].{field}");
            violations.push(Violation { field, description: description.to_owned() });
        };
        if !item.request_id.is_empty() {
            refuse("request_id", "must be empty in a batch; set the batch's own request_id");
        }
        if item.validate_only {
            refuse("validate_only", "is not for items of a batch");
        }
        match check(context, item, key) {
            Ok(checked) => items.push(checked),
            Err(found) => violations.extend(found.into_iter().map(|violation| Violation {
                field: format!("requests[{i}].{}", violation.field),
                ..violation
            })),
        }
    }
    if violations.is_empty() { Ok(items) } else { Err(violations) }
}

fn check(context: &Context, request: &v1::SubmitJobRequest, key: String) -> Result<Checked, Vec<Violation>> {
    let default_queue_ms = u64::try_from(context.config.queue_timeout.as_millis()).unwrap_or(u64::MAX);
    let mut violations = Vec::new();
    let mut refuse = |field: &str, description: String| {
        violations.push(Violation { field: field.to_owned(), description });
    };
    let name = &request.display_name;
    if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        refuse("display_name", format!("must be at most {MAX_NAME_BYTES} bytes without control characters"));
    }
    if !is_key(&request.request_id) {
        refuse("request_id", format!("must be at most {MAX_KEY_BYTES} visible ASCII characters"));
    }
    if request.array_size != 0 {
        refuse("array_size", "is not served by this version; submit the members as a batch".to_owned());
    }
    let spec = match spec_from_wire(request.spec.as_ref(), default_queue_ms) {
        Ok(spec) if violations.is_empty() => spec,
        Ok(_) => return Err(violations),
        Err(Problem::Invalid(found)) => {
            violations.extend(found);
            return Err(violations);
        }
        Err(other) => {
            return Err(vec![Violation { field: "spec".to_owned(), description: other.to_string() }]);
        }
    };
    let now_ms = context.clock.now_ms();
    // The namespace bounds a key: two tenants may use the same one.
    let key = (!key.is_empty()).then(|| format!("{}/{key}", spec.namespace));
    let id = match &key {
        // Derived, so that while the job is kept a repeat finds it even without the key's record.
        Some(key) => JobId::trusted(Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes()).to_string()),
        None => context.job_ids.next(now_ms, context.entropy.as_ref()),
    };
    let job = Job::new(id, request.display_name.clone(), &spec, now_ms);
    let key = key.map(|key| IdempotencyKey { key, request_hash: job.spec_hash.to_string(), ttl: KEY_TTL });
    Ok(Checked { job: Arc::new(job), spec: Arc::new(spec), key })
}

/// Dates jobs by the time of a generation: that of a later one may be far behind, and who was submitted by
/// the old one would wait for as much longer.
fn date(context: &Context, items: &mut [Checked]) -> u64 {
    let generation = context.generation();
    let now_ms = context.clock.now_ms();
    for item in items {
        let job = Arc::make_mut(&mut item.job);
        (job.create_time_ms, job.ready_time_ms) = (now_ms, now_ms);
    }
    generation
}

async fn commit(context: &Context, items: &mut [Checked]) -> Result<Vec<Verdict>, StoreError> {
    let mutation = |item: &Checked| Mutation::Submit {
        job: Arc::clone(&item.job),
        spec: Arc::clone(&item.spec),
        idempotency: item.key.clone(),
    };
    let _turn = context.admission.turn(items.len()).await;
    let mut tries = 0;
    let mut generation = date(context, items);
    loop {
        tries += 1;
        let mutations = items.iter().map(mutation).collect();
        match context.commit(Call { leader: None, generation: Some(generation), mutations }).await {
            Ok(committed) => {
                keep_specs(context, items, &committed.verdicts);
                return Ok(committed.verdicts);
            }
            // The id is the same in each try, so trying again finds what was stored.
            Err(error) if error.outcome_unknown() && tries < TRIES => {
                tracing::warn!(%error, tries, "submit outcome unknown; asking again");
            }
            Err(StoreError::Generation { .. }) if tries < TRIES => generation = date(context, items),
            Err(error) => return Err(error),
        }
    }
}

/// Keeps the specs of what was stored, for the executors that will start it.
fn keep_specs(context: &Context, items: &[Checked], verdicts: &[Verdict]) {
    for (item, verdict) in items.iter().zip(verdicts) {
        if let Verdict::Applied(_) = verdict {
            context.specs.keep(&item.job, &item.spec);
        }
    }
}

async fn settled(context: &Context, item: &Checked, verdict: Option<&Verdict>) -> Result<Job, Problem> {
    match verdict {
        Some(Verdict::Applied(revision)) => Ok(Job { revision: *revision, ..Job::clone(&item.job) }),
        Some(Verdict::Existing(id)) => {
            super::show::load(context, id).await.map_err(|problem| match problem {
                Problem::NotFound { .. } => Problem::Precondition {
                    reason: "JOB_EXPIRED",
                    message: format!("The job {id} of this request_id has ended and its retention is over. Use a new request_id to run it again."),
                },
                other => other,
            })
        }
        Some(Verdict::Conflict(Conflict::Idempotency(id))) => Err(key_conflict(id)),
        // An earlier try of this very submit was stored although its reply was lost.
        Some(Verdict::Conflict(Conflict::JobExists)) => {
            let job = super::show::load(context, &item.job.id).await?;
            if job.spec_hash == item.job.spec_hash { Ok(job) } else { Err(key_conflict(&job.id)) }
        }
        Some(Verdict::Conflict(conflict)) => Err(Problem::Internal(conflict.to_string())),
        None => Err(Problem::Internal("the store gave no verdict".to_owned())),
    }
}

fn key_conflict(id: &JobId) -> Problem {
    Problem::AlreadyExists {
        reason: "REQUEST_ID_REUSED",
        message: format!(
            "This request_id was used for another job, {id}. Use a new request_id for a new job."
        ),
    }
}

/// The outcomes of a chunk. Specs are left out: the client has them, and together they could be
/// larger than a message may be.
async fn outcomes(context: &Context, chunk: &[Checked], verdicts: &[Verdict]) -> Vec<ItemResult> {
    let mut settled = Vec::with_capacity(chunk.len());
    for (item, verdict) in chunk.iter().zip(verdicts) {
        settled.push(self::settled(context, item, Some(verdict)).await);
    }
    // Those that wait are shown together; of others, which were stored before, each may fail to be.
    let waiting = |job: &&Job| job.state == JobState::Pending;
    let together: Vec<Job> = settled.iter().flatten().filter(waiting).cloned().collect();
    let shown = super::show::show_with(context, &together, &BTreeMap::new()).await;
    let mut shown: BTreeMap<String, v1::Job> =
        shown.into_iter().flatten().map(|job| (job.id.clone(), job)).collect();
    let mut results = Vec::with_capacity(chunk.len());
    for settled in settled {
        let job = match settled {
            Ok(job) => match shown.remove(job.id.as_str()) {
                Some(job) => Ok(job),
                None => super::show::show_with(context, &[job], &BTreeMap::new())
                    .await
                    .and_then(|shown| shown.into_iter().next().ok_or_else(not_shown)),
            },
            Err(problem) => Err(problem),
        };
        let outcome = match job {
            Ok(job) => Outcome::Job(job),
            Err(problem) => Outcome::Error(status_message(problem)),
        };
        results.push(ItemResult { outcome: Some(outcome) });
    }
    results
}

fn not_shown() -> Problem {
    Problem::Internal("a job could not be shown".to_owned())
}
