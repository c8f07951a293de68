//! The client behind generated traffic.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Connections, TrafficError, TrafficOptions, ledger::Outcome};

/// Idle connections older than this are not used again: the load balancer may be about to close them.
const MAX_IDLE: Duration = Duration::from_secs(10);

const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    uri: Uri,
    host: HeaderValue,
    trace_prefix: String,
    connections: Connections,
    timeout: Duration,
    idle: Mutex<Vec<(SendRequest<Empty<Bytes>>, Instant)>>,
}

impl Client {
    pub(super) fn new(
        options: &TrafficOptions,
        trace_prefix: String,
    ) -> Result<Self, TrafficError> {
        let host = options
            .host
            .clone()
            .unwrap_or_else(|| options.address.to_string());
        let refuse = |source: http::Error| TrafficError::Request {
            path: options.path.clone(),
            host: host.clone(),
            source,
        };
        Ok(Self {
            address: options.address,
            uri: options
                .path
                .parse()
                .map_err(|error: http::uri::InvalidUri| refuse(error.into()))?,
            host: HeaderValue::from_str(&host).map_err(|error| refuse(error.into()))?,
            trace_prefix,
            connections: options.connections,
            timeout: options.timeout,
            idle: Mutex::default(),
        })
    }

    /// Sends request number `id` and reads its whole answer.
    pub(super) async fn get(&self, id: u64) -> Outcome {
        match tokio::time::timeout(self.timeout, self.exchange(id)).await {
            Ok(Some(status)) => Outcome::Status(status),
            Ok(None) => Outcome::Connection,
            Err(_) => Outcome::Timeout,
        }
    }

    async fn exchange(&self, id: u64) -> Option<u16> {
        let mut request = Some(self.request(id)?);
        loop {
            let (mut sender, reused) = match self.idle() {
                Some(sender) => (sender, true),
                None => (self.connect().await?, false),
            };
            match sender.try_send_request(request.take()?).await {
                Ok(response) => {
                    let status = response.status().as_u16();
                    let mut body = response.into_body();
                    while let Some(frame) = body.frame().await {
                        frame.ok()?;
                    }
                    self.keep(sender);
                    return Some(status);
                }
                // The connection had been closed before anything was written: any browser opens
                // another one.
                Err(mut error) if reused => request = Some(error.take_message()?),
                Err(_) => return None,
            }
        }
    }

    fn request(&self, id: u64) -> Option<Request<Empty<Bytes>>> {
        let trace = format!("{}{id:016x}", self.trace_prefix);
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(TRACE_ID, HeaderValue::from_str(&trace).ok()?);
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static("serein-traffic"),
        );
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("application/json, */*"),
        );
        Some(request)
    }

    fn idle(&self) -> Option<SendRequest<Empty<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((sender, since)) = idle.pop() {
            if since.elapsed() > MAX_IDLE {
                // Those below are older still.
                idle.clear();
            } else if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn keep(&self, sender: SendRequest<Empty<Bytes>>) {
        if self.connections == Connections::KeepAlive && !sender.is_closed() {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((sender, Instant::now()));
        }
    }

    async fn connect(&self) -> Option<SendRequest<Empty<Bytes>>> {
        let stream = TcpStream::connect(self.address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .ok()?;
        // Ends when the sender is dropped.
        tokio::spawn(connection);
        Some(sender)
    }
}
