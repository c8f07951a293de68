//! The stage's clock: one factor between the time that AWS would wait and the time it takes here.
//!
//! Everything that AWS waits for by the calendar (traffic intervals, alarm periods, health check
//! intervals, draining) is *virtual* time and passes [`Clock::speed`] times faster than real time.
//! Everything that is work (a request, the start of a process, the time-outs of both) is real time
//! and never goes through this clock. Because there is one factor for all intervals, an alarm that
//! would be slower than a canary on AWS is slower than the canary here too.
//!
//! Virtual time starts at the real present and only moves forward: it is measured on the monotonic
//! clock, so that a correction of the machine's time cannot turn it back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rollout::Timestamp;

/// The slowest and the fastest clock. Outside of these, intervals leave what timers can do.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.001..=100_000.0;

/// Tells virtual time and sleeps in it. Clones tell the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    epoch_ms: u64,
    speed: f64,
}

impl Clock {
    /// A clock that runs `speed` times faster than real time and shows the real present now.
    ///
    /// `speed` is held between 0.001 and 100,000; what is not a number counts as 1.
    pub fn new(speed: f64) -> Self {
        let speed = if speed.is_nan() {
            1.0
        } else {
            speed.clamp(*SPEEDS.start(), *SPEEDS.end())
        };
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: Instant::now(),
            epoch_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX / 2),
            speed,
        }
    }

    /// Virtual seconds per real second.
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// The present, virtual.
    pub fn now(&self) -> Timestamp {
        let virtual_ms = self.started.elapsed().as_secs_f64() * self.speed * 1000.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and a cast of a float saturates"
        )]
        Timestamp::from_millis(self.epoch_ms.saturating_add(virtual_ms as u64))
    }

    /// How long a virtual duration takes in real time.
    pub fn real(&self, virtual_duration: Duration) -> Duration {
        Duration::try_from_secs_f64(virtual_duration.as_secs_f64() / self.speed)
            .unwrap_or(Duration::MAX)
    }

    /// Sleeps for a virtual duration.
    pub async fn sleep(&self, virtual_duration: Duration) {
        tokio::time::sleep(self.real(virtual_duration)).await;
    }

    /// Sleeps until the virtual time is at least `deadline`; returns at once if it is already.
    pub async fn sleep_until(&self, deadline: Timestamp) {
        loop {
            let now = self.now();
            if now >= deadline {
                return;
            }
            self.sleep(deadline - now).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_is_real_time_times_speed() {
        let clock = Clock::new(60.0);
        assert_eq!(clock.real(Duration::from_mins(1)), Duration::from_secs(1));
        let (real, start) = (Instant::now(), clock.now());
        std::thread::sleep(Duration::from_millis(20));
        let (passed, least) = (clock.now() - start, Duration::from_millis(20 * 60 - 1));
        let most = real.elapsed() * 60 + Duration::from_millis(60);
        assert!(
            (least..=most).contains(&passed),
            "{least:?} <= {passed:?} <= {most:?}"
        );
    }

    #[tokio::test]
    async fn sleep_until_never_returns_early() {
        let clock = Clock::new(733.3);
        let deadline = clock.now() + Duration::from_millis(12_345);
        clock.sleep_until(deadline).await;
        assert!(clock.now() >= deadline);
        let a_past_deadline = clock.sleep_until(deadline);
        assert!(futures_util::FutureExt::now_or_never(a_past_deadline).is_some());
    }

    #[test]
    fn senseless_speeds_are_held_in_range() {
        assert!((Clock::new(f64::NAN).speed() - 1.0).abs() < f64::EPSILON);
        assert!((Clock::new(-3.0).speed() - 0.001).abs() < f64::EPSILON);
        assert!((Clock::new(f64::INFINITY).speed() - 100_000.0).abs() < f64::EPSILON);
    }
}
