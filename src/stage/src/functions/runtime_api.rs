//! The Lambda runtime API (version 2018-06-01): how a function's process gets events and answers them.
//!
//! | request | does |
//! | --- | --- |
//! | `GET /2018-06-01/runtime/invocation/next` | waits for the next event |
//! | `POST …/runtime/invocation/ID/response` | the function's result |
//! | `POST …/runtime/invocation/ID/error` | the function failed |
//! | `POST …/runtime/init/error` | it could not start |
//!
//! (Lambda developer guide, "Using the Lambda runtime API for custom runtimes".) Each process has an API
//! of its own, on a port of its own: what an earlier process of the same function still asks or says
//! can reach nobody.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc},
    task::{JoinHandle, JoinSet},
};

/// The largest result (Lambda quotas: 6 MB).
const RESULT_LIMIT: usize = 6 * 1024 * 1024;

/// One call of the function.
#[derive(Debug)]
pub(super) struct Event {
    pub request_id: String,
    pub payload: Bytes,
    pub deadline: SystemTime,
    pub function_arn: String,
}

/// What the process says.
#[derive(Debug)]
pub(super) enum Said {
    /// It is ready for an event.
    Next,
    /// The event's result.
    Result,
    /// The event failed.
    Error(Bytes),
    /// A result that is too large for Lambda.
    TooLarge,
    /// It could not start.
    InitError(Bytes),
}

#[derive(Debug)]
struct Shared {
    events: Mutex<mpsc::Receiver<Event>>,
    said: mpsc::UnboundedSender<Said>,
    /// The event that has been handed out.
    current: StdMutex<Option<String>>,
}

/// The API of one process. Dropped, it closes every connection.
#[derive(Debug)]
pub(super) struct RuntimeApi {
    address: SocketAddr,
    events: mpsc::Sender<Event>,
    said: mpsc::UnboundedReceiver<Said>,
    server: JoinHandle<()>,
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl RuntimeApi {
    /// Listens on a free port of loopback.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (events, to_be_taken) = mpsc::channel(1);
        let (say, said) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            events: Mutex::new(to_be_taken),
            said: say,
            current: StdMutex::default(),
        });
        Ok(Self {
            address,
            events,
            said,
            server: tokio::spawn(serve(listener, shared)),
        })
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Hands an event to the process, as soon as it asks.
    pub async fn offer(&self, event: Event) {
        // It cannot be closed: the server has the other end.
        let _ = self.events.send(event).await;
    }

    /// What the process says next.
    pub async fn hear(&mut self) -> Said {
        match self.said.recv().await {
            Some(said) => said,
            // The server has the other end, and ends with this value.
            None => std::future::pending().await,
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of a function");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(&shared, request).await) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of a function ended early");
            }
        });
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(shared: &Shared, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let path = path
        .strip_prefix("/2018-06-01/runtime/")
        .unwrap_or_default();
    let parts: Vec<&str> = path.split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => next(shared).await,
        (&Method::POST, ["invocation", id, "response"]) => {
            outcome(shared, request, Some(id), |_| Said::Result).await
        }
        (&Method::POST, ["invocation", id, "error"]) => {
            outcome(shared, request, Some(id), Said::Error).await
        }
        (&Method::POST, ["init", "error"]) => outcome(shared, request, None, Said::InitError).await,
        _ => refuse(
            StatusCode::NOT_FOUND,
            "InvalidRequest",
            "there is no such request in the runtime API",
        ),
    }
}

async fn next(shared: &Shared) -> Answer {
    let _ = shared.said.send(Said::Next);
    let Some(event) = shared.events.lock().await.recv().await else {
        return refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ContainerError",
            "the function is being removed",
        );
    };
    let deadline = event.deadline.duration_since(UNIX_EPOCH);
    let deadline = deadline.unwrap_or_default().as_millis().to_string();
    let mut response = Response::new(Full::new(event.payload));
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-type", "application/json"),
        ("lambda-runtime-aws-request-id", &event.request_id),
        ("lambda-runtime-deadline-ms", &deadline),
        ("lambda-runtime-invoked-function-arn", &event.function_arn),
        ("lambda-runtime-trace-id", &trace_id()),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    *lock(&shared.current) = Some(event.request_id);
    response
}

/// An X-Ray trace that is not sampled (X-Ray developer guide, "Tracing header").
fn trace_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let (root, parent): ([u8; 12], [u8; 8]) = (rand::random(), rand::random());
    format!(
        "Root=1-{:08x}-{};Parent={};Sampled=0",
        now.unwrap_or_default().as_secs() & 0xffff_ffff,
        hex::encode(root),
        hex::encode(parent)
    )
}

/// What became of the event with this id, or of the start.
async fn outcome(
    shared: &Shared,
    request: Request<Incoming>,
    id: Option<&str>,
    what: impl FnOnce(Bytes) -> Said,
) -> Answer {
    if let Some(id) = id
        && lock(&shared.current)
            .take_if(|current| current == id)
            .is_none()
    {
        return refuse(
            StatusCode::BAD_REQUEST,
            "InvalidRequestID",
            "no event of this id waits for an answer",
        );
    }
    let body = Limited::new(request.into_body(), RESULT_LIMIT);
    match body.collect().await {
        Ok(body) => {
            let _ = shared.said.send(what(body.to_bytes()));
            respond(StatusCode::ACCEPTED, &json!({"status": "OK"}))
        }
        Err(error) => {
            let _ = shared.said.send(Said::TooLarge);
            let message = format!("the result could not be read: {error}");
            refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                &message,
            )
        }
    }
}

fn refuse(status: StatusCode, kind: &str, message: &str) -> Answer {
    respond(status, &json!({"errorType": kind, "errorMessage": message}))
}

fn respond(status: StatusCode, body: &serde_json::Value) -> Answer {
    let mut response = Response::new(Full::new(body.to_string().into()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

fn lock<T>(mutex: &StdMutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
