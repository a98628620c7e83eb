//! One request's way: find its route, read it, make one call, show the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::map_response;
use axum::response::Response;
use berth_api::MAX_MESSAGE_BYTES;
use berth_api::status::Problem;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower_http::trace::TraceLayer;

use crate::backend::{Backend, Call};
use crate::failure::Failure;
use crate::health;
use crate::json::to_json;
use crate::request::{Parts, deadline, read};
use crate::stream::{self, Format};
use crate::table::{Found, Route, Table};

/// How long a body may take to arrive.
const BODY_LIMIT: Duration = Duration::from_secs(30);

/// Tells a request's stream that the server is going down.
#[derive(Debug, Clone)]
pub(crate) struct Shutdown(pub CancellationToken);

/// REST in front of gRPC services in the same process.
#[derive(Debug, Clone)]
pub struct Gateway {
    table: Table,
    backend: Backend,
}

/// Makes the REST router in front of the services: the routes of their annotations, `/healthz`, `/readyz` and
/// a page at `/`. It has a fallback, so it cannot be merged with another router that has one.
///
/// Interceptors of a transport server do not run on the calls that it makes.
pub fn router(backend: Routes) -> Router {
    match Gateway::new(backend) {
        Ok(gateway) => gateway.router(),
        // Only a wrong build comes here; every request says so.
        Err(problem) => Router::new().fallback(move |request: Request| {
            let failure = Failure::from(problem.clone());
            async move { failure.respond(request.headers()) }
        }),
    }
}

impl Gateway {
    /// Reads the route table and puts it before the services.
    ///
    /// # Errors
    /// Fails when an annotation cannot be served, which only a wrong build can cause.
    pub fn new(backend: Routes) -> Result<Self, Problem> {
        Ok(Self { table: Table::load()?, backend: Backend::new(backend) })
    }

    /// Lists every HTTP method, path and RPC that is served.
    pub fn routes(&self) -> Vec<(String, String, String)> {
        let routes = self.table.routes().iter();
        routes
            .map(|route| {
                let rpc = route.method.full_name().to_owned();
                (route.verb.to_string(), route.template.text().to_owned(), rpc)
            })
            .collect()
    }

    /// Makes the router, as [`router`] does.
    pub fn router(self) -> Router {
        Router::new().fallback(answer).with_state(Arc::new(self)).layer(map_response(harden)).layer(
            // Failures are logged once, where they become answers.
            TraceLayer::new_for_http().on_failure(()),
        )
    }

    async fn answer(&self, request: Request) -> Result<Response, Failure> {
        let (parts, body) = request.into_parts();
        match (parts.uri.path(), &parts.method) {
            ("/" | "/healthz" | "/readyz", &Method::GET | &Method::HEAD) => {}
            ("/" | "/healthz" | "/readyz", method) => return other_methods(method, &["GET", "HEAD"]),
            (path, method) => match self.table.find(method, path) {
                Found::Nothing(near) => return Err(Failure::no_path(path, near)),
                Found::OtherMethods(allowed) => return other_methods(method, &allowed),
                Found::Route(route, variables) => {
                    let body = read_body(&parts.headers, body).await?;
                    let shutdown = parts.extensions.get::<Shutdown>().cloned();
                    let message = read(
                        route,
                        Parts {
                            variables,
                            query: parts.uri.query().unwrap_or_default(),
                            headers: &parts.headers,
                            body: &body,
                        },
                    )?;
                    let shutdown = shutdown.map_or_else(CancellationToken::new, |shutdown| shutdown.0);
                    return self.call(route, message, method == Method::HEAD, parts.headers, shutdown).await;
                }
            },
        }
        Ok(match parts.uri.path() {
            "/healthz" => plain(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => health::ready(&self.backend).await,
            _ => plain(StatusCode::OK, health::page(&self.routes())),
        })
    }

    async fn call(
        &self,
        route: &Route,
        message: DynamicMessage,
        head: bool,
        headers: HeaderMap,
        shutdown: CancellationToken,
    ) -> Result<Response, Failure> {
        let service = route.method.parent_service().full_name().to_owned();
        let path = PathAndQuery::try_from(format!("/{service}/{}", route.method.name()))
            .map_err(|error| Problem::Internal(format!("an RPC has no path: {error}")))?;
        let format = Format::of(&headers);
        let deadline = deadline(&message, &headers);
        let call = Call { path, message: message.encode_to_vec().into(), headers, deadline };
        if !route.method.is_server_streaming() {
            let encoded = self.backend.unary(call).await?;
            return Ok(json_answer(&show(route, &encoded)?));
        }
        if head {
            return Ok(format.respond(Body::empty()));
        }
        let subject = message.get_field_by_name("id").and_then(|id| id.as_str().map(str::to_owned));
        let source = self.backend.stream(call).await?;
        let body = stream::body(source, route.method.output(), format, subject.unwrap_or_default(), shutdown);
        Ok(format.respond(body))
    }
}

async fn answer(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let headers = request.headers().clone();
    gateway.answer(request).await.unwrap_or_else(|failure| failure.respond(&headers))
}

/// Answers a method that the path does not have; OPTIONS is told which it has.
fn other_methods(method: &Method, allowed: &[&str]) -> Result<Response, Failure> {
    if method != Method::OPTIONS {
        return Err(Failure::no_method(method, allowed));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(allow) = HeaderValue::from_str(&format!("{}, OPTIONS", allowed.join(", "))) {
        response.headers_mut().insert(ALLOW, allow);
    }
    Ok(response)
}

async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Failure> {
    if let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|value| *value != "identity") {
        return Err(Failure::encoded(&String::from_utf8_lossy(encoding.as_bytes())));
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_MESSAGE_BYTES) {
        return Err(Failure::too_large(MAX_MESSAGE_BYTES));
    }
    match tokio::time::timeout(BODY_LIMIT, to_bytes(body, MAX_MESSAGE_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_large(&error) => Err(Failure::too_large(MAX_MESSAGE_BYTES)),
        Ok(Err(error)) => Err(Problem::field("body", format!("cannot be read: {error}")).into()),
        Err(_) => Err(Failure::slow_body(BODY_LIMIT)),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Shows an answer, or the one field of it that the route's annotation names.
fn show(route: &Route, encoded: &[u8]) -> Result<Json, Problem> {
    let message = DynamicMessage::decode(route.method.output(), encoded)
        .map_err(|error| Problem::Internal(format!("an answer cannot be decoded: {error}")))?;
    let shown = to_json(&message);
    let Some(name) = &route.response_body else {
        return Ok(shown);
    };
    let field = route.method.output().get_field_by_name(name).ok_or_else(|| {
        Problem::Internal(format!("{} has no field {name}", route.method.output().full_name()))
    })?;
    Ok(shown.get(field.json_name()).cloned().unwrap_or(Json::Null))
}

fn json_answer(value: &Json) -> Response {
    let mut response = Response::new(Body::from(format!("{value}\n")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Makes an answer of plain text.
pub(crate) fn plain(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Sets what every answer has: browsers must neither guess its type nor keep it.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
