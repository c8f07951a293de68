//! The other kinds of isolation do the same, as far as they can.

use std::time::Duration;

use super::*;
use crate::support::is_gone;

const PLENTY: Duration = Duration::from_secs(30);

/// What holds for every kind.
async fn a_task_serves_reaches_and_stops(kind: Kind) {
    let bench = Bench::of(kind).await;
    let database = service("rows").await;
    let mut spec = bench.spec("serve");
    spec.env = [("MESSAGE", "bonjour"), ("HOST", "0.0.0.0")]
        .into_iter()
        .collect();
    spec.reach = vec![database];
    let one = bench.serve_spec(spec.clone()).await;
    spec.env = [("MESSAGE", "hello")].into_iter().collect();
    let two = bench.serve_spec(spec).await;
    // Both listen on port 8080.
    assert_eq!(
        [one.get("/").await, two.get("/").await],
        ["bonjour", "hello"]
    );
    assert_eq!(one.get(&format!("/connect/{database}")).await, "connected");

    let facts = one.get("/self").await;
    for (name, expected) in [
        ("NoNewPrivs", "1"),
        ("CapEff", "0000000000000000"),
        ("SigBlk", "0000000000000000"),
    ] {
        assert_eq!(value(&facts, name), expected);
    }
    if kind != Kind::Runc || is_root() {
        // runc without root knows no other user.
        assert_ne!(value(&facts, "Uid"), "0 0 0 0");
    }

    let exit = one.container.stop(PLENTY).await;
    assert_eq!(exit.exit_code(), 0);
    assert_eq!(one.container.log_tail(1), ["stopped"]);
    assert!(one.dial.dial().await.is_err());
    two.container.kill();
    assert_eq!(two.container.wait().await.exit_code(), 137);
    assert!(is_gone(two.container.pid().cast_signed()));
}

async fn exit_codes_and_output(kind: Kind) {
    let bench = Bench::of(kind).await;
    let (code, output) = bench.run(bench.spec("print hello there")).await;
    assert_eq!((code, output.as_str()), (0, "hello there\n"));
    let (code, _) = bench.run(bench.spec("exit 3")).await;
    assert_eq!(code, 3);
    let mut spec = bench.spec("");
    spec.entrypoint = Some(vec!["/bin/nope".into()]);
    let error = bench.refusal(spec).await;
    assert!(error.contains("/bin/nope"), "{error}");
    assert!(error.contains(&bench.image.digest), "{error}");
    let mut spec = bench.spec("");
    spec.entrypoint = Some(vec!["/bin/not-executable".into()]);
    assert!(bench.refusal(spec).await.contains("permission denied"));
}

#[tokio::test]
async fn by_runc_a_task_serves_reaches_and_stops() {
    a_task_serves_reaches_and_stops(Kind::Runc).await;
}

#[tokio::test]
async fn by_runc_exit_codes_and_output_are_kept() {
    exit_codes_and_output(Kind::Runc).await;
}

#[tokio::test]
async fn runc_isolates_too() {
    let bench = Bench::of(Kind::Runc).await;
    let task = bench.serve(&[]).await;
    let facts = task.get("/self").await;
    let uid = if is_root() { "65532" } else { "0" };
    let uids = [uid; 4].join(" ");
    for (name, expected) in [
        ("pid", "1"),
        ("processes", "1"),
        ("Uid", uids.as_str()),
        ("CapBnd", "0000000000000000"),
    ] {
        assert_eq!(value(&facts, name), expected, "{name}");
    }
    assert_eq!(task.get("/write/x").await, "ReadOnlyFilesystem");
    assert_eq!(task.get("/write/tmp/x").await, "written");
    if is_root() {
        let service = service("hello").await;
        let outcome = task.get(&format!("/connect/{service}")).await;
        assert_eq!(outcome, "ConnectionRefused");
    }

    let mut spec = bench.spec("serve");
    spec.readonly_root = false;
    spec.user = Some("0:0".into());
    let task = bench.serve_spec(spec).await;
    assert_eq!(task.get("/write/etc/x").await, "written");
    assert!(!bench.image.rootfs.join("etc/x").exists());
}

