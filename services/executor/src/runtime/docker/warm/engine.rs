//! The calls that warm containers need, each with a deadline: making one, running a job in one, and looking at
//! what is left. Only what has this cluster's and this executor's labels is ever touched.

use std::collections::HashMap;
use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ContainerSummary, HealthConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, TopOptionsBuilder,
    UploadToContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures::stream::{Stream, StreamExt};

use super::pool::Container;
use crate::runtime::docker::create;
use crate::runtime::docker::engine::{LONG, Link, SHORT};
use crate::runtime::docker::errors::{self, Answer, answer};
use crate::runtime::docker::slots::pause;
use crate::runtime::{ContainerPlan, EngineError, Owner, labels};

/// Where the program that waits is in a container.
const PROGRAM: &str = "/berth-pause";
/// Docker's init process, which stands in front of every job, here as in a container of its own: what it says
/// of a command that cannot be run, and its exit codes, are the same. It reaps what the job leaves to it.
const INIT: [&str; 3] = ["/sbin/docker-init", "-s", "--"];

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    pub id: String,
    pub entrypoint: Vec<String>,
}

/// The output of a job as it comes.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// How the engine answered a wish to run something.
pub(super) enum Begun {
    /// It runs, or has run.
    Pieces(Pieces),
    /// Nobody knows.
    Unknown(String),
}

/// How a job in a container ended, as the engine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// With a code.
    Code(i32),
    /// It could not be begun.
    NeverRan,
    /// It runs on, or nobody knows.
    Unknown,
}

/// Looks an image up; `None` where it is not there.
pub(super) async fn image(link: &Link, name: &str) -> Result<Option<Image>, EngineError> {
    let look = link.docker().await?.inspect_image(name);
    match link.call(SHORT, look).await? {
        Ok(found) => {
            let entrypoint = found.config.and_then(|config| config.entrypoint).unwrap_or_default();
            let id = found.id.ok_or_else(|| EngineError::Failed("an image has no id".to_owned()))?;
            Ok(Some(Image { id, entrypoint }))
        }
        Err(error) => match answer(&error) {
            Answer::Status(404, _) => Ok(None),
            Answer::Status(..) | Answer::None(_) => Err(errors::engine(&error)),
        },
    }
}

/// Makes a container like a job's own, in which nothing runs but what waits. After an error, it may be there.
pub(super) async fn make(
    link: &Link,
    name: &str,
    plan: &ContainerPlan,
    image: Image,
) -> Result<Container, EngineError> {
    let engine = link.engine().await?;
    let Some(archive) = pause(&engine.arch, PROGRAM) else {
        return Err(EngineError::Failed(format!("there is no program to wait on {}", engine.arch)));
    };
    let docker = &engine.docker;
    if plan.network == berth_domain::spec::Network::Bridge {
        link.require_bridge(docker).await?;
    }
    let failed = |error: Error| errors::engine(&error);
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let created = docker.create_container(Some(options), body(plan, &image));
    let id = link.call(LONG, created).await?.map_err(failed)?.id;
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    let upload = docker.upload_to_container(&id, Some(options), bollard::body_full(archive.into()));
    link.call(LONG, upload).await?.map_err(failed)?;
    let start = docker.start_container(&id, None::<StartContainerOptions>);
    link.call(LONG, start).await?.map_err(failed)?;
    match running(&inspect(link, &id).await?) {
        Some(pid) => Ok(Container { id, pid, entrypoint: image.entrypoint }),
        None => Err(EngineError::Failed("a container in which nothing is to run does not stay".to_owned())),
    }
}

/// Describes the container: limits and rights of a job's own, and nothing of one job.
fn body(plan: &ContainerPlan, image: &Image) -> ContainerCreateBody {
    let mut all = plan.labels.clone();
    all.retain(|key, _| matches!(key.as_str(), labels::CLUSTER | labels::EXECUTOR | labels::BOOT));
    all.insert(labels::WARM.to_owned(), plan.namespace.to_string());
    let idle = ContainerPlan {
        image: image.id.clone(),
        command: Vec::new(),
        env: std::collections::BTreeMap::new(),
        labels: all,
        ..plan.clone()
    };
    ContainerCreateBody {
        entrypoint: Some(vec![PROGRAM.to_owned()]),
        // What an image has checked from time to time would be taken for something that a job left.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        ..create::body(&idle, true, None)
    }
}

/// Makes ready to run a job in a container: nothing runs yet. Gives the name of it.
pub(super) async fn prepare(
    link: &Link,
    container: &Container,
    plan: &ContainerPlan,
) -> Result<String, EngineError> {
    let init = INIT.into_iter().map(str::to_owned);
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        env: Some(plan.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        cmd: Some(init.chain(container.entrypoint.clone()).chain(plan.command.clone()).collect()),
        ..CreateExecOptions::default()
    };
    let made = link.docker().await?.create_exec(&container.id, options);
    Ok(link.call(SHORT, made).await?.map_err(|error| errors::engine(&error))?.id)
}

