//! The errors that people see, and the exit code of each.
//!
//! The libraries below have typed causes; here they become one enum whose messages say what was
//! attempted, on what, and what to do next. A deployment that ends badly is *not* an error of this
//! program: it is an [`crate::outcome::Outcome`], with an exit code of its own and a report.

use std::path::{Path, PathBuf};

use crate::aws::AwsError;
use crate::config::ConfigError;
use crate::definition::DefinitionError;
use crate::exit_codes;
use crate::target::TargetError;
use crate::template::TemplateError;

/// Why the release program ended without a deployment's outcome.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The target file cannot be used.
    #[error("{0}")]
    Target(#[from] TargetError),
    /// A template does not render.
    #[error("{0}")]
    Template(#[from] TemplateError),
    /// The rendered task definition cannot be registered.
    #[error("{}: {source}", template.display())]
    Definition {
        /// The template it came from.
        template: PathBuf,
        /// What is wrong.
        source: DefinitionError,
    },
    /// The rendered AppSpec cannot be deployed.
    #[error("{}: {message}", template.display())]
    AppSpec {
        /// The template it came from.
        template: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// An argument makes no sense.
    #[error("{0}")]
    Usage(String),
    /// There is no directory of bundles.
    #[error(
        "no bundles in {}: make them with `nix/host/bundles {} 1.0.0 2.0.0 2.0.1` (or run ./rehearse), or name their directory with --bundles",
        dir.display(), dir.display()
    )]
    NoBundles {
        /// Where they were looked for.
        dir: PathBuf,
    },
    /// No bundle has the version.
    #[error("no bundle of version {version} in {}; there are: {known}", dir.display())]
    UnknownVersion {
        /// The version asked for.
        version: String,
        /// Where bundles were looked for.
        dir: PathBuf,
        /// The versions there are.
        known: String,
    },
    /// The strategy hooks in a function that the target does not have.
    #[error(
        "the strategy hooks the function `{name}` to {event}, and the target {target} has none of that name; it has: {known}. Choose another strategy, or name the function in the target's `hooks`"
    )]
    UnknownFunction {
        /// The function's name in release.toml.
        name: String,
        /// The lifecycle event.
        event: &'static str,
        /// The target.
        target: String,
        /// The functions that it has.
        known: String,
    },
    /// A function of the rehearsal has no deployment package.
    #[error(
        "cannot rehearse with the function `{name}`: there is no {}; make it with `nix/host/bundles {}` (or run ./rehearse), or choose a strategy without it",
        path.display(), dir.display()
    )]
    NoPackage {
        /// The function's name in release.toml.
        name: String,
        /// Where the package was looked for.
        path: PathBuf,
        /// The directory of bundles.
        dir: PathBuf,
    },
    /// The bundle is not whole.
    #[error("refused: the bundle in {} is damaged: {message}; build it again", dir.display())]
    Bundle {
        /// The bundle's directory.
        dir: PathBuf,
        /// What does not hold.
        message: String,
    },
    /// A gate refused, and nothing has changed.
    #[error("refused: {0}")]
    Refused(String),
    /// Another deployment of the group is active.
    #[error(
        "refused: deployment {deployment_id} of {application}/{group} is still {status}{about}; wait for it, or stop it, then release again"
    )]
    AnotherDeployment {
        /// The active deployment.
        deployment_id: String,
        /// CodeDeploy application.
        application: String,
        /// Deployment group.
        group: String,
        /// Its status, in lower case.
        status: String,
        /// What it deploys, if known.
        about: String,
    },
    /// An AWS call failed.
    #[error("{0}")]
    Aws(#[from] AwsError),
    /// The image could not be pushed.
    #[error("cannot push the image to {repository}: {message}")]
    Push {
        /// The repository.
        repository: String,
        /// Why.
        message: String,
    },
    /// The migration failed; no traffic has moved.
    #[error(
        "the migration of {version} failed: {reason}; no traffic was moved, the version before has all of it. The database may hold the migrations that succeeded; each is safe for the version before{logs}"
    )]
    Migration {
        /// The version.
        version: String,
        /// How its task ended.
        reason: String,
        /// The last lines it wrote, each on its own line, or nothing.
        logs: String,
    },
    /// Watching was given up while the deployment ran.
    #[error(
        "gave up watching deployment {deployment_id} after {after}: it still runs; follow it with: {follow}"
    )]
    StillRunning {
        /// The deployment.
        deployment_id: String,
        /// How long was waited, in words.
        after: String,
        /// The command that follows it.
        follow: String,
    },
    /// The user pressed Ctrl-C.
    #[error("interrupted{0}")]
    Interrupted(String),
    /// The stage could not be started or used.
    #[error("cannot rehearse: {0}")]
    Stage(String),
    /// A file.
    #[error("cannot {attempt} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    /// The exit code of [`crate::exit_codes`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Config(_)
            | Error::Target(_)
            | Error::Template(_)
            | Error::Definition { .. }
            | Error::AppSpec { .. }
            | Error::Usage(_)
            | Error::NoBundles { .. }
            | Error::UnknownVersion { .. }
            | Error::UnknownFunction { .. }
            | Error::NoPackage { .. } => exit_codes::USAGE,
            Error::Bundle { .. } | Error::Refused(_) | Error::AnotherDeployment { .. } => {
                exit_codes::REFUSED
            }
            Error::Migration { .. } => exit_codes::ROLLED_BACK,
            Error::StillRunning { .. } => exit_codes::STILL_RUNNING,
            Error::Interrupted(_) => exit_codes::INTERRUPTED,
            Error::Aws(_) | Error::Push { .. } | Error::Stage(_) | Error::Io { .. } => {
                exit_codes::UNEXPECTED
            }
        }
    }

    /// For `map_err` on file operations.
    pub fn io(attempt: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io {
            attempt,
            path,
            source,
        }
    }
}
