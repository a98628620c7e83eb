//! The way to an engine: connected to at the first call, each call with a deadline, each error read for
//! what it means. It knows nothing of what is asked.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::InspectNetworkOptions;
use bollard::{BollardRequest, Docker};
use tokio::sync::OnceCell;

use super::errors::{Answer, answer};
use super::reach::Reach;
use crate::runtime::EngineError;

/// Deadline of calls that only look or send a signal.
pub(super) const SHORT: Duration = Duration::from_secs(15);
/// Deadline of calls that work.
pub(super) const LONG: Duration = Duration::from_secs(90);
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

/// An engine that was reached.
pub(super) struct Engine {
    pub docker: Docker,
    /// The engine can put an init process in front of a job.
    pub has_init: bool,
    /// Its architecture as the kernel names it, for example x86_64; empty where it does not say.
    pub arch: String,
}

/// The way to an engine. It is connected to at the first call, and again at the next one while it does
/// not answer.
pub(super) struct Link {
    pub reach: Arc<Reach>,
    engine: OnceCell<Engine>,
    /// The engine was seen to have the network that jobs are on unless they say otherwise.
    has_bridge: AtomicBool,
}

impl Link {
    /// Makes a client that connects at its first call.
    pub fn new(settings: DockerSettings) -> Self {
        let host = settings.host.unwrap_or_else(|| USUAL_HOST.to_owned());
        Self {
            reach: Arc::new(Reach::new(host)),
            engine: OnceCell::new(),
            has_bridge: AtomicBool::new(false),
        }
    }

    /// The engine; connected to where it is not yet.
    pub async fn engine(&self) -> Result<&Engine, EngineError> {
        self.engine.get_or_try_init(|| self.connect()).await
    }

    /// The client of the engine.
    pub async fn docker(&self) -> Result<&Docker, EngineError> {
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
        let arch = info.architecture.unwrap_or_default();
        Ok(Engine { docker: negotiated, has_init, arch })
    }

    /// Makes a call with a deadline. An engine that was not reached is the outer error; what it
    /// answered, or broke off, is the inner one.
    pub async fn call<T>(
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
    pub async fn require_bridge(&self, docker: &Docker) -> Result<(), EngineError> {
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
