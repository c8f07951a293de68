//! How tasks end.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::support::is_gone;

const PLENTY: Duration = Duration::from_secs(30);

#[tokio::test]
async fn exit_codes_and_output_are_kept() {
    let bench = Bench::new().await;
    for (command, code, output) in [
        ("print hello there", 0, "hello there\n"),
        ("exit 0", 0, ""),
        ("exit 3", 3, ""),
        ("exit 255", 255, ""),
    ] {
        let got = bench.run(bench.spec(command)).await;
        assert_eq!((got.0, got.1.as_str()), (code, output), "{command}");
    }
}

#[tokio::test]
async fn a_signal_is_128_and_its_number() {
    let bench = Bench::new().await;
    // As PID 1 a task cannot abort by a signal to itself; the kernel's own way (SIGILL, 4) it is.
    let exit = bench.start("abort").await.wait().await;
    assert_eq!(exit.code, None);
    assert_eq!(exit.exit_code(), 128 + exit.signal.unwrap());
}

#[tokio::test]
async fn sigterm_is_enough_for_a_task_that_listens_to_it() {
    let bench = Bench::new().await;
    let task = bench.serve(&[]).await;
    let began = Instant::now();
    let exit = task.container.stop(PLENTY).await;
    assert_eq!(exit.code, Some(0));
    assert!(began.elapsed() < PLENTY / 2);
    assert!(read(task.container.log_path()).ends_with("stopped\n"));
    assert_eq!(task.container.log_tail(1), ["stopped"]);
    assert!(is_gone(task.container.pid().cast_signed()));
}

#[tokio::test]
async fn a_running_request_is_answered_before_the_end() {
    let bench = Bench::new().await;
    let task = bench.serve(&[]).await;
    let mut slow = task.dial.dial().await.unwrap();
    slow.write_all(b"GET /slow/300 HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    // Connections are accepted in their order, so the slow one has been.
    task.get("/").await;
    let exit = task.container.stop(PLENTY).await;
    assert_eq!(exit.code, Some(0));
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nslow"), "{answer}");
}

#[tokio::test]
async fn who_ignores_sigterm_is_killed_after_the_time_out() {
    let bench = Bench::new().await;
    let task = bench.serve(&[("IGNORE_SIGTERM", "1")]).await;
    let timeout = Duration::from_millis(300);
    let began = Instant::now();
    let exit = task.container.stop(timeout).await;
    assert!(began.elapsed() >= timeout);
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    assert_eq!(exit.exit_code(), 137);
}

/// A process without a handler ignores SIGTERM when it is PID 1, as it does on ECS: better seen here.
#[tokio::test]
async fn a_first_process_without_a_handler_ignores_sigterm() {
    let bench = Bench::new().await;
    let container = bench.start("sleep").await;
    let exit = container.stop(Duration::from_millis(100)).await;
    assert_eq!(exit.signal, Some(9));
}

#[tokio::test]
async fn what_a_task_forked_ends_with_it() {
    let bench = Bench::new().await;
    let container = bench.start("fork-sleep").await;
    eventually("it has forked", || async {
        container.log_tail(9).len() == 2
    })
    .await;
    let children = format!("/proc/{0}/task/{0}/children", container.pid());
    let child: i32 = read(Path::new(&children)).trim().parse().unwrap();
    assert!(!is_gone(child));
    container.kill();
    container.wait().await;
    eventually("the child is gone", || async { is_gone(child) }).await;
}

#[tokio::test]
async fn stopping_twice_and_after_the_end_is_harmless() {
    let bench = Bench::new().await;
    let container = bench.start("exit 5").await;
    assert_eq!(container.wait().await.code, Some(5));
    assert_eq!(container.exit().map(Exit::exit_code), Some(5));
    container.kill();
    let (one, two) = tokio::join!(container.stop(PLENTY), container.stop(PLENTY));
    assert_eq!((one.code, two.code), (Some(5), Some(5)));
}

#[tokio::test]
async fn shutdown_ends_everything() {
    let bench = Bench::new().await;
    let containers = [bench.start("sleep").await, bench.start("fork-sleep").await];
    bench.runtime.shutdown().await;
    for container in containers {
        assert_eq!(container.exit().and_then(|exit| exit.signal), Some(9));
        assert!(is_gone(container.pid().cast_signed()));
    }
}

#[tokio::test]
async fn the_end_of_the_runtime_is_the_end_of_its_tasks() {
    let bench = Bench::new().await;
    let container = bench.start("sleep").await;
    drop(bench.runtime);
    let exit = tokio::time::timeout(PLENTY, container.wait())
        .await
        .unwrap();
    assert_eq!(exit.signal, Some(9));
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let bench = Bench::new().await;
    // The harness itself may have started processes.
    let children = || {
        let mut found = Vec::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(list.split_whitespace().map(str::to_owned));
        }
        found
    };
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    bench.start("exit 0").await.wait().await;
    let before = (children().len(), descriptors());
    for _ in 0..10 {
        bench.start("exit 0").await.wait().await;
    }
    // Other tests in this process have their own.
    if std::env::var_os("NEXTEST").is_some() {
        eventually("zombies and descriptors are gone", || async {
            let now = (children().len(), descriptors());
            now.0 <= before.0 && now.1 <= before.1
        })
        .await;
    }
}

#[tokio::test]
async fn a_long_output_is_all_there_when_the_task_has_ended() {
    let bench = Bench::new().await;
    let (code, output) = bench.run(bench.spec("lines 20000")).await;
    assert_eq!(code, 0);
    assert_eq!(output.lines().count(), 20_000);
    assert!(output.ends_with("line 19999\n"));
}

#[tokio::test]
async fn lines_can_have_the_time() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("print word");
    spec.log_timestamps = true;
    let (_, output) = bench.run(spec).await;
    let (time, word) = output.trim().split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.starts_with("20"), "{time}");
    assert_eq!(word, "word");
}
