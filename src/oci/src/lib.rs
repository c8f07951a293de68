//! OCI images and bundles: write, read, unpack, push.
//!
//! A release is only as trustworthy as the bytes it ships. This crate therefore has one rule for what
//! it writes and one for what it reads. **Written:** the same inputs give the same bytes, on any
//! machine, under any user, umask, locale, clock or directory order; so nothing that differs between
//! machines (owners, times, the order of a directory) ever reaches an output. **Read:** nothing is
//! believed before its digest has been compared, and no name in an archive is followed before it is
//! known to stay inside.
//!
//! - [`image`] writes an image archive: an OCI layout in a tar that `docker load`, podman and skopeo accept.
//! - [`archive`] opens one, ours or skopeo's, and verifies every byte that a digest covers.
//! - [`unpack`] lays its layers out as a root file system, and cannot be led outside the directory.
//! - [`bundle`] writes and verifies what is released: image, templates, migrations and `bundle.json`.
//! - [`function`] packs a Lambda function, and unpacks one.
//! - `push` (feature `push`) sends an image to a registry, unchanged, and compares the digest it answers.
//!
//! Everything but `push` is synchronous and brings no async runtime: the packer is built inside Nix,
//! once for every image, and has to be small.

pub mod archive;
mod beside;
pub mod bundle;
pub mod digest;
pub mod elf;
pub mod function;
pub mod image;
mod json;
pub mod layer;
pub mod limits;
mod model;
#[cfg(feature = "push")]
pub mod push;
mod tarball;
pub mod unpack;

pub use digest::Digest;
pub use tarball::TarError;
