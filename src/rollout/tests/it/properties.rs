//! What must hold whatever is observed, in whatever order and at whatever times.
//!
//! Random deployments are driven by random observations in random steps of time. [`check`] holds
//! each step against the design's invariants, told without the state machine's own words: only
//! its events, its commands and its public state are looked at.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use rollout::Timestamp;
use rollout::alarm::State;
use rollout::deployment::{
    Alarms, AutoRollback, Command, Deployment, ErrorCode, ErrorInformation, HookStatus, Kind,
    Observation, Side, Spec, Step, TaskSetState, View, WaitType, Weights,
};
use rollout::event::{Entry, Event};
use rollout::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus};
use rollout::replay::replay;
use rollout::traffic::TrafficRouting;

use crate::rig::{ID, ROLLBACK_ID, START, both, hooks};

fn any_routing() -> impl Strategy<Value = TrafficRouting> {
    prop_oneof![
        Just(TrafficRouting::AllAtOnce),
        (1..=99_u8, 1..10_u64).prop_map(|(p, m)| TrafficRouting::canary(p, m)),
        (5..=99_u8, 1..5_u64).prop_map(|(p, m)| TrafficRouting::linear(p, m)),
    ]
}

prop_compose! {
    fn any_spec()(
        routing in any_routing(),
        test_listener: bool,
        hooked in proptest::sample::subsequence(LifecycleEvent::ALL.to_vec(), 0..=8),
        ready_wait in option::of((0..30_u64).prop_map(Duration::from_mins)),
        termination_wait in (0..10_u64).prop_map(Duration::from_mins),
        (on_failure, on_alarm, on_request) in any::<(bool, bool, bool)>(),
        names in select(vec![vec![], vec!["blue"], vec!["blue", "green"]]),
        ignore_poll_failure: bool,
        rollback in prop::bool::weighted(0.05),
    ) -> Spec {
        let names = names.into_iter().map(str::to_owned).collect();
        let spec = Spec {
            routing,
            test_listener,
            hooks: hooks(&hooked),
            ready_wait,
            termination_wait,
            auto_rollback: AutoRollback { on_failure, on_alarm, on_request },
            alarms: Alarms { names, ignore_poll_failure },
            ..Spec::new(ID, ROLLBACK_ID)
        };
        if rollback { spec.rollback().expect("a forward deployment") } else { spec }
    }
}

/// How much time goes by before an observation.
#[derive(Clone, Debug)]
enum Gap {
    /// None.
    None,
    /// This much.
    Of(Duration),
    /// Up to the moment the deployment wants to be woken, or a millisecond less or more.
    ToWake(i8),
    /// The clock goes back, which counts as none.
    Back,
}

fn any_gap() -> impl Strategy<Value = Gap> {
    prop_oneof![
        2 => Just(Gap::None),
        2 => (1..5_000_u64).prop_map(|ms| Gap::Of(Duration::from_millis(ms))),
        1 => (1..4_000_u64).prop_map(|s| Gap::Of(Duration::from_secs(s))),
        6 => (-1..=1_i8).prop_map(Gap::ToWake),
        1 => Just(Gap::Back),
    ]
}

/// What is observed; `None` stands for the answer to the last hook call.
fn any_observation() -> impl Strategy<Value = Option<Observation>> {
    let state = || {
        select(vec![
            State::Ok,
            State::Ok,
            State::Ok,
            State::InsufficientData,
        ])
    };
    let error = ErrorInformation {
        code: ErrorCode::EcsUpdateError,
        message: "no".to_owned(),
    };
    prop_oneof![
        20 => Just(Some(Observation::Tick)),
        10 => Just(Some(Observation::TaskSetStable)),
        3 => Just(Some(Observation::TaskSetUnstable)),
        10 => state().prop_map(|state| Some(Observation::Alarms(both(state)))),
        10 => Just(None),
        3 => select(vec![WaitType::ReadyWait, WaitType::TerminationWait])
            .prop_map(|wait| Some(Observation::ContinueRequested(wait))),
        1 => Just(Some(Observation::Alarms(both(State::Alarm)))),
        1 => Just(Some(Observation::AlarmPollFailed)),
        1 => option::of(any::<bool>())
            .prop_map(|auto_rollback| Some(Observation::StopRequested { auto_rollback })),
        1 => Just(Some(Observation::CommandFailed(error))),
        1 => Just(Some(Observation::HookResult {
            execution_id: "unknown".to_owned(),
            status: HookStatus::Succeeded,
        })),
    ]
}

