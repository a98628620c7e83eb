//! The store in Redis: one script for every kind of call, so that each is atomic. The only place
//! that knows of Redis and its client.

mod client;
mod config;
mod encode;
mod error;
mod probe;
mod reply;
mod scripts;
mod server;
mod store;
mod waker;

pub use config::RedisConfig;
pub use probe::{RedisFacts, probe};
pub use store::RedisStore;
