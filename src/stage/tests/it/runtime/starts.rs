//! Tasks that cannot start say why, in the words of ECS, and name what is wrong.

use std::time::{Duration, Instant};

use super::*;

#[tokio::test]
async fn a_program_that_is_not_there() {
    let bench = Bench::new().await;
    let digest = bench.image.digest.clone();
    for (program, words) in [
        ("/bin/nope", "exec \"/bin/nope\": no such file or directory"),
        ("nope", "exec \"nope\": executable file not found in $PATH"),
        ("/etc/passwd/x", "exec \"/etc/passwd/x\": no such file"),
    ] {
        let mut spec = bench.spec("");
        spec.entrypoint = Some(vec![program.into()]);
        let error = bench.refusal(spec).await;
        assert!(error.starts_with("CannotStartContainerError: "), "{error}");
        assert!(error.contains(words), "{error}");
        assert!(error.contains(&digest), "{error}");
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_executed() {
    let bench = Bench::new().await;
    for (program, words) in [
        ("/bin/not-executable", "permission denied"),
        ("not-executable", "permission denied"),
        ("/bin", "permission denied"),
        ("/bin/no-interpreter", "the interpreter"),
        ("/bin/garbage", "exec format error"),
    ] {
        let mut spec = bench.spec("");
        spec.entrypoint = Some(vec![program.into()]);
        let error = bench.refusal(spec).await;
        assert!(error.contains(words) && error.contains(program), "{error}");
    }
}

#[tokio::test]
async fn a_directory_or_user_that_is_not_there() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("self");
    spec.working_directory = Some("/srv/nope".into());
    let error = bench.refusal(spec).await;
    assert!(error.contains("chdir to \"/srv/nope\""), "{error}");

    let mut spec = bench.spec("self");
    spec.user = Some("nginx".into());
    let error = bench.refusal(spec).await;
    assert!(
        error.contains("\"nginx\" is not in the image's /etc/passwd"),
        "{error}"
    );
}

#[tokio::test]
async fn arguments_that_no_program_can_be_given() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("env");
    spec.env = [("PASSWORD", "hun\0ter2")].into_iter().collect();
    let error = bench.refusal(spec).await;
    assert!(error.contains("NUL") && !error.contains("ter2"), "{error}");

    let mut spec = bench.spec("env");
    spec.env = [("A=B", "")].into_iter().collect();
    assert!(bench.refusal(spec).await.contains("\"A=B\""));
}

#[tokio::test]
async fn a_failed_start_leaves_nothing_behind() {
    let bench = Bench::new().await;
    for _ in 0..3 {
        let mut spec = bench.spec("");
        spec.entrypoint = Some(vec!["/bin/nope".into()]);
        bench.refusal(spec).await;
    }
    let (code, _) = bench.run(bench.spec("exit 0")).await;
    assert_eq!(code, 0);
    // Other tests in this process have their own.
    if std::env::var_os("NEXTEST").is_some() {
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let children = read(&task.path().join("children"));
            assert_eq!(children.trim(), "", "a process is left");
        }
    }
}

#[tokio::test]
async fn secrets_are_not_in_debug_output() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("env");
    spec.env = [("PASSWORD", "hunter2")].into_iter().collect();
    let debug = format!("{spec:?}");
    assert!(
        debug.contains("PASSWORD") && !debug.contains("hunter2"),
        "{debug}"
    );
}

#[tokio::test]
async fn many_at_once() {
    let bench = Bench::new().await;
    let starts = (0..12).map(|n| {
        let spec = bench.spec(&format!("print {n}"));
        async {
            let container = bench.runtime.start(spec).await.unwrap();
            (
                container.wait().await.exit_code(),
                read(container.log_path()),
            )
        }
    });
    let ended = futures_util::future::join_all(starts).await;
    for (n, (code, output)) in ended.into_iter().enumerate() {
        assert_eq!((code, output), (0, format!("{n}\n")));
    }
}

/// A task that takes long to start would hide how fast the application is.
#[tokio::test]
async fn a_task_starts_in_no_time() {
    let bench = Bench::new().await;
    let starts = 10;
    let mut took = Duration::ZERO;
    for _ in 0..starts {
        let began = Instant::now();
        let container = bench.start("exit 0").await;
        took += began.elapsed();
        container.wait().await;
    }
    let each = took / starts;
    println!("{each:?} a start");
    // Some 10 ms on a quiet machine.
    assert!(each < Duration::from_secs(1), "{each:?}");
}
