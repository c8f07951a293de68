//! What one batch says: the increments `l(g)` of an e-process, one for each bet `g`.
//!
//! The relative increment is a likelihood ratio of Fisher's noncentral hypergeometric
//! distribution. Its normalising sum has up to as many terms as there were requests, but
//! nearly all of them are nothing beside the largest: the terms have one peak, so the sum is
//! taken from the peak outwards until what is left cannot be seen in a double. The peaks of
//! the bets lie far apart; what lies between is bridged by the product of the term ratios,
//! renormalised before it leaves the range of a double. No table, and the rounding errors of a
//! million factors stay below 1e-9. Only a bridge of millions of terms is computed from
//! factorials: what they lose is nothing beside an increment that far from its peak.

use crate::maths::{count, ln_gamma};

/// From how many terms on a bridge is computed from factorials.
const FAR: u64 = 1 << 22;

/// A 2x2 table: how many of green's and blue's requests failed (or were slow).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub x_c: u64,
    pub n_c: u64,
    pub x_b: u64,
    pub n_b: u64,
}

impl Table {
    /// Whether the relative increment is defined: both sides had requests.
    pub fn usable(&self) -> bool {
        self.n_c > 0 && self.n_b > 0
    }

    fn shape(&self) -> Shape {
        let s = self.x_c + self.x_b;
        Shape {
            n_c: self.n_c,
            s,
            // n_b - s, which may be negative, plus what keeps it an integer.
            spare: count(self.n_b) - count(s),
            low: s.saturating_sub(self.n_b),
            high: s.min(self.n_c),
        }
    }
}

/// The margins of a table.
struct Shape {
    n_c: u64,
    s: u64,
    spare: f64,
    low: u64,
    high: u64,
}

impl Shape {
    /// `w(k+1)/w(k)` at odds ratio 1, for `low <= k < high`; falls with `k`.
    fn ratio(&self, k: u64) -> f64 {
        count(self.n_c - k) * count(self.s - k) / (count(k + 1) * (self.spare + count(k + 1)))
    }

