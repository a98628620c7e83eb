//! The `Store` of a Redis server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use berth_domain::executor::Executor;
use berth_domain::ids::{ExecutorId, JobId};
use berth_domain::job::{JOB_STATES, Job};
use berth_domain::spec::JobSpec;
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::time::Instant;

use super::client::{RedisClient, millis, number, text};
use super::config::RedisConfig;
use super::encode::push_call;
use super::error::{Access, classify, is_new_server, lost};
use super::reply::{Reply, verdict};
use super::scripts::{Script, Scripts};
use super::server::inspect;
use super::waker::{BLOCK, Waker};
use crate::cursor::Place;
use crate::record::{
    decode_executor, decode_job, decode_log_entry, decode_scheduler, decode_spec, encode_scheduler,
};
use crate::validate::check_call;
use crate::{
    Call, Change, Changes, Committed, Cursor, LeaseRenewal, LockInfo, LockRequest, MAX_PAGE, Meta, Page,
    Position, SchedulerInfo, Scope, Store, StoreDescription, StoreError,
};

/// The most calls of the log that one read returns.
const MAX_LOG_ENTRIES: u64 = 100;
/// The most records that one script reads.
const MAX_READ: usize = 500;
/// The pause after a wake-up that brought nothing, so that a false one cannot spin.
const FALSE_WAKE_DELAY: Duration = Duration::from_millis(20);

/// A store in Redis. Its tasks and connections end with it.
#[derive(Debug)]
pub struct RedisStore {
    client: RedisClient,
    waker: Waker,
    scripts: Scripts,
    prefix: String,
    /// The newest generation that was ever read: none that is older may follow it.
    seen_generation: AtomicU64,
    config: RedisConfig,
    durability: String,
}

