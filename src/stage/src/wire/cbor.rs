//! The same operations in another spelling: Smithy's RPC v2 in CBOR.
//!
//! The Rust and Go SDKs speak it to CloudWatch, where others speak JSON. The values are those of the
//! JSON service, so a service is written once; the two spellings differ in one thing that matters: in
//! CBOR a time is a number with a tag (RFC 8949, 3.4.2), and which numbers are times the service
//! says ([`super::JsonService::times`]).

use ciborium::Value as Cbor;
use serde_json::{Map, Number, Value as Json};

use super::ApiError;

/// The tag of seconds since the epoch.
const EPOCH: u64 = 1;

/// A request's body.
///
/// # Errors
/// `SerializationException`: it is no CBOR, or holds what JSON has no word for.
pub(super) fn decode(body: &[u8]) -> Result<Json, ApiError> {
    if body.is_empty() {
        return Ok(Json::Object(Map::new()));
    }
    let value = ciborium::from_reader(body)
        .map_err(|error| ApiError::serialization(format!("the body is not CBOR: {error}")))?;
    to_json(value)
}

fn to_json(value: Cbor) -> Result<Json, ApiError> {
    let unknown = |what: &str| ApiError::serialization(format!("{what} has no place here"));
    Ok(match value {
        Cbor::Null => Json::Null,
        Cbor::Bool(value) => value.into(),
        Cbor::Text(text) => text.into(),
        Cbor::Integer(number) => i64::try_from(number)
            .map_err(|_| unknown("an integer of more than 64 bits"))?
            .into(),
        Cbor::Float(number) => Number::from_f64(number)
            .ok_or_else(|| unknown("a number that is none"))?
            .into(),
        Cbor::Tag(EPOCH, seconds) => to_json(*seconds)?,
        Cbor::Array(items) => items.into_iter().map(to_json).collect::<Result<_, _>>()?,
        Cbor::Map(entries) => {
            let entry = |(key, value)| match key {
                Cbor::Text(key) => Ok((key, to_json(value)?)),
                _ => Err(unknown("a key that is no text")),
            };
            let entries: Result<Map<_, _>, _> = entries.into_iter().map(entry).collect();
            Json::Object(entries?)
        }
        _ => return Err(unknown("a byte string or a tag")),
    })
}

/// An answer's body; numbers under the keys in `times` are times.
pub(super) fn encode(value: &Json, times: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    // Writing to memory does not fail.
    let _ = ciborium::into_writer(&to_cbor(value, times, false), &mut body);
    body
}

fn to_cbor(value: &Json, times: &[&str], time: bool) -> Cbor {
    match value {
        Json::Null => Cbor::Null,
        Json::Bool(value) => Cbor::Bool(*value),
        Json::String(text) => Cbor::Text(text.clone()),
        Json::Number(number) if time => {
            let seconds = Cbor::Float(number.as_f64().unwrap_or_default());
            Cbor::Tag(EPOCH, Box::new(seconds))
        }
        Json::Number(number) => match number.as_i64() {
            Some(number) => Cbor::Integer(number.into()),
            None => Cbor::Float(number.as_f64().unwrap_or_default()),
        },
        Json::Array(items) => Cbor::Array(
            items
                .iter()
                .map(|item| to_cbor(item, times, time))
                .collect(),
        ),
        Json::Object(entries) => Cbor::Map(
            entries
                .iter()
                .map(|(key, value)| {
                    let time = times.contains(&key.as_str());
                    (Cbor::Text(key.clone()), to_cbor(value, times, time))
                })
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn values_survive_both_ways() {
        let value = json!({ "a": [1, -2, 2.5, null, true], "b": { "c": "d" }, "at": [1.5, 3] });
        assert_eq!(decode(&encode(&value, &[])).unwrap(), value);
        let back = decode(&encode(&value, &["at"])).unwrap();
        assert_eq!(back["at"], json!([1.5, 3.0]));
    }

    #[test]
    fn times_have_their_tag() {
        let body = encode(&json!({ "at": 5 }), &["at"]);
        let value: Cbor = ciborium::from_reader(&body[..]).unwrap();
        let time = Cbor::Tag(EPOCH, Box::new(Cbor::Float(5.0)));
        assert_eq!(value, Cbor::Map(vec![(Cbor::Text("at".into()), time)]));
    }

    #[test]
    fn what_is_no_cbor_is_refused() {
        for body in [&b"\xff"[..], b"\xa1", b"\x41a", b"\xf9\x7e\x00"] {
            assert_eq!(decode(body).unwrap_err().name, "SerializationException");
        }
        assert_eq!(decode(b"").unwrap(), json!({}));
    }
}
