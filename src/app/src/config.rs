//! The configuration: environment variables, all read at the start, all wrong ones named at once.
//!
//! A task that cannot start is looked at through a console, minutes after somebody changed a task
//! definition. So every wrong and every missing variable is reported in one go, with what would be
//! right, and never with a value that may be secret.
//!
//! A variable that is set but empty counts as not set (task definitions write what they do not mean
//! that way), but for `DB_PASSWORD`, where empty means that there is none.

use std::env::VarError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::version;

/// Every variable, with its meaning and default, for `app --help`.
pub const HELP: &str = "\
Environment (seconds may have decimals):
  DATABASE_URL            postgres://user:password@host:port/name?sslmode=…, or instead of it:
  DB_HOST DB_NAME DB_USER DB_PASSWORD   (a DB_HOST that starts with / is a socket's directory)
  DB_PORT                 5432
  DB_SSLMODE              prefer; disable, allow, require, verify-ca, verify-full
  DB_SSLROOTCERT          PEM file of the authority that verify-ca and verify-full trust
  DB_POOL_SIZE            5       connections, 1 to 100
  DB_TIMEOUT              2       seconds a request waits for the database before it is a 503
  HOST                    0.0.0.0 address to listen on
  PORT                    8080    0 takes a free one and logs it
  LOG                     info    levels, as in: info,app::access=warn,app::access::health=off
  FAIL_PERCENT            0 (80 in version 2.0.0): per cent of GET / that fail with a 500
  KEEP_ALIVE_TIMEOUT      75      seconds an idle connection is kept; must exceed the load
                                  balancer's idle timeout (60)
  HEADER_TIMEOUT          10      seconds a request's header may take from its first byte on
  REQUEST_TIMEOUT         10      seconds until a request is given up with a 503
  DRAIN_DELAY             1       seconds after SIGTERM in which new connections are still served
  DRAIN_TIMEOUT           20      seconds that running requests then get to finish";

/// What `app serve` needs.
pub struct Serve {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Which database.
    pub database: PgConnectOptions,
    /// Connections at most.
    pub pool_size: u32,
    /// The longest that a request waits for the database.
    pub database_timeout: Duration,
    /// Per cent of the requests to `/` that fail, 0 to 100.
    pub fail_percent: u8,
    /// Limits of a connection and of the end.
    pub timeouts: Timeouts,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeouts {
    /// An idle connection is closed after this.
    pub keep_alive: Duration,
    /// From a header's first byte to its last.
    pub header: Duration,
    /// From a request's header to its answer.
    pub request: Duration,
    /// From SIGTERM until new connections are refused.
    pub drain_delay: Duration,
    /// From then until running requests are cut off.
    pub drain: Duration,
}

/// Wrong or missing variables: one sentence each, naming the variable first.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the environment is wrong in {} place(s):", self.0.len())?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// Where a variable's value comes from.
type Lookup = Box<dyn Fn(&str) -> Result<String, VarError>>;

/// Reads variables and collects what is wrong with them.
pub struct Reader {
    lookup: Lookup,
    has_hosts_file: bool,
    problems: Vec<String>,
}

impl Reader {
    /// Of the process's environment.
    pub fn of_process() -> Self {
        Self {
            lookup: Box::new(|name| std::env::var(name)),
            has_hosts_file: Path::new("/etc/hosts").exists(),
            problems: Vec::new(),
        }
    }

    /// What was read, if nothing was wrong.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(Problems(self.problems)),
        }
    }

    /// All that `app serve` needs.
    pub fn serve(&mut self) -> Option<Serve> {
        let database = self.database();
        let pool_size = self.number("DB_POOL_SIZE", 5, 1, 100);
        let database_timeout = self.seconds("DB_TIMEOUT", 2.0, 60.0);
        let listen = self.listen();
        let fail_percent = self.number("FAIL_PERCENT", version::FAIL_PERCENT.into(), 0, 100);
        let keep_alive = self.seconds("KEEP_ALIVE_TIMEOUT", 75.0, 4000.0);
        let header = self.seconds("HEADER_TIMEOUT", 10.0, 600.0);
        let request = self.seconds("REQUEST_TIMEOUT", 10.0, 600.0);
        let drain_delay = self.seconds("DRAIN_DELAY", 1.0, 600.0);
        let drain = self.seconds("DRAIN_TIMEOUT", 20.0, 600.0);
        Some(Serve {
            listen: listen?,
            database: database?,
            pool_size: pool_size?,
            database_timeout: database_timeout?,
            fail_percent: u8::try_from(fail_percent?).ok()?,
            timeouts: Timeouts {
                keep_alive: keep_alive?,
                header: header?,
                request: request?,
                drain_delay: drain_delay?,
                drain: drain?,
            },
        })
    }

    /// HOST and PORT.
    pub fn listen(&mut self) -> Option<SocketAddr> {
        let host = self.parsed(
            "HOST",
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "an IP address to listen on",
        );
        let port = self.parsed("PORT", 8080, "a port, 0 to 65535");
        Some(SocketAddr::new(host?, port?))
    }

    /// Where `app healthcheck` finds the server that listens as HOST and PORT say.
    pub fn probe(&mut self) -> Option<SocketAddr> {
        let mut address = self.listen()?;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        if address.port() == 0 {
            self.problem::<()>("PORT is 0: a health check must know the port");
        }
        Some(address)
    }

    /// LOG.
    pub fn log(&mut self) -> Option<EnvFilter> {
        let filter = self.text("LOG").unwrap_or_else(|| DEFAULT_LOG.to_owned());
        // A word alone that is no level would be taken for a target, and silence all others.
        let no_level =
            |part: &&str| !part.contains(['=', '[']) && LevelFilter::from_str(part).is_err();
        if let Some(part) = filter.split(',').map(str::trim).find(no_level) {
            return self.problem(format!(
                "LOG is not a filter: {part:?} is no level (off, error, warn, info, debug, trace)"
            ));
        }
        match EnvFilter::try_new(&filter) {
            Ok(filter) => Some(filter),
            Err(error) => self.problem(format!("LOG is not a filter: {error}")),
        }
    }

    /// `DATABASE_URL`, or the variables that start with `DB_`.
    pub fn database(&mut self) -> Option<PgConnectOptions> {
        const PARTS: [&str; 7] = [
            "DB_HOST",
            "DB_PORT",
            "DB_NAME",
            "DB_USER",
            "DB_PASSWORD",
            "DB_SSLMODE",
            "DB_SSLROOTCERT",
        ];
        let options = if let Some(url) = self.text("DATABASE_URL") {
            for name in PARTS {
                if self.text(name).is_some() {
                    self.problem::<()>(format!(
                        "{name} is set and DATABASE_URL is too: one of them"
                    ));
                }
            }
            self.database_url(&url)
        } else {
            self.database_parts()
        }?;
        Some(self.finished(options))
    }

    fn finished(&self, mut options: PgConnectOptions) -> PgConnectOptions {
        // glibc knows "localhost" from /etc/hosts only, and asks DNS where that file is missing, as in
        // a bare image. The name means this machine all the same (RFC 6761, 6.3).
        if options.get_host() == "localhost" && !self.has_hosts_file {
            options = options.host("127.0.0.1");
        }
        let name = format!("app {}", version::NUMBER);
        options.application_name(&name).disable_statement_logging()
    }

    fn database_url(&mut self, url: &str) -> Option<PgConnectOptions> {
        // What is wrong is named by us: an error of the parser could repeat a part of the password.
        const PARAMETERS: [&str; 4] = ["sslmode", "sslrootcert", "host", "port"];
        let shape = "postgres://user:password@host:port/name";
        let Some(rest) = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
        else {
            return self.problem(format!(
                "DATABASE_URL does not start with postgres://: {shape}"
            ));
        };
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parameters = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !PARAMETERS.contains(&key) {
                return self.problem(format!(
                    "DATABASE_URL has a parameter other than {}",
                    PARAMETERS.join(", ")
                ));
            }
            if key == "sslmode" && PgSslMode::from_str(value).is_err() {
                return self.problem(format!("DATABASE_URL: sslmode is not one of {SSL_MODES}"));
            }
            parameters.push(key);
        }
        let (authority, name) = location.split_once('/').unwrap_or((location, ""));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let missing: Vec<&str> = [
            ("user", user.is_empty() || user.starts_with(':')),
            (
                "host",
                (host.is_empty() || host.starts_with(':')) && !parameters.contains(&"host"),
            ),
            ("database name", name.is_empty()),
        ]
        .into_iter()
        .filter_map(|(part, missing)| missing.then_some(part))
        .collect();
        if !missing.is_empty() {
            return self.problem(format!(
                "DATABASE_URL has no {}: {shape}",
                missing.join(" and no ")
            ));
        }
        match PgConnectOptions::from_str(url) {
            Ok(options) => Some(options),
            Err(_) => self.problem(format!(
                "DATABASE_URL cannot be read: {shape}, with special characters in %XX form"
            )),
        }
    }

    fn database_parts(&mut self) -> Option<PgConnectOptions> {
        let host = self.required("DB_HOST");
        let port = self.parsed("DB_PORT", 5432_u16, "a port, 1 to 65535");
        let port = if port == Some(0) {
            self.problem("DB_PORT is 0: a port, 1 to 65535")
        } else {
            port
        };
        let name = self.required("DB_NAME");
        let user = self.required("DB_USER");
        let password = match (self.lookup)("DB_PASSWORD") {
            Ok(password) => Some(password),
            Err(VarError::NotPresent) => {
                self.problem("DB_PASSWORD is missing (set it empty if there is none)")
            }
            Err(VarError::NotUnicode(_)) => self.problem("DB_PASSWORD is not UTF-8"),
        };
        let ssl_mode = match self.text("DB_SSLMODE") {
            None => Some(PgSslMode::Prefer),
            Some(mode) => match PgSslMode::from_str(&mode) {
                Ok(mode) => Some(mode),
                Err(_) => self.problem(format!("DB_SSLMODE is {mode:?}, not one of {SSL_MODES}")),
            },
        };
        let root = self.text("DB_SSLROOTCERT");
        if let Some(path) = &root
            && let Err(error) = std::fs::File::open(path)
        {
            self.problem::<()>(format!("DB_SSLROOTCERT: cannot read {path:?}: {error}"));
        }

        let (host, password) = (host?, password?);
        let mut options = PgConnectOptions::new_without_pgpass()
            .port(port?)
            .database(&name?)
            .username(&user?)
            .ssl_mode(ssl_mode?);
        options = if host.starts_with('/') {
            options.socket(host)
        } else {
            options.host(&host)
        };
        if !password.is_empty() {
            options = options.password(&password);
        }
        if let Some(root) = root {
            options = options.ssl_root_cert(root);
        }
        Some(options)
    }

    fn problem<T>(&mut self, sentence: impl Into<String>) -> Option<T> {
        self.problems.push(sentence.into());
        None
    }

    /// A variable's value, if it is set and not empty.
    fn text(&mut self, name: &str) -> Option<String> {
        match (self.lookup)(name) {
            Ok(value) if value.is_empty() => None,
            Ok(value) => Some(value),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) => self.problem(format!("{name} is not UTF-8")),
        }
    }

    fn required(&mut self, name: &str) -> Option<String> {
        match self.text(name) {
            None => self.problem(format!("{name} is missing (and so is DATABASE_URL)")),
            value => value,
        }
    }

    fn parsed<T: FromStr>(&mut self, name: &str, default: T, what: &str) -> Option<T> {
        match self.text(name) {
            None => Some(default),
            Some(value) => match value.parse() {
                Ok(value) => Some(value),
                Err(_) => self.problem(format!("{name} is {value:?}, not {what}")),
            },
        }
    }

    fn number(&mut self, name: &str, default: u32, least: u32, most: u32) -> Option<u32> {
        let what = format!("a whole number, {least} to {most}");
        match self.parsed(name, default, &what)? {
            number if (least..=most).contains(&number) => Some(number),
            number => self.problem(format!("{name} is {number}, not {what}")),
        }
    }

    fn seconds(&mut self, name: &str, default: f64, most: f64) -> Option<Duration> {
        let what = format!("a number of seconds, 0 to {most}");
        match self.parsed(name, default, &what)? {
            seconds if (0.0..=most).contains(&seconds) => Some(Duration::from_secs_f64(seconds)),
            seconds => self.problem(format!("{name} is {seconds}, not {what}")),
        }
    }
}

/// The database's notices ("already exists, skipping") are no news.
const DEFAULT_LOG: &str = "info,sqlx::postgres::notice=warn";

const SSL_MODES: &str = "disable, allow, prefer, require, verify-ca, verify-full";

#[cfg(test)]
mod tests;
