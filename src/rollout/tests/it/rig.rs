//! A driver for tests: it keeps everything that came out of a deployment, and checks after each
//! step what must hold after every step.

use std::collections::BTreeMap;
use std::time::Duration;

use rollout::Timestamp;
use rollout::alarm::State;
use rollout::deployment::{
    Alarms, AutoRollback, Command, Deployment, ErrorInformation, Hooks, Observation, Refusal, Spec,
    View,
};
use rollout::event::{Entry, Event};
use rollout::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus};
use rollout::replay::replay;
use rollout::traffic::TrafficRouting;

/// When every test's deployment is created.
pub const START: Timestamp = Timestamp::from_secs(1_800_000_000);

pub const ID: &str = "d-AAAAAAAAA";
pub const ROLLBACK_ID: &str = "d-BBBBBBBBB";

/// 10 % for 5 minutes, test listener, 5 minutes until blue goes.
pub fn canary() -> Spec {
    Spec {
        routing: TrafficRouting::canary(10, 5),
        test_listener: true,
        termination_wait: Duration::from_mins(5),
        auto_rollback: AutoRollback::ALL,
        ..Spec::new(ID, ROLLBACK_ID)
    }
}

/// Every event that takes a hook.
pub const ALL_HOOKS: [LifecycleEvent; 5] = [
    LifecycleEvent::BeforeInstall,
    LifecycleEvent::AfterInstall,
    LifecycleEvent::AfterAllowTestTraffic,
    LifecycleEvent::BeforeAllowTraffic,
    LifecycleEvent::AfterAllowTraffic,
];

/// A function on each of these events, named after the event.
pub fn hooks(events: &[LifecycleEvent]) -> Hooks {
    events
        .iter()
        .map(|event| (*event, format!("on{event}")))
        .collect()
}

/// Stops for the alarms `blue` and `green`.
pub fn alarms() -> Alarms {
    Alarms {
        names: vec!["blue".to_owned(), "green".to_owned()],
        ignore_poll_failure: false,
    }
}

/// Both alarms in one state.
pub fn both(state: State) -> BTreeMap<String, State> {
    [("blue".to_owned(), state), ("green".to_owned(), state)].into()
}

pub struct Rig {
    pub deployment: Deployment,
    pub now: Timestamp,
    pub log: Vec<Entry>,
    pub commands: Vec<Command>,
    /// What CloudWatch answers: `None` for no answer at all.
    pub alarms: Option<BTreeMap<String, State>>,
    /// What the last observation was refused with.
    pub refused: Option<Refusal>,
}

impl Rig {
    pub fn new(spec: Spec) -> Rig {
        let (deployment, step) = Deployment::new(spec, START);
        let mut rig = Rig {
            deployment,
            now: START,
            log: step.events,
            commands: step.commands.clone(),
            alarms: Some(both(State::Ok)),
            refused: None,
        };
        rig.answer_polls(&step.commands);
        rig
    }

    pub fn view(&self) -> &View {
        self.deployment.view()
    }

    pub fn status(&self) -> DeploymentStatus {
        self.deployment.status()
    }

    pub fn event(&self, event: LifecycleEvent) -> LifecycleStatus {
        self.view()
            .lifecycle_event(event)
            .expect("the deployment has this event")
            .status
    }

    pub fn weights(&self) -> (u8, u8) {
        (self.view().weights.blue(), self.view().weights.green())
    }

    pub fn error(&self) -> &ErrorInformation {
        self.view()
            .error
            .as_ref()
            .expect("the deployment ended badly")
    }

    /// Observes something now, and answers the polls that come of it. Returns the commands.
    pub fn see(&mut self, observation: Observation) -> Vec<Command> {
        let step = self.deployment.observe(self.now, observation);
        self.refused = step.refused;
        self.log.extend(step.events);
        self.commands.extend(step.commands.clone());
        assert_eq!(
            replay(&self.log),
            [self.view().clone()],
            "the record replays to the state"
        );
        match self.deployment.wake_at() {
            Some(at) => assert!(at > self.now, "wakes in the future"),
            None => assert!(
                self.status().is_terminal(),
                "sleeps for ever only when ended"
            ),
        }
        let mut commands = step.commands;
        if commands
            .iter()
            .any(|command| matches!(command, Command::PollAlarms { .. }))
        {
            let refused = self.refused;
            commands.extend(self.answer_polls(&commands.clone()));
            self.refused = refused;
        }
        commands.retain(|command| !matches!(command, Command::PollAlarms { .. }));
        commands
    }

