//! The program and the servers around it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Longer than anything takes here, also on a busy machine.
pub const LIMIT: Duration = Duration::from_mins(1);

/// What a server answers: a status and a body, after a while.
pub type Reply = (u16, String, Duration);

/// A server on a free port that writes down what it is asked.
#[derive(Clone)]
pub struct Server {
    pub port: u16,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

/// Either end of a connection with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The certificate of servers with TLS, for 127.0.0.1. It signs itself and is valid for a hundred years.
pub const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/certificate.pem");
/// A certificate that has nothing to do with it.
pub const ANOTHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/another.pem");
/// Of no other use than these tests.
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/key.pem");

fn tls() -> TlsAcceptor {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certificate = CertificateDer::from_pem_file(CERTIFICATE).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate],
            PrivateKeyDer::from_pem_file(KEY).unwrap(),
        );
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

impl Server {
    pub async fn start(reply: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_with(None, reply).await
    }

    /// The same behind [`CERTIFICATE`].
    pub async fn start_tls(reply: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_with(Some(tls()), reply).await
    }

    async fn start_with(
        tls: Option<TlsAcceptor>,
        reply: impl Fn(&str, usize) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, reply) = (asked.clone(), Arc::new(reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stream: Box<dyn Stream> = match &tls {
                    None => Box::new(stream),
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => continue,
                    },
                };
                let (log, reply) = (log.clone(), reply.clone());
                let answer = service_fn(move |request: Request<Incoming>| {
                    let (log, reply) = (log.clone(), reply.clone());
                    async move {
                        let path = request.uri().path().to_owned();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                        let before = {
                            let mut log = log.lock().unwrap();
                            log.push((path.clone(), body));
                            log.len() - 1
                        };
                        let (status, text, after) = reply(&path, before);
                        tokio::time::sleep(after).await;
                        let response = Response::builder()
                            .status(status)
                            .body(Full::new(Bytes::from(text)));
                        Ok::<_, Infallible>(response.unwrap())
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Server { port, asked }
    }

    /// Bodies of requests to this path.
    pub fn asked(&self, path: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        let bodies = asked.iter().filter(|(asked, _)| asked == path);
        bodies.map(|(_, body)| body.clone()).collect()
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// At once, with an empty body.
pub fn now(status: u16) -> Reply {
    (status, String::new(), Duration::ZERO)
}

/// A CodeDeploy that takes the answer, after refusing it with these statuses and exceptions.
pub async fn codedeploy(refusals: &[(u16, &'static str)]) -> Server {
    let refusals = refusals.to_vec();
    Server::start(move |_, before| match refusals.get(before) {
        Some((status, code)) => {
            let body = json!({"__type": code, "message": "no"}).to_string();
            (*status, body, Duration::ZERO)
        }
        None => (200, "{}".to_owned(), Duration::ZERO),
    })
    .await
}

/// What the function said to the runtime API.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Response(Value),
    Error(Value),
}

/// The program behind a runtime API. Dropped, it is killed.
pub struct Function {
    child: Child,
    said: Arc<Mutex<Vec<Said>>>,
    log: tempfile::NamedTempFile,
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Function {
    /// Starts it with these variables and gives it events, each with so much time.
    pub async fn start(
        codedeploy: &Server,
        variables: &[(&str, &str)],
        events: &[(Value, Duration)],
    ) -> Function {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = listener.local_addr().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let events: VecDeque<_> = events.iter().cloned().collect();
        tokio::spawn(runtime_api(
            listener,
            Arc::new(Mutex::new(events)),
            said.clone(),
        ));
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hook"));
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", api.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "CodeDeployHook_test")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env(
                "AWS_ENDPOINT_URL",
                format!("http://127.0.0.1:{}", codedeploy.port),
            )
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.reopen().unwrap());
        Function {
            child: command.spawn().unwrap(),
            said,
            log,
        }
    }

    /// Waits until it has said so much.
    pub async fn said(&mut self, count: usize) -> Vec<Said> {
        let begun = Instant::now();
        loop {
            let said = self.said.lock().unwrap().clone();
            if said.len() >= count {
                return said;
            }
            assert_eq!(
                self.child.try_wait().unwrap(),
                None,
                "it ended: {:?}",
                self.log()
            );
            assert!(begun.elapsed() < LIMIT, "it says nothing: {:?}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The lines in its log.
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log.path()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

async fn runtime_api(
    listener: TcpListener,
    events: Arc<Mutex<VecDeque<(Value, Duration)>>>,
    said: Arc<Mutex<Vec<Said>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (events, said) = (events.clone(), said.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            let (events, said) = (events.clone(), said.clone());
            async move {
                let path = request.uri().path().to_owned();
                let path = path
                    .strip_prefix("/2018-06-01/runtime/invocation/")
                    .unwrap();
                let mut response = Response::builder();
                let mut body = String::new();
                if path == "next" {
                    let next = events.lock().unwrap().pop_front();
                    let Some((payload, time)) = next else {
                        std::future::pending::<()>().await;
                        unreachable!("pending never ends");
                    };
                    let deadline = (SystemTime::now() + time).duration_since(UNIX_EPOCH);
                    response = response
                        .header("lambda-runtime-aws-request-id", "request-1")
                        .header(
                            "lambda-runtime-deadline-ms",
                            deadline.unwrap().as_millis().to_string(),
                        )
                        .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:x")
                        .header("lambda-runtime-trace-id", "Root=1-0-0");
                    body = payload.to_string();
                } else {
                    let given = request.into_body().collect().await.unwrap().to_bytes();
                    let given = serde_json::from_slice(&given).unwrap();
                    said.lock().unwrap().push(match path {
                        "request-1/response" => Said::Response(given),
                        "request-1/error" => Said::Error(given),
                        other => panic!("what is {other}?"),
                    });
                    response = response.status(202);
                }
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

/// What CodeDeploy sends.
pub fn call() -> Value {
    json!({"DeploymentId": "d-1", "LifecycleEventHookExecutionId": "e-1"})
}
