//! The policies that are measured, each by its published definition.

mod best;
mod best_fit;
mod choice;
mod engine;
mod fgd;
mod kubernetes;
mod nomad;
mod packing;
#[cfg(test)]
mod policies_tests;
mod simple;

pub use choice::{Ask, Kind, Policy};
