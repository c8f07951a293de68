#![expect(clippy::unwrap_used, reason = "tests")]
use std::collections::BTreeMap;

use rollout::Timestamp;
use rollout::alarm::State;
use rollout::deployment::{ErrorCode, ErrorInformation, Roles, StopReason};
use rollout::event::TaskSetDescription;
use rollout::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus};
use rollout::traffic::TrafficRouting;

use super::*;

const BEGAN: u64 = 1_790_000_000_000;

/// A release told from beginning to end.
struct Tale {
    story: Story,
    out: Vec<String>,
}

impl Tale {
    fn new() -> Tale {
        Tale {
            story: Story {
                speed: 1.0,
                ..Story::default()
            },
            out: Vec::new(),
        }
    }

    /// An event, so many virtual seconds after the beginning.
    fn tell(&mut self, second: u64, event: Event) {
        let entry = Entry::new(Timestamp::from_millis(BEGAN + second * 1000), event);
        self.story.take(&entry);
        self.out
            .extend(lines(&self.story, &entry, Palette::plain()));
        self.out
            .extend(summary::block(&self.story, &entry, Palette::plain()));
    }

    fn step(&mut self, second: u64, step: &str, detail: &str) {
        self.tell(
            second,
            Event::StepStarted {
                step: step.to_owned(),
            },
        );
        self.tell(
            second,
            Event::StepFinished {
                step: step.to_owned(),
                detail: detail.to_owned(),
            },
        );
    }

    fn lifecycle(&mut self, second: u64, event: LifecycleEvent, status: LifecycleStatus) {
        self.tell(
            second,
            Event::LifecycleEventChanged {
                deployment_id: "d-ABCDEFGHI".to_owned(),
                lifecycle_event: event,
                status,
                diagnostics: None,
            },
        );
    }

    fn opened(&mut self, speed: f64) {
        self.tell(
            0,
            Event::RecordOpened {
                format: 1,
                version: "2.0.0".to_owned(),
                bundle: "sha256:5c1d9e0f".to_owned(),
                target: "stage".to_owned(),
                strategy: "canary, CodeDeployDefault.ECSCanary10Percent5Minutes".to_owned(),
                speed,
            },
        );
    }

    fn created(&mut self, second: u64) {
        self.tell(
            second,
            Event::DeploymentCreated {
                deployment_id: "d-ABCDEFGHI".to_owned(),
                rollback_of: None,
                routing: TrafficRouting::canary(10, 5),
                lifecycle_events: LifecycleEvent::ALL.to_vec(),
            },
        );
    }

    fn roles(&mut self, second: u64) {
        let side = |version: &str, revision: u8, group: &str| TaskSetDescription {
            version: Some(version.to_owned()),
            task_definition: format!(
                "arn:aws:ecs:eu-west-1:000000000000:task-definition/demo:{revision}"
            ),
            target_group: group.to_owned(),
        };
        self.tell(
            second,
            Event::RolesAssigned {
                deployment_id: "d-ABCDEFGHI".to_owned(),
                roles: Roles {
                    blue: side("1.0.0", 1, "demo-a"),
                    green: side("2.0.0", 2, "demo-b"),
                },
            },
        );
    }

    fn weights(&mut self, second: u64, green: u8) {
        self.tell(
            second,
            Event::WeightsChanged {
                deployment_id: "d-ABCDEFGHI".to_owned(),
                blue: 100 - green,
                green,
            },
        );
    }

    fn traffic(&mut self, second: u64, blue: RequestCounts, green: RequestCounts) {
        self.tell(second, traffic(blue, green));
    }

    fn told(&self) -> String {
        self.out.join("\n")
    }
}

fn traffic(blue: RequestCounts, green: RequestCounts) -> Event {
    Event::Traffic {
        period_s: 30,
        groups: BTreeMap::from([("demo-a".to_owned(), blue), ("demo-b".to_owned(), green)]),
        unattributed: RequestCounts::default(),
    }
}

