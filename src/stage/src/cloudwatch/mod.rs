//! CloudWatch, as far as a release meets it: [`metrics`], the [`alarms`] on them, and how metrics are
//! read from outside ([`api`]).

pub mod alarms;
pub(crate) mod api;
pub mod metrics;

pub use alarms::{Alarm, AlarmChange, AlarmError, Alarms, AlarmsOptions};
pub use metrics::{Distribution, Metrics, Series, StatisticSet};
