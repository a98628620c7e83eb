//! The fleet in containers, brought up and taken down by the recipes that people use: its images, its
//! Compose file and what is left of it. Every fleet has a project, a cluster and ports of its own, so
//! that several run side by side, as these tests do.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

mod fleet;
mod kills;
mod life;
mod refusals;
mod small;
mod starts;
