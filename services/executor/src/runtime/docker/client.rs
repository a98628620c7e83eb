//! The calls: each with a deadline, each error read for what it means.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use berth_domain::spec::Network;
use bollard::errors::Error;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, InspectNetworkOptions,
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptions, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptionsBuilder,
};
use bollard::{BollardRequest, Docker};
use futures::stream::{BoxStream, StreamExt};
use tokio::sync::{OnceCell, watch};

use super::errors::{self, Answer, answer};
use super::reach::Reach;
use super::{create, output, pull, seen};
use crate::runtime::{
    ContainerName, ContainerPlan, CreateError, Delivery, EngineError, Inspected, Listed, OutputLine, Owner,
    PullError, PullProgress, Runtime, Signal, StartError, labels,
};

/// Deadline of calls that only look or send a signal.
const SHORT: Duration = Duration::from_secs(15);
/// Deadline of calls that work.
const LONG: Duration = Duration::from_secs(90);
/// The network that jobs are on unless they say otherwise.
pub(super) const BRIDGE: &str = "bridge";
/// Where the engine is when nobody says otherwise.
pub(super) const USUAL_HOST: &str = "unix:///var/run/docker.sock";

/// Where the engine is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerSettings {
    /// `unix://PATH` or `tcp://HOST:PORT`, as in DOCKER_HOST; by default the usual socket.
    pub host: Option<String>,
}

struct Engine {
    docker: Docker,
    /// The engine can put an init process in front of a job.
    has_init: bool,
}

/// A Docker Engine. It is connected to at the first call, and again at the
/// next one while it does not answer.
pub struct DockerRuntime {
    reach: Arc<Reach>,
    engine: OnceCell<Engine>,
    /// The engine was seen to have the network that jobs are on unless they say otherwise.
    has_bridge: AtomicBool,
}

impl DockerRuntime {
    /// Makes a client that connects at its first call.
    pub fn new(settings: DockerSettings) -> Self {
        let host = settings.host.unwrap_or_else(|| USUAL_HOST.to_owned());
        Self {
            reach: Arc::new(Reach::new(host)),
            engine: OnceCell::new(),
            has_bridge: AtomicBool::new(false),
        }
    }

    async fn engine(&self) -> Result<&Engine, EngineError> {
        self.engine.get_or_try_init(|| self.connect()).await
    }

    async fn docker(&self) -> Result<&Docker, EngineError> {
        self.engine().await.map(|engine| &engine.docker)
    }

    async fn connect(&self) -> Result<Engine, EngineError> {
        let host = self.reach.host();
        let unanswered = |error: Error| match self.reach.judge(&error) {
            EngineError::Failed(text) => EngineError::Unavailable(format!("{host}: {text}")),
            other => other,
        };
        let docker = Docker::connect_with_host(host).map_err(unanswered)?;
        let negotiated = timed(SHORT, docker.negotiate_version()).await?.map_err(unanswered)?;
        let version = negotiated.client_version().to_string();
        let negotiated = negotiated.with_request_modifier(move |request| versioned(&version, request));
        let info = timed(SHORT, negotiated.info()).await?.map_err(unanswered)?;
        self.reach.answered();
        // "N/A" is what an engine says that cannot run the init it is configured with.
        let has_init = info.init_commit.and_then(|commit| commit.id).is_none_or(|id| id != "N/A");
        if !has_init {
            tracing::warn!("the container engine has no docker-init: jobs run without an init process");
        }
        tracing::info!(
            host,
            engine_version = info.server_version.unwrap_or_default(),
            api_version = %negotiated.client_version(),
            "container engine found"
        );
        Ok(Engine { docker: negotiated, has_init })
    }

    /// Makes a call with a deadline. An engine that was not reached is the outer error; what it
    /// answered, or broke off, is the inner one.
    async fn call<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, EngineError> {
        let outcome = timed(deadline, call).await?;
        match &outcome {
            Ok(_) => self.reach.answered(),
            Err(error) => {
                if let unreachable @ EngineError::Unreachable(_) = self.reach.judge(error) {
                    return Err(unreachable);
                }
            }
        }
        Ok(outcome)
    }

