//! What a load balancer cannot do, and what to do about it.

use super::Listener;

/// What a load balancer cannot do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElbError {
    /// A listener's port is taken or not allowed.
    #[error(
        "cannot listen on 127.0.0.1:{port} for the {} listener: {source}; choose another port, or 0 for any",
        match listener { Listener::Production => "production", Listener::Test => "test" }
    )]
    Bind {
        /// The listener.
        listener: Listener,
        /// The port.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The thread of the load balancer could not be started.
    #[error("cannot start the load balancer's thread: {0}")]
    Thread(#[source] std::io::Error),
    /// There is no such target group.
    #[error("cannot find target group {name:?} at the load balancer; it has {}", known.join(", "))]
    UnknownGroup {
        /// The name.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// Two target groups have the same name, or a forward action names one twice.
    #[error("cannot use target group {name:?} twice; name each group once")]
    DuplicateGroup {
        /// The name.
        name: String,
    },
    /// A weight is over 999.
    #[error("cannot give target group {name:?} the weight {weight}; use 0 to 999")]
    Weight {
        /// The target group.
        name: String,
        /// The weight.
        weight: u32,
    },
    /// A forward action names more than five groups.
    #[error("cannot forward to {0} target groups; a forward action has at most 5")]
    TooManyGroups(usize),
    /// There is no such target in the group.
    #[error("cannot deregister target {target:?}: it is not registered in target group {group:?}")]
    UnknownTarget {
        /// The target group.
        group: String,
        /// The target.
        target: String,
    },
}
