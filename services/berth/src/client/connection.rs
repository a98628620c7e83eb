//! How a client reaches a cluster: one channel an address, and calls that move on to the next address when one
//! does not answer. It knows nothing of what is called.

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use berth_api::MAX_MESSAGE_BYTES;
use berth_api::v1::cluster_service_client::ClusterServiceClient;
use berth_api::v1::job_service_client::JobServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use super::addresses::Addresses;
use super::patience::Patience;
use crate::output;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A scheduler that is frozen, not gone, is noticed after the interval and the timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// A page of 1,000 jobs with large specs exceeds what a request may have.
const MAX_RECEIVED_BYTES: usize = 64 * 1024 * 1024;
/// What is there instead of a scheduler.
const NO_GRPC: &str = "it answers, but not in gRPC; REST has an address of its own";
/// A trouble that lasts longer is mentioned once on stderr.
const QUIET_TROUBLE: Duration = Duration::from_secs(2);

/// Why a call failed.
#[derive(Debug)]
pub enum CallError {
    /// A scheduler answered with an error that a repeat cannot mend.
    Answered(Status),
    /// Nothing useful was heard from any address in time. Whether the call took effect is not known.
    Unreachable {
        /// The addresses tried.
        addresses: String,
        /// What the last try met with.
        cause: String,
        /// True when a scheduler said that it cannot serve now.
        said_by_scheduler: bool,
        /// How long it was tried.
        tried_for: Duration,
    },
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status) => f.write_str(status.message()),
            Self::Unreachable { cause, said_by_scheduler: true, .. } => f.write_str(cause),
            Self::Unreachable { addresses, cause, tried_for, .. } => write!(
                f,
                "no scheduler answered at {addresses} within {}: {cause}",
                humantime::format_duration(*tried_for)
            ),
        }
    }
}

impl std::error::Error for CallError {}

impl CallError {
    /// Gives the code that a scheduler answered with; UNAVAILABLE where none did.
    pub fn code(&self) -> Code {
        match self {
            Self::Answered(status) => status.code(),
            Self::Unreachable { .. } => Code::Unavailable,
        }
    }
}

/// A way to the cluster. Clones share the connections and the address in use.
#[derive(Debug, Clone)]
pub struct Connection {
    addresses: Addresses,
    channels: Vec<Channel>,
    /// Index of the address in use, counted on without end.
    current: Arc<AtomicUsize>,
    retry_for: Duration,
}

impl Connection {
    /// Prepares to connect; nothing is sent before the first call.
    ///
    /// # Errors
    /// Fails where an address cannot be part of a URI.
    pub fn new(addresses: &Addresses, retry_for: Duration) -> anyhow::Result<Self> {
        let channels =
            addresses.as_slice().iter().map(|address| channel(address)).collect::<Result<_, _>>()?;
        Ok(Self { addresses: addresses.clone(), channels, current: Arc::default(), retry_for })
    }

    /// Shares the connections, with another limit on how long something unreachable is tried.
    pub fn retrying_for(&self, retry_for: Duration) -> Self {
        Self { retry_for, ..self.clone() }
    }

    /// Lists each address with its channel.
    pub fn each(&self) -> impl Iterator<Item = (&str, Channel)> {
        self.addresses.as_slice().iter().map(String::as_str).zip(self.channels.iter().cloned())
    }

    /// Makes a call, and while no scheduler answers makes it again at the next address. For calls that
    /// are safe to repeat only, and for the opening of streams.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<T, F, R>(&self, attempt: F) -> Result<T, CallError>
    where
        F: Fn(Channel) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let mut patience = self.patience();
        let mut mentioned = false;
        loop {
            let used = self.current.load(Ordering::Relaxed);
            let channel = self.channels[used % self.channels.len()].clone();
            let status = match attempt(channel).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if is_passing(&status) => status,
                Err(status) => return Err(CallError::Answered(status)),
            };
            tracing::debug!(address = self.address(used), error = %status, "a call found no answer");
            self.leave(used);
            let Some(pause) = patience.pause(retry_after(&status)) else {
                return Err(self.unreachable(&status));
            };
            if !mentioned && patience.lasted() >= QUIET_TROUBLE {
                mentioned = true;
                output::note(format!("berth: no answer yet from {} ({})", self.addresses, cause_of(&status)));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Moves on to the next address, after a stream broke.
    pub fn move_on(&self) {
        self.leave(self.current.load(Ordering::Relaxed));
    }

    /// Starts the count of failures by which this connection gives up.
    pub fn patience(&self) -> Patience {
        Patience::new(self.retry_for, self.channels.len())
    }

    /// Makes the error of having given up after `status`.
    pub fn unreachable(&self, status: &Status) -> CallError {
        CallError::Unreachable {
            addresses: self.addresses.to_string(),
            cause: cause_of(status),
            said_by_scheduler: status.source().is_none() && !is_foreign(status),
            tried_for: self.retry_for,
        }
    }

    /// Leaves an address, unless another call has left it already.
    fn leave(&self, used: usize) {
        let next = used.wrapping_add(1);
        // Losing this race means that another call moved on first, which is as good.
        let _ = self.current.compare_exchange(used, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn address(&self, used: usize) -> &str {
        let addresses = self.addresses.as_slice();
        &addresses[used % addresses.len()]
    }
}

fn channel(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .with_context(|| format!("{address:?} is not HOST:PORT"))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_lazy())
}

/// Makes a client of the job service.
pub fn jobs(channel: Channel) -> JobServiceClient<Channel> {
    JobServiceClient::new(channel)
        .max_decoding_message_size(MAX_RECEIVED_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// Makes a client of the cluster service.
pub fn cluster(channel: Channel) -> ClusterServiceClient<Channel> {
    ClusterServiceClient::new(channel)
        .max_decoding_message_size(MAX_RECEIVED_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// Says whether a later try, perhaps at another address, may fare better: the scheduler said so, or none
/// answered. Only a status made on this side, for want of an answer, has a source.
pub fn is_passing(status: &Status) -> bool {
    status.code() == Code::Unavailable
        || status.source().is_some()
        || is_foreign(status)
        || is_overload(status)
}

/// Says whether nothing was done because too many ask at the moment.
fn is_overload(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted
        && status.get_details_error_info().is_some_and(|info| info.reason == "OVERLOADED")
}

/// Says whether it was an answer, but none of gRPC: tonic words what it made of it. The usual case is the
/// REST address of a scheduler.
fn is_foreign(status: &Status) -> bool {
    let said = ["receiving response with status:", "grpc-status header missing", "invalid compression flag"];
    said.iter().any(|words| status.message().contains(words))
}

/// Words what kept an answer away.
pub fn cause_of(status: &Status) -> String {
    if is_foreign(status) {
        return NO_GRPC.to_owned();
    }
    let Some(mut cause) = status.source() else { return status.message().to_owned() };
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let cause = cause.to_string();
    // What comes of it when a server of HTTP/1 answers.
    if cause.contains("frame with invalid size") { NO_GRPC.to_owned() } else { cause }
}

fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}
