//! Bodies of responses: the load balancer's own short pages, and what targets send, passed on as it
//! comes.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{ticket::Ticket, upstream::Upstream};

/// The body of a response to a client.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the common one, and moved twice"
)]
pub(super) enum Answer {
    /// Written by the load balancer.
    Page(Option<Bytes>),
    /// A target's.
    Stream(Stream),
}

/// A target's response body, the connection it comes from, and the account to settle at its end.
#[derive(Debug)]
pub(super) struct Stream {
    incoming: Incoming,
    upstream: Option<Box<Upstream>>,
    ticket: Ticket,
    ended: bool,
    /// An error to be passed on with the next poll.
    broken: Option<hyper::Error>,
}

impl Stream {
    pub(super) fn new(incoming: Incoming, upstream: Option<Box<Upstream>>, ticket: Ticket) -> Self {
        Self {
            incoming,
            upstream,
            ticket,
            ended: false,
            broken: None,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.ticket.complete = self.ended || self.incoming.is_end_stream();
        let Some(upstream) = self.upstream.take() else {
            return;
        };
        if self.ticket.complete
            && let Some(member) = &self.ticket.member
            && !member.is_draining()
        {
            member.pool.put(upstream);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Page(page) => Poll::Ready(page.take().map(|page| Ok(Frame::data(page)))),
            Self::Stream(stream) => {
                if let Some(error) = stream.broken.take() {
                    return Poll::Ready(Some(Err(error)));
                }
                let frame = std::task::ready!(match &mut stream.upstream {
                    Some(upstream) => upstream.poll_body(&mut stream.incoming, cx),
                    None => Pin::new(&mut stream.incoming).poll_frame(cx),
                });
                match frame {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            stream.ticket.sent += data.len() as u64;
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Some(Err(error)) => {
                        stream.upstream = None;
                        // hyper ends the client's connection at once when it sees the error, with
                        // what it has not written yet. What came before belongs to the client.
                        stream.broken = Some(error);
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                    None => {
                        stream.ended = true;
                        Poll::Ready(None)
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Page(page) => page.is_none(),
            Self::Stream(stream) => stream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Page(page) => {
                SizeHint::with_exact(page.as_ref().map_or(0, |page| page.len() as u64))
            }
            Self::Stream(stream) => stream.incoming.size_hint(),
        }
    }
}

/// A response of the load balancer itself, as ALB's look.
pub(super) fn page(status: StatusCode, mut ticket: Ticket) -> Response<Answer> {
    let title = format!(
        "{} {}",
        status.as_str(),
        status.canonical_reason().unwrap_or_default()
    );
    let page = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
         <center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    );
    ticket.elb_answers(status.as_u16(), page.len());
    let mut response = Response::new(Answer::Page(Some(page.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static("awselb/2.0"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response
}
