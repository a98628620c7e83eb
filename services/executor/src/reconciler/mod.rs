//! Makes the containers what the schedulers want them to be. One task owns what is known of each
//! attempt; the pure `reconcile` of the domain decides; steps run beside it and report back.

mod attempt;
mod container;
mod decide;
mod ending;
mod launch;
mod listing;
mod news;
mod owner;
mod pulls;
mod steps;
mod types;
mod watcher;

pub use owner::{Parts, Reconciler};
pub use pulls::Pulls;
pub use steps::{Steps, StepsParts};
pub use types::*;