impl RedisStore {
    /// Connects, checks the server's version, and adopts it if it is another than before.
    ///
    /// # Errors
    /// Fails when the server cannot be reached or is older than Redis 7.0, or the configuration
    /// cannot be used. Trying again is safe.
    pub async fn connect(config: RedisConfig) -> Result<Self, StoreError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if config.cluster.is_empty() || !config.cluster.chars().all(is_plain) {
            let reason = format!("{:?} cannot name a cluster", config.cluster);
            return Err(StoreError::Malformed { reason });
        }
        let prefix = format!("{{{}}}:", config.cluster);
        let client = RedisClient::connect(&config, Duration::ZERO).await?;
        let durability = inspect(&client).await?;
        let follower = RedisClient::connect(&config, BLOCK).await?;
        let waker = Waker::start(follower, prefix.clone());
        let store = Self {
            client,
            waker,
            scripts: Scripts::new(),
            prefix,
            config,
            durability,
            seen_generation: AtomicU64::new(0),
        };
        let meta = store.meta().await?;
        tracing::info!(
            cluster = store.config.cluster,
            generation = meta.position.generation,
            revision = meta.position.revision,
            "connected to redis"
        );
        Ok(store)
    }

    /// Reads some of what the log has after a position, across generations: for tools that judge the
    /// whole history of a store. Empty where there is nothing newer. What was trimmed is left out.
    ///
    /// # Errors
    /// Fails when the server cannot be reached or an entry cannot be decoded. Trying again is safe.
    pub async fn history(&self, after: Position) -> Result<Vec<(Position, Change)>, StoreError> {
        let args = vec![
            text(&self.prefix),
            number(after.generation),
            number(after.revision),
            number(MAX_LOG_ENTRIES),
        ];
        let mut reply = Reply::new(self.read(&self.scripts.history, args).await?)?;
        let mut found = Vec::new();
        while reply.len() > 0 {
            let (generation, first) = (reply.number()?, reply.number()?);
            let changes = reply.bytes()?.unwrap_or_default();
            let entries = decode_log_entry(&changes, first)?.into_iter();
            found.extend(entries.map(|(revision, change)| (Position { generation, revision }, change)));
        }
        Ok(found)
    }

    /// The arguments that every writing script begins with.
    fn write_args(&self) -> Vec<Value> {
        vec![text(&self.prefix), millis(self.config.log_max_age), number(self.config.log_max_bytes)]
    }

    /// Runs a writing script; where the server turns out to be another one, adopts it and runs
    /// the script again.
    async fn write(&self, script: &Script, args: Vec<Value>) -> Result<Value, StoreError> {
        match self.client.run_raw(script, args.clone()).await? {
            Err(error) if is_new_server(&error) => {
                self.meta().await?;
                self.client.run(script, args, Access::Write).await
            }
            Err(error) => Err(classify(&error, Access::Write)),
            Ok(value) => Ok(value),
        }
    }

    async fn read(&self, script: &Script, args: Vec<Value>) -> Result<Value, StoreError> {
        self.client.run(script, args, Access::Read).await
    }

    /// Runs a script over ids, at most `MAX_READ` at a time; `read` takes one id's values.
    async fn read_each<T>(
        &self,
        script: &Script,
        ids: &[String],
        read: impl Fn(&mut Reply) -> Result<T, StoreError> + Send,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(MAX_READ) {
            let mut args = vec![text(&self.prefix)];
            args.extend(chunk.iter().map(text));
            let mut reply = Reply::new(self.read(script, args).await?)?;
            for _ in chunk {
                found.push(read(&mut reply)?);
            }
        }
        Ok(found)
    }

    async fn read_log(&self, after: Position) -> Result<Changes, StoreError> {
        let args = vec![
            text(&self.prefix),
            number(after.generation),
            number(after.revision),
            number(MAX_LOG_ENTRIES),
        ];
        let mut reply = match self.read(&self.scripts.changes, args).await? {
            Value::Array(values) => Reply::new(Value::Array(values))?,
            // The script's only other answer.
            _ => return Ok(Changes::Resync),
        };
        let mut entries = Vec::new();
        let mut position = after;
        while reply.len() > 0 {
            let first = reply.number()?;
            let changes = reply.bytes()?.unwrap_or_default();
            for (revision, change) in decode_log_entry(&changes, first)? {
                if revision > position.revision + 1 {
                    return Ok(Changes::Resync);
                }
                if revision > position.revision {
                    position.revision = revision;
                    entries.push((revision, change));
                }
            }
        }
        Ok(Changes::Entries { entries, position })
    }

    async fn run_lock(&self, args: [Value; 5]) -> Result<Reply, StoreError> {
        let mut all = self.write_args();
        all.extend(args);
        Reply::new(self.write(&self.scripts.lock, all).await?)
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn commit(&self, call: Call) -> Result<Committed, StoreError> {
        check_call(&call)?;
        let script = if call.is_submit_only() { &self.scripts.submit } else { &self.scripts.commit };
        let mut args = self.write_args();
        push_call(&mut args, &call);
        let reply = self.write(script, args).await?;
        // It was applied: a reply that cannot be read leaves what became of it unknown.
        read_committed(reply).map_err(|error| lost(Access::Write, error.to_string()))
    }

    async fn meta(&self) -> Result<Meta, StoreError> {
        let mut args = self.write_args();
        args.push(number(self.seen_generation.load(Ordering::SeqCst)));
        let value = self.client.run(&self.scripts.meta, args, Access::Read).await?;
        let mut reply = Reply::new(value)?;
        let position = Position { generation: reply.number()?, revision: reply.number()? };
        self.seen_generation.fetch_max(position.generation, Ordering::SeqCst);
        let (generation_since_ms, time_ms) = (reply.number()?, reply.number()?);
        let lock = read_lock(&mut reply.list()?)?;
        let counts = read_counts(&mut reply.list()?)?;
        Ok(Meta { position, time_ms, generation_since_ms, lock, counts })
    }

    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError> {
        self.read_each(&self.scripts.jobs, &names(ids), read_job).await
    }

    async fn specs(&self, ids: &[JobId]) -> Result<Vec<Option<JobSpec>>, StoreError> {
        let read = |reply: &mut Reply| reply.bytes()?.map(|bytes| decode_spec(&bytes)).transpose();
        self.read_each(&self.scripts.specs, &names(ids), read).await
    }

    async fn page(&self, scope: &Scope, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let after = after.map(Place::parse).transpose()?;
        let limit = limit.clamp(1, MAX_PAGE);
        let (index, order) = match scope {
            Scope::All => ("jobs".to_owned(), "reverse"),
            Scope::Pending => ("pending".to_owned(), "score"),
            Scope::Delayed => ("delayed".to_owned(), "score"),
            Scope::Finished => ("finished".to_owned(), "score"),
            Scope::Assigned(executor) => (format!("assigned:{executor}"), "id"),
        };
        let (score, id) = after.map_or_else(Default::default, |place| (place.score.to_string(), place.id));
        let args =
            vec![text(&self.prefix), text(index), text(order), number(limit as u64), text(score), text(id)];
        let mut reply = Reply::new(self.read(&self.scripts.page, args).await?)?;
        let mut jobs = Vec::with_capacity(limit);
        let (mut found, mut last) = (0, None);
        while reply.len() > 0 {
            found += 1;
            let id = reply.text()?;
            last = Some(Place { score: reply.number()?, id });
            jobs.extend(read_job(&mut reply)?);
        }
        let next = last.filter(|_| found == limit).map(|place| place.to_cursor());
        Ok(Page { jobs, next })
    }

    async fn executors(&self) -> Result<Vec<Executor>, StoreError> {
        let command = CustomCommand::new_static("SMEMBERS", ClusterHash::FirstKey, false);
        let args = vec![text(format!("{}executors", self.prefix))];
        let mut members = Reply::new(self.client.read(command, args).await?)?;
        let mut ids = Vec::with_capacity(members.len());
        while members.len() > 0 {
            ids.push(members.text()?);
        }
        ids.sort();
        let found =
            self.read_each(&self.scripts.executors, &ids, |reply| read_executor(&mut reply.list()?)).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn executor(&self, id: &ExecutorId) -> Result<Option<Executor>, StoreError> {
        let ids = [id.to_string()];
        let found =
            self.read_each(&self.scripts.executors, &ids, |reply| read_executor(&mut reply.list()?)).await?;
        Ok(found.into_iter().flatten().next())
    }

    async fn head(&self) -> Result<Position, StoreError> {
        let command = CustomCommand::new_static("HMGET", ClusterHash::FirstKey, false);
        let args = vec![text(format!("{}meta", self.prefix)), text("generation"), text("revision")];
        let mut reply = Reply::new(self.client.read(command, args).await?)?;
        let (generation, revision) = (reply.value()?, reply.value()?);
        match (generation.as_u64(), revision.as_u64()) {
            (Some(generation), Some(revision)) => Ok(Position { generation, revision }),
            // The server came back empty: a new generation has to begin.
            (Some(_) | None, Some(_) | None) => Ok(self.meta().await?.position),
        }
    }

    async fn changes(&self, after: Position, wait: Duration) -> Result<Changes, StoreError> {
        if wait.is_zero() {
            return self.read_log(after).await;
        }
        let deadline = Instant::now() + wait;
        // Before the log is read, so that no change falls between.
        let mut heads = self.waker.subscribe();
        let mut was_woken = false;
        loop {
            let changes = self.read_log(after).await?;
            let is_idle = matches!(&changes, Changes::Entries { entries, .. } if entries.is_empty());
            if !is_idle || Instant::now() >= deadline {
                return Ok(changes);
            }
            if was_woken {
                tokio::time::sleep(FALSE_WAKE_DELAY).await;
            }
            // Bounded, so that a broken connection of the follower delays changes but loses none.
            let until = deadline.min(Instant::now() + self.config.recheck);
            let woken = tokio::time::timeout_at(until, heads.wait_for(|head| *head > after)).await;
            was_woken = woken.is_ok();
        }
    }

    async fn renew_leases(&self, renewals: &[LeaseRenewal]) -> Result<Vec<bool>, StoreError> {
        let mut renewed = Vec::with_capacity(renewals.len());
        for chunk in renewals.chunks(MAX_READ) {
            let mut args = self.write_args();
            for renewal in chunk {
                args.push(text(renewal.executor.as_str()));
                args.push(text(renewal.session.as_str()));
                args.push(millis(renewal.lease));
            }
            let mut reply = Reply::new(self.write(&self.scripts.leases, args).await?)?;
            for _ in chunk {
                renewed.push(reply.number()? == 1);
            }
        }
        Ok(renewed)
    }

    async fn acquire_lock(&self, request: &LockRequest) -> Result<Option<LockInfo>, StoreError> {
        let args = [
            text("acquire"),
            text(&request.owner),
            text(""),
            millis(request.ttl),
            text(&request.scheduler_id),
        ];
        let mut reply = self.run_lock(args).await?;
        if reply.len() == 0 { Ok(None) } else { read_lock(&mut reply).map(Some) }
    }

    async fn renew_lock(&self, owner: &str, epoch: u64, ttl: Duration) -> Result<bool, StoreError> {
        let args = [text("renew"), text(owner), number(epoch), millis(ttl), text("")];
        Ok(self.run_lock(args).await?.len() > 0)
    }

    async fn release_lock(&self, owner: &str, epoch: u64) -> Result<bool, StoreError> {
        let args = [text("release"), text(owner), number(epoch), text("0"), text("")];
        Ok(self.run_lock(args).await?.len() > 0)
    }

    async fn announce_scheduler(&self, scheduler: &SchedulerInfo, ttl: Duration) -> Result<u64, StoreError> {
        let mut args = self.write_args();
        args.extend([
            text(scheduler.id.as_str()),
            millis(ttl),
            Value::Bytes(encode_scheduler(scheduler).into()),
        ]);
        Reply::new(Value::Array(vec![self.write(&self.scripts.announce, args).await?]))?.number()
    }

    async fn schedulers(&self) -> Result<Vec<SchedulerInfo>, StoreError> {
        let mut reply = Reply::new(self.read(&self.scripts.schedulers, vec![text(&self.prefix)]).await?)?;
        let mut found = Vec::new();
        while reply.len() > 0 {
            let heartbeat_time_ms = reply.number()?;
            found.push(decode_scheduler(&reply.bytes()?.unwrap_or_default(), heartbeat_time_ms)?);
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    fn describe(&self) -> StoreDescription {
        StoreDescription {
            kind: "redis",
            durability: self.durability.clone(),
            when_full: "Redis uses over 85 % of its maxmemory".to_owned(),
        }
    }
}

fn names(ids: &[JobId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn read_committed(value: Value) -> Result<Committed, StoreError> {
    let mut reply = Reply::new(value)?;
    let position = Position { generation: reply.number()?, revision: reply.number()? };
    let time_ms = reply.number()?;
    let mut verdicts = Vec::with_capacity(reply.len());
    while reply.len() > 0 {
        verdicts.push(verdict(&reply.text()?)?);
    }
    Ok(Committed { verdicts, position, time_ms })
}

fn read_job(reply: &mut Reply) -> Result<Option<Job>, StoreError> {
    match reply.bytes()? {
        Some(record) => decode_job(&record, reply.number()?).map(Some),
        None => reply.value().map(|_| None),
    }
}

fn read_executor(reply: &mut Reply) -> Result<Option<Executor>, StoreError> {
    let Some(record) = reply.bytes()? else { return Ok(None) };
    let mut executor = decode_executor(&record, reply.number()?)?;
    executor.reserved.cpu_millis = reply.number()?;
    executor.reserved.memory_bytes = reply.number()?;
    let mut devices = reply.list()?;
    while devices.len() > 0 {
        executor.reserved.gpu_ids.insert(devices.text()?);
    }
    executor.lease_expiry_ms = reply.number()?;
    Ok(Some(executor))
}

fn read_lock(reply: &mut Reply) -> Result<LockInfo, StoreError> {
    let (epoch, owner, scheduler_id) = (reply.number()?, reply.text()?, reply.text()?);
    let expiry_ms = reply.number()?;
    let pauses = reply.text()?;
    let read_pause = |pause: &str| {
        let (from, to) = pause.split_once('-')?;
        Some((from.parse().ok()?, to.parse().ok()?))
    };
    let pauses = pauses.split_whitespace().filter_map(read_pause).collect();
    Ok(LockInfo { epoch, owner, scheduler_id, expiry_ms, pauses })
}

fn read_counts(reply: &mut Reply) -> Result<BTreeMap<berth_domain::job::JobState, u64>, StoreError> {
    let mut counts = BTreeMap::new();
    while reply.len() > 0 {
        let (name, count) = (reply.text()?, reply.number()?);
        let state = JOB_STATES.into_iter().find(|state| state.name() == name);
        if let Some(state) = state.filter(|_| count > 0) {
            counts.insert(state, count);
        }
    }
    Ok(counts)
}
