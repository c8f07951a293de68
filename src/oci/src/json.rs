//! JSON in one form: no white space, keys of every object sorted by their bytes.
//!
//! `serde_json`'s own map keeps keys sorted only as long as no crate in the build switches on its
//! feature `preserve_order`: features are united over a whole workspace, so a digest must not depend on
//! it. Hence the explicit sort. There are no floats in what is written here, so this is also the form
//! of RFC 8785.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// `value` in canonical form.
///
/// Fails only if `value` cannot be represented in JSON at all.
pub(crate) fn canonical(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Sorted(&serde_json::to_value(value)?))
}

struct Sorted<'a>(&'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                let sorted: BTreeMap<_, _> = map.iter().map(|(k, v)| (k, Sorted(v))).collect();
                serializer.collect_map(sorted)
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Sorted)),
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let mut inner = serde_json::Map::new();
        inner.insert("z".into(), 1.into());
        inner.insert("A".into(), Value::Null);
        let mut outer = serde_json::Map::new();
        outer.insert("b".into(), Value::Array(vec![Value::Object(inner)]));
        outer.insert("a".into(), "é\n".into());
        assert_eq!(
            String::from_utf8(canonical(&outer).expect("JSON")).expect("UTF-8"),
            r#"{"a":"é\n","b":[{"A":null,"z":1}]}"#
        );
    }
}
