//! The way of one request: choose a group by weight, a target by turn, a connection from its pool;
//! send, wait, pass on.
//!
//! # What is tried twice
//!
//! A target may close an idle connection at the very moment a request is sent on it. ALB answers
//! such a request with 502, which is why AWS tells people to keep connections alive longer than
//! the load balancer's idle time-out. Here:
//!
//! - a connection that has been closed while it was idle is never used: it is looked at before;
//! - a request of which nothing was written goes to a new connection, whatever its method;
//! - a request that was written to a *reused* connection which then ended without an answer goes to
//!   a new connection once, if its method is idempotent and it has no body (RFC 9112, section
//!   9.3.1): kinder than ALB;
//! - anything else is a 502, as on ALB: in particular every `POST`, and whatever a target does with
//!   the first request on a connection.

use std::{convert::Infallible, sync::Arc, time::Instant};

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, uri::PathAndQuery,
};
use http_body::Body as _;
use hyper::body::Incoming;

use super::{
    Listener,
    answer::{self, Answer, Stream},
    group::Member,
    headers::{self, Forwarded},
    link::{Link, Verdict},
    shared::Shared,
    ticket::Ticket,
    upgrade,
    upstream::{RequestBody, SendError, Upstream},
};

/// One connection of a client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) shared: Arc<Shared>,
    pub(super) listener: Listener,
    pub(super) forwarded: Forwarded,
    pub(super) link: Arc<Link>,
}

/// Answers one request.
pub(super) async fn handle(
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let mut response = forward(&client, request).await;
    if client
        .shared
        .stopping
        .load(std::sync::atomic::Ordering::Acquire)
    {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn forward(client: &Arc<Client>, mut request: Request<Incoming>) -> Response<Answer> {
    let shared = &client.shared;
    let mut ticket = Ticket::new(Arc::clone(client));
    let refused = headers::refuse(&request);
    let trace_id = headers::trace(request.headers_mut(), shared.clock.now().as_secs());
    if shared.access_log.any() {
        ticket.request = Some((request.method().clone(), request.uri().clone(), trace_id));
    }
    if let Some(status) = refused {
        return answer::page(status, ticket);
    }

    let routing = shared.routing(client.listener).load();
    let member = routing.choose().and_then(|group| {
        ticket.routed(group);
        group.choose()
    });
    drop(routing);
    let Some(member) = member else {
        return answer::page(StatusCode::SERVICE_UNAVAILABLE, ticket);
    };
    ticket.member = Some(Arc::clone(&member));

    if headers::wants_upgrade(request.headers()) {
        client.forwarded.add(request.headers_mut());
        return Box::pin(upgrade::forward(client, &member, request, ticket)).await;
    }
    let request = outgoing(client, request, &mut ticket);
    exchange(shared, &member, request, ticket).await
}

/// The request as the target gets it.
fn outgoing(
    client: &Client,
    mut request: Request<Incoming>,
    ticket: &mut Ticket,
) -> Request<RequestBody> {
    headers::remove_hop_by_hop(request.headers_mut(), false);
    client.forwarded.add(request.headers_mut());
    to_origin_form(&mut request);
    *request.version_mut() = Version::HTTP_11;
    request.map(|incoming| {
        let (body, received) = RequestBody::new(incoming);
        ticket.received = received;
        body
    })
}

/// `http://host/path` becomes `/path` with a `Host` header; HTTP/1.0 gets one too.
pub(super) fn to_origin_form<B>(request: &mut Request<B>) {
    if let Some(authority) = request.uri().authority() {
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            request.headers_mut().insert(header::HOST, host);
        }
        let path = request
            .uri()
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    } else if !request.headers().contains_key(header::HOST) {
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static("localhost"));
    }
}

/// Sends a request to a target and passes on what it answers.
async fn exchange(
    shared: &Arc<Shared>,
    member: &Arc<Member>,
    mut request: Request<RequestBody>,
    mut ticket: Ticket,
) -> Response<Answer> {
    let mut fresh = false;
    loop {
        let pooled = if fresh { None } else { member.pool.take() };
        let mut upstream = match pooled {
            Some(upstream) => upstream,
            None => match connect(shared, member).await {
                Ok(upstream) => upstream,
                Err(status) => {
                    ticket.connection_error();
                    return answer::page(status, ticket);
                }
            },
        };
        let again = (upstream.used && may_repeat(&request)).then(|| copy(&request));
        let reused = upstream.used;
        let sent = Instant::now();
        ticket.forwarded = Some(sent);
        match upstream.send(request).await {
            Ok(response) => return pass_on(response, upstream, ticket),
            Err(SendError { unsent, error }) => {
                let verdict = upstream.link().verdict();
                tracing::debug!(target = %member.id, %error, ?verdict, reused, "no answer");
                match (verdict, unsent.or(again)) {
                    // An idle connection may time out just as it is taken: then it is not the
                    // target that was slow.
                    (Verdict::Idle, _) if sent.elapsed() >= shared.idle_timeout => {
                        return answer::page(StatusCode::GATEWAY_TIMEOUT, ticket);
                    }
                    (Verdict::None | Verdict::Idle, Some(repeat)) if reused => {
                        request = repeat;
                        fresh = true;
                    }
                    _ => return answer::page(StatusCode::BAD_GATEWAY, ticket),
                }
            }
        }
    }
}

fn may_repeat(request: &Request<RequestBody>) -> bool {
    request.body().is_end_stream()
        && matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
        )
}

fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// A new connection to a target, or the status that says why there is none.
pub(super) async fn connect(shared: &Shared, member: &Member) -> Result<Box<Upstream>, StatusCode> {
    let stream = tokio::time::timeout(shared.connect_timeout, member.dial.dial())
        .await
        .map_err(|_| StatusCode::GATEWAY_TIMEOUT)?;
    let ready = async {
        let stream = stream?;
        stream.set_nodelay(true)?;
        let link = Link::new(&stream, Arc::clone(&shared.ticks))?;
        member.pool.links.add(&link);
        Upstream::new(stream, link)
            .await
            .map_err(std::io::Error::other)
    };
    ready.await.map_err(|error| {
        tracing::debug!(target = %member.id, %error, "no connection");
        StatusCode::BAD_GATEWAY
    })
}

fn pass_on(
    mut response: Response<Incoming>,
    upstream: Box<Upstream>,
    mut ticket: Ticket,
) -> Response<Answer> {
    ticket.target_answered(response.status().as_u16());
    headers::remove_hop_by_hop(response.headers_mut(), true);
    *response.version_mut() = Version::HTTP_11;
    response.map(|incoming| Answer::Stream(Stream::new(incoming, Some(upstream), ticket)))
}
