//! Targets and clients for the tests of the load balancer: over real sockets, byte by byte where it
//! matters.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rollout::event::{Entry, Event};
use stage::{
    clock::Clock,
    cloudwatch::Metrics,
    elb::{self, HealthCheck, Listener, LoadBalancer, Target, TargetGroupOptions, TargetState},
    events::Events,
    runtime::Dial,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub type Body = BoxBody<Bytes, io::Error>;

/// Nothing in these tests takes longer.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Awaits something that must happen.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let value = tokio::time::timeout(LIMIT, future).await;
    value.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// A target that listens on an address.
pub struct Address(pub SocketAddr);

impl Dial for Address {
    fn dial(&self) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(self.0))
    }
}

/// A target that never accepts.
pub struct Nowhere;

impl Dial for Nowhere {
    fn dial(&self) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(std::future::pending())
    }
}

/// A port on which nobody listens.
pub async fn closed_port() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    socket.local_addr().unwrap()
}

#[derive(Default)]
pub struct Seen {
    /// Connections that carried something else than a health check.
    pub connections: AtomicUsize,
    /// Requests but for health checks.
    pub requests: Mutex<Vec<(http::Method, String, HeaderMap)>>,
    pub checks: Mutex<Vec<HeaderMap>>,
    pub check_connections: AtomicUsize,
}

/// A target made of a function.
pub struct Backend {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    /// What health checks get.
    pub health: Arc<Mutex<StatusCode>>,
    task: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    pub async fn start<F, R>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let health = Arc::new(Mutex::new(StatusCode::OK));
        let (answer, log, status) = (Arc::new(answer), Arc::clone(&seen), Arc::clone(&health));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                let (answer, log, status) =
                    (Arc::clone(&answer), Arc::clone(&log), Arc::clone(&status));
                let first = Arc::new(AtomicUsize::new(0));
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let is_check = request
                            .headers()
                            .get("user-agent")
                            .is_some_and(|agent| agent == "ELB-HealthChecker/2.0");
                        let is_first = first.fetch_add(1, Ordering::Relaxed) == 0;
                        let response: BoxFuture<'static, Response<Body>> = if is_check {
                            log.check_connections
                                .fetch_add(is_first.into(), Ordering::Relaxed);
                            log.checks.lock().unwrap().push(request.headers().clone());
                            let status = *status.lock().unwrap();
                            Box::pin(async move { text(status, "") })
                        } else {
                            log.connections
                                .fetch_add(is_first.into(), Ordering::Relaxed);
                            log.requests.lock().unwrap().push((
                                request.method().clone(),
                                request.uri().to_string(),
                                request.headers().clone(),
                            ));
                            Box::pin(answer(request))
                        };
                        async move { Ok::<_, Infallible>(response.await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .half_close(true)
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        Self {
            address,
            seen,
            health,
            task,
        }
    }

    /// A target that says its name.
    pub async fn named(name: &'static str) -> Self {
        Self::start(move |_| async move { text(StatusCode::OK, name) }).await
    }

    pub fn target(&self) -> Target {
        target(self.address)
    }

    pub fn requests(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }

    pub fn last_headers(&self) -> HeaderMap {
        self.seen.requests.lock().unwrap().last().unwrap().2.clone()
    }
}

pub fn target(address: SocketAddr) -> Target {
    Target {
        id: address.to_string(),
        dial: Arc::new(Address(address)),
    }
}

pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(
        Full::new(text.into())
            .map_err(|never| match never {})
            .boxed(),
    );
    *response.status_mut() = status;
    response
}

/// A target that is told by bytes what to do: `script` gets each connection, the bytes of the request's
/// head and the number of the request on the connection, and says whether to go on. Health checks
/// are answered with 200.
pub struct Raw {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Raw {
    pub async fn start<F, R>(script: F) -> Self
    where
        F: Fn(TcpStream, String, usize) -> R + Send + Sync + 'static,
        R: Future<Output = Option<TcpStream>> + Send + 'static,
    {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (script, count) = (Arc::new(script), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = socket.accept().await.unwrap();
                let (script, count) = (Arc::clone(&script), Arc::clone(&count));
                tokio::spawn(async move {
                    for number in 0.. {
                        let head = read_head(&mut stream).await;
                        if head.is_empty() {
                            return;
                        }
                        if head.to_lowercase().contains("elb-healthchecker/2.0") {
                            let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                            let _ = stream.write_all(ok).await;
                            return;
                        }
                        if number == 0 {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        match script(stream, head, number).await {
                            Some(open) => stream = open,
                            None => return,
                        }
                    }
                });
            }
        });
        Self {
            address,
            connections,
            task,
        }
    }

    pub fn target(&self) -> Target {
        target(self.address)
    }
}

/// Reads to the end of a head; what comes after it must not have been sent yet.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Reads until a text has come.
pub async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    soon(&format!("{end:?}"), async {
        while !text.ends_with(end.as_bytes()) {
            match stream.read_u8().await {
                Ok(byte) => text.push(byte),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&text)),
            }
        }
    })
    .await;
    String::from_utf8(text).unwrap()
}