    /// An engine without a bridge runs a container that asks for one without any network, and says
    /// nothing: what the job makes of that would be taken for its own failure.
    async fn require_bridge(&self, docker: &Docker) -> Result<(), EngineError> {
        if self.has_bridge.load(Ordering::Relaxed) {
            return Ok(());
        }
        let look = docker.inspect_network(BRIDGE, None::<InspectNetworkOptions>);
        match self.call(SHORT, look).await?.map_err(|error| answer(&error)) {
            Ok(_) => self.has_bridge.store(true, Ordering::Relaxed),
            Err(Answer::Status(404, text)) if text.contains(BRIDGE) => {
                let text = "it has no bridge network, so the job would run without any. Start dockerd with a \
                            bridge, or give the job the network none";
                return Err(EngineError::Failed(text.to_owned()));
            }
            // What else is wrong, the engine says when it is to start the container.
            Err(Answer::Status(_, _) | Answer::None(_)) => {}
        }
        Ok(())
    }

    /// After a name was taken: says whether the container that has it is the very one that is
    /// wanted.
    async fn is_same(&self, plan: &ContainerPlan) -> Result<bool, EngineError> {
        let docker = self.docker().await?;
        let look = docker.inspect_container(plan.name.as_str(), None::<InspectContainerOptions>);
        let found = self.call(SHORT, look).await?.map_err(|error| errors::engine(&error))?;
        let found: BTreeMap<_, _> =
            found.config.and_then(|config| config.labels).unwrap_or_default().into_iter().collect();
        let identity = [labels::CLUSTER, labels::EXECUTOR, labels::JOB, labels::ATTEMPT, labels::EPOCH];
        let same = |key: &&str| found.get(*key) == plan.labels.get(*key);
        Ok(identity.iter().all(same) && same(&labels::SPEC_HASH))
    }
}

