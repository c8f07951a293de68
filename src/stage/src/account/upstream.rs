//! Calls to the endpoint that serves the rest of the account, as CodeDeploy and ECS make them at
//! AWS: a few reads of ELB, CloudWatch, Secrets Manager and STS, and one write.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

use super::xml::Element;
use crate::wire::{Credentials, sign};

/// How long one call may take: an emulator is quick, or hangs.
const TIMEOUT: Duration = Duration::from_mins(1);
/// The largest body that is carried, either way.
pub(super) const BODY_LIMIT: usize = 256 * 1024 * 1024;

/// The endpoint.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    authority: Authority,
    credentials: Credentials,
}

/// Why a call did not lead to an answer that can be used.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// The URL is not one of this form.
    #[error("cannot use {0:?} as the upstream endpoint: write it as http://HOST:PORT")]
    Url(String),
    /// No answer.
    #[error("cannot reach the upstream endpoint {authority} for {what}: {problem}; does it run?")]
    Unreachable {
        /// Host and port.
        authority: String,
        /// The call.
        what: String,
        /// What happened.
        problem: String,
    },
    /// An error, or something that is not an answer.
    #[error("the upstream endpoint answers {what} with {status}: {text}")]
    Refused {
        /// The call.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        text: String,
    },
}

impl Upstream {
    /// An endpoint `http://HOST:PORT`; nothing is asked yet.
    pub fn new(url: &str, credentials: Credentials) -> Result<Self, UpstreamError> {
        let uri: Uri = url
            .trim_end_matches('/')
            .parse()
            .map_err(|_| UpstreamError::Url(url.to_owned()))?;
        let plain = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
        let authority = uri.authority().filter(|_| plain).cloned();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            authority: authority.ok_or_else(|| UpstreamError::Url(url.to_owned()))?,
            credentials,
        })
    }

    /// Host and port.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// One request, and the whole answer. `what` is for messages.
    pub async fn send(
        &self,
        what: &str,
        mut request: Request<Bytes>,
    ) -> Result<Response<Bytes>, UpstreamError> {
        let unreachable = |problem: String| UpstreamError::Unreachable {
            authority: self.authority.to_string(),
            what: what.to_owned(),
            problem,
        };
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str());
        *request.uri_mut() = format!("http://{}{path}", self.authority)
            .parse()
            .map_err(|error: http::uri::InvalidUri| unreachable(error.to_string()))?;
        let exchange = async {
            let answer = self
                .client
                .request(request.map(Full::new))
                .await
                .map_err(|error| unreachable(error.to_string()))?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, BODY_LIMIT)
                .collect()
                .await
                .map_err(|error| unreachable(error.to_string()))?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(unreachable(format!("no answer in {TIMEOUT:?}"))))
    }

    /// A call of a query API (ELB, CloudWatch, STS): parameters in, XML out.
    pub async fn query(
        &self,
        service: &str,
        version: &str,
        action: &str,
        parameters: &[(String, String)],
    ) -> Result<Element, UpstreamError> {
        let mut body = format!("Action={action}&Version={version}");
        for (name, value) in parameters {
            body.push('&');
            body.push_str(&encode(name));
            body.push('=');
            body.push_str(&encode(value));
        }
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        let headers = [(header::CONTENT_TYPE.as_str(), kind)];
        let answer = self.call(service, action, &headers, body.into()).await?;
        let text = String::from_utf8_lossy(answer.body());
        Element::parse(&text).ok_or_else(|| refused(action, StatusCode::OK, answer.body()))
    }

    /// A call of a JSON API: `target` as `secretsmanager.GetSecretValue`.
    pub async fn json(
        &self,
        service: &str,
        target: &str,
        input: &Value,
    ) -> Result<Value, UpstreamError> {
        let headers = [
            (header::CONTENT_TYPE.as_str(), "application/x-amz-json-1.1"),
            ("x-amz-target", target),
        ];
        let body = input.to_string().into();
        let answer = self.call(service, target, &headers, body).await?;
        serde_json::from_slice(answer.body())
            .map_err(|_| refused(target, StatusCode::OK, answer.body()))
    }

    /// The account that the credentials belong to.
    pub async fn account_id(&self) -> Result<String, UpstreamError> {
        let answer = self
            .query("sts", "2011-06-15", "GetCallerIdentity", &[])
            .await?;
        Ok(answer.text("Account").to_owned())
    }

    async fn call(
        &self,
        service: &str,
        what: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response<Bytes>, UpstreamError> {
        let mut request = Request::builder().method(Method::POST).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let host = HeaderValue::from_str(self.authority.as_str());
        let request = host
            .map_err(http::Error::from)
            .and_then(|host| request.header(header::HOST, host).body(body))
            .map_err(|_| UpstreamError::Url(self.authority.to_string()))?;
        let (mut parts, body) = request.into_parts();
        sign(
            &self.credentials,
            service,
            &mut parts,
            &body,
            jiff::Timestamp::now(),
        );
        let answer = self.send(what, Request::from_parts(parts, body)).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(refused(what, answer.status(), answer.body()))
    }
}

fn refused(what: &str, status: StatusCode, body: &[u8]) -> UpstreamError {
    let text = String::from_utf8_lossy(body);
    UpstreamError::Refused {
        what: what.to_owned(),
        status: status.as_u16(),
        text: text.chars().take(300).collect(),
    }
}

/// Percent-encoding as signatures want it: everything but letters, digits and `-._~`.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn credentials() -> Credentials {
        Credentials {
            access_key: "stage".into(),
            secret_key: "stage".into(),
            region: "eu-west-1".into(),
        }
    }

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        for url in ["http://127.0.0.1:5000", "http://127.0.0.1:5000/"] {
            let upstream = Upstream::new(url, credentials()).unwrap();
            assert_eq!(upstream.authority(), "127.0.0.1:5000");
        }
        for url in [
            "",
            "5000",
            "127.0.0.1:5000",
            "https://127.0.0.1:5000",
            "http://a/b",
        ] {
            let error = Upstream::new(url, credentials()).unwrap_err().to_string();
            assert!(
                error.contains("write it as http://HOST:PORT"),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn parameters_are_encoded() {
        assert_eq!(encode("a b/c:d~é"), "a%20b%2Fc%3Ad~%C3%A9");
    }
}
