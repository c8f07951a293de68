//! What a deployment is: its plan, its state machine, its alarms and its record.
//!
//! This crate is the heart of serein and knows nothing of the world: no I/O, no clock, no
//! tasks, no randomness but a seed's. Time comes in as an argument, commands go out as values. That is why
//! the same code can run a deployment on the stage, predict the timeline of one on AWS, be
//! driven a million times by a simulator, and be rebuilt from a record.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`time`] | [`Timestamp`]: the only notion of time |
//! | [`appspec`] | the AppSpec of an ECS deployment, read from YAML or JSON |
//! | [`traffic`] | how production traffic moves: all at once, canary, linear |
//! | [`lifecycle`] | CodeDeploy's lifecycle events and statuses |
//! | [`alarm`] | CloudWatch's evaluation of a metric alarm |
//! | [`deployment`] | the state machine: observations in, commands and events out |
//! | [`event`] | one line of a record |
//! | [`replay`] | the state of a deployment, rebuilt from its events |
//! | [`course`] | the state machine, driven in virtual time in a world where all goes well |
//! | [`timeline`] | what a release will do, before it does it, and what in it cannot work |
//! | [`judge`] | whether green is worse than blue, said as soon as it can be known |
//! | [`smoke`] | whether green answers at all, before any user meets it |
//! | [`interval`] | the band around an error rate, for plots |
//! | [`simulate`] | how many users a bad version would meet, by formula or by chance |
//! | [`plot`] | pictures of all that, as SVG |

pub mod alarm;
pub mod appspec;
pub mod course;
pub mod deployment;
pub mod event;
pub mod interval;
pub mod judge;
pub mod lifecycle;
mod maths;
pub mod plot;
pub mod replay;
pub mod simulate;
pub mod smoke;
pub mod time;
pub mod timeline;
pub mod traffic;

pub use time::Timestamp;
