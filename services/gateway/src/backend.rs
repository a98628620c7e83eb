//! Calls to the gRPC services in the same process, with messages as bytes: the gateway knows no generated
//! client.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::HeaderMap;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::failure::Failure;

/// Headers that mean the same to the services as to the gateway.
const FORWARDED: [&str; 3] = ["authorization", "traceparent", "tracestate"];
/// How long the services may take beyond the deadline that they were told.
const SLACK: Duration = Duration::from_secs(5);

/// The services behind the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    routes: Routes,
}

/// One call to make.
pub(crate) struct Call {
    /// The RPC, as `/berth.v1.JobService/GetJob`.
    pub path: PathAndQuery,
    /// The encoded request.
    pub message: Bytes,
    /// The HTTP request's headers, of which a few are passed on.
    pub headers: HeaderMap,
    /// How long the call may take; for a stream, until it begins.
    pub deadline: Duration,
}

impl Backend {
    /// Puts the gateway before services.
    pub(crate) fn new(routes: Routes) -> Self {
        Self { routes: routes.prepare() }
    }

    /// Makes a call with one answer.
    pub(crate) async fn unary(&self, call: Call) -> Result<Bytes, Failure> {
        let limit = call.deadline + SLACK;
        let mut client = self.client();
        let (path, mut request) = call.into_request();
        request.set_timeout(limit - SLACK);
        match tokio::time::timeout(limit, client.unary(request, path, RawCodec)).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Failure::no_answer(limit)),
        }
    }

    /// Makes a call with a stream of answers. It has no deadline once it has begun.
    pub(crate) async fn stream(&self, call: Call) -> Result<Streaming<Bytes>, Failure> {
        let limit = call.deadline + SLACK;
        let mut client = self.client();
        let (path, request) = call.into_request();
        match tokio::time::timeout(limit, client.server_streaming(request, path, RawCodec)).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Failure::no_answer(limit)),
        }
    }

    /// Asks the services' own health service; the message says what is wrong.
    pub(crate) async fn ready(&self, limit: Duration) -> Result<(), String> {
        let mut client = HealthClient::new(self.routes.clone());
        let check = client.check(HealthCheckRequest { service: String::new() });
        match tokio::time::timeout(limit, check).await {
            Ok(Ok(answer)) => match answer.into_inner().status() {
                ServingStatus::Serving => Ok(()),
                ServingStatus::NotServing => Err("not serving".to_owned()),
                ServingStatus::Unknown | ServingStatus::ServiceUnknown => Err("state unknown".to_owned()),
            },
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
        }
    }

    fn client(&self) -> Grpc<Routes> {
        // In the same process an answer's size is its sender's business: a page of 1,000 jobs may be large.
        Grpc::new(self.routes.clone()).max_decoding_message_size(usize::MAX)
    }
}

impl Call {
    fn into_request(self) -> (PathAndQuery, Request<Bytes>) {
        let mut forwarded = HeaderMap::new();
        for name in FORWARDED {
            if let Some(value) = self.headers.get(name) {
                forwarded.insert(name, value.clone());
            }
        }
        let mut request = Request::new(self.message);
        *request.metadata_mut() = MetadataMap::from_headers(forwarded);
        (self.path, request)
    }
}

/// Leaves messages as they are.
#[derive(Debug, Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
