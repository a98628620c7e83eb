//! The calls that containers of attempts need, each answer read for what it means. Of jobs in containers that
//! others use, too, it knows nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use berth_domain::spec::Network;
use bollard::errors::Error;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, ListImagesOptions, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, WaitContainerOptionsBuilder,
};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

use super::engine::{LONG, Link, SHORT};
use super::errors::{self, Answer, answer};
use super::slots::{Maker, Slot, Slots};
use super::{create, output, pull, seen};
use crate::runtime::{
    ContainerName, ContainerPlan, CreateError, Delivery, EngineError, Inspected, Listed, MOST_LINES,
    OutputLine, Owner, PullError, PullProgress, Runtime, Signal, StartError, labels,
};

/// The containers of jobs, with network namespaces kept ready for them.
pub(super) struct Containers {
    link: Arc<Link>,
    slots: Arc<Slots>,
}

impl Containers {
    /// Uses an engine.
    pub fn new(link: Arc<Link>) -> Self {
        Self { link, slots: Arc::default() }
    }

    /// The network namespaces that are kept ready.
    pub fn slots(&self) -> Arc<Slots> {
        self.slots.clone()
    }

    /// What makes them, for an executor.
    pub fn maker(&self, owner: Owner) -> Maker {
        Maker { link: self.link.clone(), owner }
    }

    /// Makes the attempt's container, in a slot or in a network of its own.
    async fn create_in(&self, plan: &ContainerPlan, slot: Option<&Slot>) -> Result<(), CreateError> {
        let engine = self.link.engine().await?;
        if plan.network == Network::Bridge {
            self.link.require_bridge(&engine.docker).await?;
        }
        let options = CreateContainerOptionsBuilder::default().name(plan.name.as_str()).build();
        let body = create::body(plan, engine.has_init, slot);
        let created = self.link.call(LONG, engine.docker.create_container(Some(options), body)).await?;
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

    async fn start_once(&self, container: &ContainerName) -> Result<(), StartError> {
        let docker = self.link.docker().await?;
        let start = docker.start_container(container.as_str(), None::<StartContainerOptions>);
        self.link.call(LONG, start).await?.map_err(|error| errors::start(&error))
    }

    /// Says what a start that the engine refused means. Where the container has not run, and was made in the
    /// network of another, it is that network that fails: no other start of it can succeed.
    async fn refused(&self, container: &ContainerName, refusal: StartError) -> StartError {
        let look = match self.link.docker().await {
            Ok(docker) => docker.inspect_container(container.as_str(), None::<InspectContainerOptions>),
            Err(error) => return error.into(),
        };
        let found = match self.link.call(SHORT, look).await {
            Ok(found) => found,
            Err(error) => return error.into(),
        };
        match found {
            Ok(found) if seen::waits_in_slot(&found) => {
                self.slots.failed(container);
                StartError::SlotDead(refusal.to_string())
            }
            Ok(_) => match refusal {
                // It is here: what is gone is something that it needs.
                StartError::Gone => {
                    EngineError::Failed("something that the container needs is not there".into()).into()
                }
                StartError::Command { .. } | StartError::SlotDead(_) | StartError::Engine(_) => refusal,
            },
            Err(error) => match answer(&error) {
                Answer::Status(404, _) => {
                    self.slots.gone(container);
                    refusal
                }
                Answer::Status(..) | Answer::None(_) => errors::engine(&error).into(),
            },
        }
    }

    /// Removes a container; none is no error.
    async fn remove_with(&self, container: &ContainerName, force: bool) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default().force(force).v(true).build();
        let docker = self.link.docker().await?;
        match self.link.call(LONG, docker.remove_container(container.as_str(), Some(options))).await? {
            Ok(()) => {
                self.slots.gone(container);
                Ok(())
            }
            Err(error) => match answer(&error) {
                Answer::Status(404, _) => {
                    self.slots.gone(container);
                    Ok(())
                }
                Answer::Status(..) | Answer::None(_) => Err(errors::engine(&error)),
            },
        }
    }

