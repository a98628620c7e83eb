//! The calls that slots need: their image, their containers, and what an earlier process left. Each has a
//! deadline; only what has this cluster's and this executor's labels is ever touched.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use berth_domain::spec::Network;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, HostConfig, HostConfigLogConfig,
    RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
};
use futures::stream::StreamExt;

use super::image;
use super::pool::Slot;
use crate::runtime::docker::create::network_mode;
use crate::runtime::docker::engine::{LONG, Link, SHORT, timed};
use crate::runtime::docker::errors::{self, Answer, answer};
use crate::runtime::{ContainerName, EngineError, Owner, labels};

/// The image of idle containers. Another content needs another name: one that is there is not looked into.
const IMAGE: &str = "berth-pause:1";
/// Where the program is in the image.
const PROGRAM: &str = "/pause";
/// Memory of an idle container: what sets it up needs more than the program.
const MEMORY_BYTES: i64 = 32 << 20;
/// Processes and threads of an idle container, for what sets it up.
const PROCESSES: i64 = 64;
/// Nobody's user and group.
const NOBODY: &str = "65534:65534";

/// Makes and removes slots of one executor.
pub(in crate::runtime::docker) struct Maker {
    pub link: Arc<Link>,
    pub owner: Owner,
}

/// Slots that an earlier process left, each with a container that is in it or may yet be.
pub(super) type LeftOver = Vec<(Slot, Option<ContainerName>)>;

impl Maker {
    /// Says whether there is a program for the engine's architecture; names that where there is none.
    pub async fn suits(&self) -> Result<Result<(), String>, EngineError> {
        let arch = &self.link.engine().await?.arch;
        Ok(image::archive(arch, PROGRAM).map(drop).ok_or_else(|| arch.clone()))
    }

    /// A name for a slot's container, which no other has.
    pub fn name(&self) -> String {
        let nonce: String = uuid::Uuid::new_v4().simple().to_string().chars().take(12).collect();
        format!("berth-slot-{}-{}-{nonce}", self.owner.cluster, self.owner.executor)
    }

    /// Makes a slot. After an error, its container may be there.
    pub async fn make(&self, name: &str, network: Network) -> Result<Slot, EngineError> {
        if network == Network::Bridge {
            self.link.require_bridge(self.link.docker().await?).await?;
        }
        let id = match self.create(name, network).await? {
            Ok(id) => id,
            Err(_no_image) => {
                self.import().await?;
                self.create(name, network).await?.map_err(EngineError::Failed)?
            }
        };
        self.begin(&id).await
    }

    /// Makes the idle container. The inner error is that there is no image.
    async fn create(&self, name: &str, network: Network) -> Result<Result<String, String>, EngineError> {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let docker = self.link.docker().await?;
        let created = docker.create_container(Some(options), body(&self.owner, network));
        match self.link.call(LONG, created).await? {
            Ok(created) => Ok(Ok(created.id)),
            Err(error) => match answer(&error) {
                Answer::Status(404, text) => Ok(Err(text)),
                Answer::Status(..) | Answer::None(_) => Err(errors::engine(&error)),
            },
        }
    }

    async fn begin(&self, id: &str) -> Result<Slot, EngineError> {
        let docker = self.link.docker().await?;
        let start = docker.start_container(id, None::<StartContainerOptions>);
        self.link.call(LONG, start).await?.map_err(|error| errors::engine(&error))?;
        let look = docker.inspect_container(id, None::<InspectContainerOptions>);
        let found = self.link.call(SHORT, look).await?.map_err(|error| errors::engine(&error))?;
        let running = found.state.is_some_and(|state| state.running == Some(true));
        let path = |path: Option<String>| path.filter(|path| path.starts_with('/') && running);
        match (path(found.hosts_path), path(found.resolv_conf_path), path(found.hostname_path)) {
            (Some(hosts), Some(resolv_conf), Some(hostname)) => {
                Ok(Slot { id: id.to_owned(), hosts, resolv_conf, hostname })
            }
            _ => Err(EngineError::Failed("it does not keep an idle container as is needed".to_owned())),
        }
    }

    /// Gives the engine the image.
    async fn import(&self) -> Result<(), EngineError> {
        let engine = self.link.engine().await?;
        let Some(archive) = image::archive(&engine.arch, PROGRAM) else {
            return Err(EngineError::Failed(format!("no slots on {}", engine.arch)));
        };
        let options = CreateImageOptionsBuilder::default().from_src("-").repo(IMAGE).build();
        let body = bollard::body_full(archive.into());
        let mut news = engine.docker.create_image(Some(options), Some(body), None);
        let import = async {
            while let Some(news) = news.next().await {
                news?;
            }
            Ok::<(), Error>(())
        };
        timed(LONG, import).await?.map_err(|error| errors::engine(&error))?;
        tracing::info!(image = IMAGE, "image of idle containers made");
        Ok(())
    }

