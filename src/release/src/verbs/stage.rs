//! `release stage`: a stage in the foreground, for releases from other terminals.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::announce::Announcer;
use crate::bundles;
use crate::config::Config;
use crate::error::Error;
use crate::exit_codes;
use crate::interrupt::Interrupt;
use crate::package::Package;
use crate::rehearsal::account::Account;
use crate::rehearsal::{Functions, Rehearsal, Relay, Setting};
use crate::report::{self, Format};

/// Run a stage with the baseline on it until Ctrl-C, for releases from other terminals
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where to write the target, for `release VERSION --target FILE`.
    #[arg(long, value_name = "FILE", default_value = ".serein/target.json")]
    target: PathBuf,
    /// Directory of bundles [default: $`SEREIN_BUNDLES`, or .serein/bundles found upwards].
    #[arg(long, value_name = "DIR")]
    bundles: Option<PathBuf>,
    /// release.toml with its templates beside it, instead of the newest bundle's.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to show what happens.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// An endpoint that serves the rest of an AWS account, such as an emulator: whatever Terraform
    /// makes there is taken over, and nothing is deployed before it has.
    #[arg(long, value_name = "URL", conflicts_with_all = ["target", "baseline"])]
    upstream: Option<String>,
    #[command(flatten)]
    stage: StageArguments,
}

/// How a stage is to be; shared by the rehearsal and the stage in the foreground.
#[derive(Debug, Args)]
pub struct StageArguments {
    /// How many seconds pass on the stage in one second here [default: release.toml].
    #[arg(long, value_name = "FACTOR", value_parser = speed)]
    speed: Option<f64>,
    /// Generated requests a second; 0 for none [default: release.toml].
    #[arg(long, value_name = "RATE", value_parser = rate)]
    traffic: Option<f64>,
    /// The version that serves before the release [default: release.toml, or the oldest bundle].
    #[arg(long, value_name = "VERSION")]
    baseline: Option<String>,
    /// Where the stage keeps everything [default: a temporary directory].
    #[arg(long, value_name = "DIR")]
    stage_dir: Option<PathBuf>,
    /// How tasks are isolated.
    #[arg(long, value_enum, default_value_t)]
    runtime: RuntimeKind,
    /// Directory of PostgreSQL's programs [default: the newest that is installed].
    #[arg(long, value_name = "DIR")]
    postgres_bin: Option<PathBuf>,
    /// Port of the production listener; 0 for any.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Port of the test listener; 0 for any.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    test_port: u16,
    /// Port of the AWS APIs; 0 for any.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    api_port: u16,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum RuntimeKind {
    /// The best that this machine allows.
    #[default]
    Auto,
    /// Own namespaces.
    Sandbox,
    /// `runc`.
    Runc,
    /// A plain process: no isolation.
    Process,
}

fn speed(text: &str) -> Result<f64, String> {
    number(text, 1.0, 1000.0)
}

/// `200`, or `200/s`.
pub fn rate(text: &str) -> Result<f64, String> {
    number(text.strip_suffix("/s").unwrap_or(text), 0.0, 100_000.0)
}

fn number(text: &str, from: f64, to: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (from..=to).contains(&number) {
        Ok(number)
    } else {
        Err(format!("not between {from} and {to}"))
    }
}

impl StageArguments {
    /// What the arguments and the configuration make of it.
    pub fn setting(&self, config: &Config, bundles: &Path, functions: Functions) -> Setting {
        Setting {
            packages: bundles.to_owned(),
            functions,
            speed: self.speed.unwrap_or(config.stage.speed),
            ports: stage::Ports {
                api: self.api_port,
                production: self.port,
                test: self.test_port,
                ..stage::Ports::default()
            },
            postgres_bin: self.postgres_bin.clone(),
            directory: self.stage_dir.clone(),
            runtime: match self.runtime {
                RuntimeKind::Auto => stage::runtime::Kind::Auto,
                RuntimeKind::Sandbox => stage::runtime::Kind::Sandbox,
                RuntimeKind::Runc => stage::runtime::Kind::Runc,
                RuntimeKind::Process => stage::runtime::Kind::Process,
            },
        }
    }

    /// Requests a second.
    pub fn rate(&self, config: &Config) -> f64 {
        self.traffic.unwrap_or(config.stage.traffic)
    }

    /// The version before, if anybody named one.
    pub fn baseline(&self, config: &Config) -> Option<String> {
        self.baseline
            .clone()
            .or_else(|| config.stage.baseline.clone())
    }
}

