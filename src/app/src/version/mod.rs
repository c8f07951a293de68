//! What makes one version of the application differ from another: everything, and all of it here.
//!
//! The versions are compile-time features of one source, because a rehearsal is about releasing one
//! after the other, not about keeping three branches. The rest of the crate asks this module for the
//! version's number, its default failure rate, the migration steps it ships with and its way of
//! reading the message, and never looks at a feature itself.
//!
//! | version | schema | message | fails |
//! | --- | --- | --- | --- |
//! | 1.0.0 | step 1 | one | never |
//! | 2.0.0 | steps 1, 2 | one per language | 80 % of `GET /`: the bug |
//! | 2.0.1 | steps 1, 2 | one per language | never |

#[cfg(any(feature = "v2_0_0", feature = "v2_0_1"))]
mod language;

use sqlx::postgres::PgPool;

use crate::migrate::step::{Step, step};

#[cfg(not(any(feature = "v1_0_0", feature = "v2_0_0", feature = "v2_0_1")))]
compile_error!("choose the version: --no-default-features --features v1_0_0 (or v2_0_0, v2_0_1)");

#[cfg(any(
    all(feature = "v1_0_0", feature = "v2_0_0"),
    all(feature = "v1_0_0", feature = "v2_0_1"),
    all(feature = "v2_0_0", feature = "v2_0_1"),
))]
compile_error!(
    "choose one version only: --no-default-features --features v1_0_0 (or v2_0_0, v2_0_1)"
);

// Cargo compiles again when one of these changes. Without it the query macros, which read them
// unseen, would not look at another database or another `.sqlx` (`prepare-queries` changes both).
const _: [Option<&str>; 3] = [
    option_env!("SQLX_OFFLINE"),
    option_env!("SQLX_OFFLINE_DIR"),
    option_env!("DATABASE_URL"),
];

/// The version's number, as a bundle is named.
pub const NUMBER: &str = if cfg!(feature = "v1_0_0") {
    "1.0.0"
} else if cfg!(feature = "v2_0_0") {
    "2.0.0"
} else {
    "2.0.1"
};

/// Per cent of the requests to `/` that end in a 500 unless `FAIL_PERCENT` says otherwise.
pub const FAIL_PERCENT: u8 = if cfg!(feature = "v2_0_0") { 80 } else { 0 };

/// The migration steps that this version ships with, oldest first: it runs the expand steps among
/// them (`app migrate`) and is ready once they are all in the database (`/healthz/ready`). Steps it
/// does not know, because a newer version brought them, do not concern it.
pub const STEPS: &[Step] = &[
    step(
        "0001_expand_message",
        include_str!("../../../../migrations/0001_expand_message.sql"),
    ),
    #[cfg(not(feature = "v1_0_0"))]
    step(
        "0002_expand_message_per_language",
        include_str!("../../../../migrations/0002_expand_message_per_language.sql"),
    ),
];

/// What `/` says.
pub struct Message {
    /// The words.
    pub text: String,
    /// The language they are in, a primary subtag such as `fr`; `None` where the version has only
    /// one message and does not choose.
    pub language: Option<String>,
}

/// Reads the message; `None` when the table is empty.
#[cfg(feature = "v1_0_0")]
pub async fn message(pool: &PgPool, _accept_language: &str) -> sqlx::Result<Option<Message>> {
    let text = sqlx::query_scalar!("SELECT text FROM message WHERE id = 1")
        .fetch_optional(pool)
        .await?;
    Ok(text.map(|text| Message {
        text,
        language: None,
    }))
}

/// Reads the message in the language that the client likes best, else in English; `None` when there
/// is not even that.
#[cfg(any(feature = "v2_0_0", feature = "v2_0_1"))]
pub async fn message(pool: &PgPool, accept_language: &str) -> sqlx::Result<Option<Message>> {
    let languages = language::preferred(accept_language);
    let row = sqlx::query!(
        "SELECT language, text FROM message_text WHERE language = ANY($1) \
         ORDER BY array_position($1, language) LIMIT 1",
        &languages,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Message {
        text: row.text,
        language: Some(row.language),
    }))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The directory and the list of steps say the same: a file nobody ships is a forgotten line here.
    #[test]
    fn steps_are_the_files_in_migrations() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
        let mut files: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".sql").map(str::to_owned))
            .collect();
        files.sort();
        let shipped: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        assert!(shipped.is_sorted(), "{shipped:?}");
        assert_eq!(files[..shipped.len()], shipped);
        if !cfg!(feature = "v1_0_0") {
            assert_eq!(
                files.len(),
                shipped.len(),
                "the newest versions ship every step"
            );
        }
        let numbers: Vec<i64> = STEPS.iter().map(|step| step.number).collect();
        assert_eq!(
            numbers,
            (1..=i64::try_from(shipped.len()).unwrap()).collect::<Vec<_>>()
        );
    }
}