/// Puts the negotiated version into the path. bollard leaves it out, and an engine then answers by
/// its newest version, which may be newer than what this program can read.
fn versioned(version: &str, mut request: BollardRequest) -> BollardRequest {
    let mut parts = request.uri().clone().into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", |path| path.as_str());
    parts.path_and_query = format!("/v{version}{path}").parse().ok();
    if let Ok(uri) = http::Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// Gives a call a deadline: bollard's own covers the head of the answer only.
pub(super) async fn timed<T>(deadline: Duration, call: impl Future<Output = T>) -> Result<T, EngineError> {
    tokio::time::timeout(deadline, call)
        .await
        .map_err(|_| EngineError::Unavailable(format!("no answer within {} s", deadline.as_secs())))
}

#[async_trait]
impl Runtime for DockerRuntime {
    async fn list(&self, owner: &Owner) -> Result<Vec<Listed>, EngineError> {
        let ours = vec![
            format!("{}={}", labels::CLUSTER, owner.cluster),
            format!("{}={}", labels::EXECUTOR, owner.executor),
        ];
        let filters = HashMap::from([("label".to_owned(), ours)]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let docker = self.docker().await?;
        let list = self.call(LONG, docker.list_containers(Some(options))).await?;
        let list = list.map_err(|error| errors::engine(&error))?;
        Ok(list.iter().filter_map(seen::listed).collect())
    }

    async fn ping(&self) -> Result<(), EngineError> {
        let docker = self.docker().await?;
        self.call(SHORT, docker.ping()).await?.map_err(|error| errors::engine(&error))?;
        Ok(())
    }

    async fn images(&self) -> Result<Vec<String>, EngineError> {
        let docker = self.docker().await?;
        let list = self.call(SHORT, docker.list_images(None::<ListImagesOptions>)).await?;
        let list = list.map_err(|error| errors::engine(&error))?;
        let mut tags: Vec<String> = list.into_iter().flat_map(|image| image.repo_tags).collect();
        tags.sort();
        Ok(tags)
    }

    async fn pull(&self, image: &str, progress: watch::Sender<PullProgress>) -> Result<(), PullError> {
        let docker = self.docker().await.map_err(|error| PullError::Transient(error.to_string()))?;
        pull::pull(docker, image, &progress).await
    }

    async fn create(&self, plan: &ContainerPlan) -> Result<(), CreateError> {
        let engine = self.engine().await?;
        if plan.network == Network::Bridge {
            self.require_bridge(&engine.docker).await?;
        }
        let options = CreateContainerOptionsBuilder::default().name(plan.name.as_str()).build();
        let body = create::body(plan, engine.has_init);
        let created = self.call(LONG, engine.docker.create_container(Some(options), body)).await?;
        let Err(error) = created else { return Ok(()) };
        match answer(&error) {
            Answer::Status(404, text) if text.to_ascii_lowercase().contains("no such image") => {
                Err(CreateError::NoImage)
            }
            // The pull will say what is wrong with the name.
            Answer::Status(400, text) if text.contains("invalid reference") => Err(CreateError::NoImage),
            Answer::Status(400, text) => Err(CreateError::Refused(text)),
            Answer::Status(409, text) if text.contains("already in use") => {
                if self.is_same(plan).await? {
                    tracing::info!(container = %plan.name, "container adopted");
                    return Ok(());
                }
                let text =
                    format!("the name {} is taken by a container that is not this attempt's", plan.name);
                Err(EngineError::Failed(text).into())
            }
            Answer::Status(_, text) => Err(EngineError::Failed(text).into()),
            Answer::None(text) => Err(EngineError::Unavailable(text).into()),
        }
    }

    async fn start(&self, container: &ContainerName) -> Result<(), StartError> {
        let docker = self.docker().await?;
        let start = docker.start_container(container.as_str(), None::<StartContainerOptions>);
        self.call(LONG, start).await?.map_err(|error| errors::start(&error))
    }

    async fn wait(&self, container: &ContainerName) -> Result<(), EngineError> {
        // The container was started before, so that "not running" cannot be true too early, and is
        // true at once when it has ended meanwhile: nothing can fall between.
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let docker = self.docker().await?;
        let mut stream = docker.wait_container(container.as_str(), Some(options)).boxed();
        match stream.next().await {
            // bollard makes an error of every exit code but 0.
            Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) => match answer(&error) {
                Answer::Status(404, _) => Ok(()),
                Answer::Status(..) | Answer::None(_) => Err(self.reach.judge(&error)),
            },
            None => Err(EngineError::Unavailable("the wait ended without an answer".to_owned())),
        }
    }

    async fn inspect(&self, container: &ContainerName) -> Result<Option<Inspected>, EngineError> {
        let docker = self.docker().await?;
        let look = docker.inspect_container(container.as_str(), None::<InspectContainerOptions>);
        match self.call(SHORT, look).await? {
            Ok(found) => Ok(Some(seen::inspected(&found))),
            Err(error) => match answer(&error) {
                Answer::Status(404, _) => Ok(None),
                Answer::Status(..) | Answer::None(_) => Err(errors::engine(&error)),
            },
        }
    }

    async fn signal(&self, container: &ContainerName, signal: Signal) -> Result<Delivery, EngineError> {
        let name = match signal {
            Signal::Term => "SIGTERM",
            Signal::Kill => "SIGKILL",
        };
        let options = KillContainerOptionsBuilder::default().signal(name).build();
        let docker = self.docker().await?;
        match self.call(SHORT, docker.kill_container(container.as_str(), Some(options))).await? {
            Ok(()) => Ok(Delivery::Sent),
            Err(error) => match answer(&error) {
                Answer::Status(404 | 409, _) => Ok(Delivery::NotRunning),
                Answer::Status(_, text) if text.contains("is not running") => Ok(Delivery::NotRunning),
                Answer::Status(..) | Answer::None(_) => Err(errors::engine(&error)),
            },
        }
    }

    async fn remove(&self, container: &ContainerName) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let docker = self.docker().await?;
        match self.call(LONG, docker.remove_container(container.as_str(), Some(options))).await? {
            Ok(()) => Ok(()),
            Err(error) => match answer(&error) {
                Answer::Status(404, _) => Ok(()),
                Answer::Status(..) | Answer::None(_) => Err(errors::engine(&error)),
            },
        }
    }

    async fn logs(
        &self,
        container: &ContainerName,
        since_seconds: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<OutputLine, EngineError>>, EngineError> {
        let options = LogsOptionsBuilder::default()
            .follow(follow)
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .since(i32::try_from(since_seconds).unwrap_or(i32::MAX))
            .build();
        // The stream holds the client it comes from.
        let docker = self.docker().await?.clone();
        let pieces = docker.logs(container.as_str(), Some(options));
        let reach = self.reach.clone();
        let lines = pieces.filter_map(move |piece| {
            let line = match piece {
                Ok(piece) => output::line(piece).map(Ok),
                Err(error) => Some(Err(reach.judge(&error))),
            };
            std::future::ready(line)
        });
        Ok(lines.boxed())
    }
}
