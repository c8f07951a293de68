//! One migration step: a file in `migrations/`, read and judged when the program is compiled.
//!
//! The name carries the two facts a release needs: the order (`NNNN`) and whether old code survives
//! it (`expand`) or must be gone (`contract`). A name that says neither does not compile, so nothing
//! at run time has to wonder.

use std::fmt;

use serde::Serialize;

/// What a step means for the code that is running while it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Adds; the version before goes on working. `app migrate` runs these.
    Expand,
    /// Takes away; needs the version before to be gone. Never run by `app migrate`.
    Contract,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expand => "expand",
            Self::Contract => "contract",
        })
    }
}

/// A step as compiled in.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its place in the order, from 1.
    pub number: i64,
    /// The file's name without `.sql`: `0001_expand_message`.
    pub name: &'static str,
    /// Expand or contract, from the name.
    pub kind: Kind,
    /// The file's text. A first line `-- no-transaction` runs it outside a transaction, as sqlx
    /// means it (for CREATE INDEX CONCURRENTLY); it must then be one statement that can be repeated.
    pub sql: &'static str,
}

/// A step from its file. Evaluated at compile time, where a wrong name is a compile error.
pub const fn step(name: &'static str, sql: &'static str) -> Step {
    let bytes = name.as_bytes();
    let mut number = 0;
    let mut place = 0;
    while place < 4 {
        assert!(
            place < bytes.len() && bytes[place].is_ascii_digit(),
            "a step's name starts with four digits: NNNN_expand_name or NNNN_contract_name"
        );
        number = number * 10 + (bytes[place] - b'0') as i64;
        place += 1;
    }
    let kind = if has_at(bytes, 4, b"_expand_") {
        Kind::Expand
    } else if has_at(bytes, 4, b"_contract_") {
        Kind::Contract
    } else {
        panic!("a step says what it is after its number: NNNN_expand_name or NNNN_contract_name")
    };
    Step {
        number,
        name,
        kind,
        sql,
    }
}

const fn has_at(text: &[u8], start: usize, part: &[u8]) -> bool {
    let mut place = 0;
    while place < part.len() {
        if start + place >= text.len() || text[start + place] != part[place] {
            return false;
        }
        place += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_number_and_kind_from_the_name() {
        let expand = step("0012_expand_more", "SELECT 1");
        assert_eq!((expand.number, expand.kind), (12, Kind::Expand));
        let contract = step("9999_contract_less", "SELECT 1");
        assert_eq!((contract.number, contract.kind), (9999, Kind::Contract));
    }

    #[test]
    fn refuses_other_names() {
        for name in [
            "",
            "1_expand_x",
            "00x1_expand_x",
            "0001_x",
            "0001-expand_x",
            "0001_expandx",
        ] {
            assert!(
                std::panic::catch_unwind(|| step(name, "")).is_err(),
                "{name:?}"
            );
        }
    }
}
