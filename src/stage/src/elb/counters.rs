//! Counts for a judge: what each target group answered, to the moment, and since when the weights
//! are what they are.
//!
//! CloudWatch has a minute's counts a minute later. A load balancer that one can ask says how
//! things stand now, which is what makes a verdict after seconds possible. All counts are of requests
//! that are over, failures among them: a request that is still running is in neither, so that no
//! difference of two looks holds more failures than requests.

use std::collections::BTreeMap;

use http::{HeaderValue, Method, Response, StatusCode, header};
use rollout::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    front::Front,
    wire::{Handler, empty_body, full_body},
};

/// Where the stage's endpoint serves them, for `GET`. No bucket can be called so.
pub const COUNTERS_PATH: &str = "/_stage/load-balancer";

/// All target groups at one moment. Counters only grow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// The moment (virtual).
    pub at: Timestamp,
    /// When the production listener's weights were set the last time (virtual).
    pub weights_since: Timestamp,
    /// The production listener's weights, 0 to 999, by target group.
    pub weights: BTreeMap<String, u32>,
    /// The counts, by target group.
    pub target_groups: BTreeMap<String, GroupCounters>,
}

impl Counters {
    /// A target group's share of the production traffic in percent, rounded, but 0 only for none.
    pub fn share(&self, target_group: &str) -> u8 {
        let all: u32 = self.weights.values().sum();
        let own = self.weights.get(target_group).copied().unwrap_or_default();
        if own == 0 || all == 0 {
            return 0;
        }
        u8::try_from((own * 100 + all / 2) / all).map_or(100, |share| share.max(1))
    }
}

/// What one target group has counted, on both listeners together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCounters {
    /// Requests that were answered, by a target or for want of one.
    pub answered: u64,
    /// Those of them that ended in a 5xx, a target's or the load balancer's own.
    pub failed: u64,
    /// Response times of targets' answers that were no 5xx, in the buckets of
    /// [`rollout::judge::Latency`]'s default bounds: one more than bounds.
    pub response_times: Vec<u64>,
}

/// Answers `GET` with the counters as JSON.
pub(crate) fn handler(front: Front) -> Handler {
    Box::new(move |request| {
        let answer = match *request.method() {
            Method::GET => serde_json::to_vec(&front.get().load_balancer.counters()).ok(),
            _ => None,
        };
        Box::pin(async move {
            let Some(body) = answer else {
                let mut response = Response::new(empty_body());
                *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                return response;
            };
            let mut response = Response::new(full_body(body));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        })
    })
}
