//! What happens to a request on its way through the load balancer.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

use crate::elb_support::*;

/// A body that is fed through a channel.
fn fed() -> (mpsc::UnboundedSender<&'static str>, Body) {
    let (feed, food) = mpsc::unbounded_channel();
    (feed, BodyExt::boxed(Fed(food)))
}

struct Fed(mpsc::UnboundedReceiver<&'static str>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0
            .poll_recv(cx)
            .map(|text| text.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}

async fn one_target(backend: &Backend) -> Rig {
    let rig = Rig::new(Config::default());
    rig.add("blue", backend.target()).await;
    rig
}

#[tokio::test]
async fn headers_are_added_kept_and_removed() {
    let backend = Backend::start(|_| async {
        let mut response = text(StatusCode::OK, "hello");
        for (name, value) in [
            ("keep-alive", "timeout=1"),
            ("x-app", "1"),
            ("server", "app/1"),
        ] {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    })
    .await;
    let rig = one_target(&backend).await;
    let mut client = Client::connect(rig.production()).await;
    let mut ask = request("GET", "/a?b=c", "");
    for (name, value) in [
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("x-kept", "yes"),
        ("x-amzn-trace-id", "Root=1-1-2"),
    ] {
        ask.headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    let response = client.send(ask).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_11);
    let headers = response.headers().clone();
    assert_eq!(
        (&headers["x-app"], &headers["server"]),
        (&"1".parse().unwrap(), &"app/1".parse().unwrap())
    );
    assert!(!headers.contains_key("keep-alive"));
    assert_eq!(body(response).await, "hello");

    let (method, uri, seen) = backend.seen.requests.lock().unwrap()[0].clone();
    assert_eq!((method.as_str(), uri.as_str()), ("GET", "/a?b=c"));
    for gone in ["connection", "x-hop", "te"] {
        assert!(!seen.contains_key(gone), "{gone}");
    }
    let port = rig.production().port().to_string();
    for (name, value) in [
        ("host", "test"),
        ("x-kept", "yes"),
        ("x-forwarded-for", "203.0.113.7, 127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", port.as_str()),
    ] {
        assert_eq!(seen[name], value, "{name}");
    }
    let trace = seen["x-amzn-trace-id"].to_str().unwrap();
    assert!(
        trace.starts_with("Self=1-") && trace.ends_with(";Root=1-1-2"),
        "{trace}"
    );
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let backend = Backend::named("x").await;
    let rig = one_target(&backend).await;
    let mut client = Client::connect(rig.production()).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await, (200, "x".into()));
    }
    assert_eq!((backend.requests(), backend.connections()), (50, 1));
}

#[tokio::test]
async fn a_response_is_passed_on_while_it_is_made() {
    let (feed, made) = fed();
    let made = Arc::new(Mutex::new(Some(made)));
    let backend = Backend::start(move |_| {
        let made = made.lock().unwrap().take().unwrap();
        async move { Response::new(made) }
    })
    .await;
    let rig = one_target(&backend).await;
    let mut client = Client::connect(rig.production()).await;
    let mut response = client.send(request("GET", "/", "")).await.unwrap();
    for part in ["first", "second", "third"] {
        feed.send(part).unwrap();
        let frame = soon("a part", response.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), part);
    }
    drop(feed);
    assert!(soon("the end", response.frame()).await.is_none());
    // The connection can be used again after a chunked body.
    until("the target is free", || backend.connections() == 1).await;
}

#[tokio::test]
async fn a_request_is_passed_on_while_it_is_made() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let backend = Backend::start(move |mut ask| {
        let arrived = arrived.clone();
        async move {
            while let Some(frame) = ask.frame().await {
                arrived.send(frame.unwrap().into_data().unwrap()).unwrap();
            }
            text(StatusCode::OK, "done")
        }
    })
    .await;
    let rig = one_target(&backend).await;
    let mut client = Client::connect(rig.production()).await;
    let (feed, made) = fed();
    let ask = request("POST", "/", "").map(|_| made);
    let response = tokio::spawn(async move { body(client.send(ask).await.unwrap()).await });
    for part in ["first", "second"] {
        feed.send(part).unwrap();
        assert_eq!(soon("a part", arrivals.recv()).await.unwrap(), part);
    }
    drop(feed);
    assert_eq!(soon("the response", response).await.unwrap(), "done");
    let headers = backend.last_headers();
    assert_eq!(headers["transfer-encoding"], "chunked");
}

