//! A confidence sequence for an error rate: the band around the line of a plot.
//!
//! All rates that a Beta(1/2, 1/2) mixture has not yet made implausible, at every moment at
//! once: however often one looks, the true rate leaves the band ever with probability at most
//! `alpha`. It is a picture only: it takes the rate to be steady, which the judge does not.

use serde::{Deserialize, Serialize};

use crate::maths::{count, ln_gamma};

/// An error rate's confidence sequence at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The least plausible rate.
    pub lower: f64,
    /// The greatest plausible rate.
    pub upper: f64,
}

/// Why there is no interval.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum IntervalError {
    /// More failures than requests.
    #[error("{errors} of {requests} requests cannot have failed")]
    MoreErrorsThanRequests {
        /// How many failed.
        errors: u64,
        /// Of how many.
        requests: u64,
    },
    /// More requests than floats can count.
    #[error("{0} requests are too many for an interval: give at most {MAX_REQUESTS}")]
    TooMany(u64),
    /// The error probability is not strictly between 0 and 1.
    #[error("alpha = {0} is not a probability: give more than 0 and less than 1")]
    Probability(f64),
}

/// The most requests an interval is made of.
pub const MAX_REQUESTS: u64 = 1_000_000_000_000_000;

/// The rates that are still plausible after `errors` of `requests` failed. Without requests
/// all are; without a failure the band reaches 0, without a success it reaches 1.
pub fn confidence_sequence(
    errors: u64,
    requests: u64,
    alpha: f64,
) -> Result<Interval, IntervalError> {
    if errors > requests {
        return Err(IntervalError::MoreErrorsThanRequests { errors, requests });
    }
    if requests > MAX_REQUESTS {
        return Err(IntervalError::TooMany(requests));
    }
    if !(alpha > 0.0 && alpha < 1.0) {
        return Err(IntervalError::Probability(alpha));
    }
    let x = count(errors);
    let y = count(requests - errors);
    // ln B(x+1/2, y+1/2) - ln B(1/2, 1/2); Gamma(1/2)^2 is pi.
    let mixture =
        ln_gamma(x + 0.5) + ln_gamma(y + 0.5) - ln_gamma(x + y + 1.0) - std::f64::consts::PI.ln();
    let implausible = |p: f64| {
        let failed = if errors == 0 { 0.0 } else { x * p.ln() };
        let passed = if errors == requests {
            0.0
        } else {
            y * (-p).ln_1p()
        };
        mixture - failed - passed >= -alpha.ln()
    };
    let centre = if requests == 0 { 0.5 } else { x / (x + y) };
    let edge = |mut outside: f64| {
        let mut inside = centre;
        // Halves the distance; after 100 steps there is no float left in between.
        for _ in 0..100 {
            let middle = f64::midpoint(outside, inside);
            if implausible(middle) {
                outside = middle;
            } else {
                inside = middle;
            }
        }
        inside
    };
    Ok(Interval {
        lower: if errors == 0 { 0.0 } else { edge(0.0) },
        upper: if errors == requests { 1.0 } else { edge(1.0) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_cases_by_hand() {
        let one = confidence_sequence(0, 1, 0.05).expect("valid");
        assert!(one.lower == 0.0 && (one.upper - 0.975).abs() < 1e-12);
        let none = confidence_sequence(0, 0, 0.05).expect("valid");
        assert_eq!((none.lower, none.upper), (0.0, 1.0));
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(matches!(
            confidence_sequence(2, 1, 0.05),
            Err(IntervalError::MoreErrorsThanRequests { .. })
        ));
        for alpha in [0.0, 1.0, -1.0, f64::NAN] {
            assert!(matches!(
                confidence_sequence(0, 1, alpha),
                Err(IntervalError::Probability(_))
            ));
        }
        assert_eq!(
            confidence_sequence(0, u64::MAX, 0.05),
            Err(IntervalError::TooMany(u64::MAX))
        );
    }
}
