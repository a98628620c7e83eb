//! Which store a scheduler works on, and how it is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use berth_store::embedded::{EmbeddedConfig, EmbeddedStore};
use berth_store::redis::{RedisConfig, RedisStore};
use berth_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use super::redis_wait;
use crate::output;

/// The wait between two attempts to reach Redis at the start.
const REDIS_RETRY: Duration = Duration::from_secs(2);

/// What holds the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StoreKind {
    /// A Redis, for any number of replicas
    Redis,
    /// A file in the data folder, for one replica
    Embedded,
}

/// Where the store is.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Store")]
pub struct StoreArgs {
    /// What holds the queue
    #[arg(long = "store", env = "BERTH_STORE", value_enum, default_value_t = StoreKind::Redis)]
    kind: StoreKind,
    /// Where Redis is; overrides REDIS_HOST and REDIS_PORT
    #[arg(long, env = "BERTH_REDIS_URL", value_name = "URL", hide_env_values = true)]
    redis_url: Option<String>,
    /// Host of Redis
    #[arg(long, env = "REDIS_HOST", default_value = "127.0.0.1", value_name = "HOST")]
    redis_host: String,
    /// Port of Redis
    #[arg(long, env = "REDIS_PORT", default_value_t = 6379, value_name = "PORT")]
    redis_port: u16,
}

impl StoreArgs {
    /// Opens the store; `None` when told to stop while Redis was waited for.
    ///
    /// # Errors
    /// Fails when the store can serve no cluster, or another process uses its file.
    pub async fn open(
        &self,
        cluster: &str,
        data_dir: &Path,
        recheck: Duration,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Arc<dyn Store>>> {
        match self.kind {
            StoreKind::Redis => self.connect(cluster, recheck, stop).await,
            StoreKind::Embedded => Ok(Some(open_embedded(data_dir.join("store")).await?)),
        }
    }

    /// Connects to Redis, patiently: a cluster often starts all at once.
    async fn connect(
        &self,
        cluster: &str,
        recheck: Duration,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Arc<dyn Store>>> {
        let url = self
            .redis_url
            .clone()
            .unwrap_or_else(|| format!("redis://{}:{}", self.redis_host, self.redis_port));
        let config = RedisConfig { url, cluster: cluster.to_owned(), recheck, ..RedisConfig::default() };
        let waiting = redis_wait::Waiting::new(&config, REDIS_RETRY);
        for attempt in 1_u64.. {
            match RedisStore::connect(config.clone()).await {
                Ok(store) => return Ok(Some(Arc::new(store))),
                Err(StoreError::Unavailable { reason }) => {
                    output::note(waiting.sentence(&reason, attempt));
                }
                Err(error) => return Err(error).context("Redis cannot serve a cluster"),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(REDIS_RETRY) => {}
            }
        }
        Ok(None)
    }
}

/// Opens the store in a folder of its own.
///
/// # Errors
/// Fails when the folder cannot be used or another process uses it.
pub async fn open_embedded(folder: PathBuf) -> anyhow::Result<Arc<dyn Store>> {
    // Opening may repair a large file, which must not hold up the runtime.
    let opening = tokio::task::spawn_blocking(move || EmbeddedStore::open(&EmbeddedConfig::new(folder)));
    let remedy = match opening.await.context("the store could not be opened")? {
        Ok(store) => return Ok(Arc::new(store)),
        Err(error @ StoreError::InUse { .. }) => anyhow::Error::new(error)
            .context("the store is in use; stop the other process, or set --data-dir"),
        Err(error) => anyhow::Error::new(error).context(
            "the store cannot be used; mend its folder, restore it from a backup, or set --data-dir",
        ),
    };
    Err(remedy)
}
