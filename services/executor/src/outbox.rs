//! The outbox: how each attempt ended, one file each, durable before anybody is told. A file is
//! renamed once the schedulers have taken note, and removed some time later: until then a
//! cluster that lost its newest writes can be told again. Of a job that may start only once, the wish
//! to start it is there too, durable before the engine is asked; and so is why a container was asked to
//! stop, since its exit code does not tell.

use std::io;
use std::sync::Arc;

use berth_api::convert::{attempt_end_from_wire, attempt_end_to_wire};
use berth_api::v1::AttemptResult;
use berth_domain::ids::{AttemptRef, JobId};
use berth_domain::lifecycle::AttemptEnd;
use berth_domain::reconcile::{Stop, StopCause};
use prost::Message;

use crate::disk::Disk;

const FOLDER: &str = "outbox";
const ENDED: &str = "ended";
const NOTED: &str = "noted";
const STARTING: &str = "starting";
const STOPPING: &str = "stopping";
/// How the causes of a stop are written.
const CAUSES: [(&str, StopCause); 3] = [
    ("abort", StopCause::Abort),
    ("run-timeout", StopCause::RunTimeout),
    ("superseded", StopCause::Superseded),
];

/// An end that was found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// How the attempt ended.
    pub end: AttemptEnd,
    /// The schedulers have taken note of it.
    pub acknowledged: bool,
}

/// A stop that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopping {
    /// The attempt.
    pub attempt: AttemptRef,
    /// Why, and when SIGKILL is due.
    pub stop: Stop,
    /// It was the executor's own, because its lease had ended.
    pub fenced: bool,
}

/// What was found on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Ends.
    pub stored: Vec<Stored>,
    /// Attempts of jobs that may start only once whose start was asked for.
    pub started: Vec<AttemptRef>,
    /// Stops that were begun.
    pub stopping: Vec<Stopping>,
}

/// The outbox in the executor's folder.
#[derive(Clone)]
pub struct Outbox {
    disk: Arc<dyn Disk>,
}

impl Outbox {
    /// Uses the folder's outbox.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }

    /// Reads every end. A file that cannot be read is left where it is, and a line says so: it
    /// may be all that is known of an attempt.
    ///
    /// # Errors
    /// Fails when the folder cannot be listed.
    pub async fn load(&self) -> io::Result<Found> {
        let mut found = Found::default();
        for entry in self.disk.list(FOLDER).await? {
            let path = format!("{FOLDER}/{}", entry.name);
            if entry.name.ends_with(".tmp") {
                // Its writer was stopped before the rename: nobody was told of it.
                self.disk.remove(&path).await?;
                continue;
            }
            let Some((attempt, kind)) = parse_name(&entry.name) else { continue };
            if kind == STARTING {
                found.started.push(attempt);
                continue;
            }
            let acknowledged = kind == NOTED;
            let content = self.disk.read(&path).await?.unwrap_or_default();
            if kind == STOPPING {
                found.stopping.extend(read_stop(attempt, &content));
                continue;
            }
            let end = AttemptResult::decode(content.as_slice())
                .ok()
                .and_then(|result| attempt_end_from_wire(&result, 0).ok())
                .filter(|end| end.attempt == attempt);
            match end {
                Some(end) => found.stored.push(Stored { end, acknowledged }),
                None => tracing::error!(path, "an outbox file is damaged and was left in place"),
            }
        }
        Ok(found)
    }

    /// Makes durable that an attempt is about to start.
    ///
    /// # Errors
    /// Fails when the disk does; the attempt must not be started then.
    pub async fn starting(&self, attempt: &AttemptRef) -> io::Result<()> {
        self.disk.write_atomic(&path(attempt, STARTING), b"").await
    }

    /// Takes back that an attempt is about to start: it has not, and will not before it is said again.
    ///
    /// # Errors
    /// Fails when the disk does; a process that comes after this one then takes the attempt for started.
    pub async fn not_started(&self, attempt: &AttemptRef) -> io::Result<()> {
        self.disk.remove(&path(attempt, STARTING)).await
    }

