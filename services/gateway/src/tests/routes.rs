//! The route table against the annotations, and paths that lead nowhere.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Fake, Rest};
use crate::Gateway;

/// Every route that users were promised.
const PROMISED: &[(&str, &str, &str)] = &[
    ("POST", "/jobs", "JobService.SubmitJob"),
    ("GET", "/jobs", "JobService.ListJobs"),
    ("GET", "/jobs/{id}", "JobService.GetJob"),
    ("POST", "/jobs/{id}/abort", "JobService.AbortJob"),
    ("GET", "/executors", "ClusterService.ListExecutors"),
    ("GET", "/stats", "ClusterService.GetStats"),
    ("POST", "/v1/jobs", "JobService.SubmitJob"),
    ("POST", "/v1/jobs:batchSubmit", "JobService.BatchSubmitJobs"),
    ("GET", "/v1/jobs", "JobService.ListJobs"),
    ("GET", "/v1/jobs/{id}", "JobService.GetJob"),
    ("POST", "/v1/jobs/{id}:abort", "JobService.AbortJob"),
    ("GET", "/v1/jobs/{id}:wait", "JobService.WaitJob"),
    ("GET", "/v1/jobs:watch", "JobService.WatchJobs"),
    ("GET", "/v1/jobs/{id}/logs", "JobService.StreamJobLogs"),
    ("POST", "/v1/jobs/{id}:retry", "JobService.RetryJob"),
    ("GET", "/v1/jobs/{id}:explain", "JobService.ExplainJob"),
    ("POST", "/v1/jobs:explain", "JobService.ExplainJob"),
    ("GET", "/v1/executors", "ClusterService.ListExecutors"),
    ("POST", "/v1/executors/{id}:drain", "ClusterService.DrainExecutor"),
    ("POST", "/v1/executors/{id}:resume", "ClusterService.ResumeExecutor"),
    ("POST", "/v1/executors/{id}:fence", "ClusterService.FenceExecutor"),
    ("GET", "/v1/stats", "ClusterService.GetStats"),
    ("GET", "/v1/events", "ClusterService.WatchEvents"),
    ("GET", "/v1/cluster", "ClusterService.GetClusterInfo"),
];

#[test]
fn the_route_table_equals_the_annotations() {
    let gateway = Gateway::new(Arc::new(Fake::default()).routes()).expect("every annotation is served");
    let served: BTreeSet<_> = gateway.routes().into_iter().collect();
    let promised: BTreeSet<_> = PROMISED
        .iter()
        .map(|(verb, path, rpc)| ((*verb).to_owned(), (*path).to_owned(), format!("berth.v1.{rpc}")))
        .collect();
    assert_eq!(served, promised);
}

#[test]
fn every_rpc_for_users_has_a_route() {
    let pool = crate::schema::pool().expect("it decodes");
    let gateway = Gateway::new(Arc::new(Fake::default()).routes()).expect("every annotation is served");
    let served: BTreeSet<String> = gateway.routes().into_iter().map(|(.., rpc)| rpc).collect();
    for service in ["berth.v1.JobService", "berth.v1.ClusterService"] {
        let service = pool.get_service_by_name(service).expect("it exists");
        for method in service.methods() {
            assert!(served.contains(method.full_name()), "{} has no route", method.full_name());
        }
    }
}

#[tokio::test]
async fn every_route_reaches_its_rpc() {
    let rest = Rest::new();
    for (verb, path, rpc) in PROMISED {
        let path = path.replace("{id}", "j1");
        let answer = rest.ask(verb, &path, &[], "").await;
        // An empty submit, a retry of a running job and the fence are refused by the fake itself.
        let expected = match *rpc {
            "JobService.SubmitJob" | "JobService.RetryJob" => 400,
            "ClusterService.FenceExecutor" => 501,
            _ => 200,
        };
        assert_eq!(answer.status, expected, "{verb} {path}: {}", answer.body);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("server"), "");
    }
}

#[tokio::test]
async fn ids_may_be_percent_encoded_and_hold_colons() {
    let rest = Rest::new();
    assert_eq!(rest.get("/jobs/a%2Fb").await.json()["id"], "a/b");
    assert_eq!(rest.get("/v1/jobs/a%3Aabort").await.json()["id"], "a:abort");
    assert_eq!(rest.post("/v1/jobs/a:b:abort", "").await.json()["id"], "a:b");
    assert_eq!(rest.get("/jobs/%ff").await.status, 404);
}

#[tokio::test]
async fn an_unknown_path_is_404_with_the_nearest_one() {
    let rest = Rest::new();
    let answer = rest.get("/job").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"]["status"], "NOT_FOUND");
    assert_eq!(answer.message(), "/job: no such path; did you mean \"/jobs\"?");
    let answer = rest.post("/v1/jobs/j1:abrt", "").await;
    assert_eq!(answer.message(), "/v1/jobs/j1:abrt: no such path; did you mean \"/v1/jobs/j1:abort\"?");
    for path in ["/jobs/", "/jobs//abort", "//", "/v2/nothing", "/jobs/j1/abort/x"] {
        assert_eq!(rest.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_405_with_those_allowed() {
    let rest = Rest::new();
    for (verb, path, allow) in [
        ("DELETE", "/jobs", "GET, HEAD, POST"),
        ("POST", "/stats", "GET, HEAD"),
        ("GET", "/v1/jobs/j1:abort", "POST"),
        ("GET", "/jobs/j1/abort", "POST"),
        ("PUT", "/healthz", "GET, HEAD"),
    ] {
        let answer = rest.ask(verb, path, &[], "").await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, allow), "{verb} {path}");
        assert_eq!(answer.json()["error"]["code"], 405);
    }
    let answer = rest.ask("OPTIONS", "/jobs", &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (204, "GET, HEAD, POST, OPTIONS"));
    assert_eq!(rest.ask("HEAD", "/jobs", &[], "").await.status, 200);
    assert_eq!(rest.ask("HEAD", "/v1/jobs:watch?resume_token=endless", &[], "").await.status, 200);
}

#[tokio::test]
async fn health_and_the_front_page_answer() {
    let rest = Rest::new();
    assert_eq!(rest.get("/healthz").await.body, "ok\n");
    assert_eq!(rest.get("/readyz").await.body, "ready\n");
    let page = rest.get("/").await;
    assert!(page.header("content-type").starts_with("text/plain"));
    assert!(page.body.contains("/v1/jobs/{id}:abort"), "{}", page.body);
    let alone = crate::router(tonic::service::Routes::default());
    let request = http::Request::get("/readyz").body(axum::body::Body::empty()).expect("it is a request");
    let answer = tower::ServiceExt::oneshot(alone, request).await.expect("it answers");
    assert_eq!(answer.status(), 503);
}
