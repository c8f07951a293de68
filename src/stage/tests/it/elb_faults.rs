//! What clients get when something is wrong: each row of the table in `stage::elb`.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use http_body_util::BodyExt as _;
use stage::elb::{AccessLogEntry, Listener, Target, TargetState};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::elb_support::*;

/// A rig with one target in blue that is not waited for: the group fails open until it is healthy.
async fn one_raw(backend: &Raw, config: Config) -> Rig {
    let rig = Rig::new(config);
    rig.add("blue", backend.target()).await;
    rig
}

async fn entry(log: &mut stage::elb::AccessLog) -> Arc<AccessLogEntry> {
    soon("an entry in the access log", log.recv())
        .await
        .unwrap()
}

#[tokio::test]
async fn no_registered_target_is_503() {
    let rig = Rig::new(Config::default());
    let mut log = rig.balancer.access_log(10);
    let answer = raw(
        rig.production(),
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{answer}"
    );
    assert!(answer.contains("server: awselb/2.0\r\n"), "{answer}");
    assert!(
        answer.contains("<h1>503 Service Unavailable</h1>"),
        "{answer}"
    );
    let entry = entry(&mut log).await;
    assert_eq!((entry.elb_status, entry.target_status), (503, None));
    assert_eq!(
        (entry.target_group.as_deref(), entry.target.as_deref()),
        (Some("blue"), None)
    );
    // Requests for which no target was chosen are not in RequestCount.
    assert_eq!(rig.total("RequestCount", None), 0);
    assert_eq!(rig.total("HTTPCode_ELB_503_Count", None), 1);
}

#[tokio::test]
async fn no_weight_at_all_is_503() {
    let blue = Backend::named("blue").await;
    let rig = Rig::new(Config::default());
    rig.add("blue", blue.target()).await;
    rig.set(Listener::Production, &[("blue", 0), ("green", 0)]);
    assert_eq!(get(rig.production(), "/").await.0, 503);
    rig.set(Listener::Production, &[]);
    assert_eq!(get(rig.production(), "/").await.0, 503);
    assert_eq!(blue.requests(), 0);
}

#[tokio::test]
async fn a_bad_group_is_not_replaced_by_the_good_one() {
    let blue = Backend::named("blue").await;
    let rig = Rig::new(Config::default());
    rig.add("blue", blue.target()).await;
    rig.set(Listener::Production, &[("blue", 1), ("green", 1)]);
    let mut client = Client::connect(rig.production()).await;
    let mut refused = 0;
    for _ in 0..200 {
        refused += usize::from(client.get("/").await.0 == 503);
    }
    assert_eq!(blue.requests() + refused, 200);
    assert!((50..=150).contains(&refused), "{refused} of 200 at 50 %");
}

#[tokio::test]
async fn unhealthy_targets_only_is_fail_open() {
    let backend = Backend::named("still here").await;
    *backend.health.lock().unwrap() = StatusCode::INTERNAL_SERVER_ERROR;
    let rig = Rig::new(Config::default());
    rig.register("blue", backend.target());
    let id = backend.target().id;
    rig.wait_for("blue", &id, TargetState::Unhealthy).await;
    assert_eq!(get(rig.production(), "/").await, (200, "still here".into()));
    // As soon as there is a healthy one, the unhealthy one gets nothing more.
    let healthy = Backend::named("healthy").await;
    rig.add("blue", healthy.target()).await;
    let before = backend.requests();
    for _ in 0..10 {
        assert_eq!(get(rig.production(), "/").await.1, "healthy");
    }
    assert_eq!(backend.requests(), before);
}

