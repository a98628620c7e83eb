//! What is said of jobs that wait, run, have ended, or are only tried.

use berth_api::convert::duration;
use berth_api::v1::pending_reason::Code as Reason;

use super::*;

async fn explain(routes: &Routes, request: v1::ExplainJobRequest) -> v1::ExplainJobResponse {
    loop {
        let answer = JobServiceClient::new(routes.clone()).explain_job(request.clone()).await;
        let answer = answer.expect("it is explained").into_inner();
        // Until the replica leads, that is the reason.
        if answer.reason.as_ref().is_none_or(|reason| reason.code() != Reason::NoLeader) {
            return answer;
        }
        tokio::task::yield_now().await;
    }
}

async fn tried(routes: &Routes, spec: v1::JobSpec) -> v1::ExplainJobResponse {
    explain(routes, v1::ExplainJobRequest { spec: Some(spec), ..Default::default() }).await
}

async fn explained(routes: &Routes, id: &str) -> v1::ExplainJobResponse {
    explain(routes, v1::ExplainJobRequest { id: id.to_owned(), ..Default::default() }).await
}

/// Of each executor: whether the job fits now and fits it when empty, and what is short.
fn verdicts(answer: &v1::ExplainJobResponse) -> Vec<(&str, bool, bool, &str)> {
    let each = answer.verdicts.iter();
    each.map(|one| (one.executor_id.as_str(), one.fits_now, one.fits_empty, one.message.as_str())).collect()
}

fn reason(answer: &v1::ExplainJobResponse) -> (Reason, i32, &str) {
    let reason = answer.reason.as_ref().expect("it waits");
    (reason.code(), reason.queue_position, reason.message.as_str())
}

#[tokio::test(start_paused = true)]
async fn a_spec_is_tried_and_nothing_is_stored() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let answer = tried(&routes, spec(1_000)).await;
    assert_eq!((reason(&answer).0, answer.verdicts.len()), (Reason::NoExecutors, 0));
    let _large = Player::join(&routes, "e1", 8_000).await;
    let _small = Player::join(&routes, "e2", 2_000).await;

    let answer = tried(&routes, spec(2_000)).await;
    assert_eq!((answer.reason.as_ref(), answer.executor_id.as_str()), (None, "e2"));
    assert_eq!(verdicts(&answer), [("e1", true, true, ""), ("e2", true, true, "")]);
    let answer = tried(&routes, spec(4_000)).await;
    assert_eq!((answer.reason.as_ref(), answer.executor_id.as_str()), (None, "e1"));
    assert_eq!(verdicts(&answer)[1], ("e2", false, false, "Needs 4 CPUs, has 2."));
    let answer = tried(&routes, spec(9_000)).await;
    let why = "Needs 9 CPUs; the largest executor, e1, has 8. It fails in 15 s unless a larger one joins; \
               --queue-timeout 0 waits.";
    assert_eq!(reason(&answer), (Reason::TooLarge, 1, why));
    assert_eq!(verdicts(&answer)[0], ("e1", false, false, "Needs 9 CPUs, has 8."));

    let mut client = JobServiceClient::new(routes.clone());
    let listed = client.list_jobs(v1::ListJobsRequest::default()).await.expect("listed").into_inner().jobs;
    assert_eq!(listed, [], "nothing is stored");
}

#[tokio::test(start_paused = true)]
async fn a_job_is_explained_in_each_part_of_its_life() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let mut executor = Player::join(&routes, "e1", 4_000).await;
    let limited = v1::JobSpec { run_timeout: Some(duration(60_000)), ..spec(3_000) };
    let running = submit(&routes, limited).await;
    let start = executor.next_start().await;
    assert!(executor.report(&start, JobState::Running, None).await);
    let answer = explained(&routes, &running.id).await;
    assert_eq!((answer.reason.as_ref(), answer.executor_id.as_str()), (None, "e1"));
    assert_eq!(verdicts(&answer), [("e1", true, true, "")]);

    let waiting = submit(&routes, spec(2_000)).await;
    let behind = submit(&routes, spec(2_000)).await;
    let answer = explained(&routes, &behind.id).await;
    let (code, position, why) = reason(&answer);
    assert_eq!((code, position), (Reason::Busy, 2));
    assert!(
        why.starts_with(
            "Fits 1 executor, none free now; 1 job ahead. Room comes first on e1, once 1 job there has ended, in "
        ),
        "{why}"
    );
    assert_eq!(verdicts(&answer), [("e1", false, true, "Needs 2 CPUs, 1 of 4 free.")]);
    assert_eq!(tried(&routes, spec(1_000)).await.executor_id, "e1", "what fits goes beside them");

    assert!(
        executor.report(&start, JobState::Succeeded, Some(EndCause::Exited { code: 0, oom: false })).await
    );
    let start = executor.next_start().await;
    assert_eq!(start.r#ref.as_ref().map(|r| &r.job_id), Some(&behind.id), "both fit now");
    assert_eq!(explained(&routes, &waiting.id).await.executor_id, "e1");
    // It has ended: what would become of it now.
    let answer = explained(&routes, &running.id).await;
    assert_eq!(reason(&answer).0, Reason::Busy);
    assert_eq!(verdicts(&answer), [("e1", false, true, "Needs 3 CPUs, 0 of 4 free.")]);
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_takes_no_jobs_says_why() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let routes = replica.routes();
    let _executor = Player::join(&routes, "e1", 4_000).await;
    let drain = v1::DrainExecutorRequest { id: "e1".into(), ..Default::default() };
    ClusterServiceClient::new(routes.clone()).drain_executor(drain).await.expect("it is drained");
    let answer = tried(&routes, spec(1_000)).await;
    assert_eq!(verdicts(&answer), [("e1", false, true, "It is drained.")]);
    let why = "Fits 1 executor, which takes no jobs now; 0 jobs ahead. It fails once it has waited for 15 s.";
    assert_eq!(reason(&answer).2, why);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_explained_is_refused() {
    let store = ModelStore::new(1_000_000);
    let (replica, _stop) = replica(&store, "s1", |_| {}).await;
    let mut client = JobServiceClient::new(replica.routes());
    let mut refused = async |id: &str, spec: Option<v1::JobSpec>| {
        let request = v1::ExplainJobRequest { id: id.to_owned(), spec };
        let error = client.explain_job(request).await.expect_err("it is refused");
        (error.code(), error.message().to_owned())
    };
    assert_eq!(refused("", None).await.0, Code::InvalidArgument);
    let both = refused("x", Some(spec(1))).await;
    assert_eq!(both.0, Code::InvalidArgument);
    assert!(both.1.contains("together with id"), "{}", both.1);
    let no_image = refused("", Some(v1::JobSpec::default())).await;
    assert_eq!(no_image.0, Code::InvalidArgument);
    assert!(no_image.1.contains("image"), "{}", no_image.1);
    assert_eq!(refused("0193ab01-0000-7000-8000-000000000000", None).await.0, Code::NotFound);
}
