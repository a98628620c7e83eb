//! What people and load balancers look at first: readiness, and a page that says what is here.

use std::fmt::Write;
use std::time::Duration;

use axum::response::Response;
use http::StatusCode;

use crate::backend::Backend;
use crate::gateway::plain;

/// A replica that takes longer to say that it is ready is not.
const LIMIT: Duration = Duration::from_secs(2);

/// Answers 200 when the services say that they serve, on leaders and followers alike, else 503.
pub(crate) async fn ready(backend: &Backend) -> Response {
    match backend.ready(LIMIT).await {
        Ok(()) => plain(StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

/// Lists the routes, given as method, path and RPC.
pub(crate) fn page(routes: &[(String, String, String)]) -> String {
    let mut page = "Berth runs container jobs. Submit one:\n\n  \
        curl http://THIS_HOST/jobs -d '{\"image\":\"busybox\",\"command\":[\"echo\",\"hello\"]}'\n\n\
        What is here:\n\n"
        .to_owned();
    let own = [("GET", "/healthz", "this process answers"), ("GET", "/readyz", "it can serve")];
    for (verb, path, what) in own {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "  {verb:<6} {path:<28} {what}");
    }
    for (verb, path, rpc) in routes {
        let short = rpc.strip_prefix("berth.v1.").unwrap_or(rpc);
        let _ = writeln!(page, "  {verb:<6} {path:<28} {short}");
    }
    page
}
