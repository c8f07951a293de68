//! How production traffic moves from blue to green.
//!
//! A plan is a step function of the time since `AllowTraffic` began: it says green's share at
//! any moment, right-continuous (at the moment of a step the new share holds). The state
//! machine asks it, the release program draws timelines from it, and nobody else knows how a
//! canary differs from a linear shift.
//!
//! Sources: CodeDeploy user guide, "Deployment configurations on an Amazon ECS compute
//! platform"; the first linear step falls on the start and the last is not followed by an
//! interval (a published record of a 10 %/1 min deployment: 100 % nine minutes after 10 %).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::millis;

/// The longest time from the first shift to the last that is accepted, 2880 minutes.
///
/// CodeDeploy documents this bound for Lambda only ("Quotas"); for ECS none is stated. Applying
/// it to ECS as well is a choice.
pub const MAX_DURATION: Duration = Duration::from_hours(48);

/// A traffic routing configuration (`trafficRoutingConfig` of a deployment configuration).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum TrafficRouting {
    /// All traffic at once.
    AllAtOnce,
    /// `percentage` at the start, all after `interval`.
    TimeBasedCanary {
        /// Green's share after the first step, in percent: 1 to 99.
        percentage: u8,
        /// From the first step to the second: whole minutes, at least 1.
        #[serde(with = "millis", rename = "interval_ms")]
        interval: Duration,
    },
    /// `percentage` more at the start and after every `interval`, until all is moved.
    TimeBasedLinear {
        /// What each step adds to green's share, in percent: 1 to 99. Where it does not divide
        /// 100, the last step is smaller (a choice; undocumented).
        percentage: u8,
        /// Between two steps: whole minutes, at least 1.
        #[serde(with = "millis", rename = "interval_ms")]
        interval: Duration,
    },
}

/// Why a traffic routing configuration is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTrafficRouting {
    /// The percentage is not within 1 to 99.
    #[error("a traffic step of {0} % is not possible: give 1 to 99, or use AllAtOnce")]
    Percentage(u8),
    /// The interval is zero.
    #[error("the interval between traffic steps is zero: give at least 1 minute, or use AllAtOnce")]
    NoInterval,
    /// The interval is not a number of whole minutes, which is all that the API can express.
    #[error("the interval between traffic steps, {0:?}, is not a number of whole minutes")]
    NotWholeMinutes(Duration),
    /// From the first to the last step it takes longer than [`MAX_DURATION`].
    #[error(
        "shifting traffic would take {} minutes; at most {} are possible",
        .0.as_secs() / 60,
        MAX_DURATION.as_secs() / 60
    )]
    TooLong(Duration),
}

impl TrafficRouting {
    /// The names of the configurations that CodeDeploy defines for ECS. There are these five.
    pub const PREDEFINED: [&'static str; 5] = [
        "CodeDeployDefault.ECSAllAtOnce",
        "CodeDeployDefault.ECSCanary10Percent5Minutes",
        "CodeDeployDefault.ECSCanary10Percent15Minutes",
        "CodeDeployDefault.ECSLinear10PercentEvery1Minutes",
        "CodeDeployDefault.ECSLinear10PercentEvery3Minutes",
    ];

    /// A canary: `percentage` at once, the rest after `minutes`.
    pub const fn canary(percentage: u8, minutes: u64) -> TrafficRouting {
        TrafficRouting::TimeBasedCanary {
            percentage,
            interval: Duration::from_secs(minutes.saturating_mul(60)),
        }
    }

    /// A linear shift: `percentage` every `minutes`.
    pub const fn linear(percentage: u8, minutes: u64) -> TrafficRouting {
        TrafficRouting::TimeBasedLinear {
            percentage,
            interval: Duration::from_secs(minutes.saturating_mul(60)),
        }
    }

