//! `release VERSION`: the whole release, rehearsed on a stage or for real.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use clap::Args;
use rollout::event::{Event, RECORD_FORMAT};

use crate::announce::{Announcer, Audience};
use crate::aws::Clients;
use crate::bundles;
use crate::config::judge::Mode;
use crate::config::{Config, Hooks, parse_duration};
use crate::error::Error;
use crate::forecast;
use crate::interrupt::Interrupt;
use crate::measured::Measured;
use crate::outcome::Outcome;
use crate::package::Package;
use crate::record::{self, Recorder};
use crate::rehearsal::{Functions, Rehearsal, Relay, Setting};
use crate::report::{self, Format};
use crate::steps::Release;
use crate::steps::record::Ending;
use crate::target::Target;
use crate::verbs::stage::StageArguments;

/// Release a version.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The version to release, as its bundle is called.
    #[arg(id = "release", value_name = "VERSION")]
    version: Option<String>,
    /// How traffic moves: a strategy of release.toml, as `canary`, `guarded`, `linear` or `blue-green`.
    #[arg(long, value_name = "NAME")]
    strategy: Option<String>,
    /// Where to release: a target's file. Without it, a rehearsal on a stage of this machine.
    #[arg(long, value_name = "FILE", conflicts_with = "rehearsal")]
    target: Option<PathBuf>,
    /// Directory of bundles [default: $`SEREIN_BUNDLES`, or .serein/bundles found upwards].
    #[arg(long, value_name = "DIR")]
    bundles: Option<PathBuf>,
    /// release.toml with its templates beside it, instead of the bundle's own.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to show what happens.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where to keep the record of all events [default: a new file in .serein/records].
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// What the judge's ABORT leads to: nothing is judged, it is said, or the deployment is stopped
    /// [default: `judge.mode` of release.toml, else enforce on a stage and observe at AWS].
    #[arg(long, value_enum, value_name = "MODE")]
    judge: Option<Mode>,
    /// How long to watch at most, in the target's time, as 90m [default: what the plan can take].
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
    #[command(flatten)]
    rehearsal: RehearsalArguments,
}

/// What only a rehearsal needs.
#[derive(Debug, Args)]
#[group(id = "rehearsal", multiple = true)]
#[command(next_help_heading = "Rehearsal")]
struct RehearsalArguments {
    #[command(flatten)]
    stage: StageArguments,
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write it as 90s, 5m or 2h".to_owned())
}

pub fn run(arguments: &Arguments) -> Result<u8, Error> {
    let version = arguments
        .version
        .as_deref()
        .ok_or_else(|| Error::Usage("which version? See `release help`".to_owned()))?;
    let bundles = bundles::directory(arguments.bundles.as_deref());
    let package = Package::open(&bundles, version, arguments.config.as_deref())?;
    let target = arguments.target.as_deref().map(Target::load).transpose()?;
    let (strategy, plan) = package.config.strategy(arguments.strategy.as_deref())?;
    let deployment_config = target
        .as_ref()
        .and_then(|target| target.strategies.get(strategy))
        .unwrap_or(&plan.deployment_config);
    let job = Job {
        arguments,
        package: &package,
        bundles,
        strategy: format!("{strategy}, {deployment_config}"),
        deployment_config,
        hooks: &plan.hooks,
        record: arguments
            .record
            .clone()
            .unwrap_or_else(|| record::default_path(version)),
        begun: Instant::now(),
    };
    crate::verbs::runtime()?.block_on(async {
        match &target {
            Some(target) => job.deploy(target).await,
            None => job.rehearse().await,
        }
    })
}

struct Job<'a> {
    arguments: &'a Arguments,
    package: &'a Package,
    bundles: PathBuf,
    strategy: String,
    deployment_config: &'a str,
    hooks: &'a Hooks,
    record: PathBuf,
    begun: Instant,
}

