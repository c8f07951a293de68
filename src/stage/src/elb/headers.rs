//! What happens to headers on the way through.
//!
//! Towards the target: the hop-by-hop headers go, `X-Forwarded-For`, `-Proto`, `-Port` and
//! `X-Amzn-Trace-Id` come ("X-forwarded headers" and "Request tracing", ALB guide). Towards the
//! client: only the hop-by-hop headers go. How a body is delimited is each connection's own affair,
//! and hyper's: what is written on one side never depends on the bytes of a length header read on
//! the other, which is what request smuggling lives on.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{self, Entry},
};

pub(super) const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Why a request is not forwarded.
///
/// hyper has refused before what cannot be parsed, differing `Content-Length`s, and `chunked` that
/// is not the last coding (all 400). A request with both `Content-Length` and `Transfer-Encoding` is
/// *ambiguous*, not malformed: as ALB does in its default desync mitigation mode, it is
/// forwarded (with the one framing that RFC 9112 says counts) and the connection closed.
pub(super) fn refuse<B>(request: &http::Request<B>) -> Option<StatusCode> {
    let headers = request.headers();
    match *request.method() {
        Method::TRACE => return Some(StatusCode::METHOD_NOT_ALLOWED),
        Method::CONNECT => return Some(StatusCode::BAD_REQUEST),
        _ => {}
    }
    if request.version() == Version::HTTP_11 {
        let mut hosts = headers.get_all(header::HOST).iter();
        if hosts.next().is_none() || hosts.next().is_some() {
            return Some(StatusCode::BAD_REQUEST);
        }
    }
    if let Some(coding) = headers.get(header::TRANSFER_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
    {
        return Some(StatusCode::NOT_IMPLEMENTED);
    }
    None
}

/// Whether the headers ask for another protocol on this connection. `h2c` is not one: ALB does
/// not pass it on.
pub(super) fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|protocol| !protocol.as_bytes().eq_ignore_ascii_case(b"h2c"))
        && tokens(headers.get_all(header::CONNECTION))
            .any(|token| token.eq_ignore_ascii_case("upgrade"))
}

fn tokens<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> impl Iterator<Item = &'a str> {
    values
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Removes the headers that concern one connection only (RFC 9110, section 7.6.1).
///
/// `Transfer-Encoding` stays on requests, where hyper needs it to write a body with a method that
/// seldom has one; it goes from responses, whose reader may not know it.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap, response: bool) {
    // One pass over the few names there are is cheaper than a look-up for each name to remove.
    let mut found = [false; 7];
    for name in headers.keys() {
        match name.as_str() {
            "connection" => found[0] = true,
            "upgrade" => found[1] = true,
            "te" => found[2] = true,
            "expect" => found[3] = !response,
            "transfer-encoding" => found[4] = response,
            "keep-alive" => found[5] = true,
            "proxy-connection" => found[6] = true,
            _ => {}
        }
    }
    if found == [false; 7] {
        return;
    }
    if found[0] {
        let named: Vec<HeaderName> = tokens(headers.get_all(header::CONNECTION))
            .filter_map(|token| token.parse().ok())
            // A client cannot make us drop what the target relies on.
            .filter(|name| {
                ![
                    header::HOST,
                    header::CONTENT_LENGTH,
                    header::TRANSFER_ENCODING,
                    TRACE_ID,
                    FORWARDED_FOR,
                    FORWARDED_PROTO,
                    FORWARDED_PORT,
                ]
                .contains(name)
            })
            .collect();
        headers.remove(header::CONNECTION);
        for name in named {
            headers.remove(name);
        }
    }
    for (found, name) in found.into_iter().skip(1).zip([
        header::UPGRADE,
        header::TE,
        header::EXPECT,
        header::TRANSFER_ENCODING,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ]) {
        if found {
            headers.remove(name);
        }
    }
}

/// What a connection to a listener adds to each of its requests.
#[derive(Clone, Debug)]
pub(super) struct Forwarded {
    pub(super) client: HeaderValue,
    pub(super) port: HeaderValue,
}

impl Forwarded {
    pub(super) fn new(client: std::net::IpAddr, port: u16) -> Self {
        Self {
            client: HeaderValue::from_str(&client.to_string())
                .unwrap_or(HeaderValue::from_static("unknown")),
            port: HeaderValue::from(port),
        }
    }

    /// Adds the `X-Forwarded-…` headers: `-For` grows by the client, the others are overwritten.
    pub(super) fn add(&self, headers: &mut HeaderMap) {
        match headers.entry(FORWARDED_FOR) {
            Entry::Vacant(entry) => {
                entry.insert(self.client.clone());
            }
            Entry::Occupied(mut entry) => {
                let mut all: Vec<&[u8]> = entry.iter().map(HeaderValue::as_bytes).collect();
                all.push(self.client.as_bytes());
                if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b", "[..])) {
                    entry.insert(joined);
                }
            }
        }
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
        headers.insert(FORWARDED_PORT, self.port.clone());
    }
}

/// Adds or completes `X-Amzn-Trace-Id` and returns its value.
///
/// Absent: a new `Root`. With a `Root`: it stays, as do fields of others, and a new `Self` comes
/// first. Without a `Root` but with other fields: a new `Root` comes first.
pub(super) fn trace(headers: &mut HeaderMap, now_secs: u64) -> HeaderValue {
    let id = TraceId::random(now_secs);
    let value = match headers.get(TRACE_ID).and_then(|value| value.to_str().ok()) {
        None => id.field(*b"Root", ""),
        Some(present) => {
            let field = |name: &str| {
                present
                    .split(';')
                    .any(|field| field.trim().split('=').next() == Some(name))
            };
            if field("Self") {
                let others: Vec<&str> = present
                    .split(';')
                    .filter(|field| field.trim().split('=').next() != Some("Self"))
                    .collect();
                id.field(*b"Self", &others.join(";"))
            } else if field("Root") {
                id.field(*b"Self", present)
            } else {
                id.field(*b"Root", present)
            }
        }
    };
    headers.insert(TRACE_ID, value.clone());
    value
}