    /// The names of the predefined configurations, in the order of CodeDeploy's documentation.
    pub fn predefined_names() -> impl Iterator<Item = &'static str> {
        Self::PREDEFINED.into_iter()
    }

    /// The predefined ECS configuration of this exact name; `None` for any other, such as the
    /// EC2 and Lambda configurations of similar names.
    pub fn predefined(name: &str) -> Option<TrafficRouting> {
        match name {
            "CodeDeployDefault.ECSAllAtOnce" => Some(TrafficRouting::AllAtOnce),
            "CodeDeployDefault.ECSCanary10Percent5Minutes" => Some(Self::canary(10, 5)),
            "CodeDeployDefault.ECSCanary10Percent15Minutes" => Some(Self::canary(10, 15)),
            "CodeDeployDefault.ECSLinear10PercentEvery1Minutes" => Some(Self::linear(10, 1)),
            "CodeDeployDefault.ECSLinear10PercentEvery3Minutes" => Some(Self::linear(10, 3)),
            _ => None,
        }
    }

    /// Checks the bounds: 1 to 99 % a step, whole minutes, at most [`MAX_DURATION`] in all.
    pub fn validate(&self) -> Result<(), InvalidTrafficRouting> {
        let (TrafficRouting::TimeBasedCanary {
            percentage,
            interval,
        }
        | TrafficRouting::TimeBasedLinear {
            percentage,
            interval,
        }) = *self
        else {
            return Ok(());
        };
        if !(1..=99).contains(&percentage) {
            return Err(InvalidTrafficRouting::Percentage(percentage));
        }
        if interval.is_zero() {
            return Err(InvalidTrafficRouting::NoInterval);
        }
        if interval.subsec_nanos() != 0 || interval.as_secs() % 60 != 0 {
            return Err(InvalidTrafficRouting::NotWholeMinutes(interval));
        }
        if self.duration() > MAX_DURATION {
            return Err(InvalidTrafficRouting::TooLong(self.duration()));
        }
        Ok(())
    }

    /// How many steps there are, from 1 to 100, and what lies between two of them.
    fn shape(&self) -> (u32, Duration) {
        match *self {
            TrafficRouting::AllAtOnce => (1, Duration::ZERO),
            TrafficRouting::TimeBasedCanary { interval, .. } => (2, interval),
            TrafficRouting::TimeBasedLinear {
                percentage,
                interval,
            } => (
                100_u32.div_ceil(u32::from(percentage.clamp(1, 100))),
                interval,
            ),
        }
    }

    /// Green's share after step `index` (from 0), in percent.
    fn share(&self, index: u32) -> u8 {
        let share = match *self {
            TrafficRouting::TimeBasedCanary { percentage, .. } if index == 0 => percentage.into(),
            TrafficRouting::AllAtOnce | TrafficRouting::TimeBasedCanary { .. } => 100,
            TrafficRouting::TimeBasedLinear { percentage, .. } => {
                u32::from(percentage.max(1)).saturating_mul(index.saturating_add(1))
            }
        };
        u8::try_from(share.min(100)).unwrap_or(100)
    }

    /// Every step: when it happens, counted from the start of `AllowTraffic`, and green's share
    /// from then on, in percent. The first is at zero, the last reaches 100.
    ///
    /// ```
    /// use std::time::Duration;
    /// use rollout::traffic::TrafficRouting;
    ///
    /// let minutes = |m: u64| Duration::from_secs(60 * m);
    /// assert_eq!(TrafficRouting::canary(10, 5).steps(), [(minutes(0), 10), (minutes(5), 100)]);
    /// ```
    pub fn steps(&self) -> Vec<(Duration, u8)> {
        let (count, interval) = self.shape();
        (0..count)
            .map(|index| (interval.saturating_mul(index), self.share(index)))
            .collect()
    }

    /// Green's share in percent at `elapsed` after the start of `AllowTraffic`; at the moment of
    /// a step the share after it.
    pub fn weight_at(&self, elapsed: Duration) -> u8 {
        let (count, interval) = self.shape();
        let last = count.saturating_sub(1);
        let done = elapsed
            .as_millis()
            .checked_div(interval.as_millis())
            .unwrap_or(u128::MAX);
        self.share(u32::try_from(done).unwrap_or(u32::MAX).min(last))
    }

    /// When the next step after `elapsed` happens, counted from the start of `AllowTraffic`;
    /// `None` once all traffic is moved.
    pub fn next_step_after(&self, elapsed: Duration) -> Option<Duration> {
        self.steps()
            .into_iter()
            .map(|(at, _)| at)
            .find(|at| *at > elapsed)
    }

    /// From the first step to the last, which is how long `AllowTraffic` takes.
    pub fn duration(&self) -> Duration {
        let (count, interval) = self.shape();
        interval.saturating_mul(count.saturating_sub(1))
    }
}