type Script = Vec<(Gap, Option<Observation>, bool)>;

fn any_script() -> impl Strategy<Value = Script> {
    vec(
        (any_gap(), any_observation(), prop::bool::weighted(0.9)),
        0..80,
    )
}

/// A deployment and all that came out of it.
struct Run {
    deployment: Deployment,
    now: Timestamp,
    /// The state as the events alone make it.
    view: View,
    log: Vec<Entry>,
    commands: Vec<Command>,
}

impl Run {
    fn new(spec: Spec) -> Run {
        let (deployment, step) = Deployment::new(spec, START);
        let view = View::created(&step.events[0]).expect("the first event is the creation");
        Run {
            deployment,
            now: START,
            view,
            log: step.events,
            commands: step.commands,
        }
    }

    fn gap(&mut self, gap: &Gap) {
        match gap {
            Gap::Of(duration) => self.now += *duration,
            Gap::ToWake(off) => {
                let wake_at = self.deployment.wake_at().unwrap_or(self.now);
                let near = Timestamp::from_millis(
                    wake_at.as_millis().saturating_add_signed(i64::from(*off)),
                );
                self.now = self.now.max(near);
            }
            Gap::None | Gap::Back => {}
        }
    }

    fn last_execution_id(&self) -> String {
        let called = self
            .commands
            .iter()
            .rev()
            .find_map(|command| match command {
                Command::InvokeHook { execution_id, .. } => Some(execution_id.clone()),
                _ => None,
            });
        called.unwrap_or_default()
    }

    fn observation(&self, drawn: Option<&Observation>, well: bool) -> Observation {
        let status = if well {
            HookStatus::Succeeded
        } else {
            HookStatus::Failed
        };
        drawn.cloned().unwrap_or_else(|| Observation::HookResult {
            execution_id: self.last_execution_id(),
            status,
        })
    }

    /// Observes, checks the step, and keeps it.
    fn observe(&mut self, at: Timestamp, observation: &Observation) -> Result<Step, TestCaseError> {
        let before = self.deployment.clone();
        let step = self.deployment.observe(at, observation.clone());
        check(&before, self.now, observation, &step, &self.deployment)?;
        self.log.extend(step.events.clone());
        self.commands.extend(step.commands.clone());
        step.events.iter().for_each(|entry| self.view.apply(entry));
        prop_assert_eq!(&self.view, self.deployment.view());
        Ok(step)
    }

    fn play(&mut self, script: &Script) -> Result<(), TestCaseError> {
        // A few observations after the end are enough to show that nothing comes of them.
        let mut after_end = 0;
        for (gap, drawn, well) in script {
            self.gap(gap);
            let at = if matches!(gap, Gap::Back) {
                START
            } else {
                self.now
            };
            let observation = self.observation(drawn.as_ref(), *well);
            let _ = self.observe(at, &observation)?;
            after_end += u8::from(self.deployment.status().is_terminal());
            if after_end > 3 {
                break;
            }
        }
        prop_assert_eq!(replay(&self.log), vec![self.view.clone()]);
        Ok(())
    }
}

/// The shares of green that an event or command sets, if it sets any.
fn green_of_event(entry: &Entry) -> Option<(u8, u8)> {
    match entry.event {
        Event::WeightsChanged { blue, green, .. } => Some((blue, green)),
        _ => None,
    }
}

