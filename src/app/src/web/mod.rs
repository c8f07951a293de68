//! What the application answers.
//!
//! Two layers: the pages below, which know nothing of what every request has in common, and
//! [`answer`] around them, which gives each request its id, its time limit, its access line and, if a
//! page panics, its 500.

pub mod access;
mod error;
pub mod trace;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{BoxError, Json, Router};
use futures_util::FutureExt;
use hyper::body::{Body, Bytes};
use serde_json::json;
use tokio::time::timeout;
use tower::Service;
use tracing::{Instrument, error, info, info_span, warn};

use self::access::Access;
use self::error::Failure;
use crate::database::Database;
use crate::{random, version};

/// What the pages share.
pub struct App {
    /// The database.
    pub database: Database,
    /// Per cent of the requests to `/` that fail on purpose.
    pub fail_percent: u8,
    /// Set once the end has begun: not ready from then on.
    pub draining: AtomicBool,
    ready: AtomicBool,
}

impl App {
    /// Serving, and not yet known to be ready.
    pub fn new(database: Database, fail_percent: u8) -> Self {
        Self {
            database,
            fail_percent,
            draining: AtomicBool::new(false),
            ready: AtomicBool::new(false),
        }
    }
}

/// All pages.
pub fn pages(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(message))
        .route("/healthz/live", get(live))
        .route("/healthz/ready", get(ready))
        .fallback(async || Failure::NotFound)
        .method_not_allowed_fallback(async || Failure::Method)
        .with_state(app)
}

/// Answers one request, whatever happens.
pub async fn answer<B>(mut pages: Router, request: Request<B>, limit: Duration) -> Response
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let trace_id = trace::of(request.headers());
    let span = info_span!("request", trace_id = trace_id.to_str().unwrap_or_default());
    let mut access = Access::new(&request, span.clone());
    let page = AssertUnwindSafe(async move { pages.call(request).await }).catch_unwind();
    let mut response = match timeout(limit, page.instrument(span)).await {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(never))) => match never {},
        Ok(Err(_panic)) => Failure::Panic.into_response(), // the panic hook has logged it
        Err(_) => Failure::TooSlow(limit).into_response(),
    };
    response.headers_mut().insert(trace::HEADER, trace_id);
    access.status = Some(response.status());
    response
}

/// `GET /`: the message and the version, or the failure that this version has or was told to have.
async fn message(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Failure> {
    if random::happens(app.fail_percent) {
        return Err(Failure::OnPurpose);
    }
    let accept = headers
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok());
    let message = app.database.message(accept.unwrap_or_default()).await?;
    let body = Json(json!({ "message": message.text, "version": version::NUMBER }));
    let mut response = body.into_response();
    if let Some(language) = message.language {
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("accept-language"));
        if let Ok(language) = HeaderValue::from_str(&language) {
            headers.insert(header::CONTENT_LANGUAGE, language);
        }
    }
    Ok(response)
}

/// `GET /healthz/live`: the process answers. It says nothing of the database, because restarting the
/// process would not mend it.
async fn live() -> Response {
    Json(json!({ "live": true, "version": version::NUMBER })).into_response()
}

/// `GET /healthz/ready`: 200 if requests can be served, else 503 and what is wrong.
async fn ready(State(app): State<Arc<App>>) -> Response {
    let problem = if app.draining.load(Ordering::Relaxed) {
        Some("shutting down".to_owned())
    } else {
        match app.database.missing_steps().await {
            Ok(missing) if missing.is_empty() => None,
            Ok(missing) => Some(format!(
                "the database's schema is too old for version {}: it lacks migration step(s) {}; \
                 run `app migrate` of this version",
                version::NUMBER,
                missing
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
            )),
            Err(error) => Some(error.to_string()),
        }
    };
    let ready = problem.is_none();
    if app.ready.swap(ready, Ordering::Relaxed) != ready || !ready {
        match &problem {
            None => info!("ready"),
            Some(problem) => warn!(problem, "not ready"),
        }
    }
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let problems: Vec<String> = problem.into_iter().collect();
    let body = json!({ "ready": ready, "version": version::NUMBER, "problems": problems });
    (status, Json(body)).into_response()
}

impl From<crate::database::DatabaseError> for Failure {
    fn from(error: crate::database::DatabaseError) -> Self {
        error!(%error, "no message");
        if error.is_outage() {
            Self::Outage
        } else {
            Self::Fault
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// What a page gives, whatever it does.
    async fn answer_of(pages: Router) -> (u16, String) {
        let request = Request::get("/").body(axum::body::Body::empty()).unwrap();
        let response = answer(pages, request, Duration::from_millis(50)).await;
        assert!(response.headers().contains_key(trace::HEADER));
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 10_000)
            .await
            .unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_page_that_panics_is_a_500() {
        async fn page() -> String {
            panic!("on purpose")
        }
        let (status, body) = answer_of(Router::new().route("/", get(page))).await;
        let expected = format!(
            r#"{{"error":"internal error","version":"{}"}}"#,
            version::NUMBER
        );
        assert_eq!((status, body), (500, expected));
    }

    #[tokio::test]
    async fn a_page_that_hangs_is_a_503() {
        let page = get(async || std::future::pending::<String>().await);
        let (status, body) = answer_of(Router::new().route("/", page)).await;
        assert!(
            status == 503 && body.contains("no answer in 50ms"),
            "{status} {body}"
        );
    }
}
