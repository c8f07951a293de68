//! How long a connection is kept. Seconds are scaled down here; that the defaults are right is
//! tested beside the code.

use std::time::{Duration, Instant};

use crate::support::postgres::Postgres;
use crate::support::{App, migrate};

const SCALED: [(&str, &str); 2] = [("KEEP_ALIVE_TIMEOUT", "1.5"), ("HEADER_TIMEOUT", "0.2")];

#[test]
fn an_idle_connection_is_kept_for_its_time_and_no_longer() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::with(&postgres, &SCALED);
    let mut connection = app.connect();
    assert_eq!(connection.get("/").status, 200);
    // Idle for several times what a header may take, as a load balancer's connections are.
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(connection.get("/").status, 200);
    let idle = Instant::now();
    connection.wait_for_end();
    let kept = idle.elapsed();
    assert!(kept > Duration::from_millis(1400), "closed after {kept:?}");
    assert!(kept < Duration::from_secs(10), "closed after {kept:?}");
}

#[test]
fn a_connection_that_never_asks_is_closed() {
    let postgres = Postgres::start();
    let app = App::with(&postgres, &SCALED);
    let opened = Instant::now();
    app.connect().wait_for_end();
    assert!(
        opened.elapsed() > Duration::from_millis(1400),
        "closed after {:?}",
        opened.elapsed()
    );
}

#[test]
fn a_header_that_does_not_end_is_cut() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::with(
        &postgres,
        &[("KEEP_ALIVE_TIMEOUT", "600"), ("HEADER_TIMEOUT", "0.3")],
    );
    for answered in [false, true] {
        let mut connection = app.connect();
        if answered {
            assert_eq!(connection.get("/").status, 200);
        }
        let begun = Instant::now();
        connection.send("GET / HTTP/1.1\r\nHost: ");
        connection.wait_for_end();
        let open = begun.elapsed();
        assert!(open > Duration::from_millis(250), "cut after {open:?}");
        assert!(open < Duration::from_secs(10), "cut after {open:?}");
    }
}

#[test]
fn a_slow_answer_is_not_a_slow_header() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let environment = [
        ("KEEP_ALIVE_TIMEOUT", "0.2"),
        ("HEADER_TIMEOUT", "0.1"),
        ("DB_TIMEOUT", "30"),
        ("REQUEST_TIMEOUT", "30"),
    ];
    let app = App::with(&postgres, &environment);
    let lock = postgres.session("BEGIN; LOCK TABLE _sqlx_migrations");
    let mut connection = app.connect();
    connection.ask("GET", "/healthz/ready", &[]);
    std::thread::sleep(Duration::from_millis(800));
    lock.end();
    assert_eq!(connection.answer().status, 200);
}

#[test]
fn many_requests_share_a_connection_also_pipelined() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::on(&postgres);
    let mut connection = app.connect();
    for _ in 0..3 {
        connection.ask("GET", "/", &[]);
    }
    for _ in 0..3 {
        assert_eq!(connection.answer().status, 200);
    }
    assert_eq!(connection.get("/").header("connection"), None);
}
