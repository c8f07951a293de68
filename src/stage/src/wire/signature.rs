//! Signature Version 4, verified.
//!
//! The verifier takes the request as it came: the headers that `SignedHeaders` lists, in their
//! order, whatever they are (boto signs four, the Rust SDK six), and the SHA-256 of the raw body.
//! It demands that those headers are signed which decide what the request means: the host, the
//! time and the target. The two signatures are compared in constant time, and a request is fresh
//! for fifteen minutes of *real* time ("AWS General Reference, Signature Version 4").
//!
//! S3 requests are not verified here: s3s knows S3's own variants of the scheme.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, request::Parts};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::ApiError;

/// How far a request's time may be from now.
const FRESHNESS: std::time::Duration = std::time::Duration::from_mins(15);

/// The only user of the stage, and the scope in which a signature is valid.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// The access key id.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: String,
    /// The region.
    pub region: String,
}

/// Verifies that `service` was meant, by our user, now, with exactly this body.
///
/// # Errors
/// `MissingAuthenticationTokenException`, `IncompleteSignatureException`,
/// `UnrecognizedClientException` or `InvalidSignatureException`, in AWS's words.
pub(crate) fn verify(
    credentials: &Credentials,
    service: &str,
    request: &Parts,
    body: &[u8],
    now: Timestamp,
) -> Result<(), ApiError> {
    let header = match request.headers.get(http::header::AUTHORIZATION) {
        None => {
            return Err(ApiError::client(
                "MissingAuthenticationTokenException",
                "Missing Authentication Token",
            ));
        }
        Some(value) => value
            .to_str()
            .map_err(|_| incomplete("Authorization header is not text"))?,
    };
    let authorization = Authorization::parse(header)?;
    if authorization.access_key != credentials.access_key {
        return Err(ApiError::client(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ));
    }
    for needed in ["host", "x-amz-target"] {
        if request.headers.contains_key(needed)
            && !authorization
                .signed_headers
                .split(';')
                .any(|name| name == needed)
        {
            return Err(invalid(format!(
                "'{needed}' must be a 'SignedHeader' in the AWS Authorization."
            )));
        }
    }
    let amz_date = text_header(&request.headers, "x-amz-date").ok_or_else(|| {
        incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        )
    })?;
    check_freshness(&amz_date, now)?;
    if authorization.date != amz_date.get(..8).unwrap_or_default() {
        return Err(invalid(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}', from '{amz_date}'.",
            authorization.date,
            amz_date.get(..8).unwrap_or_default(),
        )));
    }
    if authorization.region != credentials.region {
        return Err(invalid(format!(
            "Credential should be scoped to a valid region. (this stage is {})",
            credentials.region
        )));
    }
    if authorization.service != service {
        return Err(invalid(format!(
            "Credential should be scoped to correct service: '{service}'. "
        )));
    }

    let canonical = canonical_request(request, authorization.signed_headers, body)?;
    let scope = format!(
        "{}/{}/{service}/aws4_request",
        authorization.date, authorization.region
    );
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{amz_date}\n{scope}\n{}",
        hex::encode(Sha256::digest(canonical.as_bytes()))
    );
    let key = signing_key(
        &credentials.secret_key,
        authorization.date,
        authorization.region,
        service,
    );
    let given = hex::decode(authorization.signature).unwrap_or_default();
    // `verify_slice` compares in constant time.
    mac(&key, to_sign.as_bytes())
        .verify_slice(&given)
        .map_err(|_| ApiError {
            internal: Some(format!("the canonical request was:\n{canonical}")),
            ..invalid(
                "The request signature we calculated does not match the signature you provided. \
             Check your AWS Secret Access Key and signing method. Consult the service \
             documentation for details.",
            )
        })
}

/// Signs a request to `service`, for the calls that the stage itself makes: the inverse of
/// [`verify`]. The headers that are there are signed, the host among them.
pub(crate) fn sign(
    credentials: &Credentials,
    service: &str,
    request: &mut Parts,
    body: &[u8],
    now: Timestamp,
) {
    let amz_date = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = amz_date.get(..8).unwrap_or_default().to_owned();
    let hash = hex::encode(Sha256::digest(body));
    for (name, value) in [("x-amz-date", &amz_date), ("x-amz-content-sha256", &hash)] {
        if let Ok(value) = value.parse() {
            request.headers.insert(name, value);
        }
    }
    let mut names: Vec<&str> = request
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    names.sort_unstable();
    let names = names.join(";");
    // It fails for headers that are not text, and those above are.
    let Ok(canonical) = canonical_request(request, &names, body) else {
        return;
    };
    let region = &credentials.region;
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{amz_date}\n{scope}\n{}",
        hex::encode(Sha256::digest(canonical.as_bytes()))
    );
    let key = signing_key(&credentials.secret_key, &date, region, service);
    let signature = hex::encode(mac(&key, to_sign.as_bytes()).finalize().into_bytes());
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        credentials.access_key
    );
    if let Ok(value) = authorization.parse() {
        request.headers.insert(http::header::AUTHORIZATION, value);
    }
}

