//! WebSocket and whatever else a connection can be upgraded to.
//!
//! Such a request gets a connection of its own, which never goes back to the pool: if the target
//! switches protocols, client and target are joined until one of them ends, or neither has said
//! anything for the idle time-out. If it does not switch, its answer is an ordinary one.

use std::{sync::Arc, time::Instant};

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    answer::{self, Answer, Stream},
    group::Member,
    headers,
    link::{Link, Verdict},
    proxy::{self, Client},
    ticket::Ticket,
    upstream::RequestBody,
};

pub(super) async fn forward(
    client: &Arc<Client>,
    member: &Arc<Member>,
    mut request: Request<Incoming>,
    mut ticket: Ticket,
) -> Response<Answer> {
    let upstream = match proxy::connect(&client.shared, member).await {
        Ok(upstream) => upstream,
        Err(status) => {
            ticket.connection_error();
            return answer::page(status, ticket);
        }
    };
    let (mut sender, connection, link) = upstream.into_parts();
    link.set_busy(true);
    tokio::spawn(async move {
        // The requester learns of errors as well; nobody else needs to.
        let _ = connection.with_upgrades().await;
    });

    let from_client = hyper::upgrade::on(&mut request);
    proxy::to_origin_form(&mut request);
    let (mut parts, incoming) = request.into_parts();
    let protocol = parts.headers.get(header::UPGRADE).cloned();
    headers::remove_hop_by_hop(&mut parts.headers, false);
    ask_to_switch(&mut parts.headers, protocol);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let (body, received) = RequestBody::new(incoming);
    ticket.received = received;
    ticket.forwarded = Some(Instant::now());
    let mut response = match sender.send_request(Request::from_parts(parts, body)).await {
        Ok(response) => response,
        Err(_) if link.verdict() == Verdict::Idle => {
            return answer::page(StatusCode::GATEWAY_TIMEOUT, ticket);
        }
        Err(_) => return answer::page(StatusCode::BAD_GATEWAY, ticket),
    };
    ticket.target_answered(response.status().as_u16());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut parts, incoming) = response.into_parts();
        headers::remove_hop_by_hop(&mut parts.headers, true);
        parts.version = Version::HTTP_11;
        // The connection's task reads the body; the sender keeps it going until then.
        parts.extensions.clear();
        return Response::from_parts(parts, Answer::Stream(Stream::new(incoming, None, ticket)));
    }

    let from_target = hyper::upgrade::on(&mut response);
    let mut switched = Response::new(Answer::Page(None));
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let protocol = response.headers().get(header::UPGRADE).cloned();
    *switched.headers_mut() = std::mem::take(response.headers_mut());
    headers::remove_hop_by_hop(switched.headers_mut(), true);
    ask_to_switch(switched.headers_mut(), protocol);
    let client = Arc::clone(client);
    tokio::spawn(async move {
        // The request lasts as long as the two are joined.
        let mut ticket = ticket;
        let (Ok(client_side), Ok(target_side)) = (from_client.await, from_target.await) else {
            return;
        };
        let (mut client_side, mut target_side) =
            (TokioIo::new(client_side), TokioIo::new(target_side));
        let (mut client_read, mut client_write) = tokio::io::split(&mut client_side);
        let (mut target_read, mut target_write) = tokio::io::split(&mut target_side);
        let links = [&*client.link, &*link];
        let (up, down) = tokio::join!(
            copy(&mut client_read, &mut target_write, links),
            copy(&mut target_read, &mut client_write, links),
        );
        ticket.sent = down.0;
        ticket.complete = up.1.is_ok() && down.1.is_ok();
        ticket.received = Some(Arc::new(up.0.into()));
        drop(ticket);
    });
    switched
}

fn ask_to_switch(headers: &mut http::HeaderMap, protocol: Option<HeaderValue>) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
    }
}

/// Copies until the end of `from`, and notes on both connections that something moved.
async fn copy<R, W>(from: &mut R, to: &mut W, links: [&Link; 2]) -> (u64, std::io::Result<()>)
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 16 * 1024];
    let mut copied = 0;
    let result = async {
        loop {
            let n = from.read(&mut buffer).await?;
            if n == 0 {
                if let Some(link) = links.iter().find(|link| link.verdict() != Verdict::None) {
                    return Err(std::io::Error::other(format!("{:?}", link.verdict())));
                }
                return to.shutdown().await;
            }
            to.write_all(&buffer[..n]).await?;
            copied += n as u64;
            links.into_iter().for_each(Link::touch);
        }
    };
    let result = result.await;
    if result.is_err() {
        // The other direction must not wait for a peer that is gone.
        for link in links {
            link.end(Verdict::None);
        }
    }
    (copied, result)
}