#[tokio::test]
async fn large_bodies_pass_in_both_directions() {
    let backend = Backend::start(|ask| async {
        let body = ask.into_body().map_err(std::io::Error::other);
        Response::new(BodyExt::boxed(body))
    })
    .await;
    let rig = one_target(&backend).await;
    let mut client = Client::connect(rig.production()).await;
    let sent: Bytes = (0..16_u32 << 20).map(|n| (n % 251) as u8).collect();
    let response = client
        .send(request("PUT", "/", sent.clone()))
        .await
        .unwrap();
    let received = soon("the echo", response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    assert!(
        received == sent,
        "{} bytes of {}",
        received.len(),
        sent.len()
    );
}

#[tokio::test]
async fn head_has_the_length_of_a_body_that_does_not_come() {
    let backend = Backend::named("hello").await;
    let rig = one_target(&backend).await;
    let answer = raw(
        rig.production(),
        "HEAD / HTTP/1.1\r\nHost: x\r\n\r\nHEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(answer.matches("200 OK").count(), 2, "{answer}");
    assert_eq!(answer.matches("content-length: 5").count(), 2, "{answer}");
    assert!(!answer.contains("hello"), "{answer}");
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn expect_is_answered_by_the_load_balancer() {
    let backend = Backend::start(|ask| async {
        let bytes = ask.into_body().collect().await.unwrap().to_bytes();
        text(StatusCode::OK, bytes)
    })
    .await;
    let rig = one_target(&backend).await;
    let mut stream = TcpStream::connect(rig.production()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(
        read_until(&mut stream, "\r\n\r\n").await,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    stream.write_all(b"ping").await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("ping"),
        "{answer}"
    );
    assert!(!backend.last_headers().contains_key("expect"));
}

#[tokio::test]
async fn http_1_0_gets_no_chunks() {
    let backend = Backend::start(|_| async {
        let (feed, made) = fed();
        feed.send("hello").unwrap();
        Response::new(made)
    })
    .await;
    let rig = one_target(&backend).await;
    let answer = raw(rig.production(), "GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(
        !answer.to_lowercase().contains("transfer-encoding"),
        "{answer}"
    );
    let seen = backend.last_headers();
    assert!(seen.contains_key("host"), "{seen:?}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start(|ask| async move {
        // The first one takes longest.
        let path = ask.uri().path().to_owned();
        if path == "/1" {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        text(StatusCode::OK, path)
    })
    .await;
    let rig = one_target(&backend).await;
    let ask = |n, end| format!("GET /{n} HTTP/1.1\r\nHost: x\r\n{end}\r\n");
    let requests = ask(1, "") + &ask(2, "") + &ask(3, "Connection: close\r\n");
    let answer = raw(rig.production(), requests).await;
    let places: Vec<_> = ["\r\n\r\n/1", "\r\n\r\n/2", "\r\n\r\n/3"]
        .map(|body| answer.find(body).unwrap_or_else(|| panic!("{answer}")))
        .into();
    assert!(places.is_sorted(), "{answer}");
}

#[tokio::test]
async fn a_websocket_passes() {
    let backend = Raw::start(|mut stream, head, _| async move {
        assert!(head.to_lowercase().contains("upgrade: websocket"), "{head}");
        assert!(head.to_lowercase().contains("sec-websocket-key: abc"), "{head}");
        // The first frame comes with the answer, in one write.
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: xyz\r\n\r\nwelcome";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut buffer = [0; 64];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(n) => stream.write_all(&buffer[..n].to_ascii_uppercase()).await.unwrap(),
            }
        }
    })
    .await;
    let rig = Rig::new(Config::default());
    rig.add("blue", backend.target()).await;
    let mut log = rig.balancer.access_log(10);
    let mut stream = TcpStream::connect(rig.production()).await.unwrap();
    let head = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await.to_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    assert!(answer.contains("sec-websocket-accept: xyz"), "{answer}");
    assert!(answer.contains("upgrade: websocket"), "{answer}");
    read_until(&mut stream, "welcome").await;
    for word in ["one", "two"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        read_until(&mut stream, &word.to_uppercase()).await;
    }
    drop(stream);
    let entry = soon("the log entry", log.recv()).await.unwrap();
    assert_eq!((entry.elb_status, entry.target_status), (101, Some(101)));
    assert_eq!((entry.received_bytes, entry.sent_bytes), (6, 13));
}

#[tokio::test]
async fn an_upgrade_that_is_refused_is_an_ordinary_answer() {
    let backend = Backend::named("no websockets here").await;
    let rig = one_target(&backend).await;
    let head =
        "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n";
    let answer = raw(rig.production(), head).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("no websockets here"), "{answer}");
}

#[tokio::test]
async fn ambiguous_framing_reaches_no_target_twice() {
    let backend = Backend::start(|ask| async {
        let bytes = ask.into_body().collect().await.unwrap().to_bytes();
        text(StatusCode::OK, format!("got {}", bytes.len()))
    })
    .await;
    let rig = one_target(&backend).await;
    let refused = [
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    for ask in refused {
        let mut stream = TcpStream::connect(rig.production()).await.unwrap();
        stream.write_all(ask.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"),
            "{ask:?}: {answer}"
        );
    }
    let ask = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
    let mut stream = TcpStream::connect(rig.production()).await.unwrap();
    stream.write_all(ask.as_bytes()).await.unwrap();
    assert!(
        read_until(&mut stream, "\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 501")
    );
    assert_eq!(backend.requests(), 0);

    // Both lengths: what counts is chunked (RFC 9112), and the connection ends, so that what looks
    // like a second request is none.
    for both in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
    ] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
        let answer = raw(
            rig.production(),
            format!("POST / HTTP/1.1\r\nHost: x\r\n{both}\r\n\r\n0\r\n\r\n{smuggled}"),
        )
        .await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("got 0"),
            "{answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        let seen = backend.last_headers();
        assert!(!seen.contains_key("content-length"), "{seen:?}");
    }
    let paths: Vec<_> = backend
        .seen
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|(_, path, _)| path.clone())
        .collect();
    assert_eq!(paths, ["/", "/"]);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let backend = Backend::named("x").await;
    let rig = one_target(&backend).await;
    let ask = |bytes| {
        format!(
            "GET / HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\nConnection: close\r\n\r\n",
            "a".repeat(bytes)
        )
    };
    let mut stream = TcpStream::connect(rig.production()).await.unwrap();
    stream.write_all(ask(70 * 1024).as_bytes()).await.unwrap();
    assert!(
        read_until(&mut stream, "\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 431")
    );
    let answer = raw(rig.production(), ask(60 * 1024)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(backend.requests(), 1);
}

