//! One probe: a GET through the test listener, and what became of it.
//!
//! Nothing is tried twice here. A probe that fails is a fact about green, as it would be one about a
//! user's request; a retry would hide exactly the faults that come and go.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};

use crate::config::Config;

/// So much of a body is read: what is longer has answered well enough.
const BODY: usize = 1024 * 1024;

/// How green can be known in a test listener's log.
const USER_AGENT: &str = concat!("serein-hook/", env!("CARGO_PKG_VERSION"));

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, with this status.
    Answered(StatusCode),
    /// The connection could not be made, or broke.
    Broken(String),
    /// No whole answer in time.
    TimedOut,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Answered(status) => write!(f, "{}", status.as_u16()),
            Outcome::Broken(why) => f.write_str(why),
            Outcome::TimedOut => f.write_str("no answer in time"),
        }
    }
}

impl Outcome {
    /// Whether the load balancer itself had to answer, or nobody did: these codes are what it says when
    /// no target is there, when one does not speak, and when one is silent (Elastic Load Balancing user
    /// guide, "Troubleshoot your Application Load Balancers").
    pub fn is_of_nobody(&self) -> bool {
        match self {
            Outcome::Answered(status) => matches!(status.as_u16(), 502..=504),
            Outcome::Broken(_) | Outcome::TimedOut => true,
        }
    }
}

/// A probe that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// Why no probe can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ProberError {
    /// TLS cannot be set up.
    #[error("cannot set up TLS for the test listener: {0}")]
    Tls(#[from] rustls::Error),
    /// There are no certificate authorities.
    #[error("cannot read the certificate authorities of this environment: {0}")]
    Roots(#[from] std::io::Error),
}

/// Sends probes.
#[derive(Debug)]
pub struct Prober {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    listener: (Scheme, Authority),
    limit: Duration,
}

impl Prober {
    /// Connections are made by the first probes, and kept.
    pub fn new(config: &Config) -> Result<Prober, ProberError> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let builder = HttpsConnectorBuilder::new();
        // Certificates are read where they are needed: they are most of what a start costs.
        let builder = if config.listener.0 == Scheme::HTTPS {
            builder.with_provider_and_native_roots(provider)?
        } else {
            let tls = ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            builder.with_tls_config(tls)
        };
        let connector = builder.https_or_http().enable_http1().build();
        Ok(Prober {
            client: Client::builder(TokioExecutor::new()).build(connector),
            listener: config.listener.clone(),
            limit: config.probe_timeout,
        })
    }

    /// Asks for a path.
    pub async fn ask(&self, path: PathAndQuery) -> Probe {
        let begun = Instant::now();
        let outcome = match tokio::time::timeout(self.limit, self.request(path)).await {
            Ok(Ok(status)) => Outcome::Answered(status),
            Ok(Err(why)) => Outcome::Broken(why),
            Err(_) => Outcome::TimedOut,
        };
        Probe {
            outcome,
            took: begun.elapsed(),
        }
    }

    async fn request(&self, path: PathAndQuery) -> Result<StatusCode, String> {
        let uri = Uri::builder()
            .scheme(self.listener.0.clone())
            .authority(self.listener.1.clone())
            .path_and_query(path)
            .build()
            .map_err(|error| error.to_string())?;
        let request = Request::get(uri)
            .header(http::header::USER_AGENT, USER_AGENT)
            .header(http::header::ACCEPT, "*/*")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let answer = self
            .client
            .request(request)
            .await
            .map_err(|e| innermost(&e))?;
        let status = answer.status();
        let mut body = answer.into_body();
        let mut read = 0;
        while read < BODY
            && let Some(frame) = body.frame().await
        {
            let frame = frame.map_err(|error| innermost(&error))?;
            read += frame.data_ref().map_or(0, Bytes::len);
        }
        Ok(status)
    }
}

/// The cause that says something: "connection refused" rather than "client error (Connect)".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