/// Runs what was made ready. An error says that nothing runs, and nothing will.
pub(super) async fn begin(link: &Link, exec: &str) -> Result<Begun, EngineError> {
    let start = link.docker().await?.start_exec(exec, Some(StartExecOptions::default()));
    match link.call(LONG, start).await {
        Ok(Ok(StartExecResults::Attached { output, .. })) => Ok(Begun::Pieces(output)),
        Ok(Ok(StartExecResults::Detached)) => Ok(Begun::Unknown("its output was not given".to_owned())),
        Ok(Err(error)) => match errors::engine(&error) {
            refused @ EngineError::Failed(_) => Err(refused),
            error @ (EngineError::Unavailable(_) | EngineError::Unreachable(_)) => {
                Ok(Begun::Unknown(error.to_string()))
            }
        },
        Err(unreachable @ EngineError::Unreachable(_)) => Err(unreachable),
        Err(error @ (EngineError::Unavailable(_) | EngineError::Failed(_))) => {
            Ok(Begun::Unknown(error.to_string()))
        }
    }
}

/// Looks how a job ended.
pub(super) async fn exit(link: &Link, exec: &str) -> Result<Exit, EngineError> {
    let look = link.docker().await?.inspect_exec(exec);
    let found = link.call(SHORT, look).await?.map_err(|error| errors::engine(&error))?;
    let code = found.exit_code.and_then(|code| i32::try_from(code).ok());
    Ok(match (found.running, found.pid, code) {
        (Some(false), None | Some(0), _) => Exit::NeverRan,
        (Some(false), Some(_), Some(code)) => Exit::Code(code),
        (Some(true) | None, ..) | (Some(false), Some(_), None) => Exit::Unknown,
    })
}

/// Counts the processes in a container.
pub(super) async fn processes(link: &Link, id: &str) -> Result<usize, EngineError> {
    let options = TopOptionsBuilder::default().ps_args("-opid").build();
    let look = link.docker().await?.top_processes(id, Some(options));
    let found = link.call(SHORT, look).await?.map_err(|error| errors::engine(&error))?;
    Ok(found.processes.map_or(0, |processes| processes.len()))
}

/// Looks at a container.
pub(super) async fn inspect(link: &Link, id: &str) -> Result<ContainerInspectResponse, EngineError> {
    let look = link.docker().await?.inspect_container(id, None::<InspectContainerOptions>);
    link.call(SHORT, look).await?.map_err(|error| errors::engine(&error))
}

/// The first process of a container that runs.
pub(super) fn running(found: &ContainerInspectResponse) -> Option<i64> {
    found.state.as_ref().filter(|state| state.running == Some(true))?.pid.filter(|pid| *pid > 0)
}

/// What came of a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Killed {
    /// It was sent.
    Now,
    /// The container did not run.
    Before,
    /// There is no such container.
    Gone,
}

/// Kills everything in a container, and it with that.
pub(super) async fn kill(link: &Link, id: &str) -> Result<Killed, EngineError> {
    let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
    let kill = link.docker().await?.kill_container(id, Some(options));
    match link.call(LONG, kill).await? {
        Ok(()) => Ok(Killed::Now),
        Err(error) => match answer(&error) {
            Answer::Status(404, _) => Ok(Killed::Gone),
            Answer::Status(409, _) => Ok(Killed::Before),
            Answer::Status(_, text) if text.contains("is not running") => Ok(Killed::Before),
            Answer::Status(..) | Answer::None(_) => Err(errors::engine(&error)),
        },
    }
}

/// Waits until a container runs no more, or does not answer.
pub(super) async fn wait(link: &Link, id: &str) {
    let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
    if let Ok(docker) = link.docker().await {
        let _ = docker.wait_container(id, Some(options)).next().await;
    }
}

/// Removes a container, running or not, by its id or name; none is no error.
pub(super) async fn remove(link: &Link, id: &str) -> Result<(), EngineError> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let remove = link.docker().await?.remove_container(id, Some(options));
    match link.call(LONG, remove).await? {
        Ok(()) => Ok(()),
        Err(error) => match answer(&error) {
            Answer::Status(404, _) => Ok(()),
            Answer::Status(..) | Answer::None(_) => Err(errors::engine(&error)),
        },
    }
}

/// Finds what an earlier process of an executor left, by id.
pub(super) async fn left_over(link: &Link, owner: &Owner) -> Result<Vec<String>, EngineError> {
    let ours = vec![
        format!("{}={}", labels::CLUSTER, owner.cluster),
        format!("{}={}", labels::EXECUTOR, owner.executor),
        labels::WARM.to_owned(),
    ];
    let filters = HashMap::from([("label".to_owned(), ours)]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let list = link.docker().await?.list_containers(Some(options));
    let list = link.call(LONG, list).await?.map_err(|error| errors::engine(&error))?;
    let is_ours = |container: &ContainerSummary| {
        let label = |key: &str| container.labels.as_ref()?.get(key).map(String::as_str);
        let of_owner = label(labels::CLUSTER) == Some(&owner.cluster)
            && label(labels::EXECUTOR) == Some(&owner.executor);
        of_owner && label(labels::WARM).is_some() && label(labels::JOB).is_none()
    };
    Ok(list.into_iter().filter(is_ours).filter_map(|container| container.id).collect())
}
