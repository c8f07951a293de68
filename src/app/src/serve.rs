//! `app serve`: from the listening socket to the last answer.
//!
//! The end is the part that users notice. On SIGTERM (ECS sends it when it stops a task) or SIGINT:
//!
//! 1. Readiness fails at once, and every answer says `Connection: close`. The socket still listens
//!    for `DRAIN_DELAY`: a load balancer learns that a target is gone a moment later than the task
//!    does, and what it sends until then would be refused.
//! 2. The socket is closed, idle connections are closed, running requests finish, `DRAIN_TIMEOUT` at
//!    most. ECS kills after 30 s (`stopTimeout`), so the two together must stay below.
//! 3. The pool says goodbye to the database. Exit 0.
//!
//! A second signal skips the delay. The handlers are installed before anything else, which is what
//! makes them work as process 1, where a signal without a handler is ignored.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use crate::config::{Serve, Timeouts};
use crate::connection::{Verdict, Watch};
use crate::database::Database;
use crate::version;
use crate::web::access::Peer;
use crate::web::{self, App};

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No signal handlers.
    #[error("install the handlers of SIGTERM and SIGINT: {0}")]
    Signals(#[source] std::io::Error),
    /// No socket.
    #[error("listen on {0}: {1}; choose another address with HOST and PORT")]
    Listen(SocketAddr, #[source] std::io::Error),
}

/// SIGTERM and SIGINT, from the moment it is made.
pub struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Installs the handlers.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one; its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

/// Serves until a signal, then until the last request is answered.
pub async fn run(config: Serve) -> Result<(), Error> {
    let mut signals = Signals::install().map_err(Error::Signals)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| Error::Listen(config.listen, error))?;
    let address = listener
        .local_addr()
        .map_err(|error| Error::Listen(config.listen, error))?;

    let database = Database::new(config.database, config.pool_size, config.database_timeout);
    let app = Arc::new(App::new(database.clone(), config.fail_percent));
    let pages = web::pages(Arc::clone(&app));
    info!(%address, version = version::NUMBER, fail_percent = config.fail_percent, "listening");
    tokio::spawn(async move { database.warm().await });

    let (close, closing) = watch::channel(false);
    let server = Server {
        pages,
        app: Arc::clone(&app),
        timeouts: config.timeouts,
        closing,
    };
    let mut connections = JoinSet::new();

    tokio::select! {
        never = server.accept(&listener, &mut connections) => match never {},
        signal = signals.next() => info!(signal, "shutting down"),
    }
    app.draining.store(true, Ordering::Relaxed);
    tokio::select! {
        never = server.accept(&listener, &mut connections) => match never {},
        () = sleep(config.timeouts.drain_delay) => {}
        _ = signals.next() => info!("not waiting for the load balancer"),
    }

    drop(listener);
    close.send_replace(true);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(config.timeouts.drain, all_ended).await.is_err() {
        warn!(
            connections = connections.len(),
            "cutting off requests that did not finish in time"
        );
        connections.shutdown().await;
    }
    app.database.close().await;
    info!("stopped");
    Ok(())
}

#[derive(Clone)]
struct Server {
    pages: Router,
    app: Arc<App>,
    timeouts: Timeouts,
    closing: watch::Receiver<bool>,
}

impl Server {
    async fn accept(&self, listener: &TcpListener, connections: &mut JoinSet<()>) -> Infallible {
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn(self.clone().connection(stream, peer));
                    }
                    // The client was faster to leave than we to accept, or we are out of file
                    // descriptors: a pause lets others end.
                    Err(error) => {
                        error!(%error, "accept a connection");
                        sleep(Duration::from_millis(20)).await;
                    }
                },
                Some(ended) = connections.join_next() => if let Err(error) = ended {
                    error!(%error, "a connection's task failed");
                },
            }
        }
    }

    async fn connection(self, stream: TcpStream, peer: SocketAddr) {
        // Answers are written whole; waiting to fill a packet would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "set TCP_NODELAY");
        }
        let watch = Watch::new();
        let service = service_fn(|mut request: hyper::Request<Incoming>| {
            watch.answering();
            request.extensions_mut().insert(Peer(peer));
            let answer = web::answer(self.pages.clone(), request, self.timeouts.request);
            let (watch, app) = (&watch, &self.app);
            async move {
                let mut response = answer.await;
                if app.draining.load(Ordering::Relaxed) {
                    response
                        .headers_mut()
                        .insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response.map(|body| watch.body(body)))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(watch.socket(stream)), service);
        let mut connection = pin!(connection);
        let mut closing = self.closing.clone();
        let mut ending = false;
        let mut look = Instant::now();
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        debug!(%error, %peer, "a connection broke");
                    }
                    return;
                }
                _ = closing.wait_for(|closing| *closing), if !ending => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = sleep_until(look) => match watch.verdict(Instant::now(), &self.timeouts) {
                    Verdict::Keep(later) => look = later,
                    Verdict::Idle if !ending => {
                        ending = true;
                        connection.as_mut().graceful_shutdown();
                        look = Instant::now() + self.timeouts.header;
                    }
                    // Idle and told so, yet not ended: its client does not read what we sent.
                    Verdict::Idle | Verdict::SlowHeader => return,
                },
            }
        }
    }
}