fn green_of_command(command: &Command) -> Option<(u8, u8)> {
    match command {
        Command::SetWeights { blue, green } => Some((*blue, *green)),
        _ => None,
    }
}

/// Holds one step against everything that must be true of it.
fn check(
    before: &Deployment,
    now: Timestamp,
    observation: &Observation,
    step: &Step,
    after: &Deployment,
) -> Result<(), TestCaseError> {
    let (old, new) = (before.view(), after.view());

    // An ended deployment emits nothing more, and does not change.
    if old.status.is_terminal() {
        prop_assert_eq!(&step.commands, &vec![]);
        prop_assert_eq!(&step.events, &vec![]);
        prop_assert_eq!(old, new);
        prop_assert_eq!(after.wake_at(), None);
        return Ok(());
    }

    // It wakes in the future until it has ended.
    match after.wake_at() {
        Some(at) => prop_assert!(at > now && !new.status.is_terminal()),
        None => prop_assert!(new.status.is_terminal()),
    }

    // Everything happens now.
    prop_assert!(step.events.iter().all(|entry| entry.at == now));

    // What is told of the weights is what is commanded, and it adds up.
    let told: Vec<_> = step.events.iter().filter_map(green_of_event).collect();
    let commanded: Vec<_> = step.commands.iter().filter_map(green_of_command).collect();
    prop_assert_eq!(&told, &commanded);
    prop_assert!(told.iter().all(|(blue, green)| blue + green == 100));

    // They move toward green only while traffic shifts, and back only at an end.
    let mut green = old.weights.green();
    let mut back = false;
    for (_, next) in told {
        if next < green {
            prop_assert_eq!(next, 0);
            back = true;
        } else {
            prop_assert!(!back, "toward green after the way back");
        }
        green = next;
    }
    let moved = new.weights.green() > old.weights.green();
    prop_assert!(!back || new.status.is_terminal());
    let shift = new.lifecycle_event(LifecycleEvent::AllowTraffic);
    prop_assert!(!moved || shift.is_some_and(|shift| shift.start.is_some()));

    check_order(new)?;
    check_roll_back(before, observation, step, after)?;
    Ok(())
}

/// The lifecycle events run one after the other, each once.
fn check_order(view: &View) -> Result<(), TestCaseError> {
    use LifecycleStatus as S;
    let statuses: Vec<_> = view
        .lifecycle_events
        .iter()
        .map(|state| state.status)
        .collect();
    let first_open = statuses.iter().position(|status| *status != S::Succeeded);
    let (done, rest) = statuses.split_at(first_open.unwrap_or(statuses.len()));
    prop_assert!(done.iter().all(|status| *status == S::Succeeded));
    if let [first, later @ ..] = rest {
        let ended = view.status.is_terminal();
        let (expected_first, expected_later): (&[S], S) = if ended {
            (&[S::Failed, S::Skipped], S::Skipped)
        } else {
            (&[S::Pending, S::InProgress], S::Pending)
        };
        prop_assert!(expected_first.contains(first), "{statuses:?}");
        prop_assert!(
            later.iter().all(|status| *status == expected_later),
            "{statuses:?}"
        );
    }
    let mut last = view.created;
    for state in &view.lifecycle_events {
        match state.status {
            S::Pending | S::Skipped => prop_assert_eq!((state.start, state.end), (None, None)),
            S::InProgress => prop_assert_eq!(state.end, None),
            _ => prop_assert!(state.end.is_some()),
        }
        for time in [state.start, state.end].into_iter().flatten() {
            prop_assert!(time >= last, "{state:?} begins or ends too early");
            last = time;
        }
        prop_assert_eq!(state.diagnostics.is_some(), state.status == S::Failed);
    }
    Ok(())
}