/// The service in a signature's scope; `None` without a signature in the header.
pub(crate) fn signed_service(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    Authorization::parse(header)
        .ok()
        .map(|authorization| authorization.service)
}

/// The parts of an `Authorization` header.
struct Authorization<'a> {
    access_key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(header: &'a str) -> Result<Self, ApiError> {
        let rest = header.strip_prefix("AWS4-HMAC-SHA256").ok_or_else(|| {
            incomplete("Unsupported AWS 'algorithm'; this stage takes AWS4-HMAC-SHA256.")
        })?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            match part.trim().split_once('=') {
                Some(("Credential", value)) => credential = Some(value),
                Some(("SignedHeaders", value)) => signed_headers = Some(value),
                Some(("Signature", value)) => signature = Some(value),
                _ => {}
            }
        }
        let missing =
            |name: &str| incomplete(format!("Authorization header requires '{name}' parameter."));
        let credential = credential.ok_or_else(|| missing("Credential"))?;
        let signed_headers = signed_headers.ok_or_else(|| missing("SignedHeaders"))?;
        let signature = signature.ok_or_else(|| missing("Signature"))?;
        let mut scope = credential.rsplitn(5, '/');
        let (Some("aws4_request"), Some(service), Some(region), Some(date), Some(access_key)) = (
            scope.next(),
            scope.next(),
            scope.next(),
            scope.next(),
            scope.next(),
        ) else {
            return Err(incomplete(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term",
            ));
        };
        Ok(Self {
            access_key,
            date,
            region,
            service,
            signed_headers,
            signature,
        })
    }
}

fn check_freshness(amz_date: &str, now: Timestamp) -> Result<(), ApiError> {
    let signed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", amz_date)
        .ok()
        .and_then(|at| at.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .ok_or_else(|| {
            incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got '{amz_date}'. See http://en.wikipedia.org/wiki/ISO_8601"
            ))
        })?
        .timestamp();
    let basic = |at: Timestamp| at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let distance = now.duration_since(signed);
    if distance.unsigned_abs() <= FRESHNESS {
        return Ok(());
    }
    let (wrong, edge, sign) = if distance.is_negative() {
        ("Signature not yet current", now + FRESHNESS, '+')
    } else {
        ("Signature expired", now - FRESHNESS, '-')
    };
    let order = if distance.is_negative() {
        "still later"
    } else {
        "now earlier"
    };
    Err(invalid(format!(
        "{wrong}: {amz_date} is {order} than {} ({} {sign} 15 min.)",
        basic(edge),
        basic(now)
    )))
}

fn canonical_request(
    request: &Parts,
    signed_headers: &str,
    body: &[u8],
) -> Result<String, ApiError> {
    let mut canonical = format!("{}\n{}\n", request.method, request.uri.path());
    let mut query: Vec<_> = request.uri.query().unwrap_or_default().split('&').collect();
    query.retain(|pair| !pair.is_empty());
    query.sort_unstable();
    let query: Vec<_> = query
        .iter()
        .map(|pair| {
            if pair.contains('=') {
                (*pair).to_owned()
            } else {
                format!("{pair}=")
            }
        })
        .collect();
    canonical.push_str(&query.join("&"));
    canonical.push('\n');
    for name in signed_headers.split(';') {
        let value = text_header(&request.headers, name)
            .ok_or_else(|| invalid(format!("the signed header '{name}' is not in the request.")))?;
        canonical.push_str(name);
        canonical.push(':');
        canonical.push_str(&value);
        canonical.push('\n');
    }
    canonical.push('\n');
    canonical.push_str(signed_headers);
    canonical.push('\n');
    canonical.push_str(&hex::encode(Sha256::digest(body)));
    Ok(canonical)
}

