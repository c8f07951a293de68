//! What a migration's file name says: its number, whether old code survives it, and its name.

use serde::{Deserialize, Serialize};

/// A migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migration {
    /// Path in the bundle, such as `migrations/0002_expand_languages.sql`.
    pub file: String,
    /// Its number: the order in which migrations run.
    pub number: u32,
    /// Its name, such as `languages`.
    pub name: String,
    /// Whether old code survives it.
    pub kind: MigrationKind,
}

/// Whether the code before a migration survives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MigrationKind {
    /// Old code survives it: it may run before the release.
    Expand,
    /// Old code must be gone: it may run only after the release.
    Contract,
}

/// A file name that does not say what the migration is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not named like a migration: NNNN_expand_name.sql or NNNN_contract_name.sql, with four digits and a name of a-z, 0-9 and _"
)]
pub struct MigrationNameError(pub String);

impl Migration {
    /// The migration in the file `file_name` (without a directory).
    pub fn parse(file_name: &str) -> Result<Self, MigrationNameError> {
        let parse = || {
            let (number, rest) = file_name.strip_suffix(".sql")?.split_once('_')?;
            let (kind, name) = rest.split_once('_')?;
            let kind = match kind {
                "expand" => MigrationKind::Expand,
                "contract" => MigrationKind::Contract,
                _ => return None,
            };
            let digits = number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit());
            let named = !name.is_empty()
                && name
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
            (digits && named).then_some(())?;
            let file = format!("{}/{file_name}", super::MIGRATIONS);
            Some(Self {
                file,
                number: number.parse().ok()?,
                name: name.to_owned(),
                kind,
            })
        };
        parse().ok_or_else(|| MigrationNameError(file_name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(
            Migration::parse("0002_expand_messages_per_language.sql"),
            Ok(Migration {
                file: "migrations/0002_expand_messages_per_language.sql".into(),
                number: 2,
                name: "messages_per_language".into(),
                kind: MigrationKind::Expand,
            })
        );
        assert_eq!(
            Migration::parse("0010_contract_x.sql").map(|m| m.kind),
            Ok(MigrationKind::Contract)
        );
        for wrong in [
            "",
            "0001.sql",
            "0001_expand.sql",
            "0001_expand_.sql",
            "1_expand_x.sql",
            "00001_expand_x.sql",
            "0001_Expand_x.sql",
            "0001_drop_x.sql",
            "0001_expand_x.SQL",
            "0001_expand_x.sql.bak",
            "+001_expand_x.sql",
            "0001_expand_a/b.sql",
        ] {
            assert_eq!(
                Migration::parse(wrong),
                Err(MigrationNameError(wrong.into()))
            );
        }
    }
}