/// Sends bytes on a new connection and reads until the other side closes it.
pub async fn raw(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = soon("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// `GET path` on a new connection: status and body.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let answer = raw(address, request).await;
    let status = answer.get(9..12).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or(0), body.to_owned())
}

/// A client with one connection that it keeps.
pub struct Client {
    sender: hyper::client::conn::http1::SendRequest<Body>,
    task: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { sender, task }
    }

    pub async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        soon("a response", async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        })
        .await
    }

    /// Status and body of `GET path`.
    pub async fn get(&mut self, path: &str) -> (u16, String) {
        let response = self.send(request("GET", path, "")).await.unwrap();
        let status = response.status().as_u16();
        (status, body(response).await)
    }
}

pub fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "test")
        .body(
            Full::new(body.into())
                .map_err(|never| match never {})
                .boxed(),
        )
        .unwrap()
}

pub async fn body(response: Response<Incoming>) -> String {
    let bytes = soon("a body", response.into_body().collect()).await;
    String::from_utf8(bytes.unwrap().to_bytes().to_vec()).unwrap()
}

/// A load balancer with what it needs.
pub struct Rig {
    pub clock: Clock,
    pub metrics: Metrics,
    pub events: Events,
    pub balancer: LoadBalancer,
    entries: tokio::sync::broadcast::Receiver<Entry>,
}

pub const DIMENSION: &str = "app/test/50dc6c495c0c9188";

/// What a test may want to be different.
pub struct Config {
    pub speed: f64,
    pub idle_timeout: Duration,
    pub connect_timeout: Duration,
    pub deregistration_delay: Duration,
    pub health_check: HealthCheck,
    pub production: Vec<(String, u32)>,
    pub test: Vec<(String, u32)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            speed: 100.0,
            idle_timeout: Duration::from_mins(1),
            connect_timeout: Duration::from_secs(10),
            deregistration_delay: Duration::from_secs(10),
            health_check: HealthCheck {
                interval: Duration::from_secs(2),
                healthy_threshold: 2,
                ..HealthCheck::default()
            },
            production: weights(&[("blue", 1), ("green", 0)]),
            test: weights(&[]),
        }
    }
}

pub fn weights(list: &[(&str, u32)]) -> Vec<(String, u32)> {
    list.iter()
        .map(|(name, weight)| ((*name).to_owned(), *weight))
        .collect()
}

impl Rig {
    /// A load balancer with the groups blue, green and spare, all production traffic to blue.
    pub fn new(config: Config) -> Self {
        let clock = Clock::new(config.speed);
        let (metrics, events) = (Metrics::new(), Events::new(clock));
        let entries = events.subscribe();
        let options = elb::Options {
            dimension: DIMENSION.into(),
            idle_timeout: config.idle_timeout,
            connect_timeout: config.connect_timeout,
            groups: ["blue", "green", "spare"]
                .map(|name| TargetGroupOptions {
                    deregistration_delay: config.deregistration_delay,
                    health_check: config.health_check.clone(),
                    ..TargetGroupOptions::new(name)
                })
                .into(),
            production: config.production,
            test: config.test,
            ..elb::Options::default()
        };
        let balancer = LoadBalancer::start(options, clock, &metrics, &events).unwrap();
        Self {
            clock,
            metrics,
            events,
            balancer,
            entries,
        }
    }

    pub fn production(&self) -> SocketAddr {
        self.balancer.production_address()
    }

    pub fn test(&self) -> SocketAddr {
        self.balancer.test_address()
    }

    pub fn register(&self, group: &str, target: Target) {
        self.balancer.register(group, target).unwrap();
    }

    /// Registers a target and waits until it is healthy.
    pub async fn add(&self, group: &str, target: Target) {
        let id = target.id.clone();
        self.register(group, target);
        self.wait_for(group, &id, TargetState::Healthy).await;
    }

    pub fn state(&self, group: &str, id: &str) -> Option<(TargetState, Option<&'static str>)> {
        self.balancer
            .target_health(group)
            .unwrap()
            .into_iter()
            .rfind(|target| target.id == id)
            .map(|target| (target.state, target.reason.map(elb::Reason::as_str)))
    }

    pub async fn wait_for(&self, group: &str, id: &str, state: TargetState) {
        until(&format!("{id} is {state:?}"), || {
            self.state(group, id).is_some_and(|(now, _)| now == state)
        })
        .await;
    }

    pub fn set(&self, listener: Listener, list: &[(&str, u32)]) {
        self.balancer.set_weights(listener, &weights(list)).unwrap();
    }

    /// The sum of a metric.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count"
    )]
    pub fn total(&self, name: &str, group: Option<&str>) -> u64 {
        let dimension = group.map(|group| format!("targetgroup/{group}/0000000000000000"));
        let metric = elb::meters::metric(name, DIMENSION, dimension.as_deref());
        self.metrics.total(&metric).round() as u64
    }

    /// The health events of a target so far: state and reason.
    pub fn health_events(&mut self, id: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        while let Ok(entry) = self.entries.try_recv() {
            if let Event::TargetHealthChanged {
                target,
                state,
                reason,
                ..
            } = entry.event
                && target == id
            {
                found.push((state, reason));
            }
        }
        found
    }
}