/// After any ending but success everything is put back, or left as it is; there is one rollback
/// deployment or none.
fn check_roll_back(
    before: &Deployment,
    observation: &Observation,
    step: &Step,
    after: &Deployment,
) -> Result<(), TestCaseError> {
    let (old, new) = (before.view(), after.view());
    let rollbacks: Vec<&Spec> = step
        .commands
        .iter()
        .filter_map(|command| match command {
            Command::CreateRollbackDeployment { spec } => Some(&**spec),
            _ => None,
        })
        .collect();
    let forward = matches!(after.spec().kind, Kind::Forward { .. });
    let terminates_blue = step.commands.contains(&Command::TerminateBlue);
    prop_assert_eq!(
        terminates_blue,
        forward && new.status == DeploymentStatus::Succeeded
    );
    prop_assert_eq!(new.blue == TaskSetState::Terminating, terminates_blue);
    prop_assert!(
        forward || step.commands.is_empty(),
        "a rollback commands nothing"
    );
    match new.status {
        DeploymentStatus::Succeeded => {
            let weights = if forward {
                Weights::GREEN
            } else {
                Weights::BLUE
            };
            prop_assert_eq!(new.weights, weights);
            prop_assert_eq!(new.primary == Side::Green, forward);
            prop_assert_eq!(&new.error, &None);
            prop_assert!(rollbacks.is_empty());
            prop_assert!(
                new.lifecycle_events
                    .iter()
                    .all(|s| s.status == LifecycleStatus::Succeeded)
            );
        }
        DeploymentStatus::Stopped | DeploymentStatus::Failed => {
            prop_assert!(new.error.is_some());
            prop_assert_eq!(new.blue, TaskSetState::Stable);
            if let Observation::StopRequested {
                auto_rollback: Some(wanted),
            } = observation
                && new
                    .error
                    .as_ref()
                    .is_some_and(|error| error.code == ErrorCode::ManualStop)
            {
                prop_assert_eq!(!rollbacks.is_empty(), *wanted && forward);
            }
            match rollbacks.as_slice() {
                [] => {
                    // Everything stays: nothing is commanded after the event that failed.
                    prop_assert!(new.weights.green() >= old.weights.green());
                    prop_assert!(!step.commands.iter().any(|command| matches!(
                        command,
                        Command::TerminateGreen
                            | Command::RestoreTestTraffic
                            | Command::MakeBluePrimary
                    )));
                    prop_assert_eq!(new.rollback_reason, None);
                }
                [spec] => {
                    prop_assert_eq!(new.weights, Weights::BLUE);
                    prop_assert_eq!(new.primary, Side::Blue);
                    prop_assert!(new.test_traffic != Some(Side::Green));
                    prop_assert!(matches!(new.green, None | Some(TaskSetState::Terminating)));
                    prop_assert_eq!(&spec.kind, &Kind::Rollback { of: ID.to_owned() });
                    prop_assert_eq!(&spec.deployment_id, ROLLBACK_ID);
                    let last = step.commands.last();
                    let last_is_it = matches!(last, Some(Command::CreateRollbackDeployment { .. }));
                    prop_assert!(last_is_it);
                    prop_assert!(new.rollback_reason.is_some());
                }
                more => prop_assert!(false, "{} rollback deployments", more.len()),
            }
        }
        _ => {
            prop_assert!(rollbacks.is_empty());
            prop_assert_eq!(new.completed, None);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_step_keeps_the_invariants(spec in any_spec(), script in any_script()) {
        Run::new(spec).play(&script)?;
    }

    /// By time alone nothing happens before the deployment wants to be woken, and then something
    /// does.
    #[test]
    fn wakes_when_and_only_when_something_is_due(spec in any_spec(), script in any_script()) {
        let mut run = Run::new(spec);
        for (gap, drawn, well) in &script {
            run.gap(gap);
            let observation = run.observation(drawn.as_ref(), *well);
            let _ = run.observe(run.now, &observation)?;
            let Some(wake_at) = run.deployment.wake_at() else { break };
            let mut early = run.deployment.clone();
            let step = early.observe(wake_at - Duration::from_millis(1), Observation::Tick);
            prop_assert_eq!(step, Step::default());
            let step = early.observe(wake_at, Observation::Tick);
            prop_assert!(!step.events.is_empty() || !step.commands.is_empty());
        }
    }

    /// With a stable green, hooks that agree, quiet alarms and somebody who continues it, every
    /// deployment succeeds along its plan.
    #[test]
    fn when_all_goes_well_it_succeeds(spec in any_spec()) {
        let expected: Vec<u8> = spec.routing.steps().into_iter().map(|(_, green)| green).collect();
        let forward = matches!(spec.kind, Kind::Forward { .. });
        let hooks_called = LifecycleEvent::of_deployment(spec.test_listener)
            .filter(|event| event.is_hook() && spec.hooks.contains_key(event))
            .count();
        let mut run = Run::new(spec);
        let mut queue: Vec<Command> = run.commands.clone();
        while let Some(wake_at) = run.deployment.wake_at() {
            let ready = run.deployment.status() == DeploymentStatus::Ready;
            let observation = match queue.pop() {
                Some(Command::PollAlarms { .. }) => Observation::Alarms(both(State::Ok)),
                Some(Command::CreateGreen) => Observation::TaskSetStable,
                Some(Command::InvokeHook { execution_id, .. }) => {
                    Observation::HookResult { execution_id, status: HookStatus::Succeeded }
                }
                Some(_) => continue,
                None if ready => Observation::ContinueRequested(WaitType::ReadyWait),
                None => {
                    run.now = wake_at;
                    Observation::Tick
                }
            };
            let step = run.observe(run.now, &observation)?;
            prop_assert_eq!(step.refused, None);
            queue.extend(step.commands);
            // A ready wait of nothing expires as it begins; there is no continuing it.
            if run.deployment.spec().ready_wait == Some(Duration::ZERO) && forward {
                prop_assume!(run.deployment.status() != DeploymentStatus::Stopped);
            }
        }
        prop_assert_eq!(run.deployment.status(), DeploymentStatus::Succeeded);
        let set: Vec<u8> =
            run.commands.iter().filter_map(green_of_command).map(|(_, green)| green).collect();
        let called =
            run.commands.iter().filter(|c| matches!(c, Command::InvokeHook { .. })).count();
        if forward {
            prop_assert_eq!(set, expected);
            prop_assert_eq!(called, hooks_called);
        } else {
            prop_assert_eq!((set.len(), called), (0, 0));
        }
    }
}

// The costlier ones.
proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A deployment that was written down and read again goes on as if nothing had been.
    #[test]
    fn storing_changes_nothing(spec in any_spec(), script in any_script()) {
        let mut run = Run::new(spec);
        let mut stored = run.deployment.clone();
        for (gap, drawn, well) in &script {
            run.gap(gap);
            let observation = run.observation(drawn.as_ref(), *well);
            let json = serde_json::to_string(&stored).expect("writes");
            stored = serde_json::from_str(&json).expect("reads");
            let expected = run.observe(run.now, &observation)?;
            prop_assert_eq!(stored.observe(run.now, observation), expected);
            if run.deployment.status().is_terminal() {
                break;
            }
        }
    }

    /// Whatever happened before, a deployment that hears nothing any more ends.
    #[test]
    fn left_alone_it_ends(spec in any_spec(), script in any_script()) {
        let mut run = Run::new(spec);
        run.play(&script)?;
        let begun = run.now;
        while let Some(wake_at) = run.deployment.wake_at() {
            run.now = wake_at;
            let step = run.deployment.observe(wake_at, Observation::Tick);
            run.commands.extend(step.commands);
            // Six silent hooks or time limits of an hour, and all waits, are less than a day.
            prop_assert!(run.now - begun < Duration::from_hours(24));
        }
        prop_assert!(run.deployment.status().is_terminal());
    }
}