pub fn run(arguments: &Arguments) -> Result<u8, Error> {
    let bundles = bundles::directory(arguments.bundles.as_deref());
    let versions = bundles::versions(&bundles)?;
    let newest = versions.last().map_or("", String::as_str);
    let open = |version: &str| Package::open(&bundles, version, arguments.config.as_deref());
    let config = open(newest)?.config;
    if let Some(upstream) = &arguments.upstream {
        let setting = arguments
            .stage
            .setting(&config, &bundles, Functions::Available);
        return tell(arguments, &setting, async |announcer| {
            stand_in_front(arguments, &config, &setting, upstream, announcer).await
        });
    }
    let oldest = versions.first().map_or("", String::as_str);
    let version = arguments.stage.baseline(&config);
    let baseline = open(version.as_deref().unwrap_or(oldest))?;
    let setting = arguments
        .stage
        .setting(&config, &bundles, Functions::Available);
    tell(arguments, &setting, async |announcer| {
        stand(arguments, &config, &setting, &baseline, announcer).await
    })
}

/// Runs what tells something, and waits until it has been read.
fn tell(
    arguments: &Arguments,
    setting: &Setting,
    work: impl AsyncFnOnce(&Announcer) -> Result<u8, Error>,
) -> Result<u8, Error> {
    crate::verbs::runtime()?.block_on(async {
        let reporter = report::reporter_at(arguments.format, setting.speed);
        let (announcer, audience) = Announcer::new(vec![reporter]);
        let code = work(&announcer).await;
        drop(announcer);
        audience.leave();
        code
    })
}

async fn stand(
    arguments: &Arguments,
    config: &Config,
    setting: &Setting,
    baseline: &Package,
    announcer: &Announcer,
) -> Result<u8, Error> {
    let interrupt = Interrupt::listen();
    let mut rehearsal = Rehearsal::start(config, setting, announcer, Relay::Everything).await?;
    let work = async {
        rehearsal.serve(baseline, announcer).await?;
        // Users come to a foreground stage only if somebody asks for them.
        let rate = arguments.stage.traffic.unwrap_or(0.0);
        rehearsal.start_traffic(rate, &config.stage.path)?;
        rehearsal.target.save(&arguments.target)?;
        announcer.flushed().await;
        welcome(arguments, &rehearsal);
        Ok::<(), Error>(())
    };
    let ready = tokio::select! {
        ready = work => ready,
        () = interrupt.pressed() => Ok(()),
    };
    if ready.is_ok() {
        interrupt.pressed().await;
    }
    // The file would lead nowhere.
    let _ = std::fs::remove_file(&arguments.target);
    rehearsal.stop().await;
    ready.map(|()| exit_codes::SUCCESS)
}

/// A stage in front of the rest of an account, until Ctrl-C.
async fn stand_in_front(
    arguments: &Arguments,
    config: &Config,
    setting: &Setting,
    upstream: &str,
    announcer: &Announcer,
) -> Result<u8, Error> {
    let interrupt = Interrupt::listen();
    let account = Account::start(config, setting, upstream, announcer).await?;
    announcer.flushed().await;
    show_account(account.stage());
    let rate = arguments.stage.traffic.unwrap_or(0.0);
    let users = async {
        let traffic = if rate > 0.0 {
            Some(account.users(rate, &config.stage.path).await?)
        } else {
            None
        };
        interrupt.pressed().await;
        drop(traffic);
        Ok(exit_codes::SUCCESS)
    };
    let ended = tokio::select! {
        ended = users => ended,
        () = interrupt.pressed() => Ok(exit_codes::SUCCESS),
    };
    account.stop().await;
    ended
}

/// What Terraform and `release` need in their environment.
fn show_account(stage: &stage::Stage) {
    let port = |url: String| url.rsplit(':').next().unwrap_or_default().to_owned();
    eprintln!(
        "  export AWS_ENDPOINT_URL={} AWS_REGION={}",
        stage.endpoint_url(),
        stage.stack().region
    );
    eprintln!("  export AWS_ACCESS_KEY_ID=stage AWS_SECRET_ACCESS_KEY=stage");
    eprintln!(
        "  export TF_VAR_ports='{{ production = {}, test = {} }}'",
        port(stage.production_url()),
        port(stage.test_url())
    );
    eprintln!("  then         terraform apply, and release VERSION --target FILE");
    eprintln!("  end          Ctrl-C");
}

/// Where everything is; on standard error, so that the events on standard output stay clean.
fn welcome(arguments: &Arguments, rehearsal: &Rehearsal) {
    let target = &rehearsal.target;
    eprintln!("  production  {}", target.urls.production);
    if let Some(test) = &target.urls.test {
        eprintln!("  test        {test}");
    }
    if let Some(endpoint) = &target.endpoint_url {
        eprintln!(
            "  AWS APIs    {endpoint} (region {}, access key and secret: stage)",
            target.region
        );
    }
    eprintln!(
        "  logs        {}",
        rehearsal.stage().dir().join("logs").display()
    );
    eprintln!(
        "  release     release VERSION --target {}",
        arguments.target.display()
    );
    eprintln!("  end         Ctrl-C");
}
