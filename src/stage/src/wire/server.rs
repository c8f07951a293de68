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

use super::{
    ApiError, JsonService,
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
    /// `/v2/`.
    pub registry: Handler,
    /// The rest.
    pub s3: Handler,
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
    if path == "/v2" || path.starts_with("/v2/") {
        return (routes.registry)(request).await;
    }
    if request.headers().contains_key("x-amz-target") {
        return answer_json(routes, request).await;
    }
    (routes.s3)(request).await
}

async fn answer_json(routes: &Routes, request: Request<Incoming>) -> Response<Body> {
    let request_id = uuid();
    let target = request
        .headers()
        .get("x-amz-target")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let result = call_json(routes, &target, request).await;
    let (status, body) = match result {
        Ok(output) => (StatusCode::OK, output.to_string().into_bytes()),
        Err(error) => {
            let internal = error.internal.as_deref().unwrap_or_default();
            if error.status >= 500 {
                tracing::error!(%request_id, %target, %error, internal, "an operation failed");
            } else {
                tracing::debug!(%request_id, %target, %error, internal, "an operation was refused");
            }
            let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
            (status, error.body())
        }
    };
    let mut response = Response::new(full_body(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-amz-json-1.1"),
    );
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert("x-amzn-requestid", value);
    }
    response
}

async fn call_json(
    routes: &Routes,
    target: &str,
    request: Request<Incoming>,
) -> Result<Value, ApiError> {
    let unknown = || {
        ApiError::client(
            "UnknownOperationException",
            format!("The requested operation {target} is not known to this stage."),
        )
    };
    let (prefix, operation) = target.rsplit_once('.').ok_or_else(unknown)?;
    let service = routes
        .json
        .iter()
        .find(|service| service.target_prefix() == prefix)
        .ok_or_else(unknown)?;
    if request.method() != Method::POST {
        return Err(unknown());
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
    let input = if body.is_empty() {
        Value::Object(serde_json::Map::new())
    } else {
        serde_json::from_slice(&body)
            .map_err(|error| ApiError::serialization(format!("the body is not JSON: {error}")))?
    };
    if !input.is_object() {
        return Err(ApiError::serialization(
            "Start of structure or map found where not expected.",
        ));
    }
    // Nothing is known to panic on input. If something does, the client hears of it, and the stage
    // goes on; a state that it held is looked at as it is.
    std::panic::AssertUnwindSafe(service.call(operation, input))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Some(Err(ApiError::server(format!("{target} panicked")))))
        .ok_or_else(unknown)?
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
