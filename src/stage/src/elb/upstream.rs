//! Connections to targets: kept alive, pooled per target, and driven by the request that uses them.
//!
//! hyper's client wants each connection spawned as a task of its own. Then every request wakes that
//! task, and the task wakes the request, twice. Here a connection is polled *inside* the request
//! that has it ([`Upstream::poll_response`], [`Upstream::poll_body`]), so that a proxied request is
//! one task and one wake-up an I/O event. As all progress of the response comes from polling the
//! connection in the same place, the response itself is polled with a waker that does nothing, and
//! the connection with one that does not wake the task for the task's own doing (`gate`).
//!
//! An idle connection is not polled by anybody. Whether its target has closed it in the meantime is
//! seen when it is taken from the pool (and now and then by the watcher, so that no socket is
//! left half closed).

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::http1::{Connection, SendRequest},
};
use tokio::net::TcpStream;

use super::{
    gate::Gate,
    link::{Link, Links},
    socket::Socket,
};

/// Idle connections kept per target.
const IDLE_PER_TARGET: usize = 256;

/// The largest response head taken from a target; ELB: 32 KiB.
const MAX_RESPONSE_HEAD: usize = 32 * 1024;

/// The body of a request on its way to a target, counted.
#[derive(Debug)]
pub(super) struct RequestBody {
    incoming: Option<Incoming>,
    tally: Option<Arc<std::sync::atomic::AtomicU64>>,
}

impl RequestBody {
    pub(super) fn empty() -> Self {
        Self {
            incoming: None,
            tally: None,
        }
    }

    /// The body, and where its bytes are counted.
    pub(super) fn new(incoming: Incoming) -> (Self, Option<Arc<std::sync::atomic::AtomicU64>>) {
        if incoming.is_end_stream() {
            return (Self::empty(), None);
        }
        let tally = Arc::new(std::sync::atomic::AtomicU64::new(0));
        (
            Self {
                incoming: Some(incoming),
                tally: Some(Arc::clone(&tally)),
            },
            Some(tally),
        )
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(incoming).poll_frame(cx));
        if let (Some(Ok(frame)), Some(tally)) = (&frame, &self.tally)
            && let Some(data) = frame.data_ref()
        {
            tally.fetch_add(data.len() as u64, std::sync::atomic::Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// A connection to a target.
pub(super) struct Upstream {
    sender: SendRequest<RequestBody>,
    connection: Connection<Socket, RequestBody>,
    link: Arc<Link>,
    gate: Arc<Gate>,
    /// The gate, as the connection sees it.
    waker: Waker,
    /// Whether it has carried a request before.
    pub(super) used: bool,
    closed: bool,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("used", &self.used)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// Starts HTTP on a new connection.
    pub(super) async fn new(stream: TcpStream, link: Arc<Link>) -> hyper::Result<Box<Self>> {
        let (sender, connection) = builder().handshake(Socket::new(stream)).await?;
        let gate = Arc::new(Gate::default());
        Ok(Box::new(Self {
            sender,
            connection,
            link,
            waker: Waker::from(Arc::clone(&gate)),
            gate,
            used: false,
            closed: false,
        }))
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Takes a connection apart whose request asks for another protocol.
    pub(super) fn into_parts(
        self,
    ) -> (
        SendRequest<RequestBody>,
        Connection<Socket, RequestBody>,
        Arc<Link>,
    ) {
        (self.sender, self.connection, self.link)
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    /// What hyper says, and the request if none of it was written.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        self.link.set_busy(true);
        let Self {
            sender,
            connection,
            link,
            gate,
            waker,
            closed,
            ..
        } = self;
        // Queueing the request wakes the connection, which is about to be polled anyway.
        gate.hold(Waker::noop());
        // The response comes out of the connection that is polled right before it, so it needs
        // neither a waker nor a budget.
        let response = tokio::task::coop::unconstrained(sender.try_send_request(request));
        let mut response = std::pin::pin!(response);
        let mut answer = std::future::poll_fn(|cx| {
            gate.hold(cx.waker());
            link.touch();
            poll_connection(connection, waker, closed);
            let polled = response
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            gate.close(polled.is_pending());
            polled
        })
        .await;
        self.used = true;
        match &mut answer {
            Ok(_) => {}
            Err(_) => self.closed = true,
        }
        answer.map_err(|mut error| SendError {
            unsent: error.take_message(),
            error: error.into_error(),
        })
    }

    /// The next part of the response's body.
    pub(super) fn poll_body(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut nobody = Context::from_waker(Waker::noop());
        self.gate.hold(cx.waker());
        self.link.touch();
        let mut frame = Pin::new(&mut *body).poll_frame(&mut nobody);
        if frame.is_pending() {
            poll_connection(&mut self.connection, &self.waker, &mut self.closed);
            frame = Pin::new(body).poll_frame(&mut nobody);
        }
        self.gate.close(frame.is_pending());
        frame
    }

    /// Whether another request can be sent; to be asked before each use and after it.
    fn is_ready(&mut self) -> bool {
        self.gate.forget();
        poll_connection(&mut self.connection, &self.waker, &mut self.closed);
        !self.closed && self.sender.is_ready()
    }
}

fn poll_connection(
    connection: &mut Connection<Socket, RequestBody>,
    waker: &Waker,
    closed: &mut bool,
) {
    if !*closed
        && Pin::new(connection)
            .poll(&mut Context::from_waker(waker))
            .is_ready()
    {
        *closed = true;
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(super) struct SendError {
    /// The request, if nothing of it was written.
    pub(super) unsent: Option<Request<RequestBody>>,
    /// What happened.
    pub(super) error: hyper::Error,
}

fn builder() -> hyper::client::conn::http1::Builder {
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_header_size(MAX_RESPONSE_HEAD);
    builder
}

/// The connections of one target.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "connections go in and out for each request; their hundreds of bytes stay in place"
)]
pub(super) struct Pool {
    idle: Mutex<Vec<Box<Upstream>>>,
    /// All of them, idle and busy.
    pub(super) links: Links,
}

impl Pool {
    /// An idle connection that is still open, the most recently used first.
    pub(super) fn take(&self) -> Option<Box<Upstream>> {
        loop {
            let mut upstream = self.lock().pop()?;
            if upstream.is_ready() {
                return Some(upstream);
            }
        }
    }

    /// Takes a connection back after its response has ended, if it can be used again.
    pub(super) fn put(&self, mut upstream: Box<Upstream>) {
        if !upstream.is_ready() {
            return;
        }
        upstream.link.set_busy(false);
        let mut idle = self.lock();
        if idle.len() < IDLE_PER_TARGET {
            idle.push(upstream);
        }
    }

    /// Drops the idle connections that their target has closed.
    pub(super) fn sweep(&self) {
        self.lock().retain_mut(|upstream| upstream.is_ready());
    }

    /// Closes every idle connection.
    pub(super) fn close_idle(&self) {
        self.lock().clear();
    }

    #[expect(clippy::vec_box, reason = "see the field")]
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Box<Upstream>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
