//! Results as the REST interface answers them.

use berth_api::v1::{Job, ListJobsResponse};
use serde_json::Value;

pub use berth_gateway::json::{parse_submit, render};

/// Shows a list of jobs that has no further page.
pub fn jobs(jobs: &[Job]) -> Value {
    let answer = ListJobsResponse { jobs: jobs.to_vec(), next_page_token: String::new() };
    render("berth.v1.ListJobsResponse", &answer)
}
