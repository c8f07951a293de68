//! Random counts: Poisson and binomial, from a seeded generator.
//!
//! The generator and both samplers are pinned by this file, so that a seed gives the same
//! deployments on every machine. Small Poisson means are looked up in a table of the
//! distribution; large ones and binomials use Hörmann's transformed rejection ("The
//! transformed rejection method for generating Poisson random variables", 1993; "The generation
//! of binomial random variates", 1993).

use rand_core::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use crate::maths::{count, ln_gamma};

/// A seeded source of random numbers: PCG with 128 bits of state.
#[derive(Clone, Debug)]
pub struct Source(Pcg64Mcg);

impl Source {
    /// The source of this seed.
    pub fn seeded(seed: u64) -> Source {
        Source(Pcg64Mcg::seed_from_u64(seed))
    }

    /// A float in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        /// 2^-53.
        const UNIT: f64 = 1.0 / 9_007_199_254_740_992.0;
        count(self.0.next_u64() >> 11) * UNIT
    }

    /// One of the first `n` numbers; 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        floor(self.uniform() * count(n as u64)).min(n.saturating_sub(1))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and beyond usize it saturates"
)]
fn floor(x: f64) -> usize {
    x as usize
}

/// A Poisson distribution, prepared for many draws.
#[derive(Clone, Debug)]
pub struct Poisson(Method);

#[derive(Clone, Debug)]
enum Method {
    /// Always zero.
    Zero,
    /// The distribution function, and for each part of [0, 1) where to begin looking.
    Table { below: Vec<f64>, begin: Vec<usize> },
    /// Transformed rejection.
    Rejection {
        mean: f64,
        ln_mean: f64,
        a: f64,
        b: f64,
        inverse_alpha: f64,
        quick: f64,
    },
}

impl Poisson {
    /// The distribution of this mean; a mean that is not positive gives always 0, as does NaN.
    pub fn new(mean: f64) -> Poisson {
        const TABLE_UP_TO: f64 = 30.0;
        if mean.is_nan() || mean <= 0.0 {
            return Poisson(Method::Zero);
        }
        if mean < TABLE_UP_TO {
            return Poisson(Poisson::table(mean));
        }
        let b = 0.931 + 2.53 * mean.sqrt();
        Poisson(Method::Rejection {
            mean,
            ln_mean: mean.ln(),
            a: -0.059 + 0.024_83 * b,
            b,
            inverse_alpha: 1.1239 + 1.1328 / (b - 3.4),
            quick: 0.9277 - 3.6224 / (b - 2.0),
        })
    }

    fn table(mean: f64) -> Method {
        let mut below = Vec::new();
        let (mut mass, mut sum, mut k) = ((-mean).exp(), 0.0, 0.0);
        // Up to where the rest is less than one draw in 2^53 can meet.
        while k < mean || mass > 1e-17 {
            sum += mass;
            below.push(sum);
            k += 1.0;
            mass *= mean / k;
        }
        let parts = below.len();
        let begin = (0..parts)
            .map(|part| {
                let u = count(part as u64) / count(parts as u64);
                below.partition_point(|b| *b <= u)
            })
            .collect();
        Method::Table { below, begin }
    }

    /// A random count.
    pub fn draw(&self, source: &mut Source) -> u64 {
        match &self.0 {
            Method::Zero => 0,
            Method::Table { below, begin } => {
                let u = source.uniform();
                let part = floor(u * count(begin.len() as u64));
                let mut k = begin.get(part).copied().unwrap_or(0);
                while below.get(k).is_some_and(|b| *b <= u) {
                    k += 1;
                }
                k as u64
            }
            Method::Rejection {
                mean,
                ln_mean,
                a,
                b,
                inverse_alpha,
                quick,
            } => loop {
                let u = source.uniform() - 0.5;
                let v = source.uniform();
                let us = 0.5 - u.abs();
                let k = ((2.0 * a / us + b) * u + mean + 0.43).floor();
                if us >= 0.07 && v <= *quick {
                    return floor(k) as u64;
                }
                if k < 0.0 || (us < 0.013 && v > us) {
                    continue;
                }
                let accepted = (v * inverse_alpha / (a / (us * us) + b)).ln();
                if accepted <= k * ln_mean - mean - ln_gamma(k + 1.0) {
                    return floor(k) as u64;
                }
            },
        }
    }
}

