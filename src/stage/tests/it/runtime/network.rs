//! The network of a task.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::*;

#[tokio::test]
async fn every_task_has_port_8080_to_itself() {
    let bench = Bench::new().await;
    let one = bench.serve(&[("MESSAGE", "one")]).await;
    let two = bench.serve(&[("MESSAGE", "two")]).await;
    assert_eq!([one.get("/").await, two.get("/").await], ["one", "two"]);
    assert_ne!(one.container.address(), two.container.address());
}

#[tokio::test]
async fn a_task_cannot_reach_this_machine() {
    let bench = Bench::new().await;
    let service = service("hello").await;
    let task = bench.serve(&[]).await;
    let outcome = task.get(&format!("/connect/{service}")).await;
    assert_eq!(outcome, "ConnectionRefused");
    let outcome = task.get("/connect/192.0.2.1:80").await;
    assert_eq!(outcome, "NetworkUnreachable");
}

#[tokio::test]
async fn a_task_reaches_what_it_is_given() {
    let bench = Bench::new().await;
    let (one, two) = (service("one").await, service("two").await);
    for (address, word) in [(one, "one"), (two, "two")] {
        let mut spec = bench.spec(&format!("query {address}"));
        spec.reach = vec![one, two];
        let (code, output) = bench.run(spec).await;
        assert_eq!((code, output.trim()), (0, word));
    }
}

#[tokio::test]
async fn a_service_that_is_down_is_a_broken_connection() {
    let bench = Bench::new().await;
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut spec = bench.spec(&format!("query {gone}"));
    spec.reach = vec![gone];
    let (code, output) = bench.run(spec).await;
    assert_eq!((code, output.trim()), (1, "ConnectionReset"));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_refused() {
    let bench = Bench::new().await;
    let task = bench.serve(&[]).await;
    let error = task.container.dialer(9).dial().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_task_that_has_ended_is_refused() {
    let bench = Bench::new().await;
    let task = bench.serve(&[]).await;
    task.container.kill();
    task.container.wait().await;
    for _ in 0..2 {
        let error = task.dial.dial().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

/// On Fargate a target is checked at the task's own address.
#[tokio::test]
async fn a_task_that_listens_on_localhost_only_is_not_reached() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("serve");
    spec.env = [("HOST", "127.0.0.1")].into_iter().collect();
    spec.address = Some(Ipv4Addr::new(10, 0, 7, 7));
    let container = bench.runtime.start(spec).await.unwrap();
    assert_eq!(container.address(), Ipv4Addr::new(10, 0, 7, 7));
    eventually("it listens", || async {
        container.log_tail(1) == ["listening on 127.0.0.1:8080"]
    })
    .await;
    let error = container.dialer(8080).dial().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn who_gives_up_dialling_disturbs_nobody() {
    let bench = Bench::new().await;
    let task = bench.serve(&[]).await;
    for _ in 0..50 {
        let dial = task.dial.dial();
        // Polled once, then dropped.
        let _ = tokio::time::timeout(Duration::ZERO, dial).await;
        assert_eq!(task.get("/").await, "hello");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_at_once() {
    let bench = Bench::new().await;
    let task = bench.serve(&[]).await;
    let dials = (0..200).map(|_| async { get(&*task.dial, "/").await.map(|(status, _)| status) });
    let answers = futures_util::future::join_all(dials).await;
    let failed: Vec<_> = answers.iter().filter(|a| !matches!(a, Ok(200))).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// A load balancer without kept connections would dial for every request.
#[tokio::test]
async fn a_connection_takes_no_time() {
    let bench = Bench::new().await;
    let task = bench.serve(&[]).await;
    let connections = 500;
    let began = Instant::now();
    for _ in 0..connections {
        drop(task.dial.dial().await.unwrap());
    }
    let each = began.elapsed() / connections;
    println!("{each:?} a connection");
    // Some 50 µs on a quiet machine.
    assert!(each < Duration::from_millis(5), "{each:?}");
}
