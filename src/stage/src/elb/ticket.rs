//! The account of one request, settled exactly once: when it is dropped.
//!
//! A request can end in many places: answered by the load balancer, by the target, given up by the
//! client before or in the middle of the answer, cut. Whoever holds the request holds its ticket,
//! writes on it what happened, and lets it go; metrics, live counters and the access log are made
//! from what stands on it then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use http::{HeaderValue, Method, Uri};

use super::{
    access_log::AccessLogEntry,
    group::{Group, Member},
    proxy::Client,
};

/// nginx's 499, ALB's 460: the client has gone before there was an answer.
const CLIENT_GONE: u16 = 460;

/// See the module.
#[derive(Debug)]
pub(super) struct Ticket {
    client: Arc<Client>,
    started: Instant,
    /// For the access log only: not kept when nobody reads it.
    pub(super) request: Option<(Method, Uri, HeaderValue)>,
    pub(super) received: Option<Arc<AtomicU64>>,
    group: Option<Arc<Group>>,
    pub(super) member: Option<Arc<Member>>,
    pub(super) forwarded: Option<Instant>,
    answered: Option<Instant>,
    target_status: Option<u16>,
    elb_status: Option<u16>,
    pub(super) sent: u64,
    pub(super) complete: bool,
}

impl Ticket {
    pub(super) fn new(client: Arc<Client>) -> Self {
        client.link.set_busy(true);
        Self {
            client,
            started: Instant::now(),
            request: None,
            received: None,
            group: None,
            member: None,
            forwarded: None,
            answered: None,
            target_status: None,
            elb_status: None,
            sent: 0,
            complete: false,
        }
    }

    /// A group was chosen.
    pub(super) fn routed(&mut self, group: &Arc<Group>) {
        group.meters.started();
        self.group = Some(Arc::clone(group));
    }

    /// The connection to the target could not be made.
    pub(super) fn connection_error(&self) {
        if let Some(group) = &self.group {
            let shared = &self.client.shared;
            let at = shared.clock.now();
            shared.meters.connection_error(&group.meters, at);
        }
    }

    /// The target has answered.
    pub(super) fn target_answered(&mut self, status: u16) {
        self.answered = Some(Instant::now());
        self.target_status = Some(status);
        self.elb_status = Some(status);
    }

    /// The load balancer answers itself.
    pub(super) fn elb_answers(&mut self, status: u16, body: usize) {
        self.elb_status = Some(status);
        self.sent = body as u64;
        self.complete = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.client.link.set_busy(false);
        let shared = &self.client.shared;
        let at = shared.clock.now();
        let meters = &shared.meters;
        let elb_status = self.elb_status.unwrap_or(CLIENT_GONE);
        if let Some(group) = &self.group {
            group.meters.ended();
            if self.member.is_some() {
                meters.request(&group.meters, at);
            }
        }
        match (self.target_status, &self.group) {
            (Some(status), Some(group)) => {
                let time = self
                    .forwarded
                    .zip(self.answered)
                    .map(|(forwarded, answered)| answered - forwarded);
                meters.target_answered(&group.meters, at, status, time);
            }
            (_, group) => {
                meters.elb_answered(group.as_ref().map(|group| &group.meters), at, elb_status);
            }
        }
        if !shared.access_log.any() {
            return;
        }
        let Some((method, uri, trace_id)) = self.request.take() else {
            return;
        };
        shared.access_log.send(AccessLogEntry {
            time: at,
            listener: self.client.listener,
            trace_id: String::from_utf8_lossy(trace_id.as_bytes()).into(),
            method,
            path: uri
                .path_and_query()
                .map_or_else(|| "/".to_owned(), ToString::to_string),
            target_group: self.group.as_ref().map(|group| Arc::clone(&group.name)),
            target: self.member.as_ref().map(|member| Arc::clone(&member.id)),
            elb_status,
            target_status: self.target_status,
            request_processing_time: self.forwarded.map(|forwarded| forwarded - self.started),
            target_processing_time: self
                .forwarded
                .zip(self.answered)
                .map(|(forwarded, answered)| answered - forwarded),
            response_processing_time: self.answered.map(|answered| answered.elapsed()),
            received_bytes: self
                .received
                .as_ref()
                .map_or(0, |received| received.load(Ordering::Relaxed)),
            sent_bytes: self.sent,
            complete: self.complete,
        });
    }
}
