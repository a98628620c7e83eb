//! The descriptors of every message and service, as compiled into the API crate.

use std::sync::LazyLock;

use berth_api::DESCRIPTORS;
use berth_api::status::Problem;
use prost_reflect::{DescriptorPool, MessageDescriptor};

static POOL: LazyLock<Result<DescriptorPool, String>> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).map_err(|error| error.to_string()));

/// Gives the pool of all descriptors.
///
/// # Errors
/// Fails only when the API crate was built wrong; repeating cannot help.
pub(crate) fn pool() -> Result<&'static DescriptorPool, Problem> {
    POOL.as_ref().map_err(|error| Problem::Internal(format!("the API's descriptors cannot be read: {error}")))
}

/// Gives the descriptor of one message.
///
/// # Errors
/// Fails when the API has no such message; repeating cannot help.
pub(crate) fn message(full_name: &str) -> Result<MessageDescriptor, Problem> {
    pool()?
        .get_message_by_name(full_name)
        .ok_or_else(|| Problem::Internal(format!("the API has no message {full_name}")))
}
