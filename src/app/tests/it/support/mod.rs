//! The real program as a process, and what it needs.

pub mod http;
pub mod postgres;

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use self::http::{Answer, Connection};
use self::postgres::Postgres;

/// The version that these tests were compiled with.
pub const VERSION: &str = if cfg!(feature = "v1_0_0") {
    "1.0.0"
} else if cfg!(feature = "v2_0_0") {
    "2.0.0"
} else {
    "2.0.1"
};

/// Whether it has messages per language.
pub const LANGUAGES: bool = !cfg!(feature = "v1_0_0");

/// Longer than anything takes here, on a busy machine too.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The program with nothing in its environment but this.
pub fn command(environment: &[(&str, &str)]) -> Command {
    with_environment(Command::new(env!("CARGO_BIN_EXE_app")), environment)
}

fn with_environment(mut command: Command, environment: &[(&str, &str)]) -> Command {
    command
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command(environment).args(arguments).output().unwrap()
}

/// `app migrate`, which must succeed; its report.
pub fn migrate(postgres: &Postgres) -> Value {
    let output = run(
        &["migrate"],
        &[("DATABASE_URL", &postgres.url()), ("LOG", "warn")],
    );
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<Value>>,
    more: Condvar,
}

/// `app serve`, listening on a free port of 127.0.0.1.
pub struct App {
    child: Child,
    log: Arc<Log>,
    readers: Vec<JoinHandle<()>>,
    pub address: SocketAddr,
}

impl App {
    /// Starts it on a migrated database, without failures on purpose.
    pub fn on(postgres: &Postgres) -> Self {
        Self::with(postgres, &[])
    }

    /// The same, with more in its environment.
    pub fn with(postgres: &Postgres, environment: &[(&str, &str)]) -> Self {
        let url = postgres.url();
        let mut all = vec![("DATABASE_URL", url.as_str()), ("FAIL_PERCENT", "0")];
        all.extend(environment);
        Self::start(&all)
    }

    /// Starts it with this environment.
    pub fn start(environment: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_app")), environment)
    }

    /// Starts a command that ends in the program.
    pub fn spawn(command: Command, environment: &[(&str, &str)]) -> Self {
        let mut all = vec![("HOST", "127.0.0.1"), ("PORT", "0"), ("DRAIN_DELAY", "0.1")];
        all.extend(environment);
        let mut command = with_environment(command, &all);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        let readers = outputs
            .into_iter()
            .map(|output| {
                let log = Arc::clone(&log);
                std::thread::spawn(move || {
                    for line in BufReader::new(output).lines().map_while(Result::ok) {
                        let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                        log.lines.lock().unwrap().push(line);
                        log.more.notify_all();
                    }
                })
            })
            .collect();
        let mut app = Self {
            child,
            log,
            readers,
            address: SocketAddr::from(([0; 4], 0)),
        };
        let line = app.logged("listening", |line| line["message"] == "listening");
        app.address = line["address"].as_str().unwrap().parse().unwrap();
        app
    }

    /// Waits for the first line of the log that is wanted.
    pub fn logged(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let lines = self.log.lines.lock().unwrap();
        let (lines, _) = self
            .log
            .more
            .wait_timeout_while(lines, LIMIT, |lines| !lines.iter().any(&wanted))
            .unwrap();
        let line = lines.iter().find(|line| wanted(line)).cloned();
        drop(lines);
        line.unwrap_or_else(|| panic!("not in the log: {what}"))
    }

    /// All lines up to now.
    pub fn lines(&self) -> Vec<Value> {
        self.log.lines.lock().unwrap().clone()
    }

    /// A connection to it.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// One `GET` on a connection of its own.
    pub fn get(&self, path: &str) -> Answer {
        self.connect()
            .request("GET", path, &[("Connection", "close")])
    }

    /// Waits until `/healthz/ready` answers with this status; that answer.
    pub fn wait_for_ready(&self, status: u16) -> Answer {
        let end = Instant::now() + LIMIT;
        loop {
            let answer = self.get("/healthz/ready");
            if answer.status == status {
                return answer;
            }
            assert!(Instant::now() < end, "not {status}: {answer:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its process id, or its wrapper's.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                for reader in self.readers.drain(..) {
                    reader.join().unwrap();
                }
                return status;
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and an end with exit code 0.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0));
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let mut log = String::new();
            for line in self.lines() {
                let _ = writeln!(log, "{line}");
            }
            eprintln!("the program's log:\n{log}");
        }
    }
}

/// Waits until something is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !so() {
        assert!(Instant::now() < end, "did not come about: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
