//! How many users a bad version would meet, before it is released.
//!
//! A [`Scenario`] is a strategy under Poisson traffic, with an alarm, the judge, both or neither
//! as detectors. Where a formula exists it is used ([`exact`]: the alarm alone, in
//! microseconds); where none does, deployments are played ([`simulate`]: seeded, the same
//! numbers on every machine) with the state machine of [`crate::deployment`] in virtual time:
//! it sets the weights, is told of the alarm, the judge or the hook, and takes the traffic back.
//!
//! Model and formulas: docs/judge.md, "The simulator". Time zero is green's first production
//! request; all times here are seconds, as floats, because integrals and delays are.

mod compare;
mod exact;
mod exposure;
mod machine;
mod monte_carlo;
pub mod plan;
pub mod sample;
mod scenario;

pub use compare::{Bin, Comparison, Row, Watch};
pub use exact::{Exact, exact};
pub use exposure::{Exposure, strategy};
pub use monte_carlo::{
    Detections, Detector, Failures, MAX_RUNS, Run, Simulated, simulate, simulate_runs,
};
pub use scenario::{Alarm, JudgeDetector, Phase, Scenario, ScenarioError, Scope};
