//! One connection to the server: scripts go in, values or errors of the store come out.

use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, LuaInterface};
use fred::types::config::{Config, ReconnectPolicy, UnresponsiveConfig};
use fred::types::{Builder, ClientState, ConnectHandle, CustomCommand, Value};

use super::config::RedisConfig;
use super::error::{Access, classify, is_no_script, no_contact};
use super::scripts::Script;
use crate::StoreError;

/// The pause before the first attempt to connect again. Until it is over the client calls itself
/// connected, and a command given to it waits for its timeout: so it is short, and has no jitter.
const RECONNECT_MIN_MS: u32 = 1;

/// A connected client. Its connection ends with it.
#[derive(Debug)]
pub(super) struct RedisClient {
    client: Client,
    connection: ConnectHandle,
    routing_key: String,
}

impl Drop for RedisClient {
    fn drop(&mut self) {
        // The connection's task would keep itself alive.
        self.connection.abort();
    }
}

impl RedisClient {
    /// Connects; `block` is how long a single command of this client may block on purpose.
    pub(super) async fn connect(config: &RedisConfig, block: Duration) -> Result<Self, StoreError> {
        let client = build(config, block).map_err(|error| StoreError::Malformed {
            reason: format!("the redis url {} cannot be used: {error}", config.masked_url()),
        })?;
        let unavailable = |what: String| StoreError::Unavailable {
            reason: format!("redis at {} {what}", config.address()),
        };
        let connection = match tokio::time::timeout(config.connect_timeout, client.init()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(unavailable(no_contact(&error))),
            Err(_) => {
                let seconds = config.connect_timeout.as_secs_f32();
                return Err(unavailable(format!("did not answer within {seconds} s")));
            }
        };
        Ok(Self { client, connection, routing_key: format!("{{{}}}:meta", config.cluster) })
    }

    /// Runs a script.
    pub(super) async fn run(
        &self,
        script: &Script,
        args: Vec<Value>,
        access: Access,
    ) -> Result<Value, StoreError> {
        self.run_raw(script, args).await?.map_err(|error| classify(&error, access))
    }

    /// Runs a script; the inner error is not yet judged.
    pub(super) async fn run_raw(
        &self,
        script: &Script,
        args: Vec<Value>,
    ) -> Result<Result<Value, Error>, StoreError> {
        self.check_connected()?;
        let key = self.routing_key.clone();
        let result = self.client.evalsha(script.hash.clone(), key.clone(), args.clone()).await;
        match result {
            // `EVAL` also leaves the script in the server's cache.
            Err(error) if is_no_script(&error) => {
                Ok(self.client.eval(script.source.clone(), key, args).await)
            }
            Ok(_) | Err(_) => Ok(result),
        }
    }

    /// Runs a plain command that only reads.
    pub(super) async fn read(&self, command: CustomCommand, args: Vec<Value>) -> Result<Value, StoreError> {
        self.check_connected()?;
        self.client.custom(command, args).await.map_err(|error: Error| classify(&error, Access::Read))
    }

    /// Refuses while there is no connection: nothing was sent, so nothing can have been applied.
    /// Without this the client would keep the command until there is one.
    fn check_connected(&self) -> Result<(), StoreError> {
        match self.client.state() {
            ClientState::Connected => Ok(()),
            ClientState::Connecting | ClientState::Disconnected | ClientState::Disconnecting => {
                Err(StoreError::Unavailable { reason: "no connection to redis".to_owned() })
            }
        }
    }
}

fn build(config: &RedisConfig, block: Duration) -> Result<Client, Error> {
    let longest_silence = block + config.command_timeout;
    let max_delay_ms = u32::try_from(config.reconnect_max_delay.as_millis()).unwrap_or(u32::MAX);
    let mut policy =
        ReconnectPolicy::new_exponential(0, RECONNECT_MIN_MS, max_delay_ms.max(RECONNECT_MIN_MS), 2);
    policy.set_jitter(0);
    Builder::from_config(Config::from_url(&config.url)?)
        .with_performance_config(|performance| performance.default_command_timeout = longest_silence)
        .with_connection_config(|connection| {
            connection.connection_timeout = config.connect_timeout;
            connection.internal_command_timeout = config.connect_timeout;
            // More would send a script again that may have been applied.
            connection.max_command_attempts = 1;
            connection.tcp.nodelay = Some(true);
            // Later than the command's own timeout, so that a slow reply alone breaks nothing.
            connection.unresponsive = UnresponsiveConfig {
                max_timeout: Some(longest_silence * 2),
                interval: (longest_silence / 2).max(Duration::from_millis(10)),
            };
        })
        .set_policy(policy)
        .build()
}

/// Makes an argument of a text.
pub(super) fn text(value: impl Into<String>) -> Value {
    Value::Bytes(Bytes::from(value.into()))
}

/// Makes an argument of a number.
pub(super) fn number(value: u64) -> Value {
    text(value.to_string())
}

/// Makes an argument of a duration, in milliseconds.
pub(super) fn millis(value: Duration) -> Value {
    number(whole_ms(value))
}

/// A duration in milliseconds as scripts count.
pub(super) fn whole_ms(value: Duration) -> u64 {
    // Later than any clock will show, and still exact in a script.
    const FOREVER_MS: u64 = 1 << 52;
    u64::try_from(value.as_millis()).unwrap_or(FOREVER_MS).min(FOREVER_MS)
}
