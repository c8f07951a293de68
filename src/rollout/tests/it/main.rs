//! Deployments driven from outside, as the stage drives them: by observations alone.

mod endings;
mod forward;
mod functions;
mod judge;
mod properties;
mod record;
mod rig;
mod simulate;
mod timeline;
mod vectors;
mod waits;
