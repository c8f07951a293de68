//! An execution environment: one process of a function, from its start to its end.
//!
//! The process is the leader of a group of its own. Whatever ends the environment (a time-out, a crash,
//! the stage) ends the whole group; and if the stage is killed, the kernel kills the process.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    Place,
    definition::Definition,
    runtime_api::{Event, RuntimeApi, Said},
};
use crate::runtime::{
    Exit,
    spawn::{Child, Spawner, is_readable},
};

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The function says so, and can take another event.
    #[error("{0}")]
    Error(String),
    /// It said so while it started.
    #[error("the function could not start: {0}")]
    Init(String),
    /// It did not ask for an event in time.
    #[error("the function was not ready within {0:?} of its start")]
    InitTimeout(Duration),
    /// The process ended.
    #[error("Runtime exited with error: {0}")]
    Exit(String),
    /// The call took too long.
    #[error("Task timed out after {:.2} seconds", .0.as_secs_f64())]
    Timeout(Duration),
    /// A result that is too large.
    #[error("the result is larger than 6 MB, or broke off")]
    TooLarge,
    /// The process could not be started.
    #[error("the program could not be started: {0}")]
    Start(#[from] io::Error),
}

impl Failure {
    /// Whether the environment can go on.
    pub fn leaves_the_environment(&self) -> bool {
        matches!(self, Self::Error(_) | Self::TooLarge)
    }

    /// Lambda's name of it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Error(_) => "Unhandled",
            Self::Init(_) | Self::InitTimeout(_) => "Runtime.InitError",
            Self::Exit(_) => "Runtime.ExitError",
            Self::Timeout(_) => "Sandbox.Timedout",
            Self::TooLarge => "Function.ResponseSizeTooLarge",
            Self::Start(_) => "Runtime.InvalidEntrypoint",
        }
    }
}

/// How long a process may take to ask for its first event (Lambda: 10 s).
const INIT_LIMIT: Duration = Duration::from_secs(10);

/// A file that was written a moment ago may still be open in a process that is being made by another
/// thread; the kernel refuses to run it until that one has gone on.
const BUSY: Duration = Duration::from_secs(2);

/// A running process with its runtime API.
#[derive(Debug)]
pub(super) struct Environment {
    api: RuntimeApi,
    // `None` once it was waited for.
    child: Option<Child>,
}

impl Drop for Environment {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            // The leader has not been waited for, so the number is still that of its group.
            let _ = rustix::process::kill_process_group(child.pid(), Signal::KILL);
        }
    }
}

impl Environment {
    /// Starts the program; returns when it asks for its first event.
    pub async fn start(
        definition: &Arc<Definition>,
        place: &Place,
        spawner: &Arc<Spawner>,
        log: &File,
    ) -> Result<Self, Failure> {
        let api = RuntimeApi::start().await?;
        let address = api.address();
        let (definition, place) = (Arc::clone(definition), place.clone());
        let (spawner, out, err) = (Arc::clone(spawner), log.try_clone()?, log.try_clone()?);
        let claim = place.claim.clone();
        let started = tokio::task::spawn_blocking(move || {
            let until = Instant::now() + BUSY;
            loop {
                let mut command = definition.command(&place, &address);
                command
                    .process_group(0)
                    .stdin(std::process::Stdio::null())
                    .stdout(out.try_clone()?)
                    .stderr(err.try_clone()?);
                match spawner.command(command) {
                    Err(error)
                        if error.kind() == io::ErrorKind::ExecutableFileBusy
                            && Instant::now() < until =>
                    {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    started => return Child::adopt(&started?),
                }
            }
        });
        let child = started.await.map_err(io::Error::other)??;
        claim.started(child.pid().as_raw_nonzero().get().cast_unsigned());
        let mut environment = Self {
            api,
            child: Some(child),
        };
        environment.until_ready().await?;
        Ok(environment)
    }

    async fn until_ready(&mut self) -> Result<(), Failure> {
        tokio::select! {
            said = self.api.hear() => match said {
                Said::InitError(body) => Err(Failure::Init(message(&body))),
                _ => Ok(()),
            },
            exit = ended(&mut self.child) => Err(Failure::Exit(describe(exit))),
            () = tokio::time::sleep(INIT_LIMIT) => Err(Failure::InitTimeout(INIT_LIMIT)),
        }
    }

    /// Whether its process has ended while nobody looked.
    pub fn has_ended(&self) -> bool {
        let pidfd = self.child.as_ref().and_then(|child| child.pidfd().ok());
        pidfd.is_none_or(|pidfd| is_readable(&pidfd, Duration::ZERO))
    }

    /// Hands it an event and waits for the result, at most `limit`.
    pub async fn call(&mut self, event: Event, limit: Duration) -> Result<(), Failure> {
        let timeout = tokio::time::sleep(limit);
        tokio::pin!(timeout);
        self.api.offer(event).await;
        loop {
            tokio::select! {
                biased;
                said = self.api.hear() => match said {
                    Said::Next => {}
                    Said::Result => return Ok(()),
                    Said::Error(body) => return Err(Failure::Error(message(&body))),
                    Said::InitError(body) => return Err(Failure::Init(message(&body))),
                    Said::TooLarge => return Err(Failure::TooLarge),
                },
                exit = ended(&mut self.child) => return Err(Failure::Exit(describe(exit))),
                () = &mut timeout => return Err(Failure::Timeout(limit)),
            }
        }
    }
}

/// Waits for the end of the process; what is left of its group is ended with it.
async fn ended(child: &mut Option<Child>) -> io::Result<Exit> {
    let Some(running) = child.as_ref() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    running.ended().await?;
    let _ = rustix::process::kill_process_group(running.pid(), Signal::KILL);
    match child.take() {
        Some(child) => child.wait().await,
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn describe(exit: io::Result<Exit>) -> String {
    match exit {
        Ok(Exit {
            code: Some(code), ..
        }) => format!("exit status {code}"),
        Ok(Exit {
            signal: Some(signal),
            ..
        }) => format!("signal {signal}"),
        Ok(_) => "it ended".to_owned(),
        Err(error) => format!("it cannot be waited for: {error}"),
    }
}

/// `errorMessage` of an error in the runtime API's form, else what was said, in short.
fn message(body: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let said = value
        .as_ref()
        .and_then(|value| value.get("errorMessage")?.as_str())
        .map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    said.chars().take(1000).collect()
}