/// A header's values joined by commas, each trimmed and with runs of blanks made one.
fn text_header(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek()?;
    let values: Option<Vec<String>> = values
        .map(|value| {
            let text = value.to_str().ok()?;
            Some(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect();
    values.map(|values| values.join(","))
}

fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> Vec<u8> {
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [date, region, service, "aws4_request"] {
        key = mac(&key, part.as_bytes()).finalize().into_bytes().to_vec();
    }
    key
}

fn mac(key: &[u8], data: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(data);
    mac
}

fn incomplete(message: impl Into<String>) -> ApiError {
    ApiError::client("IncompleteSignatureException", message)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidSignatureException", message)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// `iam` and the keys below are the example of "AWS General Reference, Signature Version 4
    /// signing process, examples of how to derive a signing key".
    #[test]
    fn the_signing_key_is_that_of_the_aws_general_reference() {
        let key = signing_key(
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "20150830",
            "us-east-1",
            "iam",
        );
        assert_eq!(
            hex::encode(key),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
    }

    /// The request of the same example: `GET /?Action=ListUsers&Version=2010-05-08`.
    fn example() -> (Credentials, Parts, Timestamp) {
        let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        let (parts, ()) = http::Request::get("/?Action=ListUsers&Version=2010-05-08")
            .header("Host", "iam.amazonaws.com")
            .header(
                "Content-Type",
                "application/x-www-form-urlencoded; charset=utf-8",
            )
            .header("X-Amz-Date", "20150830T123600Z")
            .header("Authorization", authorization)
            .body(())
            .unwrap()
            .into_parts();
        let credentials = Credentials {
            access_key: "AKIDEXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            region: "us-east-1".into(),
        };
        (credentials, parts, "2015-08-30T12:40:00Z".parse().unwrap())
    }

    fn name(result: Result<(), ApiError>) -> &'static str {
        result.unwrap_err().name
    }

    #[test]
    fn the_example_of_the_aws_general_reference_verifies() {
        let (credentials, parts, now) = example();
        verify(&credentials, "iam", &parts, b"", now).unwrap();
    }

    #[test]
    fn one_changed_byte_anywhere_is_refused() {
        let (credentials, parts, now) = example();
        assert_eq!(
            name(verify(&credentials, "iam", &parts, b"x", now)),
            "InvalidSignatureException"
        );
        let mut other = parts.clone();
        other.uri = "/?Action=ListUsers&Version=2010-05-09".parse().unwrap();
        assert_eq!(
            name(verify(&credentials, "iam", &other, b"", now)),
            "InvalidSignatureException"
        );
        let mut other = parts;
        other
            .headers
            .insert("host", "iam.example.com".parse().unwrap());
        assert_eq!(
            name(verify(&credentials, "iam", &other, b"", now)),
            "InvalidSignatureException"
        );
    }

    #[test]
    fn who_is_asked_before_what() {
        let (credentials, mut parts, now) = example();
        let other = Credentials {
            access_key: "AKIDOTHER".into(),
            ..credentials.clone()
        };
        assert_eq!(
            name(verify(&other, "iam", &parts, b"", now)),
            "UnrecognizedClientException"
        );
        let other = Credentials {
            region: "eu-west-1".into(),
            ..credentials.clone()
        };
        assert_eq!(
            name(verify(&other, "iam", &parts, b"", now)),
            "InvalidSignatureException"
        );
        assert_eq!(
            name(verify(&credentials, "ecs", &parts, b"", now)),
            "InvalidSignatureException"
        );
        parts.headers.insert(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=x".parse().unwrap(),
        );
        assert_eq!(
            name(verify(&credentials, "iam", &parts, b"", now)),
            "IncompleteSignatureException"
        );
        parts.headers.remove("authorization");
        assert_eq!(
            name(verify(&credentials, "iam", &parts, b"", now)),
            "MissingAuthenticationTokenException"
        );
    }

    #[test]
    fn a_request_is_fresh_for_fifteen_minutes_either_way() {
        let (credentials, parts, _) = example();
        let at = |text: &str| {
            verify(
                &credentials,
                "iam",
                &parts,
                b"",
                text.parse::<Timestamp>().unwrap(),
            )
        };
        at("2015-08-30T12:51:00Z").unwrap();
        at("2015-08-30T12:21:00Z").unwrap();
        let old = at("2015-08-30T12:51:01Z").unwrap_err();
        assert!(
            old.message
                .starts_with("Signature expired: 20150830T123600Z"),
            "{old}"
        );
        let early = at("2015-08-30T12:20:59Z").unwrap_err();
        assert!(
            early.message.starts_with("Signature not yet current"),
            "{early}"
        );
    }

    #[test]
    fn what_is_signed_here_verifies() {
        let (credentials, _, now) = example();
        let (mut parts, ()) = http::Request::post("/a%20b?x=1")
            .header("Host", "127.0.0.1:5000")
            .header("X-Amz-Target", "secretsmanager.GetSecretValue")
            .body(())
            .unwrap()
            .into_parts();
        sign(&credentials, "secretsmanager", &mut parts, b"{}", now);
        verify(&credentials, "secretsmanager", &parts, b"{}", now).unwrap();
        assert_eq!(signed_service(&parts.headers), Some("secretsmanager"));
        assert_eq!(
            name(verify(&credentials, "secretsmanager", &parts, b"{ }", now)),
            "InvalidSignatureException"
        );
    }

    #[test]
    fn the_target_must_be_signed() {
        let (credentials, mut parts, now) = example();
        parts
            .headers
            .insert("x-amz-target", "Iam.ListUsers".parse().unwrap());
        let error = verify(&credentials, "iam", &parts, b"", now).unwrap_err();
        assert!(error.message.contains("'x-amz-target' must be"), "{error}");
    }
}