#[tokio::test]
async fn runc_limits_memory_as_root() {
    let bench = Bench::of(Kind::Runc).await;
    if !is_root() {
        assert!(bench.runtime.isolation().limits.is_err());
        return;
    }
    let mut spec = bench.spec("serve");
    spec.memory = Some(64 << 20);
    let task = bench.serve_spec(spec).await;
    get(&*task.dial, "/allocate/256").await.unwrap_err();
    let exit = task.container.wait().await;
    assert_eq!((exit.exit_code(), exit.out_of_memory), (137, true));
}

#[tokio::test]
async fn the_end_of_the_runtime_ends_what_runc_runs() {
    let bench = Bench::of(Kind::Runc).await;
    let container = bench.start("sleep").await;
    drop(bench.runtime);
    let exit = tokio::time::timeout(PLENTY, container.wait())
        .await
        .unwrap();
    assert_eq!(exit.exit_code(), 137);
    let pid = container.pid().cast_signed();
    eventually("the task is gone", || async { is_gone(pid) }).await;
}

#[tokio::test]
async fn as_a_process_a_task_serves_reaches_and_stops() {
    a_task_serves_reaches_and_stops(Kind::Process).await;
}

#[tokio::test]
async fn as_a_process_exit_codes_and_output_are_kept() {
    exit_codes_and_output(Kind::Process).await;
}

#[tokio::test]
async fn a_plain_process_is_said_to_be_one() {
    let bench = Bench::of(Kind::Process).await;
    let report = bench.runtime.isolation().to_string();
    assert!(report.contains("NOT ISOLATED"), "{report}");
    let task = bench.serve(&[]).await;
    assert!(task.container.address().is_loopback());
    let facts = task.get("/self").await;
    let cwd = value(&facts, "cwd");
    assert!(cwd.ends_with("/rootfs"), "{cwd}");
}

#[tokio::test]
async fn what_a_plain_process_forked_ends_with_it() {
    let bench = Bench::of(Kind::Process).await;
    let container = bench.start("fork-sleep").await;
    eventually("it has forked", || async {
        container.log_tail(9).len() == 2
    })
    .await;
    let children = format!("/proc/{0}/task/{0}/children", container.pid());
    let child: i32 = read(Path::new(&children)).trim().parse().unwrap();
    container.kill();
    container.wait().await;
    eventually("the child is gone", || async { is_gone(child) }).await;
}

/// As on a machine that forbids user namespaces: in one that allows no further ones.
#[test]
fn without_namespaces_it_is_a_plain_process_and_the_report_says_why() {
    let dir = tempfile::tempdir().unwrap();
    // An ordinary user there; only the shell has the capability to forbid it.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                  exec setpriv --ambient-caps=-all --inh-caps=-all -- \"$@\"";
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-user=65534", "--map-group=65534"])
        .args(["--keep-caps", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "runtime::kinds::forbidden",
            "--ignored",
            "--nocapture",
        ])
        .env("STAGE_TEST_FORBIDDEN", "1")
        .env("TMPDIR", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "a process of another test"]
async fn forbidden() {
    if std::env::var_os("STAGE_TEST_FORBIDDEN").is_none() {
        return;
    }
    let bench = Bench::of(Kind::Auto).await;
    let isolation = bench.runtime.isolation();
    assert_eq!(isolation.kind, Kind::Process, "{isolation}");
    let report = isolation.to_string();
    for words in [
        "NOT ISOLATED",
        "namespaces do not work here",
        "runc",
        "limits are not enforced",
    ] {
        assert!(report.contains(words), "{report}");
    }
    let task = bench.serve(&[("MESSAGE", "still")]).await;
    assert_eq!(task.get("/").await, "still");

    let options = RuntimeOptions {
        kind: Kind::Sandbox,
        ..RuntimeOptions::new(bench.dir.path().join("other"))
    };
    let error = Runtime::new(options).unwrap_err().to_string();
    assert!(error.contains("cannot isolate tasks by sandbox"), "{error}");
}