#[tokio::test]
async fn a_refused_connection_is_502() {
    let rig = Rig::new(Config::default());
    rig.register("blue", target(closed_port().await));
    let mut log = rig.balancer.access_log(10);
    assert_eq!(get(rig.production(), "/").await.0, 502);
    let entry = entry(&mut log).await;
    assert_eq!((entry.elb_status, entry.target_status), (502, None));
    assert_eq!(rig.total("TargetConnectionErrorCount", Some("blue")), 1);
    assert_eq!(rig.total("HTTPCode_ELB_5XX_Count", None), 1);
    assert_eq!(rig.total("HTTPCode_ELB_502_Count", None), 1);
    assert_eq!(rig.total("HTTPCode_Target_5XX_Count", None), 0);
    assert_eq!(rig.total("RequestCount", Some("blue")), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_502() {
    for how in [
        "reset",
        "closed",
        "half a head",
        "malformed",
        "too large",
        "not a length",
    ] {
        let backend = Raw::start(move |mut stream, _, _| async move {
            match how {
                "reset" => stream.set_zero_linger().unwrap(),
                "closed" => {}
                "half a head" => stream.write_all(b"HTTP/1.1 200 OK\r\nx").await.unwrap(),
                "malformed" => stream.write_all(b"this is not HTTP\r\n\r\n").await.unwrap(),
                "not a length" => {
                    let head = b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n";
                    stream.write_all(head).await.unwrap();
                }
                _ => {
                    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(40_000));
                    let _ = stream.write_all(head.as_bytes()).await;
                }
            }
            None
        })
        .await;
        let rig = one_raw(&backend, Config::default()).await;
        assert_eq!(get(rig.production(), "/").await.0, 502, "{how}");
        assert_eq!(rig.total("HTTPCode_ELB_502_Count", None), 1, "{how}");
        assert_eq!(rig.total("TargetConnectionErrorCount", None), 0, "{how}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_in_the_middle_is_cut_for_the_client_too() {
    let backend = Raw::start(|mut stream, _, _| async move {
        let part = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
        stream.write_all(part).await.unwrap();
        None
    })
    .await;
    let rig = one_raw(&backend, Config::default()).await;
    let mut log = rig.balancer.access_log(10);
    let mut client = Client::connect(rig.production()).await;
    let response = client.send(request("GET", "/", "")).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = soon("the end", response.into_body().collect()).await;
    assert!(body.is_err(), "{body:?}");
    let entry = entry(&mut log).await;
    assert_eq!(
        (entry.elb_status, entry.target_status, entry.complete),
        (200, Some(200), false)
    );
}

#[tokio::test]
async fn a_target_that_does_not_answer_is_504() {
    let backend = Raw::start(|mut stream, _, _| async move {
        // Until the load balancer has had enough.
        let _ = stream.read_u8().await;
        None
    })
    .await;
    let config = Config {
        idle_timeout: Duration::from_millis(200),
        ..Config::default()
    };
    let rig = one_raw(&backend, config).await;
    let start = std::time::Instant::now();
    assert_eq!(get(rig.production(), "/").await.0, 504);
    assert!(
        start.elapsed() >= Duration::from_millis(200),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(rig.total("HTTPCode_ELB_504_Count", None), 1);
}

#[tokio::test]
async fn a_target_that_answers_slowly_but_steadily_is_waited_for() {
    let backend = Raw::start(|mut stream, _, _| async move {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
            .await
            .unwrap();
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.write_all(b"x").await.unwrap();
        }
        Some(stream)
    })
    .await;
    let config = Config {
        idle_timeout: Duration::from_millis(600),
        ..Config::default()
    };
    let rig = one_raw(&backend, config).await;
    assert_eq!(get(rig.production(), "/").await, (200, "x".repeat(10)));
}

#[tokio::test]
async fn a_target_that_cannot_be_connected_to_in_time_is_504() {
    let config = Config {
        connect_timeout: Duration::from_millis(50),
        ..Config::default()
    };
    let rig = Rig::new(config);
    rig.register(
        "blue",
        Target {
            id: "10.0.0.1:80".into(),
            dial: Arc::new(Nowhere),
        },
    );
    assert_eq!(get(rig.production(), "/").await.0, 504);
    assert_eq!(rig.total("TargetConnectionErrorCount", Some("blue")), 1);
}

#[tokio::test]
async fn what_a_target_answers_is_its_own() {
    let backend = Backend::start(|ask| async move {
        let status = ask.uri().path()[1..].parse().unwrap();
        text(StatusCode::from_u16(status).unwrap(), "the target's words")
    })
    .await;
    let rig = Rig::new(Config::default());
    rig.add("blue", backend.target()).await;
    for status in [201, 302, 404, 500, 503, 502] {
        let answer = get(rig.production(), &format!("/{status}")).await;
        assert_eq!(answer, (status, "the target's words".into()));
    }
    for (class, count) in [("2XX", 1), ("3XX", 1), ("4XX", 1), ("5XX", 3)] {
        for group in [None, Some("blue")] {
            let name = format!("HTTPCode_Target_{class}_Count");
            assert_eq!(rig.total(&name, group), count, "{name} {group:?}");
        }
    }
    assert_eq!(rig.total("HTTPCode_ELB_5XX_Count", None), 0);
}

#[tokio::test]
async fn a_client_that_leaves_first_is_460_in_the_log() {
    let backend = Raw::start(|mut stream, _, _| async move {
        let _ = stream.read_u8().await;
        None
    })
    .await;
    let rig = one_raw(&backend, Config::default()).await;
    let mut log = rig.balancer.access_log(10);
    let mut stream = TcpStream::connect(rig.production()).await.unwrap();
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    until("the request runs", || {
        rig.balancer.counts("blue").unwrap().in_flight == 1
    })
    .await;
    drop(stream);
    let entry = entry(&mut log).await;
    assert_eq!(
        (entry.elb_status, entry.target_status, entry.path.as_str()),
        (460, None, "/slow")
    );
    assert_eq!(rig.balancer.counts("blue").unwrap().in_flight, 0);
}

#[tokio::test]
async fn trace_and_connect_are_not_forwarded() {
    let backend = Backend::named("x").await;
    let rig = Rig::new(Config::default());
    rig.add("blue", backend.target()).await;
    let answer = raw(
        rig.production(),
        "TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let answer = raw(
        rig.production(),
        "CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(backend.requests(), 0);
    assert_eq!(rig.total("HTTPCode_ELB_4XX_Count", None), 2);
}

/// The target closes after each answer without a word: what was idle is not used again.
#[tokio::test]
async fn an_idle_connection_that_was_closed_is_not_used() {
    let backend = Raw::start(|mut stream, _, _| async move {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        None
    })
    .await;
    let rig = one_raw(&backend, Config::default()).await;
    let mut client = Client::connect(rig.production()).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.0, 200);
    }
}

/// The target closes when the second request has come: too late to be seen before.
#[tokio::test]
async fn a_reused_connection_that_breaks_is_replaced_where_that_is_safe() {
    let backend = Raw::start(|mut stream, head, number| async move {
        if number > 0 {
            return None;
        }
        let length = if head.starts_with("POST") { 4 } else { 0 };
        let mut body = [0; 4];
        stream.read_exact(&mut body[..length]).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        Some(stream)
    })
    .await;
    let rig = one_raw(&backend, Config::default()).await;
    let mut client = Client::connect(rig.production()).await;
    for method in ["GET", "GET", "HEAD", "DELETE", "OPTIONS"] {
        let response = client.send(request(method, "/", "")).await.unwrap();
        assert_eq!(response.status(), 200, "{method}");
        body(response).await;
    }
    let connections = backend
        .connections
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        connections, 5,
        "each request but the first broke a connection"
    );
    // A POST must not happen twice.
    let response = client.send(request("POST", "/", "data")).await.unwrap();
    assert_eq!(response.status(), 502);
    body(response).await;
    assert_eq!(
        client
            .send(request("POST", "/", "data"))
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn silent_clients_are_disconnected() {
    let config = Config {
        idle_timeout: Duration::from_millis(100),
        ..Config::default()
    };
    let rig = Rig::new(config);
    for said in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(rig.production()).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        soon("the end", stream.read_to_end(&mut rest))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_loses_entries_and_says_how_many() {
    let backend = Backend::named("x").await;
    let rig = Rig::new(Config::default());
    rig.add("blue", backend.target()).await;
    let mut log = rig.balancer.access_log(3);
    let mut client = Client::connect(rig.production()).await;
    for _ in 0..10 {
        assert_eq!(client.get("/path").await.0, 200);
    }
    assert_eq!(log.missed(), 7);
    let entry = log.try_recv().unwrap();
    assert_eq!(
        (entry.path.as_str(), entry.method.as_str()),
        ("/path", "GET")
    );
    let trace = backend.seen.requests.lock().unwrap()[0].2["x-amzn-trace-id"].clone();
    assert_eq!(
        trace, *entry.trace_id,
        "the log has what the target has seen"
    );
    assert_eq!(
        (entry.sent_bytes, entry.received_bytes, entry.complete),
        (1, 0, true)
    );
    assert!(entry.target_processing_time.is_some());
}
