//! `berth run`: submits a job, shows its progress and its output, and exits with the job's own code.

use std::pin::pin;
use std::time::Duration;

use berth_api::v1::{AbortJobRequest, Job, SubmitJobRequest};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Code;

use super::connection::{CallError, Connection, jobs};
use super::interrupts::Interrupts;
use super::job_flags::JobFlags;
use super::log_copy::{LogCopy, Start};
use super::outcome::{ABORTED, COULD_NOT_RUN, exit_code, sentence};
use super::progress::Progress;
use super::watching;
use crate::failure::{self, Failure, USAGE};
use crate::output::{self, LogSink};

/// How long the log of a job that has ended may be out of reach before `run` gives it up.
const LOG_LIMIT: Duration = Duration::from_secs(15);

/// Run a job, show its output and exit with its exit code
#[derive(Debug, clap::Args)]
// As with Docker, the last of a repeated flag counts.
#[command(args_override_self = true)]
pub struct Args {
    /// Do not wait: print the job's id and leave it running
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    job: JobFlags,
    /// Accepted and without effect: containers are always removed
    #[arg(long, hide = true)]
    rm: bool,
    #[arg(short, long, hide = true)]
    interactive: bool,
    #[arg(short, long, hide = true)]
    tty: bool,
    #[arg(short, long, hide = true, value_name = "SRC:DST")]
    volume: Vec<String>,
    /// The image, and the command with its own flags; without one, the image's own command
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [CMD]")]
    image_and_command: Vec<String>,
}

impl Args {
    /// Makes the request.
    ///
    /// # Errors
    /// Fails on what no cluster could do, and when an environment file cannot be read.
    pub fn request(&self) -> Result<SubmitJobRequest, Failure> {
        self.refuse_what_cannot_be()?;
        match self.image_and_command.split_first() {
            Some((image, command)) => self.job.request(image, command),
            None => Err(Failure::usage("no image is given")),
        }
    }

    fn refuse_what_cannot_be(&self) -> Result<(), Failure> {
        if self.interactive || self.tty {
            return Err(Failure::usage(
                "-i and -t are not possible: a job runs on another machine with no terminal and no input",
            )
            .hint("Leave -it out; the job's output is shown here as it comes."));
        }
        if !self.volume.is_empty() {
            return Err(Failure::usage(
                "-v is not possible: bind mounts are not allowed, as a job may run on any machine",
            )
            .hint("Put the files into the image, or let the job fetch them."));
        }
        Ok(())
    }
}

/// Runs a job and gives its exit code; with `--detach` prints its id.
///
/// # Errors
/// Fails on a wrong command line only: whatever else keeps the job from running is exit code 125.
pub async fn execute(connection: &Connection, args: Args) -> anyhow::Result<u8> {
    let request = args.request()?;
    match submit_and_attach(connection, request, args.detach).await {
        Err(error) if failure::exit_code(&error) != USAGE && !failure::is_broken_pipe(&error) => {
            failure::report(&error);
            Ok(COULD_NOT_RUN)
        }
        other => other,
    }
}

async fn submit_and_attach(
    connection: &Connection,
    request: SubmitJobRequest,
    detach: bool,
) -> anyhow::Result<u8> {
    let mut interrupts = Interrupts::new()?;
    let request_id = request.request_id.clone();
    let submitted = tokio::select! {
        submitted = submit(connection, &request) => submitted?,
        () = interrupts.next() => {
            output::note("berth: left while submitting; the job may have been stored.");
            output::note(format!("hint: The same command with --request-id {request_id} finds it again."));
            return Ok(ABORTED);
        }
    };
    if detach {
        output::print_line(&submitted.id)?;
        return Ok(0);
    }
    output::note(format!("berth: job {}", submitted.id));
    attach(connection, submitted, interrupts).await
}

/// Stores a job. Safe to repeat, as the request has a `request_id`.
async fn submit(connection: &Connection, request: &SubmitJobRequest) -> Result<Job, CallError> {
    let answer = connection
        .call(|channel| {
            let request = request.clone();
            async move { jobs(channel).submit_job(request).await }
        })
        .await?;
    Ok(answer.job.unwrap_or_default())
}

async fn attach(connection: &Connection, job: Job, mut interrupts: Interrupts) -> anyhow::Result<u8> {
    let id = job.id.clone();
    let (latest, observed) = watch::channel(job.clone());
    // A task of its own: output that nobody takes must not keep Ctrl-C from being heard.
    let mut logs = start_logs(connection, observed);
    let mut progress = Progress::default();
    let mut watching = pin!(watching::follow(connection, job, |job| {
        if let Some(line) = progress.line(job) {
            output::note(format!("berth: {line}"));
        }
        latest.send_replace(job.clone());
    }));
    let mut abort: Option<JoinHandle<()>> = None;
    let ended = loop {
        tokio::select! {
            ended = &mut watching => break ended,
            () = interrupts.next() => match abort {
                None => abort = Some(start_abort(connection, &id)),
                Some(_) => return Ok(leave(&id)),
            },
        }
    };
    let ended = ended.inspect_err(|_| {
        output::note(format!("hint: The job goes on without this command. Follow it: berth logs -f {id}"));
    })?;
    tokio::select! {
        copied = &mut logs => report_logs(copied?, &id),
        () = interrupts.next() => logs.abort(),
    }
    if let Some(sentence) = sentence(&ended) {
        output::note(format!("berth: {}", output::plain(&sentence)));
    }
    Ok(exit_code(&ended))
}

fn start_logs(connection: &Connection, observed: watch::Receiver<Job>) -> JoinHandle<anyhow::Result<()>> {
    let copy = LogCopy::new(connection, LOG_LIMIT, observed, LogSink::that_outlives_its_reader());
    tokio::spawn(copy.follow(1, Start::Beginning))
}

fn report_logs(copied: anyhow::Result<()>, id: &str) {
    if let Err(error) = copied {
        output::note(format!("berth: the output could not be read to its end: {error:#}"));
        output::note(format!("hint: Try again: berth logs {id}"));
    }
}

fn start_abort(connection: &Connection, id: &str) -> JoinHandle<()> {
    output::note(format!("berth: aborting {id}; Ctrl-C again leaves at once"));
    let connection = connection.clone();
    let request = AbortJobRequest {
        id: id.to_owned(),
        reason: "interrupted by its user".to_owned(),
        grace_period: None,
    };
    tokio::spawn(async move {
        let aborted = connection
            .call(|channel| {
                let request = request.clone();
                async move { jobs(channel).abort_job(request).await }
            })
            .await;
        // A job that has ended in the meantime needs no abort.
        if let Err(error) = aborted
            && error.code() != Code::FailedPrecondition
        {
            output::note(format!("berth: the abort failed: {error}"));
        }
    })
}

fn leave(id: &str) -> u8 {
    output::note(format!("berth: left job {id}, which is being stopped. See: berth get {id}"));
    ABORTED
}
