//! Connections into and out of a task's network namespace.

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};
use tokio::{
    io::unix::AsyncFd,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Mutex,
};

use super::{Dial, spawn};

/// The sockets of one network namespace, on request.
#[derive(Debug)]
pub struct Sockets {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    control: AsyncFd<OwnedFd>,
    /// A socket was asked for by somebody who did not wait for it. Sockets are all alike: the
    /// next one to ask takes it.
    owed: bool,
}

impl Sockets {
    /// Over the connection to the process that hands them out. Needs a Tokio runtime.
    pub fn new(control: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&control, true)?;
        let control = spawn::sys::watch(control)?;
        Ok(Self {
            state: Mutex::new(State {
                control,
                owed: false,
            }),
        })
    }

    async fn socket(&self) -> io::Result<OwnedFd> {
        let mut state = self.state.lock().await;
        if !state.owed {
            let sent = rustix::net::send(
                state.control.get_ref(),
                &[spawn::handout::SOCKET],
                SendFlags::NOSIGNAL,
            );
            sent.map_err(|_| ended())?;
            state.owed = true;
        }
        loop {
            let mut ready = state.control.readable().await?;
            match spawn::receive(ready.get_inner(), RecvFlags::DONTWAIT) {
                Ok((_, Some(socket))) => {
                    drop(ready);
                    state.owed = false;
                    return Ok(socket);
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Ok((_, None)) | Err(_) => return Err(ended()),
            }
        }
    }
}

/// What connecting to a machine that is gone looks like.
fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, "the task has ended")
}

/// Connects inside a namespace.
pub struct NamespaceDial {
    /// Where sockets come from.
    pub sockets: Arc<Sockets>,
    /// The task's address and the port.
    pub address: SocketAddr,
}

impl Dial for NamespaceDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async {
            let socket = std::net::TcpStream::from(self.sockets.socket().await?);
            TcpSocket::from_std_stream(socket)
                .connect(self.address)
                .await
        })
    }
}

/// A connection to one address of this machine: for targets that are not containers, and for tests.
impl Dial for SocketAddr {
    fn dial(&self) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(*self))
    }
}

/// Forwards every connection that a task makes to one service of this machine, for ever.
pub async fn forward(listener: TcpListener, service: SocketAddr) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((inside, _)) => {
                    connections.spawn(splice(inside, service));
                }
                // Out of descriptors, most likely: that passes when a connection ends.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn splice(mut inside: TcpStream, service: SocketAddr) {
    let outside = TcpStream::connect(service).await;
    let ended = match outside {
        Ok(mut outside) => {
            let _ = inside.set_nodelay(true);
            let _ = outside.set_nodelay(true);
            tokio::io::copy_bidirectional(&mut inside, &mut outside)
                .await
                .map(|_| ())
        }
        Err(error) => Err(error),
    };
    if ended.is_err() {
        // Pass it on as what it is: a reset, not an orderly end.
        let _ = rustix::net::sockopt::set_socket_linger(&inside, Some(Duration::ZERO));
    }
}
