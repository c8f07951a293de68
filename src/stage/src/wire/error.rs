//! What a client is told when an operation is refused.
//!
//! The SDKs match on the name of an error, exactly, and show the message to a person. So the name
//! and the message are AWS's own. Whatever else is known goes into [`ApiError::internal`] and to
//! the log, never over the wire.

use serde_json::{Value, json};

/// An error of an API: a name that SDKs know, a message for people, perhaps another for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub(crate) struct ApiError {
    /// The exception's name, as the service model has it.
    pub name: &'static str,
    /// The HTTP status: 400, or 500 when it is not the client's doing.
    pub status: u16,
    /// What the client reads.
    pub message: String,
    /// What only the log shows.
    pub internal: Option<String>,
}

impl ApiError {
    /// An error that the client made: HTTP 400.
    pub fn client(name: &'static str, message: impl Into<String>) -> Self {
        Self {
            name,
            status: 400,
            message: message.into(),
            internal: None,
        }
    }

    /// An error of the stage itself: HTTP 500, which the SDKs retry.
    pub fn server(internal: impl Into<String>) -> Self {
        Self {
            name: "ServerException",
            status: 500,
            message: "An internal error of the stage; its log says more.".into(),
            internal: Some(internal.into()),
        }
    }

    /// The body is not what the operation takes.
    pub fn serialization(message: impl Into<String>) -> Self {
        Self::client("SerializationException", message)
    }

    /// The body of the answer.
    pub fn body(&self) -> Value {
        json!({ "__type": self.name, "message": self.message })
    }
}
