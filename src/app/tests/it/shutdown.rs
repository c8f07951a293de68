//! SIGTERM and SIGINT: nobody notices but the load balancer.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::postgres::{Postgres, Session};
use crate::support::{App, eventually, migrate};

/// What a request to `/healthz/ready` waits for until the session ends.
fn hold(postgres: &Postgres) -> Session {
    postgres.session("BEGIN; LOCK TABLE _sqlx_migrations")
}

fn wait_until_held(postgres: &Postgres, requests: usize) {
    eventually("the requests are running", || {
        postgres.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == requests.to_string()
    });
}

fn refused(app: &App) -> bool {
    TcpStream::connect(app.address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

const SLOW: (&str, &str) = ("DB_TIMEOUT", "30");

#[test]
fn a_running_request_finishes() {
    for signal in [Signal::TERM, Signal::INT] {
        let postgres = Postgres::start();
        migrate(&postgres);
        let mut app = App::with(&postgres, &[SLOW, ("REQUEST_TIMEOUT", "30")]);
        let mut idle = app.connect();
        assert_eq!(idle.get("/").status, 200);
        let lock = hold(&postgres);
        let mut busy = app.connect();
        busy.ask("GET", "/healthz/ready", &[]);
        wait_until_held(&postgres, 1);

        app.signal(signal);
        idle.wait_for_end();
        eventually("the port is closed", || refused(&app));
        lock.end();
        let answer = busy.answer();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("close")),
            "{answer:?}"
        );
        busy.wait_for_end();
        assert_eq!(app.wait().code(), Some(0));
        let name = if signal == Signal::TERM {
            "SIGTERM"
        } else {
            "SIGINT"
        };
        app.logged("the signal", |line| line["signal"] == name);
        app.logged("the end", |line| line["message"] == "stopped");
        let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'app %'";
        eventually("no connection is left", || postgres.sql(left) == "0");
    }
}

#[test]
fn until_the_load_balancer_knows_it_serves_and_says_goodbye() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let mut app = App::with(&postgres, &[("DRAIN_DELAY", "20")]);
    let mut kept = [app.connect(), app.connect()];
    for connection in &mut kept {
        let answer = connection.get("/healthz/ready");
        assert_eq!((answer.status, answer.header("connection")), (200, None));
    }
    let asked = Instant::now();
    app.signal(Signal::TERM);
    let answer = app.wait_for_ready(503);
    assert!(answer.body.contains("shutting down"), "{answer:?}");
    assert_eq!(app.get("/healthz/live").status, 200);
    // On a new connection, and on those that are kept alive.
    assert_eq!(app.get("/").status, 200);
    for connection in &mut kept {
        let answer = connection.get("/");
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("close"))
        );
        connection.wait_for_end();
    }
    // A second signal is for people who do not want to wait.
    app.signal(Signal::TERM);
    assert_eq!(app.wait().code(), Some(0));
    assert!(asked.elapsed().as_secs() < 15, "{:?}", asked.elapsed());
}

#[test]
fn a_request_that_does_not_finish_is_cut_off() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let mut app = App::with(
        &postgres,
        &[SLOW, ("REQUEST_TIMEOUT", "30"), ("DRAIN_TIMEOUT", "0.3")],
    );
    let lock = hold(&postgres);
    let mut busy = app.connect();
    busy.ask("GET", "/healthz/ready", &[]);
    wait_until_held(&postgres, 1);
    app.signal(Signal::TERM);
    busy.wait_for_end();
    assert_eq!(app.wait().code(), Some(0));
    app.logged("a warning", |line| {
        line["level"] == "WARN" && line["connections"] == 1
    });
    lock.end();
}

#[test]
fn a_connection_that_never_asked_does_not_hold_it_up() {
    let postgres = Postgres::start();
    let mut app = App::with(&postgres, &[("HEADER_TIMEOUT", "0.3")]);
    let mut silent = app.connect();
    let mut begun = app.connect();
    begun.send("GET / HTT");
    app.signal(Signal::TERM);
    silent.wait_for_end();
    assert_eq!(app.wait().code(), Some(0));
}

#[test]
fn migrate_ends_on_sigterm_and_leaves_nothing_half_done() {
    let postgres = Postgres::start();
    let lock = postgres
        .session("CREATE TABLE _sqlx_migrations (x int); BEGIN; LOCK TABLE _sqlx_migrations");
    let url = postgres.url();
    let mut child = crate::support::command(&[("DATABASE_URL", &url)])
        .args(["migrate", "--lock-timeout", "60"])
        .spawn()
        .unwrap();
    wait_until_held(&postgres, 1);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    lock.end();
}

/// `unshare`, if this machine lets us make the program process 1 of a namespace.
fn unshare() -> Option<Command> {
    [
        &["--pid", "--fork"][..],
        &["--user", "--map-root-user", "--pid", "--fork"],
    ]
    .into_iter()
    .find(|options| {
        let tried = Command::new("unshare").args(*options).arg("true").output();
        tried.is_ok_and(|output| output.status.success())
    })
    .map(|options| {
        let mut command = Command::new("unshare");
        command.args(options).arg("--kill-child");
        command
    })
}

/// A signal without a handler is ignored by process 1, and a container's program is that.
#[test]
fn ends_as_process_1() {
    let Some(mut command) = unshare() else {
        eprintln!("not tested: this machine does not allow process namespaces");
        return;
    };
    let postgres = Postgres::start();
    migrate(&postgres);
    command.arg(env!("CARGO_BIN_EXE_app"));
    let mut app = App::spawn(command, &[("DATABASE_URL", &postgres.url())]);
    let outside = app.pid().as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{outside}/task/{outside}/children")).unwrap();
    let first = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", first.as_raw_nonzero())).unwrap();
    let ids = status
        .lines()
        .find(|line| line.starts_with("NSpid:"))
        .unwrap();
    assert!(ids.ends_with("\t1"), "{ids}");

    app.wait_for_ready(200);
    kill_process(first, Signal::TERM).unwrap();
    assert_eq!(app.wait().code(), Some(0));
    app.logged("the end", |line| line["message"] == "stopped");
}