fn counts(ok: u64, server_error: u64) -> RequestCounts {
    RequestCounts {
        ok,
        server_error,
        ..RequestCounts::default()
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a whole tale")]
fn a_canary_that_an_alarm_rolls_back() {
    let mut tale = Tale::new();
    tale.opened(10.0);
    tale.step(
        11,
        "stage",
        "PostgreSQL, load balancer, APIs and tasks in own namespaces in 1.1 s",
    );
    tale.step(
        18,
        "baseline",
        "1.0.0 serves at http://127.0.0.1:40001 after 0.7 s",
    );
    tale.step(
        49,
        "preflight",
        "bundle verified, 2 migrations, service demo serves demo:1, nothing else runs",
    );
    tale.step(51, "push", "sha256:aaaa");
    tale.step(51, "register", "demo:2");
    tale.step(54, "migrate", "2 migrations in place (task 0123)");
    tale.step(
        54,
        "deploy",
        "d-ABCDEFGHI with CodeDeployDefault.ECSCanary10Percent5Minutes",
    );
    tale.created(54);
    tale.lifecycle(
        56,
        LifecycleEvent::BeforeInstall,
        LifecycleStatus::Succeeded,
    );
    tale.lifecycle(57, LifecycleEvent::Install, LifecycleStatus::InProgress);
    tale.roles(58);
    tale.traffic(60, counts(590, 0), counts(0, 0));
    tale.lifecycle(88, LifecycleEvent::Install, LifecycleStatus::Succeeded);
    tale.lifecycle(
        89,
        LifecycleEvent::AllowTestTraffic,
        LifecycleStatus::Succeeded,
    );
    tale.lifecycle(
        90,
        LifecycleEvent::AllowTraffic,
        LifecycleStatus::InProgress,
    );
    tale.weights(91, 10);
    tale.traffic(120, counts(541, 0), counts(12, 47));
    tale.tell(
        210,
        Event::AlarmStateChanged {
            alarm: "demo-b-target-5xx".to_owned(),
            metric: "HTTPCode_Target_5XX_Count".to_owned(),
            state: State::Alarm,
            previous: State::Ok,
            reason: "Threshold Crossed".to_owned(),
            value: Some(94.0),
            threshold: 10.0,
        },
    );
    tale.lifecycle(220, LifecycleEvent::AllowTraffic, LifecycleStatus::Failed);
    tale.weights(220, 0);
    tale.tell(
        221,
        Event::DeploymentEnded {
            deployment_id: "d-ABCDEFGHI".to_owned(),
            status: DeploymentStatus::Stopped,
            error: Some(ErrorInformation {
                code: ErrorCode::AlarmActive,
                message:
                    "One or more alarms have been activated. Activated alarms: <demo-b-target-5xx>"
                        .to_owned(),
            }),
        },
    );
    tale.tell(
        221,
        Event::RollbackStarted {
            deployment_id: "d-ABCDEFGHI".to_owned(),
            rollback_deployment_id: "d-JKLMNOPQR".to_owned(),
            reason: StopReason::Alarm,
        },
    );
    tale.tell(
        224,
        Event::DeploymentEnded {
            deployment_id: "d-JKLMNOPQR".to_owned(),
            status: DeploymentStatus::Succeeded,
            error: None,
        },
    );
    tale.traffic(250, counts(1480, 0), counts(41, 210));
    tale.step(
        250,
        "record",
        "s3://demo-releases/records/d-ABCDEFGHI.jsonl",
    );
    tale.tell(
        250,
        Event::Summary {
            exit_code: 3,
            outcome: "2.0.0 was rolled back: alarm demo-b-target-5xx".to_owned(),
            real_seconds: 25.4,
            requests: counts(2664, 257),
            first_loss: Some(Timestamp::from_millis(BEGAN + 91_200)),
            last_loss: Some(Timestamp::from_millis(BEGAN + 219_800)),
            record: Some(".serein/records/20260922T133320-2.0.0.jsonl".to_owned()),
            next: vec!["mend it, build a new bundle, and rehearse that".to_owned()],
        },
    );
    insta::assert_snapshot!(tale.told());
}

#[test]
fn a_success_at_aws_without_generated_traffic() {
    let mut tale = Tale::new();
    tale.opened(1.0);
    tale.step(
        3,
        "preflight",
        "bundle verified, 2 migrations, service demo serves demo:1, nothing else runs",
    );
    tale.created(40);
    tale.roles(60);
    tale.lifecycle(62, LifecycleEvent::Install, LifecycleStatus::InProgress);
    tale.lifecycle(120, LifecycleEvent::Install, LifecycleStatus::Succeeded);
    tale.lifecycle(
        122,
        LifecycleEvent::AllowTraffic,
        LifecycleStatus::InProgress,
    );
    tale.weights(122, 10);
    tale.weights(422, 100);
    tale.lifecycle(
        423,
        LifecycleEvent::AllowTraffic,
        LifecycleStatus::Succeeded,
    );
    tale.tell(
        424,
        Event::TerminationWaitStarted {
            deployment_id: "d-ABCDEFGHI".to_owned(),
            until: Timestamp::from_millis(BEGAN + 724_000),
        },
    );
    tale.tell(
        726,
        Event::DeploymentEnded {
            deployment_id: "d-ABCDEFGHI".to_owned(),
            status: DeploymentStatus::Succeeded,
            error: None,
        },
    );
    tale.tell(
        728,
        Event::Summary {
            exit_code: 0,
            outcome: "2.0.0 is deployed".to_owned(),
            real_seconds: 728.0,
            requests: RequestCounts::default(),
            first_loss: None,
            last_loss: None,
            record: None,
            next: Vec::new(),
        },
    );
    insta::assert_snapshot!(tale.told());
}

#[test]
fn green_that_exits_at_once() {
    let mut tale = Tale::new();
    tale.opened(10.0);
    tale.created(40);
    tale.roles(41);
    for task in ["aaaaaaaaaaaa", "bbbbbbbbbbbb"] {
        tale.tell(
            55,
            Event::TaskStopped {
                task: format!("arn:aws:ecs:eu-west-1:000000000000:task/demo/{task}"),
                stop_code: "EssentialContainerExited".to_owned(),
                reason: "Essential container in task exited, exit code 2".to_owned(),
                exit_code: Some(2),
            },
        );
    }
    tale.tell(
        80,
        Event::TargetHealthChanged {
            target_group: "demo-b".to_owned(),
            target: "10.0.0.5:8080".to_owned(),
            state: "unhealthy".to_owned(),
            reason: "Target.FailedHealthChecks".to_owned(),
        },
    );
    insta::assert_snapshot!(tale.told());
}

#[test]
fn a_long_silence_is_broken_by_a_line_that_all_is_well() {
    let mut tale = Tale::new();
    tale.opened(10.0);
    tale.created(40);
    tale.roles(41);
    let mut human = Human::new(10.0, false);
    human.story = tale.story;
    let mut tell = |second: u64, blue, green| {
        let entry = Entry::new(
            Timestamp::from_millis(BEGAN + second * 1000),
            traffic(blue, green),
        );
        human.story.take(&entry);
        human.tell(&entry)
    };
    let first = tell(150, counts(600, 0), counts(60, 0));
    assert!(
        first[0].ends_with("· requests    lost so far: 1.0.0 none of 600, 2.0.0 none of 60"),
        "{first:?}"
    );
    assert_eq!(
        tell(200, counts(500, 0), counts(50, 0)),
        Vec::<String>::new()
    );
    let later = tell(250, counts(500, 0), counts(50, 0));
    assert!(
        later[0].contains("1.0.0 none of 1 600, 2.0.0 none of 160"),
        "{later:?}"
    );
}

#[test]
fn the_live_view_says_how_long_to_go() {
    let mut tale = Tale::new();
    tale.opened(10.0);
    tale.created(40);
    tale.roles(41);
    tale.lifecycle(
        90,
        LifecycleEvent::AllowTraffic,
        LifecycleStatus::InProgress,
    );
    tale.weights(91, 10);
    tale.traffic(120, counts(541, 0), counts(12, 47));
    let now = Timestamp::from_millis(BEGAN + 130_000);
    insta::assert_snapshot!(view(&tale.story, now, Palette::plain()));
}

#[test]
fn a_bar_never_hides_a_share() {
    let palette = Palette::plain();
    for green in 0..=100 {
        let bar = super::super::lines::bar(green, palette);
        let (blue, green_cells) = (bar.matches('█').count(), bar.matches('▒').count());
        assert_eq!(blue + green_cells, super::super::lines::BAR);
        assert_eq!(green_cells == 0, green == 0, "{green}");
        assert_eq!(blue == 0, green == 100, "{green}");
    }
}

#[test]
fn numbers_for_people() {
    use super::super::story::{clock, grouped, seconds, share};
    assert_eq!(grouped(0), "0");
    assert_eq!(grouped(1_234_567), "1 234 567");
    assert_eq!(share(1, 300), "0.3 %");
    assert_eq!(share(4, 5), "80 %");
    assert_eq!(share(0, 0), "0 %");
    assert_eq!(clock(Duration::from_secs(3_725)), "1:02:05");
    assert_eq!(seconds(Duration::from_millis(13_440)), "13.4 s");
    assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
}

#[test]
fn json_lines_are_the_records_lines() {
    let entry = Entry::new(
        Timestamp::from_millis(BEGAN),
        Event::StepStarted {
            step: "push".to_owned(),
        },
    );
    let line = crate::record::line(&entry);
    assert_eq!(
        line,
        format!("{{\"at\":{BEGAN},\"event\":\"step_started\",\"step\":\"push\"}}\n")
    );
    assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), entry);
}