    /// Makes durable why a container was asked to stop.
    ///
    /// # Errors
    /// Fails when the disk does; a process that comes after this one then takes the exit for the job's own.
    pub async fn stopping(&self, stopping: &Stopping) -> io::Result<()> {
        let Stop { cause, kill_at_ms, .. } = stopping.stop;
        let name = CAUSES.iter().find(|(_, known)| *known == cause).map_or("", |(name, _)| name);
        let by = if stopping.fenced { "lease" } else { "schedulers" };
        let content = format!("{name} {kill_at_ms} {by}\n");
        self.disk.write_atomic(&path(&stopping.attempt, STOPPING), content.as_bytes()).await
    }

    /// Makes an end durable.
    ///
    /// # Errors
    /// Fails when the disk does; the end is then not to be told, and writing it again is safe.
    pub async fn write(&self, end: &AttemptEnd) -> io::Result<()> {
        let content = attempt_end_to_wire(end).encode_to_vec();
        self.disk.write_atomic(&path(&end.attempt, ENDED), &content).await
    }

    /// Notes that the schedulers know of the end. Losing the note only repeats the report.
    ///
    /// # Errors
    /// Fails when the disk does.
    pub async fn acknowledge(&self, attempt: &AttemptRef) -> io::Result<()> {
        self.disk.rename(&path(attempt, ENDED), &path(attempt, NOTED)).await
    }

    /// Forgets an end.
    ///
    /// # Errors
    /// Fails when the disk does.
    pub async fn remove(&self, attempt: &AttemptRef) -> io::Result<()> {
        self.disk.remove(&path(attempt, STARTING)).await?;
        self.disk.remove(&path(attempt, STOPPING)).await?;
        self.disk.remove(&path(attempt, NOTED)).await?;
        self.disk.remove(&path(attempt, ENDED)).await
    }
}

fn path(attempt: &AttemptRef, kind: &str) -> String {
    format!("{FOLDER}/{}.{kind}", file_stem(attempt))
}

/// Names files of an attempt: `<job>.<number>.<epoch>`.
pub(crate) fn file_stem(attempt: &AttemptRef) -> String {
    format!("{}.{}.{}", attempt.job, attempt.number, attempt.epoch)
}

/// Reads a file name of [`file_stem`] back. A job's id may itself have dots.
pub(crate) fn parse_stem(stem: &str) -> Option<AttemptRef> {
    let mut parts = stem.rsplitn(3, '.');
    let epoch = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    let job = JobId::parse(parts.next()?).ok()?;
    Some(AttemptRef { job, number, epoch })
}

fn parse_name(name: &str) -> Option<(AttemptRef, &'static str)> {
    let (stem, kind) = name.rsplit_once('.')?;
    let kind = [ENDED, NOTED, STARTING, STOPPING].into_iter().find(|known| *known == kind)?;
    Some((parse_stem(stem)?, kind))
}

/// Reads what `stopping` wrote; nothing where it makes no sense.
fn read_stop(attempt: AttemptRef, content: &[u8]) -> Option<Stopping> {
    let text = std::str::from_utf8(content).ok()?;
    let mut words = text.split_whitespace();
    let name = words.next()?;
    let (_, cause) = CAUSES.into_iter().find(|(known, _)| *known == name)?;
    let kill_at_ms = words.next()?.parse().ok()?;
    let fenced = words.next()? == "lease";
    Some(Stopping { attempt, stop: Stop { cause, kill_at_ms, killed: false }, fenced })
}

#[cfg(test)]
mod tests {
    use berth_domain::lifecycle::EndCause;

    use super::*;
    use crate::clock::TokioClock;
    use crate::disk::{MemoryDisk, RealDisk};

    fn end(job: &str) -> AttemptEnd {
        AttemptEnd {
            attempt: AttemptRef { job: JobId::trusted(job), number: 2, epoch: 7 },
            cause: EndCause::Exited { code: 3, oom: false },
            message: "Exited with 3.".into(),
            start_time_ms: Some(1_000),
            end_time_ms: 2_000,
            jitter: 0,
        }
    }

