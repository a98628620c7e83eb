//! Looks at a Redis server once, for whoever wants to know whether a cluster could be kept on it. It
//! judges nothing and writes nothing.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fred::types::{ClusterHash, CustomCommand};

use super::client::RedisClient;
use super::config::RedisConfig;
use super::reply::Reply;
use super::server::{appendfsync, field, info};
use crate::StoreError;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisFacts {
    /// Its version, for example 7.0.15.
    pub version: String,
    /// The version is one that a cluster can be kept on.
    pub new_enough: bool,
    /// It keeps an append-only file.
    pub append_only: bool,
    /// How it syncs that file: `always`, `everysec` or `no`; `None` where it does not tell this user.
    pub append_fsync: Option<String>,
    /// What it does when its memory is full; `None` where it does not tell.
    pub eviction: Option<String>,
    /// Its clock less this machine's, in milliseconds.
    pub clock_offset_ms: i64,
    /// How long the question for the clock took: half of it is the error of the offset.
    pub clock_round_trip: Duration,
}

/// Asks a server what it is.
///
/// # Errors
/// Fails when the server cannot be reached or refuses this user; asking again is safe.
pub async fn probe(config: &RedisConfig) -> Result<RedisFacts, StoreError> {
    let client = RedisClient::connect(config, Duration::ZERO).await?;
    let info = info(&client).await?;
    let append_fsync = appendfsync(&client).await;
    let (clock_offset_ms, clock_round_trip) = clock(&client).await?;
    let version = field(&info, "redis_version").unwrap_or("unknown").to_owned();
    Ok(RedisFacts {
        new_enough: super::server::is_new_enough(&version),
        version,
        append_only: field(&info, "aof_enabled") == Some("1"),
        append_fsync,
        eviction: field(&info, "maxmemory_policy").map(str::to_owned),
        clock_offset_ms,
        clock_round_trip,
    })
}

/// Compares the server's clock with this machine's, as of the middle of the question.
async fn clock(client: &RedisClient) -> Result<(i64, Duration), StoreError> {
    let (asked, began) = (SystemTime::now(), Instant::now());
    let command = CustomCommand::new_static("TIME", ClusterHash::Random, false);
    let mut reply = Reply::new(client.read(command, Vec::new()).await?)?;
    let round_trip = began.elapsed();
    let theirs_ms = reply.number()? * 1_000 + reply.number()? / 1_000;
    let ours = asked.duration_since(UNIX_EPOCH).unwrap_or_default() + round_trip / 2;
    let signed = |ms: u128| i64::try_from(ms).unwrap_or(i64::MAX);
    Ok((signed(u128::from(theirs_ms)) - signed(ours.as_millis()), round_trip))
}
