//! What a function is made of, and the environment that its process gets.
//!
//! The rules are those of `CreateFunction` (Lambda API reference) and of Lambda's quotas; the variables
//! are those of the developer guide, "Defined runtime environment variables".

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use oci::function::BOOTSTRAP;

use super::Place;

/// How a function is to be.
#[derive(Debug, Clone)]
pub struct FunctionOptions {
    /// The deployment package: a zip with an executable `bootstrap`, for `provided.al2023`.
    pub package: PathBuf,
    /// Its environment variables; at most 4 KB of them.
    pub environment: BTreeMap<String, String>,
    /// How long a call may take, in real time, whole seconds: 1–900 s.
    pub timeout: Duration,
    /// 128–10240 MB. The function is told; it is not limited to it.
    pub memory_mb: u32,
}

impl FunctionOptions {
    /// With Lambda's defaults: 3 s, 128 MB, no variables.
    pub fn new(package: impl Into<PathBuf>) -> Self {
        Self {
            package: package.into(),
            environment: BTreeMap::new(),
            timeout: Duration::from_secs(3),
            memory_mb: 128,
        }
    }
}

/// Why there is no function.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FunctionError {
    /// Lambda would refuse it.
    #[error("cannot make the function {name}: {problem}")]
    Invalid {
        /// Its name.
        name: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Its package cannot be unpacked.
    #[error("cannot make the function {name}: {source}")]
    Package {
        /// Its name.
        name: String,
        /// Why.
        source: oci::function::FunctionError,
    },
    /// The thread that makes processes cannot be started.
    #[error("cannot start a thread for functions: {0}")]
    Thread(io::Error),
}

/// A function whose package has been unpacked.
#[derive(Debug)]
pub(super) struct Definition {
    pub name: String,
    pub arn: String,
    pub timeout: Duration,
    pub memory_mb: u32,
    /// Where its package was unpacked.
    pub root: PathBuf,
    pub log: PathBuf,
    environment: BTreeMap<String, String>,
}

/// Variables that Lambda sets; a function with one of them is refused.
const RESERVED: [&str; 18] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

/// All variables together (Lambda quotas: 4 KB).
const ENVIRONMENT_LIMIT: usize = 4096;

/// Each package gets a directory of its own: what a function replaces may still run.
static COUNT: AtomicU32 = AtomicU32::new(0);

