//! One line a request: method, path, status, duration, and who asked.
//!
//! It is written when the answer is handed over or, with status 499, when the client went away
//! before that (the number is nginx's; a load balancer calls it 460). The query string is left out:
//! it may hold what should not be in a log.

use std::net::SocketAddr;
use std::time::Instant;

use axum::http::{Method, Request, StatusCode, Uri};
use tracing::{Span, info};

use crate::log;

/// Status of a request whose client did not wait for the answer.
const CLIENT_CLOSED: u16 = 499;

/// The address at the other end, put into a request by the server.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Writes the line when it is dropped.
pub struct Access {
    /// The answer's status, once there is one.
    pub status: Option<StatusCode>,
    span: Span,
    method: Method,
    uri: Uri,
    client: Option<String>,
    started: Instant,
}

impl Access {
    /// Begins to count the time.
    pub fn new<B>(request: &Request<B>, span: Span) -> Self {
        let forwarded = request
            .headers()
            .get("x-forwarded-for")
            .and_then(|value| value.to_str().ok());
        let peer = || {
            request
                .extensions()
                .get::<Peer>()
                .map(|peer| peer.0.ip().to_string())
        };
        Self {
            status: None,
            span,
            method: request.method().clone(),
            uri: request.uri().clone(),
            client: forwarded.map(str::to_owned).or_else(peer),
            started: Instant::now(),
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let path = self.uri.path();
        let status = self.status.map_or(CLIENT_CLOSED, |status| status.as_u16());
        let duration_ms = self.started.elapsed().as_secs_f64() * 1000.0;
        let duration_ms = (duration_ms * 1000.0).round() / 1000.0;
        let (method, client) = (self.method.as_str(), self.client.as_deref());
        self.span.in_scope(|| {
            if path.starts_with("/healthz/") {
                info!(target: log::ACCESS_HEALTH, method, path, status, duration_ms, client, "request");
            } else {
                info!(target: log::ACCESS, method, path, status, duration_ms, client, "request");
            }
        });
    }
}
