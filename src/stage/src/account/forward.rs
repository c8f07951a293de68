//! What passes: every request that is not for CodeDeploy, ECS, the registry or an object of S3.
//!
//! Requests go on as they came, signature and all. In answers the addresses of what is real here are
//! put in place of the emulator's: the load balancer's name, the database's endpoint, the
//! repository's host. An instance of RDS that is created becomes a database of the stage's PostgreSQL,
//! with the master password that Secrets Manager keeps, and a function of Lambda one of the stage's.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::{
    Account, function,
    upstream::{BODY_LIMIT, UpstreamError},
    xml::Element,
};
use crate::{
    s3::ObjectStore,
    wire::{Body, Handler, full_body, signed_service},
};

impl Account {
    /// What answers requests. Buckets are the upstream's, what is in them is in `objects`.
    pub fn handler(&self, objects: &ObjectStore) -> Handler {
        let (account, store, serve) = (self.clone(), objects.clone(), objects.handler());
        Box::new(move |request: Request<Incoming>| {
            if signed_service(request.headers()) == Some("s3") && is_about_objects(request.uri()) {
                return serve(request);
            }
            let (account, store) = (account.clone(), store.clone());
            Box::pin(async move { account.forward(request, &store).await })
        })
    }

    async fn forward(&self, request: Request<Incoming>, objects: &ObjectStore) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let service = signed_service(&parts.headers)
            .unwrap_or_default()
            .to_owned();
        let body = match Limited::new(body, BODY_LIMIT).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                return text(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    &format!("the body could not be read: {error}"),
                );
            }
        };
        let action = form(&body, "Action").filter(|_| service == "rds");
        hop_by_hop(&mut parts.headers);
        let what = format!("{} {}", parts.method, parts.uri.path());
        let bucket = Some(parts.uri.path().trim_matches('/').to_owned()).filter(|_| {
            service == "s3"
                && parts
                    .uri
                    .query()
                    .is_none_or(|query| query.starts_with("x-id="))
        });
        let method = parts.method.clone();
        let password = form(&body, "MasterUserPassword");
        let creates = service == "lambda"
            && parts.method == Method::POST
            && parts.uri.path().trim_end_matches('/') == function::CREATE;
        let function = creates.then(|| body.clone());
        let answer = match self
            .0
            .upstream
            .send(&what, Request::from_parts(parts, body))
            .await
        {
            Ok(answer) => answer,
            // Not a 5xx: clients would try it again for minutes before they tell anybody.
            Err(error) => return text(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let (mut parts, body) = answer.into_parts();
        hop_by_hop(&mut parts.headers);
        parts.headers.remove(header::CONTENT_LENGTH);
        // Emulators answer what they do not know with 500, which clients try again for minutes.
        if parts.status == StatusCode::INTERNAL_SERVER_ERROR {
            parts.status = StatusCode::NOT_IMPLEMENTED;
        }
        if parts.status.is_success()
            && action.as_deref() == Some("CreateDBInstance")
            && let Err(problem) = self.make_database(&body, password).await
        {
            return text(StatusCode::BAD_REQUEST, &problem);
        }
        if parts.status.is_success()
            && let Some(function) = function
            && let Err(problem) = self.make_function(&function)
        {
            return text(StatusCode::BAD_REQUEST, &problem);
        }
        if let (Some(bucket), true) = (&bucket, parts.status.is_success()) {
            let done = match method {
                Method::PUT => objects.make_bucket(bucket),
                Method::DELETE => objects.remove_bucket(bucket),
                _ => Ok(()),
            };
            if let Err(error) = done {
                tracing::error!(%error, bucket, "a bucket is not here as it is upstream");
            }
        }
        let body = self.with_our_addresses(&service, body);
        Response::from_parts(parts, full_body(body))
    }

    /// The database that `CreateDBInstance` has answered with.
    async fn make_database(&self, answer: &[u8], password: Option<String>) -> Result<(), String> {
        let answer = Element::parse(&String::from_utf8_lossy(answer))
            .ok_or("the answer of CreateDBInstance cannot be read")?;
        let password = match answer.text("SecretArn") {
            "" => password.unwrap_or_default(),
            arn => {
                let secret: Result<String, UpstreamError> = self.secret(arn).await;
                let secret = secret.map_err(|error| error.to_string())?;
                let secret: Value = serde_json::from_str(&secret).unwrap_or_default();
                secret["password"].as_str().unwrap_or_default().to_owned()
            }
        };
        let (name, user) = (answer.text("DBName"), answer.text("MasterUsername"));
        if name.is_empty() || user.is_empty() || password.is_empty() {
            return Err("a database needs a name, a user and a password".to_owned());
        }
        let made = self
            .0
            .parts
            .postgres
            .create_database(name, user, &password)
            .await;
        made.map(drop).map_err(|error| error.to_string())
    }

    /// The body with the addresses of what is real here.
    fn with_our_addresses(&self, service: &str, body: Bytes) -> Bytes {
        let parts = &self.0.parts;
        let Ok(text) = std::str::from_utf8(&body) else {
            return body;
        };
        match service {
            "elasticloadbalancing" => {
                let address = parts.front.get().load_balancer.production_address();
                within(text, "DNSName", |_| address.ip().to_string()).into()
            }
            "rds" => {
                let address = parts.postgres.address();
                within(text, "Endpoint", |endpoint| {
                    let endpoint = within(endpoint, "Address", |_| address.ip().to_string());
                    within(&endpoint, "Port", |_| address.port().to_string())
                })
                .into()
            }
            "ecr" => match serde_json::from_str(text) {
                Ok(mut answer) => {
                    our_registry(&mut answer, &parts.registry.to_string());
                    answer.to_string().into()
                }
                Err(_) => body,
            },
            _ => body,
        }
    }
}

