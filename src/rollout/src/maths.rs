//! The few functions of analysis that the judge and the simulator share.
//!
//! Everything is computed in logarithms: a likelihood ratio of a release reaches `exp(1000)`,
//! which no float holds. Nothing here allocates, and nothing here can panic.

/// A count as a float. Counts in this crate are below 2^53, so nothing is lost.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts are checked to be far below 2^53"
)]
pub(crate) const fn count(n: u64) -> f64 {
    n as f64
}

/// `ln(exp(a) + exp(b))`.
pub(crate) fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a >= b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY {
        return high;
    }
    high + (low - high).exp().ln_1p()
}

/// The logarithm of the mean of `exp(value)`; minus infinity without values.
pub(crate) fn log_mean_exp(values: &[f64]) -> f64 {
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if highest == f64::NEG_INFINITY {
        return highest;
    }
    let sum: f64 = values.iter().map(|value| (value - highest).exp()).sum();
    highest + (sum / count(values.len() as u64)).ln()
}

/// The logarithm of the gamma function for `x > 0`: Stirling's series, after the recurrence has
/// moved small arguments to where it is exact to double precision.
pub(crate) fn ln_gamma(x: f64) -> f64 {
    /// Half of `ln(2 pi)`.
    const HALF_LN_TAU: f64 = 0.918_938_533_204_672_7;
    let (mut x, mut product) = (x, 1.0);
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let r = 1.0 / x;
    let r2 = r * r;
    let series = r
        * (1.0 / 12.0
            - r2 * (1.0 / 360.0
                - r2 * (1.0 / 1260.0
                    - r2 * (1.0 / 1680.0 - r2 * (1.0 / 1188.0 - r2 * 691.0 / 360_360.0)))));
    (x - 0.5) * x.ln() - x + HALF_LN_TAU + series - product.ln()
}

/// `P(Poisson(lambda) > limit)`, exact to double precision in the smaller tail.
pub(crate) fn poisson_above(lambda: f64, limit: u64) -> f64 {
    if lambda <= 0.0 {
        return 0.0;
    }
    let at_limit = count(limit);
    let mass = |k: f64| (k * lambda.ln() - lambda - ln_gamma(k + 1.0)).exp();
    if at_limit < lambda {
        // The lower tail, from the limit downwards: the terms fall.
        let (mut k, mut term, mut below) = (at_limit, mass(at_limit), 0.0);
        loop {
            below += term;
            if k < 0.5 || term < below * 1e-18 {
                break;
            }
            term *= k / lambda;
            k -= 1.0;
        }
        (1.0 - below).max(0.0)
    } else {
        let mut k = at_limit + 1.0;
        let (mut term, mut above) = (mass(k), 0.0);
        while term > above * 1e-18 {
            above += term;
            k += 1.0;
            term *= lambda / k;
        }
        above.min(1.0)
    }
}

/// `a ln(a/b) + (1-a) ln((1-a)/(1-b))`, the Kullback-Leibler divergence of two coins.
pub(crate) fn divergence(a: f64, b: f64) -> f64 {
    let term = |p: f64, q: f64| if p == 0.0 { 0.0 } else { p * (p / q).ln() };
    term(a, b) + term(1.0 - a, 1.0 - b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64) {
        assert!(
            (got - want).abs() <= 1e-13 * want.abs().max(1.0),
            "{got} instead of {want}"
        );
    }

    #[test]
    fn gamma_at_known_points() {
        close(ln_gamma(0.5), std::f64::consts::PI.sqrt().ln());
        close(ln_gamma(1.0), 0.0);
        close(ln_gamma(2.0), 0.0);
        close(ln_gamma(5.0), 24_f64.ln());
        close(ln_gamma(11.0), 3_628_800_f64.ln());
        // 170! is the last factorial that a float holds.
        let factorial: f64 = (1..=170_u32).map(f64::from).product();
        close(ln_gamma(171.0), factorial.ln());
    }

    #[test]
    fn sums_of_exponentials_survive_what_no_float_holds() {
        close(log_add(2000.0, 2000.0), 2000.0 + 2_f64.ln());
        close(log_add(-5000.0, f64::NEG_INFINITY), -5000.0);
        close(log_add(0.0, -800.0), 0.0);
        assert!(log_add(f64::NEG_INFINITY, f64::NEG_INFINITY).is_infinite());
        close(log_mean_exp(&[1e4, 1e4, 1e4]), 1e4);
        close(log_mean_exp(&[0.0, f64::NEG_INFINITY]), 0.5_f64.ln());
        assert!(log_mean_exp(&[]).is_infinite());
    }

    #[test]
    fn poisson_tails_add_up() {
        // By hand: 1 - e^-2 (1 + 2 + 2).
        close(poisson_above(2.0, 2), 1.0 - 5.0 * (-2_f64).exp());
        close(poisson_above(0.5, 0), -(-0.5_f64).exp_m1());
        assert!(poisson_above(0.0, 0) == 0.0 && poisson_above(1e6, 10) >= 1.0);
        for (lambda, limit) in [(3.7, 3), (24.0, 10), (960.0, 1000), (0.01, 4)] {
            let direct: f64 = (0..=limit)
                .map(|k| {
                    let k = count(k);
                    (k * f64::ln(lambda) - lambda - ln_gamma(k + 1.0)).exp()
                })
                .sum();
            let got = poisson_above(lambda, limit);
            assert!(
                (got + direct - 1.0).abs() < 1e-12,
                "{lambda} {limit}: {got}"
            );
        }
    }

    #[test]
    fn divergence_of_certainties() {
        close(divergence(0.0, 0.25), -(0.75_f64.ln()));
        close(divergence(1.0, 0.25), -(0.25_f64.ln()));
        close(divergence(0.3, 0.3), 0.0);
    }
}