    /// Removes a slot, by its container's id or name; none is no error.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let docker = self.link.docker().await?;
        match self.link.call(LONG, docker.remove_container(id, Some(options))).await? {
            Ok(()) => Ok(()),
            Err(error) => match answer(&error) {
                Answer::Status(404, _) => Ok(()),
                Answer::Status(..) | Answer::None(_) => Err(errors::engine(&error)),
            },
        }
    }

    /// Finds the slots of an earlier process of this executor.
    pub async fn left_over(&self) -> Result<LeftOver, EngineError> {
        let ours = vec![
            format!("{}={}", labels::CLUSTER, self.owner.cluster),
            format!("{}={}", labels::EXECUTOR, self.owner.executor),
        ];
        let filters = HashMap::from([("label".to_owned(), ours)]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let docker = self.link.docker().await?;
        let list = self.link.call(LONG, docker.list_containers(Some(options))).await?;
        Ok(left_over(&list.map_err(|error| errors::engine(&error))?))
    }
}

/// Reads the slots from a list of containers.
fn left_over(list: &[ContainerSummary]) -> LeftOver {
    let label = |it: &ContainerSummary, key: &str| it.labels.as_ref()?.get(key).cloned();
    let mut users = BTreeMap::new();
    for it in list.iter().filter(|it| label(it, labels::JOB).is_some() && may_run(it)) {
        let mode = it.host_config.as_ref().and_then(|host| host.network_mode.as_deref());
        let name = it.names.iter().flatten().next().map(|name| name.trim_start_matches('/').to_owned());
        if let (Some(slot), Some(name)) = (mode.and_then(|mode| mode.strip_prefix("container:")), name) {
            users.insert(slot.to_owned(), ContainerName::found(name));
        }
    }
    let slots =
        list.iter().filter(|it| label(it, labels::SLOT).is_some() && label(it, labels::JOB).is_none());
    let slots = slots.filter_map(|it| it.id.clone());
    slots
        .map(|id| {
            let user = users.remove(&id);
            let unknown = String::new;
            (Slot { id, hosts: unknown(), resolv_conf: unknown(), hostname: unknown() }, user)
        })
        .collect()
}

/// Says whether a container runs or could still be started by whoever made it.
fn may_run(container: &ContainerSummary) -> bool {
    !matches!(
        container.state,
        Some(
            ContainerSummaryStateEnum::EXITED
                | ContainerSummaryStateEnum::DEAD
                | ContainerSummaryStateEnum::REMOVING
        )
    )
}

/// Describes an idle container: it can do nothing, and has nothing but a network.
fn body(owner: &Owner, network: Network) -> ContainerCreateBody {
    let own = [(labels::CLUSTER, owner.cluster.as_str()), (labels::EXECUTOR, owner.executor.as_str())];
    let own = own.into_iter().chain([(labels::SLOT, network_mode(network))]);
    ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        entrypoint: Some(vec![PROGRAM.to_owned()]),
        user: Some(NOBODY.to_owned()),
        labels: Some(own.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
        // Its program hears nothing else, and an engine that shuts down would wait for it.
        stop_signal: Some("SIGKILL".to_owned()),
        host_config: Some(host_config(network)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(network: Network) -> HostConfig {
    // Where SELinux is on, jobs of any category can read the files of a slot of none; elsewhere it says nothing.
    let security = ["no-new-privileges", "label=level:s0"];
    // A connection that the former job closed first would keep its port from the next one for a minute.
    let sysctls = [("net.ipv4.tcp_max_tw_buckets", "0")];
    HostConfig {
        memory: Some(MEMORY_BYTES),
        memory_swap: Some(MEMORY_BYTES),
        pids_limit: Some(PROCESSES),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(security.map(str::to_owned).to_vec()),
        sysctls: Some(sysctls.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        privileged: Some(false),
        readonly_rootfs: Some(true),
        init: Some(false),
        ipc_mode: Some("none".to_owned()),
        network_mode: Some(network_mode(network).to_owned()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            ..RestartPolicy::default()
        }),
        auto_remove: Some(false),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..HostConfig::default()
    }
}
