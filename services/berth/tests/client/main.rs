//! The client commands as processes of their own, against a cluster that is played in this one.
#![allow(clippy::expect_used, reason = "a test may fail by panic")]

mod commands;
mod fake;
mod run;