impl fmt::Display for TrafficRouting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrafficRouting::AllAtOnce => f.write_str("all at once"),
            TrafficRouting::TimeBasedCanary {
                percentage,
                interval,
            } => {
                write!(
                    f,
                    "{percentage} %, all after {} min",
                    interval.as_secs() / 60
                )
            }
            TrafficRouting::TimeBasedLinear {
                percentage,
                interval,
            } => {
                write!(f, "{percentage} % every {} min", interval.as_secs() / 60)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }

    #[test]
    fn the_five_predefined_configurations() {
        let table = [
            (
                "CodeDeployDefault.ECSAllAtOnce",
                TrafficRouting::AllAtOnce,
                0,
            ),
            (
                "CodeDeployDefault.ECSCanary10Percent5Minutes",
                TrafficRouting::canary(10, 5),
                5,
            ),
            (
                "CodeDeployDefault.ECSCanary10Percent15Minutes",
                TrafficRouting::canary(10, 15),
                15,
            ),
            (
                "CodeDeployDefault.ECSLinear10PercentEvery1Minutes",
                TrafficRouting::linear(10, 1),
                9,
            ),
            (
                "CodeDeployDefault.ECSLinear10PercentEvery3Minutes",
                TrafficRouting::linear(10, 3),
                27,
            ),
        ];
        assert_eq!(
            TrafficRouting::predefined_names().collect::<Vec<_>>(),
            table.map(|(name, ..)| name)
        );
        for (name, routing, duration) in table {
            assert_eq!(TrafficRouting::predefined(name), Some(routing), "{name}");
            assert_eq!(routing.duration(), minutes(duration), "{name}");
            assert_eq!(routing.validate(), Ok(()), "{name}");
        }
    }

    #[test]
    fn configurations_of_other_platforms_are_unknown() {
        for name in [
            "CodeDeployDefault.AllAtOnce",
            "CodeDeployDefault.LambdaLinear10PercentEvery1Minute",
            "CodeDeployDefault.ECSLinear10PercentEvery1Minute",
            "codedeploydefault.ecsallatonce",
        ] {
            assert_eq!(TrafficRouting::predefined(name), None, "{name}");
        }
    }

    #[test]
    fn all_at_once_is_one_step() {
        assert_eq!(TrafficRouting::AllAtOnce.steps(), [(Duration::ZERO, 100)]);
        assert_eq!(TrafficRouting::AllAtOnce.weight_at(Duration::ZERO), 100);
        assert_eq!(TrafficRouting::AllAtOnce.weight_at(Duration::MAX), 100);
    }

    #[test]
    fn a_canary_holds_until_its_interval_is_over() {
        let canary = TrafficRouting::canary(10, 5);
        assert_eq!(canary.steps(), [(Duration::ZERO, 10), (minutes(5), 100)]);
        assert_eq!(canary.weight_at(Duration::ZERO), 10);
        assert_eq!(canary.weight_at(Duration::from_millis(5 * 60_000 - 1)), 10);
        assert_eq!(canary.weight_at(minutes(5)), 100);
    }

    #[test]
    fn linear_begins_at_once_and_reaches_all_after_nine_of_ten_intervals() {
        let linear = TrafficRouting::linear(10, 1);
        let expected: Vec<_> = (0..10_u8)
            .map(|step| (minutes(step.into()), (step + 1) * 10))
            .collect();
        assert_eq!(linear.steps(), expected);
        assert_eq!(linear.weight_at(Duration::from_millis(9 * 60_000 - 1)), 90);
        assert_eq!(linear.weight_at(minutes(9)), 100);
        assert_eq!(linear.weight_at(minutes(90)), 100);
    }

    #[test]
    fn the_last_linear_step_is_clipped() {
        assert_eq!(
            TrafficRouting::linear(30, 2).steps(),
            [
                (minutes(0), 30),
                (minutes(2), 60),
                (minutes(4), 90),
                (minutes(6), 100)
            ]
        );
        assert_eq!(
            TrafficRouting::linear(99, 1).steps(),
            [(minutes(0), 99), (minutes(1), 100)]
        );
    }

    #[test]
    fn bounds_are_1_to_99_percent_whole_minutes_and_2880_minutes_in_all() {
        use InvalidTrafficRouting as E;
        let cases = [
            (TrafficRouting::canary(0, 5), Err(E::Percentage(0))),
            (TrafficRouting::canary(1, 5), Ok(())),
            (TrafficRouting::canary(99, 5), Ok(())),
            (TrafficRouting::canary(100, 5), Err(E::Percentage(100))),
            (TrafficRouting::linear(0, 5), Err(E::Percentage(0))),
            (TrafficRouting::linear(100, 5), Err(E::Percentage(100))),
            (TrafficRouting::canary(10, 0), Err(E::NoInterval)),
            (TrafficRouting::canary(10, 2880), Ok(())),
            (
                TrafficRouting::canary(10, 2881),
                Err(E::TooLong(minutes(2881))),
            ),
            (TrafficRouting::linear(10, 320), Ok(())),
            (
                TrafficRouting::linear(10, 321),
                Err(E::TooLong(minutes(2889))),
            ),
            (TrafficRouting::linear(1, 29), Ok(())),
            (
                TrafficRouting::linear(1, 30),
                Err(E::TooLong(minutes(2970))),
            ),
            (
                TrafficRouting::TimeBasedCanary {
                    percentage: 10,
                    interval: Duration::from_secs(90),
                },
                Err(E::NotWholeMinutes(Duration::from_secs(90))),
            ),
            (
                TrafficRouting::TimeBasedCanary {
                    percentage: 10,
                    interval: Duration::from_millis(60_001),
                },
                Err(E::NotWholeMinutes(Duration::from_millis(60_001))),
            ),
        ];
        for (routing, expected) in cases {
            assert_eq!(routing.validate(), expected, "{routing:?}");
        }
    }

    #[test]
    fn reads_as_a_sentence_and_is_serialized_by_type() {
        assert_eq!(
            TrafficRouting::canary(10, 5).to_string(),
            "10 %, all after 5 min"
        );
        assert_eq!(
            TrafficRouting::linear(20, 3).to_string(),
            "20 % every 3 min"
        );
        let json = serde_json::to_string(&TrafficRouting::canary(10, 5)).expect("writes");
        assert_eq!(
            json,
            r#"{"type":"TimeBasedCanary","percentage":10,"interval_ms":300000}"#
        );
        assert_eq!(
            serde_json::from_str::<TrafficRouting>(&json).expect("reads"),
            TrafficRouting::canary(10, 5)
        );
    }

    prop_compose! {
        /// Anything the type can hold, valid or not.
        fn any_routing()(kind in 0..3_u8, percentage: u8, interval_ms in 0..u64::MAX) -> TrafficRouting {
            let interval = Duration::from_millis(interval_ms);
            match kind {
                0 => TrafficRouting::AllAtOnce,
                1 => TrafficRouting::TimeBasedCanary { percentage, interval },
                _ => TrafficRouting::TimeBasedLinear { percentage, interval },
            }
        }
    }

    proptest! {
        /// No configuration, however wrong, makes a plan panic or exceed 100 %.
        #[test]
        fn no_plan_panics(routing in any_routing(), at: u64) {
            prop_assert!(routing.weight_at(Duration::from_millis(at)) <= 100);
            let _ = (routing.validate(), routing.duration(), routing.to_string(), routing.steps());
        }

        /// The two views of a plan agree, the share never falls, and all traffic is moved at
        /// (ceil(100/p) - 1) intervals.
        #[test]
        fn steps_and_weights_agree(
            percentage in 1..=99_u8,
            interval in 1..=29_u64,
            linear: bool,
            probe in 0..3000_u64,
        ) {
            let routing = if linear {
                TrafficRouting::linear(percentage, interval)
            } else {
                TrafficRouting::canary(percentage, interval)
            };
            prop_assert_eq!(routing.validate(), Ok(()));
            let steps = routing.steps();
            prop_assert_eq!(steps[0], (Duration::ZERO, percentage));
            prop_assert_eq!(steps[steps.len() - 1], (routing.duration(), 100));
            prop_assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
            for (at, share) in &steps {
                prop_assert_eq!(routing.weight_at(*at), *share);
            }
            let intervals = if linear { 100_u64.div_ceil(percentage.into()) - 1 } else { 1 };
            prop_assert_eq!(routing.duration(), minutes(intervals * interval));

            let probe = Duration::from_secs(probe);
            let expected = steps.iter().rev().find(|(at, _)| *at <= probe).map(|(_, share)| *share);
            prop_assert_eq!(Some(routing.weight_at(probe)), expected);
            let next = steps.iter().map(|(at, _)| *at).find(|at| *at > probe);
            prop_assert_eq!(routing.next_step_after(probe), next);
        }
    }
}
