//! What CloudWatch says about an evaluation (`StateReason`), after published alarm notifications.

use super::{Definition, MissingData, Point, State};
use crate::Timestamp;

/// CloudWatch's sentences.
pub(super) struct Words<'a> {
    pub(super) definition: &'a Definition,
    pub(super) end: Option<Timestamp>,
    pub(super) real: &'a [Point],
    pub(super) gap: usize,
}

impl Words<'_> {
    pub(super) fn alarm(&self) -> String {
        self.crossed(true, &self.minimum_to_alarm())
    }

    pub(super) fn ok(&self) -> String {
        if !self.real.is_empty() && self.real.iter().all(|point| point.breaches) {
            // Bad points only, but too few: what they lack says more than what OK would take.
            return self.crossed(true, &self.minimum_to_alarm());
        }
        let at_least = datapoints(self.definition.n() - self.definition.m() + 1);
        self.crossed(
            false,
            &format!("minimum {at_least} for ALARM -> OK transition"),
        )
    }

    fn minimum_to_alarm(&self) -> String {
        format!(
            "minimum {} for OK -> ALARM transition",
            datapoints(self.definition.m())
        )
    }

    pub(super) fn insufficient(&self) -> String {
        format!("Insufficient Data: {} unknown.", was(self.gap, "datapoint"))
    }

    /// A choice: CloudWatch changes nothing and says nothing when a state is kept.
    pub(super) fn kept(&self, state: State) -> String {
        let missing = was(self.gap, "missing datapoint");
        format!("Unchanged: {missing} treated as [Ignore], the alarm stays {state}.")
    }

    /// How many points are on the side that decided, which, and what the gap was taken for.
    fn crossed(&self, breaching: bool, minimum: &str) -> String {
        let filled = match self.definition.treat_missing_data {
            MissingData::Breaching => Some("Breaching"),
            MissingData::NotBreaching => Some("NonBreaching"),
            MissingData::Missing | MissingData::Ignore => None,
        };
        let filled = filled
            .filter(|_| self.gap > 0)
            .map(|how| format!("{} treated as [{how}]", was(self.gap, "missing datapoint")));
        if self.real.is_empty() {
            let periods = match self.definition.n() {
                1 => "1 period".to_owned(),
                n => format!("{n} periods"),
            };
            let filled = filled
                .map(|filled| format!(" and {filled}"))
                .unwrap_or_default();
            return format!(
                "Threshold Crossed: no datapoints were received for {periods}{filled}."
            );
        }
        // An alarm that is due to the gap alone names the good points it has.
        let breaching = breaching && self.real.iter().any(|point| point.breaches);
        let listed: Vec<String> = self
            .real
            .iter()
            .filter(|point| point.breaches == breaching)
            .map(|point| self.point(*point))
            .collect();
        let (count, of) = (listed.len(), self.real.len());
        let verb = if count == 1 { "was" } else { "were" };
        let not = if breaching { "" } else { "not " };
        let filled = filled
            .map(|filled| format!(" and {filled}"))
            .unwrap_or_default();
        format!(
            "Threshold Crossed: {count} out of the last {of} datapoints [{}] {verb} {not}{} the threshold ({:?}){filled} ({minimum}).",
            listed.join(", "),
            self.definition.comparison.words(),
            self.definition.threshold,
        )
    }

    /// A point's value and the start of its period.
    fn point(&self, point: Point) -> String {
        let Some(end) = self.end else {
            return format!("{:?}", point.value);
        };
        let back = u32::try_from(point.age + 1).unwrap_or(u32::MAX);
        let start = end - self.definition.period.saturating_mul(back);
        format!("{:?} ({})", point.value, date(start))
    }
}

fn datapoints(count: usize) -> String {
    if count == 1 {
        "1 datapoint".to_owned()
    } else {
        format!("{count} datapoints")
    }
}

fn was(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun} was")
    } else {
        format!("{count} {noun}s were")
    }
}

/// `dd/mm/yy hh:mm:ss` in UTC, as CloudWatch dates data points.
pub(super) fn date(at: Timestamp) -> String {
    let seconds = at.as_secs();
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    // The civil calendar from a count of days: years begin in March, so that a leap day is the
    // last of its year, and 400 of them have 146,097 days.
    let shifted = days + 719_468;
    let era_day = shifted % 146_097;
    let era_year = (era_day - era_day / 1_460 + era_day / 36_524 - era_day / 146_096) / 365;
    let year_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
    let shifted_month = (5 * year_day + 2) / 153;
    let day = year_day - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = shifted / 146_097 * 400 + era_year + u64::from(month <= 2);
    format!(
        "{day:02}/{month:02}/{:02} {:02}:{:02}:{:02}",
        year % 100,
        clock / 3600,
        clock / 60 % 60,
        clock % 60
    )
}
