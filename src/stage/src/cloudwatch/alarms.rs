//! Metric alarms, evaluated on the stage's clock.
//!
//! When an alarm fires decides whether a rollback comes inside a canary or after it, so the delays
//! are reproduced and not optimised away: a minute's metrics arrive late ([`AlarmsOptions`]), and
//! alarms with periods of a minute or more are looked at once a minute, those with 10 or 30
//! seconds every ten. *What* an evaluation finds is [`rollout::alarm::evaluate`]'s to say.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use rollout::{
    Timestamp,
    alarm::{self, Definition, InvalidAlarm, State},
    event::Event,
};
use tokio::task::AbortHandle;

use super::metrics::Metrics;
use crate::{clock::Clock, events::Events};

/// Changes kept an alarm, as CloudWatch's history would show them.
const HISTORY: usize = 1000;

/// How alarms see metrics.
#[derive(Clone, Copy, Debug)]
pub struct AlarmsOptions {
    /// How long after its end a period can be evaluated, virtual. ALB's metrics take a minute or
    /// more to arrive at CloudWatch.
    pub metric_delay: Duration,
}

impl Default for AlarmsOptions {
    fn default() -> Self {
        Self {
            metric_delay: Duration::from_mins(1),
        }
    }
}

/// An alarm as `DescribeAlarms` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    /// What it is.
    pub definition: Definition,
    /// Its state.
    pub state: State,
    /// Why, in CloudWatch's words.
    pub reason: String,
    /// The newest data point the last evaluation saw.
    pub value: Option<f64>,
    /// Since when it is in this state, virtual.
    pub since: Timestamp,
    /// Its changes of state, oldest first.
    pub history: Vec<AlarmChange>,
}

/// A change of an alarm's state.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmChange {
    /// When, virtual.
    pub at: Timestamp,
    /// The state before.
    pub from: State,
    /// The state since.
    pub to: State,
    /// Why.
    pub reason: String,
}

/// What cannot be done with an alarm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AlarmError {
    /// CloudWatch would not take the definition.
    #[error(transparent)]
    Invalid(#[from] InvalidAlarm),
    /// There is no such alarm.
    #[error("cannot find alarm {0:?}; put it first")]
    Unknown(String),
}

/// All alarms of the stage. Clones are the same; the evaluation ends with the last one.
#[derive(Clone, Debug)]
pub struct Alarms(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    metrics: Metrics,
    events: Events,
    options: AlarmsOptions,
    alarms: Mutex<BTreeMap<String, Alarm>>,
    evaluation: Mutex<Option<AbortHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(evaluation) = lock(&self.evaluation).take() {
            evaluation.abort();
        }
    }
}

impl Alarms {
    /// No alarms yet, and their evaluation on the current tokio runtime.
    pub fn start(clock: Clock, metrics: Metrics, events: Events, options: AlarmsOptions) -> Self {
        let inner = Arc::new(Inner {
            clock,
            metrics,
            events,
            options,
            alarms: Mutex::default(),
            evaluation: Mutex::default(),
        });
        let evaluation = tokio::spawn(evaluate_forever(clock, Arc::downgrade(&inner)));
        *lock(&inner.evaluation) = Some(evaluation.abort_handle());
        Self(inner)
    }

    /// Creates an alarm, in `INSUFFICIENT_DATA`, or changes the definition of one that exists, which
    /// keeps its state (`PutMetricAlarm`).
    ///
    /// # Errors
    /// [`AlarmError::Invalid`].
    pub fn put(&self, definition: Definition) -> Result<(), AlarmError> {
        definition.validate()?;
        let mut alarms = lock(&self.0.alarms);
        if let Some(alarm) = alarms.get_mut(&definition.name) {
            alarm.definition = definition;
            return Ok(());
        }
        let alarm = Alarm {
            state: State::InsufficientData,
            reason: "Unchecked: Initial alarm creation".into(),
            value: None,
            since: self.0.clock.now(),
            history: Vec::new(),
            definition,
        };
        alarms.insert(alarm.definition.name.clone(), alarm);
        Ok(())
    }

