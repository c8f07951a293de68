//! Listeners: accept connections, speak HTTP/1 on them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpStream};

use super::{
    ElbError, Listener,
    headers::Forwarded,
    link::Link,
    proxy::{self, Client},
    shared::Shared,
    socket::Socket,
};

/// The largest request head; ELB: 64 KiB. A larger one is answered with 431.
const MAX_REQUEST_HEAD: usize = 64 * 1024;

/// Binds a listener's port on the loopback interface.
pub(super) fn bind(listener: Listener, port: u16) -> Result<std::net::TcpListener, ElbError> {
    let bind = || {
        let socket = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    bind().map_err(|source| ElbError::Bind {
        listener,
        port,
        source,
    })
}

/// Accepts connections until the future is dropped.
pub(super) async fn accept(shared: Arc<Shared>, listener: Listener, socket: TcpListener) {
    let port = socket.local_addr().map_or(0, |address| address.port());
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                if let Ok(client) = client(&shared, listener, &stream, peer, port) {
                    tokio::spawn(serve(stream, client));
                }
            }
            // Out of file descriptors, most likely: the connection waits in the backlog.
            Err(error) => {
                tracing::warn!(?listener, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn client(
    shared: &Arc<Shared>,
    listener: Listener,
    stream: &TcpStream,
    peer: SocketAddr,
    port: u16,
) -> std::io::Result<Arc<Client>> {
    stream.set_nodelay(true)?;
    let link = Link::new(stream, Arc::clone(&shared.ticks))?;
    shared.clients.add(&link);
    Ok(Arc::new(Client {
        shared: Arc::clone(shared),
        listener,
        forwarded: Forwarded::new(peer.ip(), port),
        link,
    }))
}

async fn serve(stream: TcpStream, client: Arc<Client>) {
    let keep_alive = !client.shared.stopping.load(Ordering::Acquire);
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(keep_alive)
        .max_header_size(MAX_REQUEST_HEAD)
        .serve_connection(
            Socket::new(stream),
            service_fn(move |request| proxy::handle(Arc::clone(&client), request)),
        )
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a client's connection ended");
    }
}
