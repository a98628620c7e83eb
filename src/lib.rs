//! The wire: generated gRPC types, the only gate from wire to domain (`convert`), and the one
//! error-code table (`status`). It knows nothing of how a call is answered.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod codec;
pub mod convert;
pub mod status;

/// Messages, clients and servers of `berth.v1`, generated from `proto/`.
#[allow(
    missing_docs,
    clippy::wildcard_enum_match_arm,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    clippy::large_enum_variant,
    reason = "generated code; its documentation stands in the proto files"
)]
pub mod v1 {
    tonic::include_proto!("berth.v1");
}

/// The descriptor set of every message and service, with options and source comments.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/berth.binpb"));

/// The oldest executor protocol served.
pub const MIN_PROTOCOL_VERSION: u32 = 1;
/// The newest executor protocol served.
pub const MAX_PROTOCOL_VERSION: u32 = 1;

/// The largest message a server accepts or a client sends, in bytes: a batch of 4 MiB and its framing.
pub const MAX_MESSAGE_BYTES: usize = 5 * 1024 * 1024;
