//! Deployments driven from outside, as the stage drives them: by observations alone.

mod compare;
mod endings;
mod findings;
mod forward;
mod functions;
mod judge;
mod plot;
mod properties;
mod record;
mod rig;
mod simulate;
mod timeline;
mod vectors;
mod waits;
