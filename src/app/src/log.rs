//! Logs: one JSON object a line on the standard output, where a container's log driver reads it.
//!
//! Every line written while a request is handled carries `span.trace_id`. The access lines have
//! targets of their own, so that `LOG=info,app::access::health=off` silences the load balancer's
//! checks and nothing else.

use tracing_subscriber::EnvFilter;

/// Target of the line that each request leaves.
pub const ACCESS: &str = "app::access";
/// The same for requests to `/healthz/…`, of which there are many and most are dull.
pub const ACCESS_HEALTH: &str = "app::access::health";

/// Starts logging; once, before anything is logged. A panic is a line like any other from then on.
pub fn start(filter: EnvFilter) {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        // A closed log must not take the server down with it.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .init();
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panicked")));
}
