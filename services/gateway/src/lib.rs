//! REST over the gRPC services: routes from the `google.api.http` annotations, the JSON rules, streams as
//! SSE or JSON lines. A client of the services; it knows nothing of the store or of who leads.

mod backend;
mod failure;
mod filters;
mod gateway;
mod health;
pub mod json;
mod query;
mod request;
mod schema;
mod serve;
mod stream;
mod table;
mod template;
#[cfg(test)]
mod tests;

pub use gateway::{Gateway, router};
pub use serve::serve;
