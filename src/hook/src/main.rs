//! The hook: the Lambda function that tries green through the test listener before any user meets it.
//!
//! CodeDeploy calls it at `AfterAllowTestTraffic` with two ids, ignores what it returns, and waits up
//! to an hour for `PutLifecycleEventHookExecutionStatus` (CodeDeploy user guide, "AppSpec 'hooks'
//! section for an Amazon ECS deployment"). A function that ends without that call costs the release an
//! hour. So the one rule here is: **whatever happens, answer.** A setting that makes no sense, a
//! listener that is not there, a panic, time that runs out: each is the answer `Failed`, with a reason
//! in the log. Only what keeps the answer itself from arriving is an error of the function.
//!
//! What it decides by is not here: [`rollout::smoke`] says after each probe whether green is good, bad,
//! or not known yet.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`config`] | the environment's variables |
//! | [`probe`] | one request through the test listener |
//! | [`trial`] | which probes, when, and what they came to |
//! | [`answer`] | the call that CodeDeploy waits for |
//! | [`summary`] | the line in the log |

mod answer;
mod config;
mod probe;
mod summary;
mod trial;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt as _;
use lambda_runtime::{LambdaEvent, service_fn};
use serde::Deserialize;

use answer::{Answers, Ids};
use config::{Config, ConfigError};
use probe::Prober;
use summary::{Summary, Why};
use trial::Trial;

/// What CodeDeploy sends: exactly these two fields.
#[derive(Debug, Clone, Deserialize)]
struct Call {
    #[serde(rename = "DeploymentId")]
    deployment: String,
    #[serde(rename = "LifecycleEventHookExecutionId")]
    execution: String,
}

/// The variable that every Lambda environment has.
const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";

fn main() -> ExitCode {
    if std::env::var_os(RUNTIME_API).is_none() {
        eprintln!(
            "this is a Lambda function: it waits for CodeDeploy behind {RUNTIME_API}, which is not set. \
             `release VERSION --strategy guarded` rehearses with it; docs/hook.md says how it is set up"
        );
        return ExitCode::from(2);
    }
    // One thread: the function waits for the network, and has a fraction of a processor.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(serve()),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the hook ended: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers calls until the environment is taken down.
async fn serve() -> Result<(), lambda_runtime::Error> {
    let config = Config::of(std::env::vars_os());
    let answers = Answers::of_environment().await;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Call>| {
        let (config, answers) = (&config, &answers);
        async move { handle(config, answers, event).await }
    }))
    .await
}

/// One call of CodeDeploy. Returns the summary; an error only if the answer could not be given.
async fn handle(
    config: &Result<Config, ConfigError>,
    answers: &Answers,
    event: LambdaEvent<Call>,
) -> Result<Summary, answer::AnswerError> {
    let (call, context) = event.into_parts();
    let ids = Ids {
        deployment: call.deployment,
        execution: call.execution,
    };
    let budget = Budget::until(context.deadline());
    let begun = Instant::now();
    let tried = match config {
        Ok(config) => {
            let work = AssertUnwindSafe(attempt(config, budget.trial(config.time_limit)));
            // The message of a panic has been printed where it happened.
            work.catch_unwind()
                .await
                .unwrap_or_else(|_| Err("the hook itself failed: it panicked".to_owned()))
                .map_err(Why::Hook)
        }
        Err(error) => Err(Why::Configuration(error.to_string())),
    };
    let summary = Summary::of(
        &ids,
        &context.request_id,
        config.as_ref().ok(),
        tried,
        begun.elapsed(),
    );
    // Before the answer: whoever hears of it may look here at once.
    summary.print();
    let given = answers.give(&ids, summary.passed(), budget.answer()).await;
    if let Err(error) = &given {
        summary::complain(&ids, &context.request_id, error);
    }
    given.map(|()| summary)
}

/// Tries green; an error is one of the hook, not of green.
async fn attempt(config: &Config, limit: Duration) -> Result<Trial, String> {
    let prober = Prober::new(config).map_err(|error| error.to_string())?;
    trial::run(config, limit, |path| prober.ask(path))
        .await
        .map_err(|error| error.to_string())
}

/// How the time until the function's deadline is divided.
///
/// The answer matters more than another probe, so a fifth of what is left is kept for it, and never
/// less than a second; a function with so short a time-out has nothing to gain by more.
#[derive(Debug, Clone, Copy)]
struct Budget {
    deadline: Instant,
    reserve: Duration,
}

impl Budget {
    fn until(deadline: SystemTime) -> Budget {
        let left = deadline
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        Budget {
            deadline: Instant::now() + left,
            reserve: (left / 5).clamp(SHORTEST_ANSWER, LONGEST_ANSWER),
        }
    }

    /// How long the trial may take.
    fn trial(&self, limit: Duration) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.saturating_sub(self.reserve).min(limit)
    }

    /// How long the answer may take: half a second before the deadline the error is to be reported.
    fn answer(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.saturating_sub(Duration::from_millis(500))
            .max(SHORTEST_ANSWER / 2)
    }
}

/// The least that is kept for the answer.
const SHORTEST_ANSWER: Duration = Duration::from_secs(1);
/// The most.
const LONGEST_ANSWER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_kept_for_the_answer() {
        let trial = |seconds, limit| {
            let deadline = SystemTime::now() + Duration::from_secs(seconds);
            Budget::until(deadline).trial(Duration::from_secs(limit))
        };
        let about = |wanted: u64, got: Duration| {
            let wanted = Duration::from_secs(wanted);
            assert!(
                got <= wanted && wanted < got + Duration::from_secs(1),
                "{got:?}"
            );
        };
        about(60, trial(300, 60));
        about(270, trial(300, 600));
        about(80, trial(100, 600));
        about(2, trial(3, 600));
        assert_eq!(trial(1, 600), Duration::ZERO);
        assert_eq!(trial(0, 600), Duration::ZERO);
    }

    #[test]
    fn a_deadline_that_has_passed_still_leaves_time_to_try() {
        let budget = Budget::until(SystemTime::UNIX_EPOCH);
        assert_eq!(budget.answer(), SHORTEST_ANSWER / 2);
    }
}
