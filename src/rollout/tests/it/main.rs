//! Deployments driven from outside, as the stage drives them: by observations alone.

mod endings;
mod forward;
mod functions;
mod properties;
mod record;
mod rig;
mod waits;