impl Job<'_> {
    /// A release to a target that is there already.
    async fn deploy(&self, target: &Target) -> Result<u8, Error> {
        let interrupt = Interrupt::listen();
        let speed = target.stage.as_ref().map_or(1.0, |stage| stage.speed);
        let (announcer, audience) = self.open(&target.name, speed)?;
        if let Some(stage) = &target.stage {
            announcer.follow_clock(Some(stage.clock()));
        }
        let clients = Clients::of(target).await;
        let release = self.release(target, &clients, &announcer);
        let result = tokio::select! {
            result = release.run() => result,
            () = interrupt.pressed() => Err(Error::Interrupted(match release.deployment.get() {
                Some(id) => format!("; deployment {id} goes on. Follow it with: {}", release.follow),
                None => "; no deployment was created. What was pushed, registered and migrated stays and does no harm".to_owned(),
            })),
        };
        let next = release.next(&result);
        let ending = Ending {
            real: self.begun.elapsed(),
            next,
            ..Ending::default()
        };
        let code = self.close(&release, result, ending).await;
        drop(release);
        drop(announcer);
        audience.leave();
        code
    }

    /// A stage of our own, the baseline on it under load, and then the very same release.
    async fn rehearse(&self) -> Result<u8, Error> {
        let interrupt = Interrupt::listen();
        let config = &self.package.config;
        let needed = Functions::Needed(self.hooks.values().cloned().collect());
        let stage = &self.arguments.rehearsal.stage;
        let setting = stage.setting(config, &self.bundles, needed);
        let rate = self.arguments.rehearsal.stage.rate(config);
        self.check_what_is_rendered()?;
        let (announcer, audience) = self.open("stage", setting.speed)?;
        let code = self
            .on_a_stage(config, &setting, rate, &announcer, &interrupt)
            .await;
        drop(announcer);
        audience.leave();
        code
    }

    async fn on_a_stage(
        &self,
        config: &Config,
        setting: &Setting,
        rate: f64,
        announcer: &Announcer,
        interrupt: &Interrupt,
    ) -> Result<u8, Error> {
        let relay = Relay::BesidesTheDeployment;
        let (rehearsal, baseline) = tokio::join!(
            Rehearsal::start(config, setting, announcer, relay),
            self.baseline(config)
        );
        let mut rehearsal = match rehearsal {
            Ok(rehearsal) => rehearsal,
            Err(error) => return self.fail(announcer, error),
        };
        let baseline = match baseline {
            Ok(baseline) => baseline,
            Err(error) => {
                rehearsal.stop().await;
                return self.fail(announcer, error);
            }
        };
        let target = rehearsal.target.clone();
        let clients = rehearsal.clients.clone();
        let release = self.release(&target, &clients, announcer);
        let work = async {
            rehearsal.serve(&baseline, announcer).await?;
            rehearsal.start_traffic(rate, &config.stage.path)?;
            rehearsal.sleep(config.stage.before).await;
            let outcome = release.run().await?;
            rehearsal.sleep(config.stage.after).await;
            Ok(outcome)
        };
        let result = tokio::select! {
            result = work => result,
            () = interrupt.pressed() => Err(Error::Interrupted("; the rehearsal is taken down".to_owned())),
        };
        let interrupted = matches!(result, Err(Error::Interrupted(_)));
        let totals = if interrupted {
            None
        } else {
            rehearsal.stop_traffic().await
        };
        let mut ending = Ending {
            real: self.begun.elapsed(),
            next: release.next(&result),
            ..Ending::default()
        };
        // The deployment knows that a function refused, the function knows why.
        if matches!(result, Ok(Outcome::RolledBack { .. })) {
            let said = rehearsal.said(self.hooks.values());
            ending.next.splice(..0, said);
        }
        if let Some(totals) = totals {
            ending.requests = totals.outcomes;
            ending.first_loss = totals.first_loss;
            ending.last_loss = totals.last_loss;
        }
        rehearsal.hush();
        self.predict(config, announcer).await;
        let code = self.close(&release, result, ending).await;
        rehearsal.stop().await;
        code
    }

    /// What was measured, beside what was to be expected of such a version.
    async fn predict(&self, config: &Config, announcer: &Announcer) {
        announcer.flushed().await;
        let strategy = config.strategy(self.arguments.strategy.as_deref());
        if let (Ok(measured), Ok((_, strategy))) = (Measured::read(&self.record), strategy)
            && measured.candidate.errors > 0
            && let Some(predicted) = forecast::predicted(config, strategy, &measured)
        {
            announcer.event(predicted);
        }
    }

    /// The version before: of release.toml, else the oldest bundle.
    async fn baseline(&self, config: &Config) -> Result<Package, Error> {
        let version = match self.arguments.rehearsal.stage.baseline(config) {
            Some(version) => version,
            None => bundles::versions(&self.bundles)?
                .into_iter()
                .next()
                .unwrap_or_default(),
        };
        let bundles = self.bundles.clone();
        let config = self.arguments.config.clone();
        let opened = tokio::task::spawn_blocking(move || {
            Package::open(&bundles, &version, config.as_deref())
        });
        opened
            .await
            .map_err(|error| Error::Stage(error.to_string()))?
    }

    /// A template with a mistake is told before a stage is started.
    fn check_what_is_rendered(&self) -> Result<(), Error> {
        let target = Target::stand_in(&self.package.config);
        let definition = self.package.definition(&target)?;
        let arn = crate::package::foreseen_arn(&target);
        self.package
            .appspec(&target, self.hooks, &definition, &arn)
            .map(drop)
    }

    /// Opens the record and the report.
    fn open(&self, target: &str, speed: f64) -> Result<(Announcer, Audience), Error> {
        let recorder = Recorder::create(&self.record)?;
        let reporter = report::reporter(self.arguments.format);
        let (announcer, audience) = Announcer::new(vec![Box::new(recorder), reporter]);
        announcer.event(Event::RecordOpened {
            format: RECORD_FORMAT,
            version: self.package.bundle.version().to_owned(),
            bundle: self.package.bundle.digest().to_string(),
            target: target.to_owned(),
            strategy: self.strategy.clone(),
            speed,
        });
        Ok((announcer, audience))
    }

    fn release<'b>(
        &'b self,
        target: &'b Target,
        clients: &'b Clients,
        announcer: &'b Announcer,
    ) -> Release<'b> {
        let mut follow = format!("release {}", self.package.bundle.version());
        if let Some(path) = &self.arguments.target {
            let _ = write!(follow, " --target {}", path.display());
        }
        if let Some(path) = &self.arguments.bundles {
            let _ = write!(follow, " --bundles {}", path.display());
        }
        if let Some(path) = &self.arguments.config {
            let _ = write!(follow, " --config {}", path.display());
        }
        Release {
            package: self.package,
            target,
            clients,
            announcer,
            deployment_config: self.deployment_config,
            hooks: self.hooks,
            judge: self.arguments.judge,
            timeout: self.arguments.timeout,
            follow,
            deployment: OnceLock::new(),
        }
    }

    /// Closes record and report: with the outcome, or with what went wrong.
    async fn close(
        &self,
        release: &Release<'_>,
        result: Result<Outcome, Error>,
        ending: Ending,
    ) -> Result<u8, Error> {
        match result {
            Ok(outcome) => {
                crate::steps::record::run(release, &outcome, ending, &self.record).await?;
                Ok(outcome.exit_code())
            }
            Err(error) => {
                crate::steps::record::fail(release.announcer, &error, ending, &self.record);
                self.told(error)
            }
        }
    }

    /// For what fails before there is a release.
    fn fail(&self, announcer: &Announcer, error: Error) -> Result<u8, Error> {
        let ending = Ending {
            real: self.begun.elapsed(),
            ..Ending::default()
        };
        crate::steps::record::fail(announcer, &error, ending, &self.record);
        self.told(error)
    }

    /// People have read the error in the summary; programs get it on standard error as well.
    fn told(&self, error: Error) -> Result<u8, Error> {
        match self.arguments.format {
            Format::Human => Ok(error.exit_code()),
            Format::Json => Err(error),
        }
    }
}

impl Release<'_> {
    /// What a person would do next.
    fn next(&self, result: &Result<Outcome, Error>) -> Vec<String> {
        let id = self.deployment.get();
        let rehearsed = self.target.stage.is_some();
        match result {
            Ok(Outcome::Deployed | Outcome::NothingToDo) if rehearsed => {
                vec![format!("release {} --target FILE", self.version())]
            }
            Ok(Outcome::RolledBack { .. }) => {
                vec!["mend it, build a new bundle, and rehearse that".to_owned()]
            }
            Ok(Outcome::TrafficUnknown { .. }) => id
                .map(|id| {
                    format!(
                        "look at it: aws deploy get-deployment-target --deployment-id {id} --target-id {}:{} --region {}",
                        self.target.cluster, self.target.service, self.target.region
                    )
                })
                .into_iter()
                .collect(),
            Err(Error::StillRunning { .. }) => vec![self.follow.clone()],
            _ => Vec::new(),
        }
    }
}
