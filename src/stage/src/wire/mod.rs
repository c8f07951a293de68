//! The door: one loopback port for every API of the stage.
//!
//! A client of AWS is told one endpoint URL and nothing else, so one port must be enough. What a
//! request is for can be read off it: `X-Amz-Target` names a JSON service and its operation,
//! `/service/NAME/operation/NAME` the same in CBOR, `/v2/` is the image registry, and the rest is S3. The door never asks who is calling: there is
//! no branch for a user agent or an SDK, because then the rehearsal would be of the branch.
//!
//! Three rules shape this room.
//!
//! * **Signatures are verified** ([`signature`]), since a release that signs wrongly should fail in
//!   the rehearsal. Freshness is measured on real time, like the `Date` header: the Rust SDK
//!   measures its clock skew on that header, and would sign in the stage's accelerated time.
//! * **Virtual time appears in bodies only**, as JSON numbers of seconds ([`json::time`]).
//! * **An error has two messages** ([`ApiError`]): one for the client, in the words AWS uses, and
//!   one for the log, which may say more.

mod cbor;
mod error;
pub(crate) mod json;
mod server;
pub(crate) mod signature;

pub(crate) use error::ApiError;
pub(crate) use server::{Body, Handler, Routes, Server, empty_body, full_body, uuid};
pub(crate) use signature::{Credentials, sign, signed_service};

use futures_util::future::BoxFuture;
use serde_json::Value;

/// A service that speaks AWS JSON 1.0 or 1.1, or the same in CBOR.
pub(crate) trait JsonService: Send + Sync + 'static {
    /// What stands before the dot in `X-Amz-Target`, or after `/service/` in the path.
    fn target_prefix(&self) -> &'static str;

    /// Under which keys of an answer numbers are times; needed for CBOR only.
    fn times(&self) -> &'static [&'static str] {
        &[]
    }

    /// The service's name in a signature's credential scope.
    fn signing_name(&self) -> &'static str;

    /// Whether an operation is served here where another endpoint serves the rest of the account.
    fn serves(&self, _operation: &str) -> bool {
        true
    }

    /// Runs one operation. `None`: there is none of that name.
    fn call<'a>(
        &'a self,
        operation: &'a str,
        input: Value,
    ) -> BoxFuture<'a, Option<Result<Value, ApiError>>>;
}