/// `1-<8 hexadecimal digits of time>-<24 of chance>`.
struct TraceId {
    time: u64,
    id: (u64, u64),
}

impl TraceId {
    fn random(time: u64) -> Self {
        Self {
            time,
            id: (unique(), unique()),
        }
    }

    /// `<name>=<id>;<rest>`; names have four letters.
    fn field(&self, name: [u8; 4], rest: &str) -> HeaderValue {
        let mut text = [0; 40];
        text[..4].copy_from_slice(&name);
        text[4..7].copy_from_slice(b"=1-");
        hex(self.time, &mut text[7..15]);
        text[15] = b'-';
        hex(self.id.0, &mut text[16..32]);
        hex(self.id.1, &mut text[32..]);
        let value = if rest.is_empty() {
            HeaderValue::from_bytes(&text)
        } else {
            HeaderValue::from_bytes(&[&text[..], b";", rest.as_bytes()].concat())
        };
        value.unwrap_or(HeaderValue::from_static(""))
    }
}

/// Writes the last digits of a number.
fn hex(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[usize::from((number & 15) as u8)];
        number >>= 4;
    }
}

/// Numbers that do not repeat and look like chance: `SplitMix64` from a random start. Nobody must
/// be unable to guess them, so they need not cost what `rand`'s do.
fn unique() -> u64 {
    static STATE: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(rand::random()));
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = STATE.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    fn traced(present: Option<&'static str>) -> String {
        let mut map = present.map_or_else(HeaderMap::new, |value| {
            headers(&[("x-amzn-trace-id", value)])
        });
        let value = trace(&mut map, 0x6789_1233);
        assert_eq!(map.get(TRACE_ID), Some(&value));
        value.to_str().expect("text").to_owned()
    }

    #[test]
    fn a_request_without_trace_gets_a_root() {
        let value = traced(None);
        assert_eq!(
            value.len(),
            "Root=1-67891233-abcdef012345678912345678".len()
        );
        assert!(value.starts_with("Root=1-67891233-"), "{value}");
        assert_ne!(value, traced(None));
    }

    #[test]
    fn a_root_and_fields_of_others_stay_behind_a_new_self() {
        let value = traced(Some("Root=1-1-2;CalledFrom=app"));
        assert!(value.starts_with("Self=1-67891233-"), "{value}");
        assert!(value.ends_with(";Root=1-1-2;CalledFrom=app"), "{value}");
    }

    #[test]
    fn an_old_self_is_replaced() {
        let value = traced(Some("Self=1-9-9;Root=1-1-2"));
        assert!(value.starts_with("Self=1-67891233-"), "{value}");
        assert!(
            value.ends_with(";Root=1-1-2") && !value.contains("1-9-9"),
            "{value}"
        );
    }

    #[test]
    fn fields_without_a_root_get_one() {
        let value = traced(Some("CalledFrom=app"));
        assert!(value.starts_with("Root=1-67891233-"), "{value}");
        assert!(value.ends_with(";CalledFrom=app"), "{value}");
    }

    #[test]
    fn hop_by_hop_headers_go_and_others_stay() {
        let mut map = headers(&[
            ("connection", "keep-alive, X-Mine, host, content-length"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("x-mine", "1"),
            ("host", "example"),
            ("content-length", "3"),
            ("trailer", "x-checksum"),
        ]);
        remove_hop_by_hop(&mut map, false);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "trailer"]);
    }

    #[test]
    fn forwarded_for_grows_and_the_others_are_overwritten() {
        let forwarded = Forwarded::new([127, 0, 0, 1].into(), 8080);
        let mut map = headers(&[
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "1"),
        ]);
        forwarded.add(&mut map);
        assert_eq!(map[FORWARDED_FOR], "203.0.113.7, 127.0.0.1");
        assert_eq!(map[FORWARDED_PROTO], "http");
        assert_eq!(map[FORWARDED_PORT], "8080");
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        assert!(wants_upgrade(&headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "websocket")
        ])));
        assert!(!wants_upgrade(&headers(&[("upgrade", "websocket")])));
        assert!(!wants_upgrade(&headers(&[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c")
        ])));
    }

    #[test]
    fn what_alb_refuses_is_refused() {
        let request = |method: &str, version, list: &[(&'static str, &'static str)]| {
            let mut request = http::Request::builder()
                .method(method)
                .version(version)
                .body(())
                .expect("a request");
            *request.headers_mut() = headers(list);
            refuse(&request).map(|status| status.as_u16())
        };
        let host = ("host", "x");
        assert_eq!(request("GET", Version::HTTP_11, &[host]), None);
        assert_eq!(request("GET", Version::HTTP_10, &[]), None);
        assert_eq!(request("GET", Version::HTTP_11, &[]), Some(400));
        assert_eq!(
            request("GET", Version::HTTP_11, &[host, ("host", "y")]),
            Some(400)
        );
        assert_eq!(request("TRACE", Version::HTTP_11, &[host]), Some(405));
        assert_eq!(request("CONNECT", Version::HTTP_11, &[host]), Some(400));
        let coded = [host, ("transfer-encoding", "gzip, chunked")];
        assert_eq!(request("POST", Version::HTTP_11, &coded), Some(501));
    }
}
