//! The server behind the port: accepts, routes, answers, and drains when the stage stops.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::elb::COUNTERS_PATH;

use super::{
    ApiError, JsonService, cbor,
    signature::{self, Credentials},
};

/// An answer's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The largest JSON body that is read: well above AWS's largest (a 64 KiB task definition).
const BODY_LIMIT: usize = 1024 * 1024;

/// How long open requests may take to end when the server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Something that answers a whole HTTP request.
pub(crate) type Handler =
    Box<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Where requests go.
pub(crate) struct Routes {
    /// The JSON services, by the prefix of `X-Amz-Target`.
    pub json: Vec<Arc<dyn JsonService>>,
    /// The load balancer's counters.
    pub counters: Handler,
    /// `/v2/`.
    pub registry: Handler,
    /// The rest: S3, or an account's other services as well.
    pub rest: Handler,
    /// Whether the rest takes JSON services that are not ours, too.
    pub everything_else: bool,
    /// Who may call the JSON services.
    pub credentials: Credentials,
}

/// The running server.
#[derive(Debug)]
pub(crate) struct Server {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `routes` on a bound listener.
    pub fn start(listener: TcpListener, routes: Routes) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, Arc::new(routes), stopped));
        Self {
            stop: Some(stop),
            task,
        }
    }

    /// Takes no more connections, lets open requests end for a moment, and returns.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, routes: Arc<Routes>, mut stopped: oneshot::Receiver<()>) {
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: a pause lets some be closed.
                    tracing::warn!(%error, "cannot accept a connection to the API");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            _ = &mut stopped => break,
        };
        let _ = stream.set_nodelay(true);
        let routes = Arc::clone(&routes);
        let service = service_fn(move |request| {
            let routes = Arc::clone(&routes);
            async move { Ok::<_, Infallible>(answer(&routes, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_mins(1))
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the API ended early");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::debug!("requests to the API were still open when the stage stopped");
    }
}

async fn answer(routes: &Routes, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    if path == COUNTERS_PATH {
        return (routes.counters)(request).await;
    }
    if path == "/v2" || path.starts_with("/v2/") {
        return (routes.registry)(request).await;
    }
    if let Some(call) = Call::of(&request) {
        let ours = routes.json.iter().any(|service| {
            service.target_prefix() == call.service && service.serves(&call.operation)
        });
        if ours || !routes.everything_else {
            return answer_call(routes, call, request).await;
        }
    }
    (routes.rest)(request).await
}

/// An operation that is called, and how it is spelt.
struct Call {
    service: String,
    operation: String,
    spelling: Spelling,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.service, self.operation)
    }
}

/// The header `smithy-protocol` of calls in CBOR.
const RPC_V2_CBOR: &str = "rpc-v2-cbor";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// AWS JSON 1.0 or 1.1.
    Json,
    /// Smithy RPC v2.
    Cbor,
}

impl Call {
    fn unknown(&self) -> ApiError {
        ApiError::client(
            "UnknownOperationException",
            format!("The requested operation {self} is not known to this stage."),
        )
    }

    fn of<B>(request: &Request<B>) -> Option<Call> {
        let header = |name| {
            request
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        if header("smithy-protocol") == Some(RPC_V2_CBOR) {
            let rest = request.uri().path().strip_prefix("/service/")?;
            let (service, operation) = rest.split_once("/operation/")?;
            return Some(Call {
                service: service.to_owned(),
                operation: operation.to_owned(),
                spelling: Spelling::Cbor,
            });
        }
        let target = request.headers().get("x-amz-target")?;
        let target = target.to_str().unwrap_or_default();
        let (service, operation) = target.rsplit_once('.').unwrap_or((target, ""));
        Some(Call {
            service: service.to_owned(),
            operation: operation.to_owned(),
            spelling: Spelling::Json,
        })
    }
}

async fn answer_call(routes: &Routes, call: Call, request: Request<Incoming>) -> Response<Body> {
    let request_id = uuid();
    let service = routes
        .json
        .iter()
        .find(|service| service.target_prefix() == call.service);
    let result = match service {
        Some(service) => run(routes, service.as_ref(), &call, request).await,
        None => Err(call.unknown()),
    };
    let (status, body) = match result {
        Ok(output) => (StatusCode::OK, output),
        Err(error) => {
            let internal = error.internal.as_deref().unwrap_or_default();
            if error.status >= 500 {
                tracing::error!(%request_id, %call, %error, internal, "an operation failed");
            } else {
                tracing::debug!(%request_id, %call, %error, internal, "an operation was refused");
            }
            let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
            (status, error.body())
        }
    };
    let body = match call.spelling {
        Spelling::Json => body.to_string().into_bytes(),
        Spelling::Cbor => cbor::encode(&body, service.map_or(&[], |service| service.times())),
    };
    let mut response = Response::new(full_body(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let content_type = match call.spelling {
        Spelling::Json => "application/x-amz-json-1.1",
        Spelling::Cbor => "application/cbor",
    };
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static(content_type),
    );
    if call.spelling == Spelling::Cbor {
        headers.insert("smithy-protocol", HeaderValue::from_static(RPC_V2_CBOR));
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert("x-amzn-requestid", value);
    }
    response
}

async fn run(
    routes: &Routes,
    service: &dyn JsonService,
    call: &Call,
    request: Request<Incoming>,
) -> Result<Value, ApiError> {
    if request.method() != Method::POST {
        return Err(call.unknown());
    }
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_LIMIT)
        .collect()
        .await
        .map_err(|error| ApiError {
            status: 413,
            ..ApiError::client(
                "RequestEntityTooLargeException",
                format!("the body could not be read within {BODY_LIMIT} bytes: {error}"),
            )
        })?
        .to_bytes();
    signature::verify(
        &routes.credentials,
        service.signing_name(),
        &parts,
        &body,
        jiff::Timestamp::now(),
    )?;
    let input = match call.spelling {
        Spelling::Cbor => cbor::decode(&body)?,
        Spelling::Json if body.is_empty() => Value::Object(serde_json::Map::new()),
        Spelling::Json => serde_json::from_slice(&body)
            .map_err(|error| ApiError::serialization(format!("the body is not JSON: {error}")))?,
    };
    if !input.is_object() {
        return Err(ApiError::serialization(
            "Start of structure or map found where not expected.",
        ));
    }
    // Nothing is known to panic on input. If something does, the client hears of it, and the stage
    // goes on; a state that it held is looked at as it is.
    std::panic::AssertUnwindSafe(service.call(&call.operation, input))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Some(Err(ApiError::server(format!("{call} panicked")))))
        .ok_or_else(|| call.unknown())?
}

/// A body held in memory.
pub(crate) fn full_body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// No body.
pub(crate) fn empty_body() -> Body {
    full_body(Bytes::new())
}

/// A random UUID, version 4: the form of `x-amzn-RequestId`.
pub(crate) fn uuid() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}