    /// Where the terms are largest at this odds ratio.
    fn peak(&self, odds: f64) -> u64 {
        let (mut low, mut high) = (self.low, self.high);
        while low < high {
            let middle = low + (high - low) / 2;
            if odds * self.ratio(middle) < 1.0 {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// The logarithm of the sum of all terms, in units of the term at `peak`.
    fn ln_sum(&self, peak: u64, odds: f64) -> f64 {
        const NEGLIGIBLE: f64 = 1e-20;
        let mut sum = 1.0;
        let mut term = 1.0;
        for k in peak..self.high {
            term *= odds * self.ratio(k);
            sum += term;
            if term < sum * NEGLIGIBLE {
                break;
            }
        }
        term = 1.0;
        for k in (self.low..peak).rev() {
            term /= odds * self.ratio(k);
            sum += term;
            if term < sum * NEGLIGIBLE {
                break;
            }
        }
        sum.ln()
    }

    /// `ln(w(to)/w(from))` at this odds ratio.
    fn ln_between(&self, from: u64, to: u64, odds: f64) -> f64 {
        if from.abs_diff(to) > FAR {
            return self.ln_term(to, odds) - self.ln_term(from, odds);
        }
        self.ln_product(from, to, odds)
    }

    /// `ln w(k)` at this odds ratio, up to what all terms share.
    fn ln_term(&self, k: u64, odds: f64) -> f64 {
        let rest = self.spare + count(k);
        count(k) * odds.ln()
            - ln_gamma(count(k) + 1.0)
            - ln_gamma(count(self.n_c - k) + 1.0)
            - ln_gamma(count(self.s - k) + 1.0)
            - ln_gamma(rest + 1.0)
    }

    fn ln_product(&self, from: u64, to: u64, odds: f64) -> f64 {
        let (first, last, sign) = if from <= to {
            (from, to, 1.0)
        } else {
            (to, from, -1.0)
        };
        let mut ln = 0.0;
        let mut product = 1.0_f64;
        for k in first..last {
            product *= odds * self.ratio(k);
            if !(1e-200..1e200).contains(&product) {
                ln += product.ln();
                product = 1.0;
            }
        }
        sign * (ln + product.ln())
    }
}

/// `l(g) = x_c ln g + L(m) - L(m g)` for every bet, into `out`; zero where the table says
/// nothing (nobody failed, or everybody).
pub(super) fn relative(table: &Table, margin: f64, bets: &[f64], out: &mut Vec<f64>) {
    out.clear();
    let total = table.n_c + table.n_b;
    let failed = table.x_c + table.x_b;
    if failed == 0 || failed == total {
        out.resize(bets.len(), 0.0);
        return;
    }
    let shape = table.shape();
    let origin = shape.peak(margin);
    let at_margin = shape.ln_sum(origin, margin);
    // The bets come in order, so each peak is reached from the one before.
    let (mut here, mut ln_here) = (origin, 0.0);
    for &bet in bets {
        let odds = margin * bet;
        let peak = shape.peak(odds);
        ln_here += shape.ln_between(here, peak, margin);
        here = peak;
        let distance = count(table.x_c) - count(peak);
        out.push(distance * bet.ln() - ln_here - shape.ln_sum(peak, odds) + at_margin);
    }
}

/// `l(g) = x ln g - n ln(1 + p0 (g-1))` for every bet, into `out`.
pub(super) fn absolute(x: u64, n: u64, limit: f64, bets: &[f64], out: &mut Vec<f64>) {
    out.clear();
    out.extend(
        bets.iter()
            .map(|bet| count(x) * bet.ln() - count(n) * (limit * (bet - 1.0)).ln_1p()),
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::maths::log_add;

    fn ln_choose(n: u64, k: u64) -> f64 {
        ln_gamma(count(n) + 1.0) - ln_gamma(count(k) + 1.0) - ln_gamma(count(n - k) + 1.0)
    }

    /// The sum as it is defined, term by term.
    fn direct(table: &Table, odds: f64) -> f64 {
        let s = table.x_c + table.x_b;
        (s.saturating_sub(table.n_b)..=s.min(table.n_c))
            .map(|k| ln_choose(table.n_c, k) + ln_choose(table.n_b, s - k) + count(k) * odds.ln())
            .fold(f64::NEG_INFINITY, log_add)
    }

    const BETS: [f64; 8] = [1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0];

    proptest! {
        /// The peak-outwards sum is the sum; bets in any order, above and below one.
        #[test]
        fn agrees_with_the_definition(
            n_c in 1..400_u64,
            n_b in 1..400_u64,
            share_c in 0.0..=1.0_f64,
            share_b in 0.0..=1.0_f64,
            margin in 1.0..4.0_f64,
            invert: bool,
            reverse: bool,
        ) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 400")]
            let part = |n: u64, share: f64| (count(n) * share).round() as u64;
            let table = Table { x_c: part(n_c, share_c), n_c, x_b: part(n_b, share_b), n_b };
            let mut bets: Vec<f64> =
                BETS.iter().map(|bet| if invert { 1.0 / bet } else { *bet }).collect();
            if reverse {
                bets.reverse();
            }
            let mut got = Vec::new();
            relative(&table, margin, &bets, &mut got);
            for (bet, got) in bets.iter().zip(got) {
                let want = count(table.x_c) * bet.ln() + direct(&table, margin)
                    - direct(&table, margin * bet);
                prop_assert!((got - want).abs() < 1e-8, "{:?} {}: {} {}", table, bet, got, want);
            }
        }

        /// The likelihood ratio has expectation 1 when the odds ratio is the margin: what makes
        /// it a fair bet.
        #[test]
        fn is_a_fair_bet(n_c in 1..40_u64, n_b in 1..60_u64, s in 1..100_u64, margin in 1.0..3.0_f64) {
            let s = s.min(n_c + n_b - 1);
            let low = s.saturating_sub(n_b);
            let high = s.min(n_c);
            let any = Table { x_c: low, n_c, x_b: s - low, n_b };
            let norm = direct(&any, margin);
            let mut expectation = [0.0; BETS.len()];
            let mut increments = Vec::new();
            for x_c in low..=high {
                let table = Table { x_c, n_c, x_b: s - x_c, n_b };
                let mass = ln_choose(n_c, x_c) + ln_choose(n_b, s - x_c)
                    + count(x_c) * margin.ln() - norm;
                relative(&table, margin, &BETS, &mut increments);
                for (sum, increment) in expectation.iter_mut().zip(&increments) {
                    *sum += (mass + increment).exp();
                }
            }
            for value in expectation {
                prop_assert!((value - 1.0).abs() < 1e-9, "{}", value);
            }
        }
    }

    /// Both ways over a long bridge agree to far less than matters at the other end of it, where
    /// an increment is a large number.
    #[test]
    fn a_long_bridge_is_as_good_as_a_walk() {
        for (n_c, n_b, failing) in [(50_000_000, 50_000_000, 2), (20_000_000, 900_000_000, 40)] {
            let table = Table {
                x_c: n_c / failing,
                n_c,
                x_b: n_b / failing,
                n_b,
            };
            let shape = table.shape();
            let (from, to) = (shape.peak(1.0), shape.peak(1000.0));
            assert!(from.abs_diff(to) > FAR, "{from} {to}");
            let walked = shape.ln_product(from, to, 1.0);
            let bridged = shape.ln_between(from, to, 1.0);
            assert!(
                (walked - bridged).abs() < 1e-10 * walked.abs(),
                "{walked} {bridged}"
            );
        }
    }

    #[test]
    fn a_table_without_a_difference_to_see_says_nothing() {
        let mut out = Vec::new();
        for (x_c, x_b) in [(0, 0), (7, 9)] {
            let table = Table {
                x_c,
                n_c: 7,
                x_b,
                n_b: 9,
            };
            relative(&table, 1.0, &BETS, &mut out);
            assert_eq!(out, [0.0; 8]);
        }
    }
}
