//! The database goes and comes; the program stays.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::postgres::Postgres;
use crate::support::{App, LANGUAGES, VERSION, eventually, migrate};

/// The whole wait that a user may have for a 503: `DB_TIMEOUT` is 2 s.
const QUICKLY: Duration = Duration::from_secs(5);

/// The table that `/` reads.
const MESSAGES: &str = if LANGUAGES { "message_text" } else { "message" };

fn is_out(app: &App) {
    let asked = Instant::now();
    let answer = app.get("/");
    assert_eq!(answer.status, 503, "{answer:?}");
    let expected =
        json!({ "error": "the database does not answer; try again", "version": VERSION });
    assert_eq!(answer.json(), expected);
    assert!(asked.elapsed() < QUICKLY, "{:?}", asked.elapsed());
    assert_eq!(app.get("/healthz/live").status, 200);
}

#[test]
fn starts_without_the_database_and_finds_it_later() {
    let mut postgres = Postgres::stopped();
    let app = App::on(&postgres);
    is_out(&app);
    let answer = app.get("/healthz/ready");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("reach the database: "), "{answer:?}");
    assert!(
        answer.body.contains("No such file or directory"),
        "{answer:?}"
    );

    postgres.start_again();
    migrate(&postgres);
    app.wait_for_ready(200);
    assert_eq!(app.get("/").status, 200);
}

#[test]
fn outlives_a_stop_and_a_start() {
    let mut postgres = Postgres::start();
    migrate(&postgres);
    let app = App::on(&postgres);
    for _ in 0..2 {
        app.wait_for_ready(200);
        assert_eq!(app.get("/").status, 200);
        postgres.stop();
        is_out(&app);
        assert_eq!(app.get("/healthz/ready").status, 503);
        postgres.start_again();
        assert_eq!(
            app.get("/").status,
            200,
            "at once, without a request lost to find out"
        );
    }
}

#[test]
fn a_restart_between_two_requests_is_not_noticed() {
    let mut postgres = Postgres::start();
    migrate(&postgres);
    let app = App::on(&postgres);
    // Several open connections, and all of them die.
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                let mut connection = app.connect();
                for _ in 0..50 {
                    assert_eq!(connection.get("/").status, 200);
                }
            });
        }
    });
    postgres.stop();
    postgres.start_again();
    for _ in 0..10 {
        assert_eq!(app.get("/").status, 200);
    }
}

#[test]
fn a_query_that_falls_into_a_restart_is_run_again() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::with(
        &postgres,
        &[("DB_TIMEOUT", "30"), ("REQUEST_TIMEOUT", "30")],
    );
    let lock = postgres.session(&format!("BEGIN; LOCK TABLE {MESSAGES}"));
    let mut connection = app.connect();
    connection.ask("GET", "/", &[]);
    // What a restart does to a session, to the one whose query is running.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted";
    eventually("the query is cut off", || postgres.sql(end) == "t");
    lock.end();
    assert_eq!(connection.answer().status, 200);
}

/// Passes TCP on to the server's socket, until it is told to go dark: then what comes is taken and
/// nothing ever answers, as when a host loses its power.
struct Wire {
    address: SocketAddr,
    dark: Arc<AtomicBool>,
}

impl Wire {
    fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dark = Arc::new(AtomicBool::new(false));
        let is_dark = Arc::clone(&dark);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&socket) else {
                    continue;
                };
                let halves: [(Box<dyn Read + Send>, Box<dyn Write + Send>); 2] = [
                    (
                        Box::new(client.try_clone().unwrap()),
                        Box::new(server.try_clone().unwrap()),
                    ),
                    (Box::new(server), Box::new(client)),
                ];
                for (mut from, mut to) in halves {
                    let dark = Arc::clone(&is_dark);
                    std::thread::spawn(move || -> io::Result<()> {
                        let mut part = [0; 8192];
                        let mut lost = false;
                        loop {
                            let length = from.read(&mut part)?;
                            // A connection that lost a byte stays dark.
                            lost |= dark.load(Ordering::Relaxed);
                            if length == 0 {
                                return Ok(());
                            } else if !lost {
                                to.write_all(&part[..length])?;
                            }
                        }
                    });
                }
            }
        });
        Self { address, dark }
    }

    /// The program, with this wire between it and the database.
    fn app(&self, timeout: &str) -> App {
        App::start(&[
            ("DB_HOST", &self.address.ip().to_string()),
            ("DB_PORT", &self.address.port().to_string()),
            ("DB_NAME", "postgres"),
            ("DB_USER", "app"),
            ("DB_PASSWORD", "not asked for"),
            ("DB_SSLMODE", "prefer"),
            ("DB_TIMEOUT", timeout),
            ("FAIL_PERCENT", "0"),
        ])
    }
}

#[test]
fn a_database_that_goes_dark_is_a_503_and_comes_back() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let wire = Wire::to(postgres.socket());
    let app = wire.app("0.5");
    app.wait_for_ready(200);
    assert_eq!(app.get("/").status, 200);

    wire.dark.store(true, Ordering::Relaxed);
    // More at once than the pool has connections: each of them is left hanging.
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| is_out(&app));
        }
    });
    let answer = app.get("/healthz/ready");
    assert!(
        answer.status == 503 && answer.body.contains("no answer in 500ms"),
        "{answer:?}"
    );

    wire.dark.store(false, Ordering::Relaxed);
    let light = Instant::now();
    app.wait_for_ready(200);
    assert_eq!(app.get("/").status, 200);
    assert!(light.elapsed() < QUICKLY, "{:?}", light.elapsed());
}

#[test]
fn queries_that_never_end_cost_no_place_in_the_pool() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let wire = Wire::to(postgres.socket());
    let app = wire.app("4");
    let lock = postgres.session(&format!("BEGIN; LOCK TABLE {MESSAGES}"));
    let mut users: Vec<_> = (0..5).map(|_| app.connect()).collect();
    for user in &mut users {
        user.ask("GET", "/", &[]);
    }
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    eventually("the whole pool is in use", || postgres.sql(waiting) == "5");
    wire.dark.store(true, Ordering::Relaxed);
    lock.end();
    // Some users leave, some wait for what they are told.
    users.truncate(2);
    for user in &mut users {
        assert_eq!(user.answer().status, 503);
    }
    wire.dark.store(false, Ordering::Relaxed);
    app.wait_for_ready(200);
    assert_eq!(app.get("/").status, 200);
}

#[test]
fn says_why_a_port_does_not_answer() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert!(TcpStream::connect(closed).is_err());
    let url = format!("postgres://app:geheim@{closed}/app");
    let app = App::start(&[("DATABASE_URL", &url), ("FAIL_PERCENT", "0")]);
    is_out(&app);
    let answer = app.get("/healthz/ready");
    assert!(answer.body.contains("Connection refused"), "{answer:?}");
    assert!(
        !app.lines()
            .iter()
            .any(|line| line.to_string().contains("geheim"))
    );
}

#[test]
fn a_lock_on_the_message_is_waited_for_only_so_long() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::with(&postgres, &[("DB_TIMEOUT", "0.3")]);
    let lock = postgres.session(&format!("BEGIN; LOCK TABLE {MESSAGES}"));
    for _ in 0..8 {
        is_out(&app);
    }
    lock.end();
    assert_eq!(app.get("/").status, 200);
}
