//! AWS JSON 1.1 bodies: reading members, writing times.
//!
//! On the wire a `null` member is an absent one, and a member that is unknown is ignored: an SDK
//! may be newer than its service. (Where a typing error would pass silently, a service can still
//! refuse unknown members: `RegisterTaskDefinition` does.)

use rollout::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ApiError;

/// Reads an operation's input.
///
/// # Errors
/// `SerializationException`, naming the member, when a member has the wrong type.
pub(crate) fn read<T: DeserializeOwned>(input: Value) -> Result<T, ApiError> {
    serde_json::from_value(without_nulls(input))
        .map_err(|error| ApiError::serialization(error.to_string()))
}

/// A time in a body: seconds since the epoch, a number, with milliseconds.
pub(crate) fn time(at: Timestamp) -> Value {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds fit a double until year 287396"
    )]
    let seconds = at.as_millis() as f64 / 1000.0;
    Value::from(seconds)
}

/// The value without its `null` members.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .filter(|(_, member)| !member.is_null())
                .map(|(name, member)| (name, without_nulls(member)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    struct Input {
        #[serde(default)]
        names: Vec<String>,
        how_many: Option<u32>,
    }

    #[test]
    fn a_null_member_is_an_absent_one() {
        let input: Input = read(json!({ "names": null, "howMany": null, "new": 1 })).unwrap();
        assert_eq!(
            input,
            Input {
                names: vec![],
                how_many: None
            }
        );
    }

    #[test]
    fn a_wrong_type_is_a_serialization_exception() {
        let error = read::<Input>(json!({ "names": "a" })).unwrap_err();
        assert_eq!(error.name, "SerializationException");
    }

    #[test]
    fn times_keep_their_milliseconds() {
        assert_eq!(
            time(Timestamp::from_millis(1_543_431_361_022)).to_string(),
            "1543431361.022"
        );
    }
}