/// Whether a request of S3 is about objects: it names one, or lists them.
fn is_about_objects(uri: &Uri) -> bool {
    let in_a_bucket = uri.path().trim_start_matches('/').split_once('/');
    let lists = uri
        .query()
        .is_some_and(|query| query.contains("list-type="));
    lists || in_a_bucket.is_some_and(|(_, key)| !key.is_empty())
}

/// Headers that are about a connection and not about what goes over it.
fn hop_by_hop(headers: &mut HeaderMap) {
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::TE,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

fn text(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(full_body(message.to_owned()));
    *response.status_mut() = status;
    response
}

/// A parameter of a query API's request.
fn form(body: &[u8], name: &str) -> Option<String> {
    let body = std::str::from_utf8(body).ok()?;
    let (_, value) = body
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Replaces what is in every element of that name. Elements of one name are not in each other.
fn within(text: &str, name: &str, change: impl Fn(&str) -> String) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut changed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once(&open) {
        let Some((inside, after)) = inside.split_once(&close) else {
            break;
        };
        changed.push_str(before);
        changed.push_str(&open);
        changed.push_str(&change(inside));
        changed.push_str(&close);
        rest = after;
    }
    changed.push_str(rest);
    changed
}

/// Every `repositoryUri` begins with our registry.
fn our_registry(answer: &mut Value, registry: &str) {
    match answer {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(uri) if name == "repositoryUri" => {
                        if let Some((_, repository)) = uri.split_once('/') {
                            *uri = format!("{registry}/{repository}");
                        }
                    }
                    value => our_registry(value, registry),
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| our_registry(item, registry)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_named_or_listed() {
        for (uri, is) in [
            ("/bucket/appspecs/1.yaml?x-id=PutObject", true),
            ("/bucket?list-type=2&prefix=a", true),
            ("/bucket", false),
            ("/bucket/", false),
            ("/bucket/?policy", false),
            ("/bucket?versions", false),
            ("/", false),
        ] {
            assert_eq!(is_about_objects(&uri.parse().expect("a URI")), is, "{uri}");
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let body = b"Action=CreateDBInstance&MasterUserPassword=a%26b+c%C3%A9&Broken=%2";
        assert_eq!(form(body, "Action").as_deref(), Some("CreateDBInstance"));
        assert_eq!(form(body, "MasterUserPassword").as_deref(), Some("a&b cé"));
        assert_eq!(form(body, "Broken"), None);
        assert_eq!(form(body, "Nothing"), None);
    }

    #[test]
    fn addresses_are_put_in_place() {
        let text = "<A><Port>1</Port><Endpoint><Address>x</Address><Port>5432</Port></Endpoint><Endpoint/></A>";
        let changed = within(text, "Endpoint", |inside| {
            within(inside, "Port", |_| "7".into())
        });
        assert_eq!(
            changed,
            "<A><Port>1</Port><Endpoint><Address>x</Address><Port>7</Port></Endpoint><Endpoint/></A>"
        );
        assert_eq!(within("<A>x", "A", |_| "y".into()), "<A>x");
    }

    #[test]
    fn repositories_are_in_our_registry() {
        let mut answer = json!({ "repositories": [{ "repositoryUri": "1.dkr.ecr.example/shop/web", "repositoryName": "shop/web" }] });
        our_registry(&mut answer, "127.0.0.1:5000");
        assert_eq!(
            answer,
            json!({ "repositories": [{ "repositoryUri": "127.0.0.1:5000/shop/web", "repositoryName": "shop/web" }] })
        );
    }
}