    fn answer_polls(&mut self, commands: &[Command]) -> Vec<Command> {
        if !commands
            .iter()
            .any(|command| matches!(command, Command::PollAlarms { .. }))
        {
            return Vec::new();
        }
        match self.alarms.clone() {
            Some(states) => self.see(Observation::Alarms(states)),
            None => self.see(Observation::AlarmPollFailed),
        }
    }

    /// Lets time go by, waking the deployment whenever it wants to be. Returns the commands.
    pub fn pass(&mut self, duration: Duration) -> Vec<Command> {
        let until = self.now + duration;
        let mut commands = Vec::new();
        while let Some(at) = self.deployment.wake_at().filter(|at| *at <= until) {
            self.now = at;
            commands.extend(self.see(Observation::Tick));
        }
        self.now = until;
        commands
    }

    /// From the creation to the `Install` that waits for green.
    pub fn until_install(mut self) -> Rig {
        self.pass(Duration::from_secs(2));
        assert_eq!(
            self.event(LifecycleEvent::Install),
            LifecycleStatus::InProgress
        );
        self
    }

    /// On to a stable green, a minute later.
    pub fn until_stable(self) -> Rig {
        let mut rig = self.until_install();
        rig.pass(Duration::from_mins(1));
        rig.see(Observation::TaskSetStable);
        rig
    }

    /// On to the first step of traffic.
    pub fn until_shift(self) -> Rig {
        let mut rig = self.until_stable();
        rig.pass(Duration::from_millis(500));
        assert_eq!(
            rig.event(LifecycleEvent::AllowTraffic),
            LifecycleStatus::InProgress
        );
        rig
    }

    /// On to the wait before blue's termination.
    pub fn until_termination_wait(self) -> Rig {
        let mut rig = self.until_shift();
        while !rig.view().termination_wait_started() {
            rig.pass(Duration::from_secs(1));
        }
        rig
    }

    /// The statuses of all lifecycle events, in order.
    pub fn statuses(&self) -> Vec<LifecycleStatus> {
        self.view()
            .lifecycle_events
            .iter()
            .map(|state| state.status)
            .collect()
    }

    /// Commands without the polls.
    pub fn acts(&self) -> Vec<Command> {
        self.commands
            .iter()
            .filter(|command| !matches!(command, Command::PollAlarms { .. }))
            .cloned()
            .collect()
    }

    /// Everything that happened, a line each.
    pub fn timeline(&self) -> String {
        self.log.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn line(entry: &Entry) -> String {
    let what = match &entry.event {
        Event::DeploymentCreated {
            rollback_of: None, ..
        } => "created".to_owned(),
        Event::DeploymentCreated {
            rollback_of: Some(of),
            ..
        } => format!("created to undo {of}"),
        Event::DeploymentStatusChanged { status, .. } => format!("= {status}"),
        Event::LifecycleEventChanged {
            lifecycle_event,
            status,
            diagnostics,
            ..
        } => {
            let why = diagnostics
                .as_ref()
                .map(|why| format!(" ({})", why.error_code.as_str()));
            format!("{lifecycle_event} {status}{}", why.unwrap_or_default())
        }
        Event::TaskSetChanged {
            task_set, state, ..
        } => format!("{task_set:?} {state:?}"),
        Event::TestTrafficChanged { task_set, .. } => format!("test traffic to {task_set:?}"),
        Event::WeightsChanged { blue, green, .. } => format!("weights {blue}/{green}"),
        Event::PrimaryChanged { task_set, .. } => format!("{task_set:?} PRIMARY"),
        Event::ReadyWaitStarted { .. } => "waits to be continued".to_owned(),
        Event::TerminationWaitStarted { .. } => "waits to terminate blue".to_owned(),
        Event::HookInvoked {
            lifecycle_event,
            function,
            ..
        } => {
            format!("{lifecycle_event} calls {function}")
        }
        Event::HookAnswered {
            lifecycle_event,
            status,
            ..
        } => {
            format!("{lifecycle_event} answers {status:?}")
        }
        Event::RollbackStarted {
            rollback_deployment_id,
            reason,
            ..
        } => {
            format!("rolled back by {rollback_deployment_id} ({reason:?})")
        }
        Event::DeploymentEnded { status, error, .. } => {
            let code = error.as_ref().map(|error| format!(" ({})", error.code));
            format!("ended {status}{}", code.unwrap_or_default())
        }
        other => panic!("a deployment does not emit {other:?}"),
    };
    let at = entry.at - START;
    let (seconds, millis) = (at.as_secs(), at.subsec_millis());
    format!("{:02}:{:02}.{millis:03} {what}", seconds / 60, seconds % 60)
}