    /// After a name was taken: says whether the container that has it is the very one that is
    /// wanted.
    async fn is_same(&self, plan: &ContainerPlan) -> Result<bool, EngineError> {
        let docker = self.link.docker().await?;
        let look = docker.inspect_container(plan.name.as_str(), None::<InspectContainerOptions>);
        let found = self.link.call(SHORT, look).await?.map_err(|error| errors::engine(&error))?;
        let found: BTreeMap<_, _> =
            found.config.and_then(|config| config.labels).unwrap_or_default().into_iter().collect();
        let identity = [labels::CLUSTER, labels::EXECUTOR, labels::JOB, labels::ATTEMPT, labels::EPOCH];
        let same = |key: &&str| found.get(*key) == plan.labels.get(*key);
        Ok(identity.iter().all(same) && same(&labels::SPEC_HASH))
    }
}

#[async_trait]
impl Runtime for Containers {
    async fn list(&self, owner: &Owner) -> Result<Vec<Listed>, EngineError> {
        let ours = vec![
            format!("{}={}", labels::CLUSTER, owner.cluster),
            format!("{}={}", labels::EXECUTOR, owner.executor),
        ];
        let filters = HashMap::from([("label".to_owned(), ours)]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let docker = self.link.docker().await?;
        let list = self.link.call(LONG, docker.list_containers(Some(options))).await?;
        let list = list.map_err(|error| errors::engine(&error))?;
        self.slots.listed(&list);
        Ok(list.iter().filter_map(seen::listed).collect())
    }

    async fn ping(&self) -> Result<(), EngineError> {
        let docker = self.link.docker().await?;
        self.link.call(SHORT, docker.ping()).await?.map_err(|error| errors::engine(&error))?;
        Ok(())
    }

    async fn images(&self) -> Result<Vec<String>, EngineError> {
        let docker = self.link.docker().await?;
        let list = self.link.call(SHORT, docker.list_images(None::<ListImagesOptions>)).await?;
        let list = list.map_err(|error| errors::engine(&error))?;
        let mut tags: Vec<String> = list.into_iter().flat_map(|image| image.repo_tags).collect();
        tags.sort();
        Ok(tags)
    }

    async fn pull(&self, image: &str, progress: watch::Sender<PullProgress>) -> Result<(), PullError> {
        let docker = self.link.docker().await.map_err(|error| PullError::Transient(error.to_string()))?;
        pull::pull(docker, image, &progress).await
    }

    async fn create(&self, plan: &ContainerPlan) -> Result<(), CreateError> {
        let slot = self.slots.take(plan);
        let mut made = self.create_in(plan, slot.as_deref()).await;
        if let (
            Some(_),
            Err(CreateError::Refused(reason) | CreateError::Engine(EngineError::Failed(reason))),
        ) = (&slot, &made)
        {
            let container = &plan.name;
            tracing::info!(%container, reason, "its network slot is of no use: it gets a network of its own");
            made = self.create_in(plan, None).await;
            match &made {
                Ok(()) => self.slots.failed(&plan.name),
                // It was not for want of the slot.
                Err(_) => self.slots.doom(&plan.name),
            }
        }
        match &made {
            Ok(()) => {}
            Err(
                CreateError::NoImage | CreateError::Refused(_) | CreateError::Engine(EngineError::Failed(_)),
            ) if slot.is_some() => {
                self.slots.unused(&plan.name);
            }
            // It may have been made, now or when it was asked for before.
            Err(CreateError::NoImage | CreateError::Refused(_) | CreateError::Engine(_)) => {
                self.slots.doom(&plan.name);
            }
        }
        made
    }

    async fn start(&self, container: &ContainerName) -> Result<(), StartError> {
        if self.slots.has_left(container) {
            // It has been started, and has ended: another job may be where it was.
            return Ok(());
        }
        match self.start_once(container).await {
            Ok(()) => {
                self.slots.started(container);
                Ok(())
            }
            Err(error @ StartError::Command { .. }) => {
                self.slots.gone(container);
                Err(error)
            }
            // It may run, or be about to.
            Err(error @ StartError::Engine(EngineError::Unavailable(_) | EngineError::Unreachable(_))) => {
                self.slots.doom(container);
                Err(error)
            }
            Err(
                error @ (StartError::Gone
                | StartError::SlotDead(_)
                | StartError::Engine(EngineError::Failed(_))),
            ) => Err(self.refused(container, error).await),
        }
    }

    async fn wait(&self, container: &ContainerName) -> Result<(), EngineError> {
        // The container was started before, so that "not running" cannot be true too early, and is
        // true at once when it has ended meanwhile: nothing can fall between.
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let docker = self.link.docker().await?;
        let mut stream = docker.wait_container(container.as_str(), Some(options)).boxed();
        match stream.next().await {
            // bollard makes an error of every exit code but 0.
            Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) => match answer(&error) {
                Answer::Status(404, _) => Ok(()),
                Answer::Status(..) | Answer::None(_) => Err(self.link.reach.judge(&error)),
            },
            None => Err(EngineError::Unavailable("the wait ended without an answer".to_owned())),
        }
    }