/// How many of `n` happen, each with probability `p` (clamped to 0 to 1; NaN counts as 0).
#[expect(
    clippy::many_single_char_names,
    reason = "the names of Hörmann's papers"
)]
pub fn binomial(source: &mut Source, n: u64, p: f64) -> u64 {
    /// Below this mean, waiting from one event to the next is the fastest.
    const WAIT_BELOW: f64 = 10.0;
    if n == 0 || p.is_nan() || p <= 0.0 {
        return 0;
    }
    if p >= 1.0 {
        return n;
    }
    if p > 0.5 {
        return n - binomial(source, n, 1.0 - p);
    }
    if count(n) * p < WAIT_BELOW {
        let ln_q = (-p).ln_1p();
        let (mut seen, mut happened) = (0.0, 0);
        loop {
            seen += ((1.0 - source.uniform()).ln() / ln_q).floor() + 1.0;
            if seen > count(n) {
                return happened;
            }
            happened += 1;
        }
    }
    let n = count(n);
    let spread = (n * p * (1.0 - p)).sqrt();
    let b = 1.15 + 2.53 * spread;
    let a = -0.0873 + 0.0248 * b + 0.01 * p;
    let centre = n * p + 0.5;
    let quick = 0.92 - 4.2 / b;
    let alpha = (2.83 + 5.1 / b) * spread;
    let ln_odds = (p / (1.0 - p)).ln();
    let mode = ((n + 1.0) * p).floor();
    let at_mode = ln_gamma(mode + 1.0) + ln_gamma(n - mode + 1.0);
    loop {
        let u = source.uniform() - 0.5;
        let v = source.uniform();
        let us = 0.5 - u.abs();
        let k = ((2.0 * a / us + b) * u + centre).floor();
        if k < 0.0 || k > n {
            continue;
        }
        if us >= 0.07 && v <= quick {
            return floor(k) as u64;
        }
        let accepted = (v * alpha / (a / (us * us) + b)).ln();
        let mass = at_mode - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0) + (k - mode) * ln_odds;
        if accepted <= mass {
            return floor(k) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson's statistic of draws against the masses of `0..masses.len()`, the rest pooled
    /// where fewer than 10 are expected, with its degrees of freedom.
    fn chi_square(draws: &[u64], mass: impl Fn(u64) -> f64) -> (f64, f64) {
        let total = count(draws.len() as u64);
        let most = draws.iter().copied().max().unwrap_or(0);
        let (mut statistic, mut freedom) = (0.0, -1.0);
        let (mut expected, mut seen, mut left) = (0.0, 0.0, total);
        for k in 0..=most + 1 {
            expected += total * mass(k);
            seen += count(draws.iter().filter(|draw| **draw == k).count() as u64);
            if expected >= 10.0 && left - expected >= 10.0 {
                statistic += (seen - expected).powi(2) / expected;
                freedom += 1.0;
                left -= expected;
                (expected, seen) = (0.0, 0.0);
            }
        }
        statistic += (seen - left).powi(2) / left;
        (statistic, freedom + 1.0)
    }

    /// Within five standard deviations of its mean: a wrong constant is far outside, and a
    /// right one is always inside for these fixed seeds.
    fn fits((statistic, freedom): (f64, f64)) -> bool {
        freedom >= 1.0 && (statistic - freedom) / (2.0 * freedom).sqrt() < 5.0
    }

    #[test]
    fn poisson_counts_are_poisson() {
        let mut source = Source::seeded(1);
        for mean in [0.02, 0.7, 5.0, 29.9, 30.0, 77.0, 960.0] {
            let poisson = Poisson::new(mean);
            let draws: Vec<u64> = (0..20_000).map(|_| poisson.draw(&mut source)).collect();
            let mass = |k| (count(k) * f64::ln(mean) - mean - ln_gamma(count(k) + 1.0)).exp();
            let result = chi_square(&draws, mass);
            assert!(fits(result), "{mean}: {result:?}");
        }
        for mean in [0.0, -1.0, f64::NAN] {
            assert_eq!(Poisson::new(mean).draw(&mut source), 0);
        }
    }

    #[test]
    fn binomial_counts_are_binomial() {
        let mut source = Source::seeded(2);
        for (n, p) in [(7, 0.3), (200, 0.02), (100, 0.4), (100, 0.9), (5000, 0.1)] {
            let draws: Vec<u64> = (0..20_000).map(|_| binomial(&mut source, n, p)).collect();
            let mass = |k: u64| {
                if k > n {
                    return 0.0;
                }
                (ln_gamma(count(n) + 1.0) - ln_gamma(count(k) + 1.0) - ln_gamma(count(n - k) + 1.0)
                    + count(k) * f64::ln(p)
                    + count(n - k) * f64::ln(1.0 - p))
                .exp()
            };
            let result = chi_square(&draws, mass);
            assert!(fits(result), "{n} {p}: {result:?}");
        }
        assert_eq!(binomial(&mut source, 0, 0.5), 0);
        assert_eq!(binomial(&mut source, 9, 1.0), 9);
        assert_eq!(binomial(&mut source, 9, f64::NAN), 0);
    }

    #[test]
    fn a_seed_is_a_sequence() {
        let draw = |seed| {
            let mut source = Source::seeded(seed);
            let poisson = Poisson::new(50.0);
            (0..20)
                .map(|_| poisson.draw(&mut source))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
