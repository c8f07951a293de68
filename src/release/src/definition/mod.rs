//! The task definition: from the rendered template to the SDK's request, strictly.
//!
//! AWS's own tools pass a template through and let the service refuse it, and a field with a
//! typing error is silently dropped by some of them. Here a rendered task definition is read field
//! by field ([`fields`]): an unknown field is an error with its path and the nearest known name, a
//! field that Fargate does not have says so, and what the service would refuse later (a pair of
//! CPU and memory that does not exist) is refused before anything has changed.
//!
//! [`parse`] makes the request, [`equal`] says whether a registered revision already is the same,
//! with the defaults that ECS fills in.

mod check;
mod equal;
mod fields;
mod parse;

pub use check::check_appspec;
pub use equal::equal;
pub use fields::DefinitionError;
pub use parse::parse;
