//! `berth health`: asks every address whether it serves. Containers use it as their health check, so it asks
//! once and answers soon.

use std::time::Duration;

use futures::future::join_all;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::connection::{Connection, cause_of};
use crate::failure::ERROR;
use crate::output;

const LIMIT: Duration = Duration::from_secs(3);

/// Asks every address, and prints `ADDRESS STATUS` for each.
///
/// # Errors
/// Fails as the output does.
pub async fn execute(connection: &Connection) -> anyhow::Result<u8> {
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