    /// Removes an alarm; says whether there was one (`DeleteAlarms`).
    pub fn delete(&self, name: &str) -> bool {
        lock(&self.0.alarms).remove(name).is_some()
    }

    /// All alarms, by name (`DescribeAlarms`).
    pub fn describe(&self) -> Vec<Alarm> {
        lock(&self.0.alarms).values().cloned().collect()
    }

    /// One alarm.
    pub fn get(&self, name: &str) -> Option<Alarm> {
        lock(&self.0.alarms).get(name).cloned()
    }

    /// The state of one alarm.
    pub fn state(&self, name: &str) -> Option<State> {
        lock(&self.0.alarms).get(name).map(|alarm| alarm.state)
    }

    /// Forces a state, until the next evaluation finds another one (`SetAlarmState`).
    ///
    /// # Errors
    /// [`AlarmError::Unknown`].
    pub fn set_state(
        &self,
        name: &str,
        state: State,
        reason: impl Into<String>,
    ) -> Result<(), AlarmError> {
        let mut alarms = lock(&self.0.alarms);
        let alarm = alarms
            .get_mut(name)
            .ok_or_else(|| AlarmError::Unknown(name.into()))?;
        let value = alarm.value;
        self.0.change(alarm, state, reason.into(), value);
        Ok(())
    }
}

impl Inner {
    /// Evaluates an alarm on the periods that have arrived by `now`.
    fn evaluate(&self, alarm: &mut Alarm, now: Timestamp) {
        let definition = &alarm.definition;
        let period = u64::try_from(definition.period.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let visible = now - self.options.metric_delay;
        let end = visible.as_millis() / period * period;
        let range = alarm::evaluation_range(definition) as u64;
        let points: Vec<Option<f64>> = (1..=range)
            .rev()
            .map(|back| {
                let from = end.checked_sub(back * period)?;
                let set = self.metrics.between(
                    &definition.metric,
                    Timestamp::from_millis(from),
                    Timestamp::from_millis(from + period),
                )?;
                Some(set.get(definition.statistic))
            })
            .collect();
        let found = alarm::evaluate_ending_at(
            definition,
            alarm.state,
            &points,
            Timestamp::from_millis(end),
        );
        self.change(alarm, found.state, found.reason, found.value);
    }

    fn change(&self, alarm: &mut Alarm, state: State, reason: String, value: Option<f64>) {
        alarm.value = value;
        if state == alarm.state {
            return;
        }
        let at = self.clock.now();
        let from = std::mem::replace(&mut alarm.state, state);
        alarm.reason.clone_from(&reason);
        alarm.since = at;
        alarm.history.push(AlarmChange {
            at,
            from,
            to: state,
            reason: reason.clone(),
        });
        if alarm.history.len() > HISTORY {
            alarm.history.remove(0);
        }
        self.events.emit(Event::AlarmStateChanged {
            alarm: alarm.definition.name.clone(),
            metric: alarm.definition.metric.name.clone(),
            state,
            previous: from,
            reason,
            value,
            threshold: alarm.definition.threshold,
        });
    }
}

/// Evaluates what is due at each ten seconds of virtual time.
async fn evaluate_forever(clock: Clock, inner: Weak<Inner>) {
    const BEAT: u64 = 10_000;
    let mut last = clock.now().as_millis();
    loop {
        clock
            .sleep_until(Timestamp::from_millis((last / BEAT + 1) * BEAT))
            .await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let now = clock.now();
        for alarm in lock(&inner.alarms).values_mut() {
            let interval = alarm.definition.evaluation_interval();
            let interval = u64::try_from(interval.as_millis())
                .unwrap_or(u64::MAX)
                .max(1);
            // A clock that is very fast may have passed more than one beat.
            if now.as_millis() / interval > last / interval {
                inner.evaluate(alarm, now);
            }
        }
        last = now.as_millis();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
