//! A private PostgreSQL, from the server that this machine has.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use stage::postgres::{Database, Placement, Postgres, PostgresError, PostgresOptions, Status};

use crate::support::eventually;

fn options(dir: &Path) -> PostgresOptions {
    PostgresOptions {
        cache: Some(crate::support::kept().join("postgres")),
        ..PostgresOptions::new(dir)
    }
}

/// Debian's `psql` of any version: the client that shares no code with the stage.
fn psql(database: &Database, sql: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args(["--no-psqlrc", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .arg(database.url())
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

#[tokio::test]
async fn a_database_with_an_owner_and_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = Postgres::start(options(dir.path())).await.unwrap();
    let database = postgres
        .create_database("sh\"op", "o'hara", "p@ss w'rd")
        .await
        .unwrap();
    let who = psql(&database, "CREATE TABLE t (n int); SELECT current_user");
    assert_eq!(who.unwrap(), "o'hara");

    let mut other = database.clone();
    other.password = "wrong".into();
    let refused = psql(&other, "SELECT 1").unwrap_err();
    assert!(
        refused.contains("password authentication failed"),
        "{refused}"
    );

    other.user = "postgres".into();
    psql(&other, "SELECT 1").expect_err("the superuser has no password to log in with");
    let log = std::fs::read_to_string(postgres.log_path()).unwrap();
    assert!(!log.contains("p@ss"), "{log}");
}

#[tokio::test]
async fn a_role_that_is_there_gets_the_new_password() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = Postgres::start(options(dir.path())).await.unwrap();
    let first = postgres.create_database("a", "u", "one").await.unwrap();
    psql(&first, "CREATE TABLE kept ()").unwrap();
    let second = postgres.create_database("a", "u", "two").await.unwrap();
    psql(&first, "SELECT 1").unwrap_err();
    assert_eq!(psql(&second, "SELECT count(*) FROM kept").unwrap(), "0");
}

#[tokio::test]
async fn stopped_it_refuses_and_started_again_it_has_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = Postgres::start(options(dir.path())).await.unwrap();
    let database = postgres.create_database("a", "u", "p").await.unwrap();
    psql(&database, "CREATE TABLE t AS SELECT 42 AS n").unwrap();
    let address = postgres.address();

    for crash in [false, true] {
        if crash {
            postgres.crash().await;
        } else {
            postgres.stop().await.unwrap();
        }
        assert_eq!(postgres.status(), Status::Stopped);
        let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

        postgres.start_again().await.unwrap();
        assert_eq!(postgres.address(), address);
        assert_eq!(psql(&database, "SELECT n FROM t").unwrap(), "42");
    }
}

#[tokio::test]
async fn a_crash_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = Postgres::start(options(dir.path())).await.unwrap();
    let mut status = postgres.watch();
    let pid = server_pid(&postgres);
    rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
    let crashed = status.wait_for(|status| matches!(status, Status::Crashed(_)));
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, crashed).await.unwrap().unwrap();
    assert!(!postgres.is_running());
    postgres.start_again().await.unwrap();
    assert!(postgres.is_running());
}

fn server_pid(postgres: &Postgres) -> rustix::process::Pid {
    let lock = postgres
        .socket_dir()
        .join(format!(".s.PGSQL.{}.lock", postgres.address().port()));
    let text = std::fs::read_to_string(lock).unwrap();
    let pid = text.lines().next().unwrap().trim().parse().unwrap();
    rustix::process::Pid::from_raw(pid).unwrap()
}

#[tokio::test]
async fn with_the_last_handle_everything_goes() {
    let dir = tempfile::tempdir().unwrap();
    let postgres = Postgres::start(options(dir.path())).await.unwrap();
    let pid = server_pid(&postgres);
    let cluster = postgres.socket_dir().parent().unwrap().to_owned();
    assert!(cluster.is_dir());
    drop(postgres);
    assert!(!cluster.exists());
    eventually("the server is gone", || async {
        crate::support::is_gone(pid.as_raw_nonzero().get())
    })
    .await;
}

#[tokio::test]
async fn the_data_can_be_kept_in_the_directory() {
    // A short path: that of a socket has 107 bytes.
    let dir = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), mode).unwrap();
    let options = PostgresOptions {
        placement: Placement::Directory,
        ..options(dir.path())
    };
    let postgres = Postgres::start(options).await.unwrap();
    assert!(
        postgres
            .socket_dir()
            .starts_with(dir.path().canonicalize().unwrap())
    );
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let options = PostgresOptions {
        port,
        ..options(dir.path())
    };
    let error = Postgres::start(options).await.unwrap_err();
    assert!(matches!(error, PostgresError::Port { port: p, .. } if p == port));
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn without_an_installed_server_the_package_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let options = PostgresOptions {
        bin: Some(PathBuf::from("/nowhere")),
        ..options(dir.path())
    };
    let error = Postgres::start(options).await.unwrap_err().to_string();
    assert!(error.contains("apt-get install postgresql"), "{error}");
}

#[tokio::test]
async fn a_spoilt_cache_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let options = || PostgresOptions {
        cache: Some(cache.clone()),
        ..options(&dir.path().join("pg"))
    };
    drop(Postgres::start(options()).await.unwrap());
    let kept = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap();
    std::fs::write(kept.path().join("global/pg_control"), "spoilt").unwrap();

    let postgres = Postgres::start(options()).await.unwrap();
    assert!(postgres.is_running());
    drop(postgres);
    assert!(!kept.path().exists(), "it is not trusted a second time");
}

/// The start that every rehearsal waits for: well under two seconds once the cluster is cached.
#[tokio::test]
async fn a_second_start_is_fast() {
    let dir = tempfile::tempdir().unwrap();
    drop(
        Postgres::start(options(&dir.path().join("1")))
            .await
            .unwrap(),
    );
    let began = Instant::now();
    let postgres = Postgres::start(options(&dir.path().join("2")))
        .await
        .unwrap();
    let took = began.elapsed();
    drop(postgres);
    // Generous, for a busy machine; 0.3 s on a quiet one.
    assert!(took < Duration::from_secs(4), "{took:?}");
    println!("second start: {took:?}");
}
