//! `berth health`: asks every address whether it serves, or whether executors are connected. Containers use it
//! as their health check, so it asks once and answers soon.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_api::v1::{Executor, ExecutorState, ListExecutorsRequest};
use futures::future::join_all;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::connection::{Connection, cause_of, cluster};
use super::listing::LARGEST_PAGE;
use crate::failure::ERROR;
use crate::output;

const LIMIT: Duration = Duration::from_secs(3);

/// What to ask for
#[derive(Debug, clap::Args)]
pub struct Args {
    // Not from EXECUTOR_ID: inside an executor's container, plain `berth health` would change its meaning.
    /// Ask the schedulers whether this executor is connected; may be repeated
    #[arg(long = "executor", value_name = "ID")]
    executors: Vec<String>,
}

/// Asks about the executors, or every address where none is named.
///
/// # Errors
/// Fails as the output does.
pub async fn execute(connection: &Connection, args: Args) -> anyhow::Result<u8> {
    if args.executors.is_empty() {
        of_addresses(connection).await
    } else {
        of_executors(connection, &args.executors).await
    }
}

/// Prints `executor ID CONNECTED` or `executor ID UNREACHABLE` for each executor.
async fn of_executors(connection: &Connection, ids: &[String]) -> anyhow::Result<u8> {
    let answers = join_all(connection.each().map(|(address, channel)| async move {
        let answer = tokio::time::timeout(LIMIT, connected(channel)).await;
        answer.unwrap_or_else(|_| Err("no answer within 3 s".to_owned())).map_err(|cause| (address, cause))
    }));
    let (mut connected, mut troubles, mut answered) = (BTreeSet::new(), Vec::new(), false);
    for answer in answers.await {
        match answer {
            Ok(ids) => {
                answered = true;
                connected.extend(ids);
            }
            Err(trouble) => troubles.push(trouble),
        }
    }
    // One scheduler that knows is enough; what keeps all of them away is worth telling.
    if !answered {
        for (address, cause) in troubles {
            output::note(format!("error: {address}: {cause}"));
        }
    }
    let mut exit = 0;
    for id in ids {
        let state = if connected.contains(id) {
            "CONNECTED"
        } else {
            exit = ERROR;
            "UNREACHABLE"
        };
        output::print_line(&format!("executor {id} {state}"))?;
    }
    Ok(exit)
}

/// Lists the executors whose lease runs: those that take jobs, and those that are being drained.
async fn connected(channel: Channel) -> Result<BTreeSet<String>, String> {
    let mut client = cluster(channel);
    let mut request = ListExecutorsRequest { page_size: LARGEST_PAGE, ..Default::default() };
    let mut ids = BTreeSet::new();
    loop {
        let page =
            client.list_executors(request.clone()).await.map_err(|status| cause_of(&status))?.into_inner();
        let in_touch =
            |executor: &Executor| matches!(executor.state(), ExecutorState::Active | ExecutorState::Draining);
        ids.extend(page.executors.into_iter().filter(in_touch).map(|executor| executor.id));
        if page.next_page_token.is_empty() {
            return Ok(ids);
        }
        request.page_token = page.next_page_token;
    }
}

/// Prints `ADDRESS STATUS` for each address.
async fn of_addresses(connection: &Connection) -> anyhow::Result<u8> {
    let answers = join_all(connection.each().map(|(address, channel)| async move {
        let answer = tokio::time::timeout(LIMIT, check(channel)).await;
        (address, answer.unwrap_or_else(|_| Err("no answer within 3 s".to_owned())))
    }));
    let mut exit = 0;
    for (address, answer) in answers.await {
        match answer {
            Ok(ServingStatus::Serving) => output::print_line(&format!("{address} SERVING"))?,
            Ok(other) => {
                exit = ERROR;
                output::print_line(&format!("{address} {}", other.as_str_name()))?;
            }
            Err(cause) => {
                exit = ERROR;
                output::print_line(&format!("{address} UNREACHABLE"))?;
                output::note(format!("error: {address}: {cause}"));
            }
        }
    }
    Ok(exit)
}

async fn check(channel: Channel) -> Result<ServingStatus, String> {
    let request = HealthCheckRequest { service: String::new() };
    let answer =
        HealthClient::new(channel).check(request).await.map_err(|status| cause_of(&status).to_string())?;
    Ok(answer.into_inner().status())
}