#[tokio::test]
async fn absolute_form_becomes_origin_form() {
    let backend = Backend::named("x").await;
    let rig = one_target(&backend).await;
    let ask = "GET http://example.org/path?q HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n";
    assert!(raw(rig.production(), ask).await.starts_with("HTTP/1.1 200"));
    let (_, uri, headers) = backend.seen.requests.lock().unwrap()[0].clone();
    assert_eq!(
        (uri.as_str(), &headers["host"]),
        ("/path?q", &HeaderValue::from_static("example.org"))
    );
}

#[tokio::test]
async fn stopping_lets_requests_finish() {
    let (feed, made) = fed();
    let made = Arc::new(Mutex::new(Some(made)));
    let backend = Backend::start(move |_| {
        let made = made.lock().unwrap().take().unwrap();
        async move { Response::new(made) }
    })
    .await;
    let rig = one_target(&backend).await;
    let mut client = Client::connect(rig.production()).await;
    let mut idle = Client::connect(rig.test()).await;
    assert_eq!(idle.get("/").await.0, 503);
    let mut log = rig.balancer.access_log(10);
    let mut response = client.send(request("GET", "/", "")).await.unwrap();
    let (balancer, address) = (rig.balancer.clone(), rig.production());
    let stopping = tokio::spawn(async move { balancer.stop().await });
    // Nobody new comes in.
    soon("the port is closed", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    feed.send("last words").unwrap();
    drop(feed);
    let frame = soon("the words", response.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "last words");
    soon("the load balancer has stopped", stopping)
        .await
        .unwrap();
    assert!(log.recv().await.is_some_and(|entry| entry.complete));
    assert!(
        log.recv().await.is_none(),
        "the log ends with the load balancer"
    );
}