impl Definition {
    /// Checks what Lambda checks, and unpacks the package.
    pub fn new(name: &str, options: FunctionOptions, place: &Place) -> Result<Self, FunctionError> {
        if let Some(problem) = problem(name, &options) {
            return Err(FunctionError::Invalid {
                name: name.to_owned(),
                problem,
            });
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = place
            .claim
            .dir()
            .join("functions")
            .join(format!("{name}-{number}"));
        oci::function::unpack(&options.package, &root).map_err(|source| {
            FunctionError::Package {
                name: name.to_owned(),
                source,
            }
        })?;
        Ok(Self {
            name: name.to_owned(),
            arn: format!(
                "arn:aws:lambda:{}:{}:function:{name}",
                place.region, place.account_id
            ),
            timeout: options.timeout,
            memory_mb: options.memory_mb,
            root,
            log: log(place, name),
            environment: options.environment,
        })
    }

    /// The command that starts its program, for a runtime API at `api` (`host:port`).
    ///
    /// `AWS_ENDPOINT_URL` is the one variable that Lambda does not set: where AWS is, as far as the
    /// function is concerned, is here.
    pub fn command(&self, place: &Place, api: &str) -> Command {
        let mut command = Command::new(self.root.join(BOOTSTRAP));
        command
            .current_dir(&self.root)
            .env_clear()
            .env("AWS_ENDPOINT_URL", &place.endpoint_url)
            .env("LANG", "en_US.UTF-8")
            .env("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin")
            .env("TZ", ":UTC")
            .envs(&self.environment)
            .env("_HANDLER", BOOTSTRAP)
            .env("AWS_ACCESS_KEY_ID", &place.access_key)
            .env("AWS_DEFAULT_REGION", &place.region)
            .env(
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                self.memory_mb.to_string(),
            )
            .env("AWS_LAMBDA_FUNCTION_NAME", &self.name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", VERSION)
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            .env(
                "AWS_LAMBDA_LOG_GROUP_NAME",
                format!("/aws/lambda/{}", self.name),
            )
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "stage")
            .env("AWS_LAMBDA_RUNTIME_API", api)
            .env("AWS_REGION", &place.region)
            .env("AWS_SECRET_ACCESS_KEY", &place.secret_key)
            .env("LAMBDA_RUNTIME_DIR", "/var/runtime")
            .env("LAMBDA_TASK_ROOT", &self.root);
        command
    }
}

/// The version of a function that was not published.
pub(super) const VERSION: &str = "$LATEST";

/// The log of a function.
pub(super) fn log(place: &Place, name: &str) -> PathBuf {
    place.claim.dir().join("logs").join(format!("{name}.log"))
}

/// The first thing that Lambda would not have.
fn problem(name: &str, options: &FunctionOptions) -> Option<String> {
    let letters = |text: &str, also: &str| {
        let is = |letter: char| letter.is_ascii_alphanumeric() || also.contains(letter);
        text.chars().all(is)
    };
    if name.is_empty() || name.len() > 64 || !letters(name, "-_") {
        return Some("its name is 1 to 64 letters, digits, - and _".to_owned());
    }
    let seconds = options.timeout.as_secs();
    if !(1..=900).contains(&seconds) || options.timeout.subsec_nanos() > 0 {
        return Some(format!(
            "its time-out is {:?}; Lambda has whole seconds from 1 to 900",
            options.timeout
        ));
    }
    if !(128..=10_240).contains(&options.memory_mb) {
        return Some(format!(
            "its memory is {} MB; Lambda has 128 to 10240",
            options.memory_mb
        ));
    }
    for name in options.environment.keys() {
        if RESERVED.contains(&name.as_str()) {
            return Some(format!("its variable {name} is one that Lambda sets"));
        }
        let first = name.chars().next();
        if !first.is_some_and(|letter| letter.is_ascii_alphabetic()) || !letters(name, "_") {
            return Some(format!(
                "its variable {name:?} does not begin with a letter, or holds more than letters, digits and _"
            ));
        }
    }
    if options
        .environment
        .values()
        .any(|value| value.contains('\0'))
    {
        return Some("a variable holds a NUL".to_owned());
    }
    let size: usize = options
        .environment
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    (size > ENVIRONMENT_LIMIT)
        .then(|| format!("its variables are {size} bytes; Lambda has room for {ENVIRONMENT_LIMIT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, change: impl FnOnce(&mut FunctionOptions)) -> String {
        let mut options = FunctionOptions::new("function.zip");
        change(&mut options);
        problem(name, &options).unwrap_or_default()
    }

    #[test]
    fn what_lambda_has_is_taken() {
        assert_eq!(refused("CodeDeployHook_a-1", |_| ()), "");
        let most = |options: &mut FunctionOptions| {
            options.timeout = Duration::from_mins(15);
            options.memory_mb = 10_240;
            options.environment = [("A_1".to_owned(), "x".repeat(4093))].into();
        };
        assert_eq!(refused("x", most), "");
    }

    #[test]
    fn what_lambda_has_not_is_named() {
        for name in ["", "a b", "../x", &"x".repeat(65)] {
            assert!(refused(name, |_| ()).contains("64 letters"), "{name}");
        }
        for timeout in [0, 500, 1500, 901_000] {
            let error = refused("x", |options| {
                options.timeout = Duration::from_millis(timeout);
            });
            assert!(error.contains("1 to 900"), "{error}");
        }
        assert!(refused("x", |options| options.memory_mb = 64).contains("64 MB"));
        for (name, part) in [
            ("AWS_REGION", "Lambda sets"),
            ("1A", "begin with a letter"),
            ("A-B", "begin with a letter"),
            ("", "begin with a letter"),
        ] {
            let error = refused("x", |options| {
                options.environment.insert(name.to_owned(), String::new());
            });
            assert!(error.contains(part), "{error}");
        }
        let error = refused("x", |options| {
            options.environment.insert("A".to_owned(), "x".repeat(4096));
        });
        assert!(error.contains("4097 bytes"), "{error}");
    }
}