    fn memory() -> Arc<MemoryDisk> {
        Arc::new(MemoryDisk::new(Arc::new(TokioClock::at(0))))
    }

    #[tokio::test]
    async fn an_end_outlives_the_process_until_it_is_noted_and_after() {
        let disk = memory();
        let outbox = Outbox::new(disk.clone());
        outbox.write(&end("a.b")).await.expect("it is written");
        let stored = Outbox::new(disk.clone()).load().await.expect("it is read").stored;
        assert_eq!(stored, [Stored { end: end("a.b"), acknowledged: false }]);
        outbox.acknowledge(&end("a.b").attempt).await.expect("it is noted");
        let stored = Outbox::new(disk.clone()).load().await.expect("it is read").stored;
        assert_eq!(stored, [Stored { end: end("a.b"), acknowledged: true }]);
        outbox.remove(&end("a.b").attempt).await.expect("it is removed");
        assert_eq!(Outbox::new(disk).load().await.expect("it is read"), Found::default());
    }

    #[tokio::test]
    async fn the_wish_to_start_what_may_start_only_once_outlives_the_process() {
        let disk = memory();
        let outbox = Outbox::new(disk.clone());
        outbox.starting(&end("a").attempt).await.expect("it is written");
        outbox.write(&end("b")).await.expect("it is written");
        let found = Outbox::new(disk).load().await.expect("it is read");
        assert_eq!((found.started, found.stored.len()), (vec![end("a").attempt], 1));
        outbox.remove(&end("a").attempt).await.expect("it is removed");
        assert_eq!(outbox.load().await.expect("it is read").started, []);
    }

    #[tokio::test]
    async fn the_cause_of_a_stop_outlives_the_process() {
        let disk = memory();
        let outbox = Outbox::new(disk.clone());
        let attempt = end("a.b").attempt;
        for (_, cause) in CAUSES {
            for fenced in [false, true] {
                let stop = Stop { cause, kill_at_ms: 5_000, killed: false };
                let stopping = Stopping { attempt: attempt.clone(), stop, fenced };
                outbox.stopping(&stopping).await.expect("it is written");
                assert_eq!(outbox.load().await.expect("it is read").stopping, [stopping]);
            }
        }
        outbox.remove(&attempt).await.expect("it is removed");
        assert_eq!(outbox.load().await.expect("it is read"), Found::default());
        disk.append("outbox/a.1.1.stopping", b"abort soon").await.expect("written");
        assert_eq!(
            outbox.load().await.expect("it is read"),
            Found::default(),
            "what makes no sense says nothing"
        );
    }

    #[tokio::test]
    async fn a_writer_stopped_before_the_rename_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Arc::new(RealDisk::open(folder.path()).expect("it opens"));
        let outbox = Outbox::new(disk.clone());
        outbox.write(&end("kept")).await.expect("it is written");
        // The process dies after half of the temporary file.
        disk.append("outbox/half.1.1.ended.tmp", &[8, 1]).await.expect("it is written");
        let stored = outbox.load().await.expect("it is read").stored;
        assert_eq!(stored.len(), 1);
        assert_eq!(disk.list("outbox").await.expect("listed").len(), 1);
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_and_keeps_the_old_content() {
        let disk = memory();
        let outbox = Outbox::new(disk.clone());
        outbox.write(&end("a")).await.expect("it is written");
        disk.set_full(true);
        assert!(outbox.write(&end("a")).await.is_err());
        assert!(outbox.write(&end("b")).await.is_err());
        assert_eq!(outbox.load().await.expect("it is read").stored.len(), 1);
    }

    #[tokio::test]
    async fn a_damaged_file_is_left_in_place() {
        let disk = memory();
        disk.append("outbox/j.1.1.ended", b"\xff\xff").await.expect("it is written");
        assert_eq!(Outbox::new(disk.clone()).load().await.expect("it is read"), Found::default());
        assert_eq!(disk.list("outbox").await.expect("listed").len(), 1);
    }
}
