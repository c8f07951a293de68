//! CloudWatch, as far as a release meets it: [`metrics`] and the [`alarms`] on them.

pub mod alarms;
pub mod metrics;

pub use alarms::{Alarm, AlarmChange, AlarmError, Alarms, AlarmsOptions};
pub use metrics::{Metrics, Series, StatisticSet};
