//! How a Redis store is reached and bounded.

use std::fmt;
use std::time::Duration;

/// Settings of a `RedisStore`.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// Where the server is: `redis://[user:password@]host:port[/db]`, `rediss://` for TLS,
    /// `redis-cluster://`, `redis-sentinel://`. Default `redis://127.0.0.1:6379`.
    pub url: String,
    /// Names the cluster: all keys begin with `{cluster}:`. Letters, digits, `.`, `_` and `-`.
    /// Default `berth`.
    pub cluster: String,
    /// How long one command may take before its outcome counts as unknown. Default 3 s.
    pub command_timeout: Duration,
    /// How long connecting may take, each time. Default 3 s.
    pub connect_timeout: Duration,
    /// The longest pause between two attempts to connect again; the first is 1 ms. Default 500 ms.
    pub reconnect_max_delay: Duration,
    /// How often a waiting reader of the log looks for itself, in case the connection that wakes it
    /// is broken. Never needed while all goes well. Default 10 s.
    pub recheck: Duration,
    /// How long changes stay in the log. Default 60 s.
    pub log_max_age: Duration,
    /// How many bytes of changes stay in the log. Default 64 MiB.
    pub log_max_bytes: u64,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            cluster: "berth".to_owned(),
            command_timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(3),
            reconnect_max_delay: Duration::from_millis(500),
            recheck: Duration::from_secs(10),
            log_max_age: Duration::from_secs(60),
            log_max_bytes: 64 * 1024 * 1024,
        }
    }
}

impl RedisConfig {
    /// Shows the URL without user and password.
    pub fn masked_url(&self) -> String {
        match (self.url.split_once("://"), self.url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, address))) => format!("{scheme}://***@{address}"),
            (Some(_), None) | (None, Some(_) | None) => self.url.clone(),
        }
    }
}

impl RedisConfig {
    /// Shows where the server is, `host:port` alone.
    pub fn address(&self) -> String {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let rest = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
        rest.split(['/', '?']).next().unwrap_or(rest).to_owned()
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("url", &self.masked_url())
            .field("cluster", &self.cluster)
            .field("command_timeout", &self.command_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("reconnect_max_delay", &self.reconnect_max_delay)
            .field("recheck", &self.recheck)
            .field("log_max_age", &self.log_max_age)
            .field("log_max_bytes", &self.log_max_bytes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port_alone() {
        let address = |url: &str| RedisConfig { url: url.to_owned(), ..RedisConfig::default() }.address();
        assert_eq!(address("redis://user:p@ss@host:6379/1"), "host:6379");
        assert_eq!(address("rediss://host:6380?timeout=1"), "host:6380");
        assert_eq!(address("host:6379"), "host:6379");
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = "redis://user:secret@host:6379/1".to_owned();
        let shown = format!("{:?}", RedisConfig { url, ..RedisConfig::default() });
        assert!(!shown.contains("secret") && shown.contains("redis://***@host:6379/1"), "{shown}");
    }
}
