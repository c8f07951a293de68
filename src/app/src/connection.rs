//! When a connection has waited long enough.
//!
//! Two waits look alike to a server and must not be treated alike. A load balancer keeps idle
//! connections for up to its idle timeout (60 s) and sends a request on one when it likes: closing
//! it just then makes a 502 for a user, so we keep it longer than that ("the keep-alive time of the
//! application must exceed the idle timeout", ELB user guide). A header that has begun and does not
//! end is a broken or hostile client, and seconds are enough for it. hyper's `header_read_timeout`
//! runs from the moment it is ready to read, so it is both waits in one; hence this module. It looks
//! at what is read and asks, once a while instead of once a request, how long the present wait has
//! lasted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::config::Timeouts;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The first byte of a request.
    Request = 0,
    /// The rest of its header.
    Header = 1,
    /// Us: the answer is being made or sent.
    Answer = 2,
}

/// What is to be done with a connection at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing; look again at this instant.
    Keep(Instant),
    /// It was idle for the whole keep-alive time: end it, politely.
    Idle,
    /// Its header took too long: cut it.
    SlowHeader,
}

/// What a connection waits for, and since when. Shared by its socket, its requests and its watch.
#[derive(Clone, Debug)]
pub struct Watch {
    start: Instant,
    /// Milliseconds from `start`, times four, plus the [`Wait`].
    state: Arc<AtomicU64>,
}

impl Watch {
    /// A connection that was just accepted.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            state: Arc::new(AtomicU64::new(Wait::Request as u64)),
        }
    }

    fn set(&self, wait: Wait) {
        let ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX >> 2);
        self.state.store(ms << 2 | wait as u64, Ordering::Relaxed);
    }

    fn get(&self) -> (Wait, Instant) {
        let state = self.state.load(Ordering::Relaxed);
        let wait = match state & 3 {
            0 => Wait::Request,
            1 => Wait::Header,
            _ => Wait::Answer,
        };
        (wait, self.start + Duration::from_millis(state >> 2))
    }

    /// A request's header is complete. The answer's body must be wrapped in [`Watch::body`].
    pub fn answering(&self) {
        self.set(Wait::Answer);
    }

    /// Sees to it that the connection is idle again once the body is sent.
    pub fn body(&self, body: Body) -> Watched<Body> {
        Watched {
            inner: body,
            watch: self.clone(),
        }
    }

    /// Sees when bytes arrive.
    pub fn socket<S>(&self, socket: S) -> Watched<S> {
        Watched {
            inner: socket,
            watch: self.clone(),
        }
    }

    /// What to do now. Asked again at the instants it names, it ends an idle connection on time and
    /// a slow header after one to two times its limit.
    pub fn verdict(&self, now: Instant, timeouts: &Timeouts) -> Verdict {
        let (wait, since) = self.get();
        // No shorter than a header may take: a header that begins meanwhile is then seen in time.
        let later = now + timeouts.header.max(Duration::from_millis(10));
        match wait {
            Wait::Request if now >= since + timeouts.keep_alive => Verdict::Idle,
            Wait::Request => Verdict::Keep(later.min(since + timeouts.keep_alive)),
            Wait::Header if now >= since + timeouts.header => Verdict::SlowHeader,
            Wait::Header => Verdict::Keep(since + timeouts.header),
            Wait::Answer => Verdict::Keep(later),
        }
    }
}

/// A socket or a body that tells the watch what passes.
#[derive(Debug)]
pub struct Watched<T> {
    inner: T,
    watch: Watch,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if buffer.filled().len() > before && self.watch.get().0 == Wait::Request {
            self.watch.set(Wait::Header);
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl hyper::body::Body for Watched<Body> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<T> Drop for Watched<T> {
    /// For a body, the answer is sent; for a socket, it no longer matters.
    fn drop(&mut self) {
        self.watch.set(Wait::Request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeouts() -> Timeouts {
        let seconds = Duration::from_secs;
        Timeouts {
            keep_alive: seconds(75),
            header: seconds(10),
            request: seconds(10),
            drain_delay: seconds(1),
            drain: seconds(20),
        }
    }

    /// Follows the verdicts through time as the server does; the seconds at which one is not `Keep`.
    fn end(watch: &Watch) -> (Verdict, u64) {
        let mut now = watch.start;
        loop {
            match watch.verdict(now, &timeouts()) {
                Verdict::Keep(later) => {
                    assert!(later > now);
                    now = later;
                    if now > watch.start + Duration::from_secs(1000) {
                        return (Verdict::Keep(now), 1000);
                    }
                }
                verdict => return (verdict, (now - watch.start).as_secs()),
            }
        }
    }

    #[test]
    fn an_idle_connection_outlives_the_load_balancers_timeout() {
        assert_eq!(end(&Watch::new()), (Verdict::Idle, 75));
    }

    #[test]
    fn a_slow_header_is_cut() {
        let watch = Watch::new();
        watch.set(Wait::Header);
        assert_eq!(end(&watch), (Verdict::SlowHeader, 10));
    }

    #[test]
    fn an_answer_is_not_limited_here() {
        let watch = Watch::new();
        watch.answering();
        assert_eq!(end(&watch).1, 1000);
        drop(watch.body(Body::empty()));
        assert_eq!(end(&watch), (Verdict::Idle, 75));
    }
}