    async fn inspect(&self, container: &ContainerName) -> Result<Option<Inspected>, EngineError> {
        let docker = self.link.docker().await?;
        let look = docker.inspect_container(container.as_str(), None::<InspectContainerOptions>);
        match self.link.call(SHORT, look).await? {
            Ok(found) => {
                self.slots.seen(container, &found);
                Ok(Some(seen::inspected(&found)))
            }
            Err(error) => match answer(&error) {
                Answer::Status(404, _) => {
                    self.slots.gone(container);
                    Ok(None)
                }
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
        let docker = self.link.docker().await?;
        // What ends by a signal, or may have, leaves its slot to nobody.
        self.slots.doom(container);
        match self.link.call(SHORT, docker.kill_container(container.as_str(), Some(options))).await? {
            Ok(()) => Ok(Delivery::Sent),
            Err(error) => match answer(&error) {
                Answer::Status(404 | 409, _) => Ok(Delivery::NotRunning),
                Answer::Status(_, text) if text.contains("is not running") => Ok(Delivery::NotRunning),
                Answer::Status(..) | Answer::None(_) => Err(errors::engine(&error)),
            },
        }
    }

    async fn remove(&self, container: &ContainerName) -> Result<(), EngineError> {
        self.remove_with(container, true).await
    }

    async fn remove_unstarted(&self, container: &ContainerName) -> Result<(), EngineError> {
        self.remove_with(container, false).await
    }

    async fn logs(
        &self,
        container: &ContainerName,
        since_seconds: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Vec<OutputLine>, EngineError>>, EngineError> {
        let options = LogsOptionsBuilder::default()
            .follow(follow)
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .since(i32::try_from(since_seconds).unwrap_or(i32::MAX))
            .build();
        // The stream holds the client it comes from.
        let docker = self.link.docker().await?.clone();
        let pieces = docker.logs(container.as_str(), Some(options));
        let reach = self.link.reach.clone();
        let lines = pieces.filter_map(move |piece| {
            let line = match piece {
                Ok(piece) => output::line(piece).map(Ok),
                Err(error) => Some(Err(reach.judge(&error))),
            };
            std::future::ready(line)
        });
        Ok(lines.ready_chunks(MOST_LINES).flat_map(|lines| stream::iter(batches(lines))).boxed())
    }
}

/// Puts lines together, up to where the stream broke.
fn batches(lines: Vec<Result<OutputLine, EngineError>>) -> Vec<Result<Vec<OutputLine>, EngineError>> {
    let (mut whole, mut broken) = (Vec::with_capacity(lines.len()), None);
    for line in lines {
        match line {
            Ok(line) => whole.push(line),
            Err(error) => broken = Some(Err(error)),
        }
    }
    [Ok(whole)].into_iter().chain(broken).collect()
}
