//! The id by which a request is known everywhere: `X-Amzn-Trace-Id`.
//!
//! A load balancer adds the header to every request and writes it to its own access log, so keeping
//! it is what joins the two logs ("Request tracing for your Application Load Balancer", ELB user
//! guide). Without a load balancer we make one of the same form, `Root=1-` and the time in 8 and a
//! random number in 24 hexadecimal digits. Either way the response repeats it: who sees an error can
//! then say which request it was.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::random;

/// The header, in requests and responses.
pub const HEADER: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// Longer ones are not kept: a load balancer's has under 200 bytes, and ours goes into every line.
const MOST: usize = 512;

/// The request's own id, or a new one. Always visible ASCII.
pub fn of(headers: &HeaderMap) -> HeaderValue {
    match headers.get(HEADER) {
        Some(id) if !id.is_empty() && id.len() <= MOST && id.to_str().is_ok() => id.clone(),
        _ => new(),
    }
}

fn new() -> HeaderValue {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    let (high, low) = (random::bits() >> 32, random::bits());
    let id = format!("Root=1-{:08x}-{high:08x}{low:016x}", seconds & 0xffff_ffff);
    HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("Root=unknown"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn kept(value: &[u8]) -> bool {
        let value = HeaderValue::from_bytes(value).unwrap();
        of(&HeaderMap::from_iter([(HEADER, value.clone())])) == value
    }

    #[test]
    fn keeps_what_a_load_balancer_sends() {
        assert!(kept(b"Root=1-67891233-abcdef012345678912345678"));
        assert!(kept(
            b"Self=1-67891234-12456789abcdef012345678;Root=1-67891233-abcdef012345678912345678"
        ));
        assert!(kept(&[b'a'; MOST]));
    }

    #[test]
    fn replaces_what_would_hurt_a_log() {
        assert!(!kept(b""));
        assert!(!kept(&[b'a'; MOST + 1]));
        assert!(!kept(b"caf\xc3\xa9"));
    }

    #[test]
    fn makes_the_form_of_a_load_balancer() {
        let (one, two) = (of(&HeaderMap::new()), of(&HeaderMap::new()));
        assert_ne!(one, two);
        let parts: Vec<&str> = one.to_str().unwrap().split('-').collect();
        let [root, time, random] = parts[..] else {
            panic!("{parts:?}")
        };
        assert_eq!((root, time.len(), random.len()), ("Root=1", 8, 24));
        let hex = |text: &str| {
            text.bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        assert!(hex(time) && hex(random), "{one:?}");
        assert!(u64::from_str_radix(time, 16).unwrap() > 1_700_000_000);
    }
}
