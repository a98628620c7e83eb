//! Looks at an engine once, for whoever wants to know whether jobs could run on it. It judges
//! nothing and changes nothing.

use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::InspectNetworkOptions;

use super::engine::{BRIDGE, DockerSettings, USUAL_HOST, timed};
use super::errors::{Answer, answer};
use super::reach::Reach;
use crate::runtime::EngineError;

/// How long each question may take.
const LIMIT: Duration = Duration::from_secs(5);
/// What names the interface of a bridge network.
const INTERFACE: &str = "com.docker.network.bridge.name";
/// Sockets of engines whose networks are those of this machine: neither rootless nor in a machine of their own.
const SOCKETS_OF_THIS_MACHINE: [&str; 2] = ["unix:///var/run/docker.sock", "unix:///run/docker.sock"];

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// Where it is, as in DOCKER_HOST.
    pub host: String,
    /// Its version, for example 28.2.2; empty where it does not say.
    pub version: String,
    /// The version of its API that is spoken with it, for example 1.41.
    pub api_version: String,
    /// The oldest version of its API that it still speaks; empty where it does not say.
    pub oldest_api_version: String,
    /// Its operating system, for example linux; empty where it does not say.
    pub os: String,
    /// Its architecture as Docker names it, for example amd64; empty where it does not say.
    pub arch: String,
    /// The default bridge.
    pub bridge: BridgeFacts,
}

/// The state of an engine's default bridge, which jobs are on unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BridgeFacts {
    /// It is there, as far as can be seen from here.
    Present,
    /// The engine has no such network.
    NoNetwork,
    /// The engine has the network, and this machine lacks its interface of that name.
    NoInterface(String),
    /// The engine does not tell.
    Unknown(String),
}

/// Asks an engine what it is.
///
/// # Errors
/// Fails when the engine does not answer; asking again is safe.
pub async fn probe_docker(settings: DockerSettings) -> Result<EngineFacts, EngineError> {
    let host = settings.host.unwrap_or_else(|| USUAL_HOST.to_owned());
    let reach = Reach::new(host.clone());
    let judge = |error: Error| reach.judge(&error);
    let docker = Docker::connect_with_host(&host).map_err(judge)?;
    let docker = timed(LIMIT, docker.negotiate_version()).await?.map_err(judge)?;
    let said = timed(LIMIT, docker.version()).await?.map_err(judge)?;
    let bridge = bridge(&docker, &host).await;
    Ok(EngineFacts {
        version: said.version.unwrap_or_default(),
        api_version: docker.client_version().to_string(),
        oldest_api_version: said.min_api_version.unwrap_or_default(),
        os: said.os.unwrap_or_default(),
        arch: said.arch.unwrap_or_default(),
        bridge,
        host,
    })
}

async fn bridge(docker: &Docker, host: &str) -> BridgeFacts {
    let found = timed(LIMIT, docker.inspect_network(BRIDGE, None::<InspectNetworkOptions>)).await;
    let network = match found {
        Ok(Ok(network)) => network,
        Ok(Err(error)) => {
            return match answer(&error) {
                Answer::Status(404, _) => BridgeFacts::NoNetwork,
                Answer::Status(_, text) | Answer::None(text) => BridgeFacts::Unknown(text),
            };
        }
        Err(error) => return BridgeFacts::Unknown(error.to_string()),
    };
    let interface = network.options.and_then(|options| options.get(INTERFACE).cloned());
    match interface {
        Some(interface) if sees_interfaces(host) && !interface_exists(&interface) => {
            BridgeFacts::NoInterface(interface)
        }
        Some(_) | None => BridgeFacts::Present,
    }
}

/// Says whether this process sees the network interfaces that the engine makes.
fn sees_interfaces(host: &str) -> bool {
    let in_container = Path::new("/.dockerenv").exists();
    SOCKETS_OF_THIS_MACHINE.contains(&host) && !in_container && Path::new("/sys/class/net/lo").exists()
}

fn interface_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}
