//! Time as rollout knows it: a number that somebody else reads off a clock.
//!
//! One unit and one origin everywhere: whole milliseconds since the Unix epoch, in *virtual*
//! time where the stage scales its clock. A newtype keeps it from being mixed with real time
//! or with a duration, and arithmetic saturates, so that no input can make a deployment panic.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since the Unix epoch. Serialized as that integer.
///
/// ```
/// use std::time::Duration;
/// use rollout::Timestamp;
///
/// let start = Timestamp::from_millis(1_000);
/// assert_eq!(start + Duration::from_millis(500), Timestamp::from_millis(1_500));
/// assert_eq!(start - Timestamp::from_millis(400), Duration::from_millis(600));
/// assert_eq!((start + Duration::from_millis(22)).as_secs_f64(), 1.022);
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Timestamp = Timestamp(0);

    /// The point `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Timestamp {
        Timestamp(millis)
    }

    /// The point `seconds` seconds after the Unix epoch.
    pub const fn from_secs(seconds: u64) -> Timestamp {
        Timestamp(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Seconds since the Unix epoch with their fraction, as AWS JSON 1.1 writes timestamps.
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds fit 2^53 for 285,000 years"
    )]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    /// Saturates at the end of time; parts of a millisecond are cut off.
    fn add(self, duration: Duration) -> Timestamp {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(millis))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub for Timestamp {
    type Output = Duration;

    /// Zero when the right side is later.
    fn sub(self, earlier: Timestamp) -> Duration {
        self.since(earlier)
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;

    /// Saturates at the Unix epoch.
    fn sub(self, duration: Duration) -> Timestamp {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_sub(millis))
    }
}

impl fmt::Display for Timestamp {
    /// Seconds since the epoch with three decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Durations as whole milliseconds, for `#[serde(with = "…")]`.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        u64::try_from(duration.as_millis())
            .unwrap_or(u64::MAX)
            .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// Optional durations as whole milliseconds, for `#[serde(with = "…")]`.
pub(crate) mod optional_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration
            .map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
            .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let start = Timestamp::from_secs(2);
        assert_eq!(start - Timestamp::from_secs(5), Duration::ZERO);
        assert_eq!(start - Duration::from_secs(5), Timestamp::EPOCH);
        assert_eq!(start + Duration::MAX, Timestamp::from_millis(u64::MAX));
        assert_eq!(
            Timestamp::from_secs(u64::MAX),
            Timestamp::from_millis(u64::MAX)
        );
    }

    #[test]
    fn is_written_as_an_integer_of_milliseconds() {
        let at = Timestamp::from_millis(1_543_431_361_022);
        assert_eq!(serde_json::to_string(&at).expect("writes"), "1543431361022");
        assert_eq!(
            serde_json::from_str::<Timestamp>("1543431361022").expect("reads"),
            at
        );
        assert_eq!(at.to_string(), "1543431361.022");
        assert_eq!(at.as_secs(), 1_543_431_361);
    }
}
