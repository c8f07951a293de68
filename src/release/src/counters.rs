//! The stage's own counters, read over HTTP: its load balancer may be in another process.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use stage::elb::{COUNTERS_PATH, Counters};
use tokio::net::TcpStream;

/// How long an answer may take. It comes from this machine.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const LIMIT: usize = 1024 * 1024;

/// Why there are no counters this time.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the load balancer's counters at {url}: {why}")]
pub struct CountersError {
    url: String,
    why: String,
}

/// Where a stage's counters are.
#[derive(Debug, Clone)]
pub struct StageCounters {
    authority: String,
}

impl StageCounters {
    /// The counters of the stage with this endpoint, `http://host:port`.
    pub fn of(endpoint_url: &str) -> StageCounters {
        let authority = endpoint_url.trim_start_matches("http://");
        StageCounters {
            authority: authority.trim_end_matches('/').to_owned(),
        }
    }

    /// How things stand now.
    pub async fn read(&self) -> Result<Counters, CountersError> {
        let failed = |why: String| CountersError {
            url: format!("http://{}{COUNTERS_PATH}", self.authority),
            why,
        };
        match tokio::time::timeout(PATIENCE, self.get()).await {
            Ok(Ok(body)) => {
                serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))
            }
            Ok(Err(why)) => Err(failed(why)),
            Err(_) => Err(failed(format!("no answer in {} s", PATIENCE.as_secs()))),
        }
    }

    async fn get(&self) -> Result<Bytes, String> {
        let words = |error: &dyn std::error::Error| error.to_string();
        let stream = TcpStream::connect(&self.authority)
            .await
            .map_err(|error| words(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| words(&error))?;
        let connection = tokio::spawn(connection);
        let request = Request::get(COUNTERS_PATH)
            .header(header::HOST, &self.authority)
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| words(&error))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| words(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("it answers {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), LIMIT).collect().await;
        connection.abort();
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    }
}
