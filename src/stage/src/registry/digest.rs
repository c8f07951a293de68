//! Digests and names, as the distribution protocol writes them.

use super::error::RegistryError;

/// A SHA-256 digest, kept as its 64 hexadecimal digits: the only kind ECS takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest(String);

impl Digest {
    /// Reads `sha256:<64 hex>`.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?;
        let valid = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| Self(hex.to_owned()))
    }

    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(hex::encode(sha2::Sha256::digest(bytes)))
    }

    pub(super) fn from_hash(hash: &[u8]) -> Self {
        Self(hex::encode(hash))
    }

    /// The 64 digits.
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

pub(super) fn digest(text: &str) -> Result<Digest, RegistryError> {
    Digest::parse(text).ok_or_else(|| {
        RegistryError::digest_invalid(format!("'{text}' is not sha256: and 64 hexadecimal digits"))
    })
}

/// Whether this is a repository's name: components of lower-case letters and digits, with `.`,
/// `_`, `__` or dashes inside ("OCI distribution specification, Pulling manifests").
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && name.split('/').all(is_component)
}

fn is_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-')
        })
}

/// Whether this is a tag: at most 128 of letters, digits, `_ . -`, not starting with `.` or `-`.
pub(super) fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "app", "serein/app", "a1/b-2/c_d", "a.b__c", "a---b"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "", "A", "a/", "/a", "a//b", "-a", "a-", "a..b", "a_-b", "a___b", "../a", "é",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn tags_and_digests() {
        assert!(is_tag("2.0.0") && is_tag("_x") && is_tag("V1-b"));
        assert!(!is_tag("") && !is_tag(".x") && !is_tag("a:b") && !is_tag(&"a".repeat(129)));
        let good = format!("sha256:{}", "0".repeat(64));
        assert_eq!(Digest::parse(&good).map(|d| d.to_string()), Some(good));
        assert_eq!(Digest::parse(&format!("sha256:{}", "A".repeat(64))), None);
        assert_eq!(Digest::parse("sha512:00"), None);
    }
}
