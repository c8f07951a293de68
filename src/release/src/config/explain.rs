//! The parser's errors, for people: where, which key, and what was meant.

use std::path::Path;

use super::ConfigError;
use crate::nearest::did_you_mean;

/// Turns the parser's error into one that names file, line, column, the key's path and, for an
/// unknown key, the nearest known one.
pub fn explain(text: &str, path: &Path, error: &toml::de::Error) -> ConfigError {
    let span = error.span().unwrap_or(0..0);
    let before = &text[..span.start.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before[line_start..].chars().count() + 1;
    let key = key_path(text, &span);
    // Rust's names of numbers are not the user's.
    let parsed = &error
        .message()
        .replace("expected u16", "expected a whole number from 0 to 65535")
        .replace("expected u32", "expected a whole number")
        .replace("expected f64", "expected a number");
    let message = if let Some(rest) = parsed.strip_prefix("unknown variant `") {
        let name = rest.split('`').next().unwrap_or_default();
        let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
        format!(
            "`{}`: there is no `{name}`{} (known: {})",
            key.unwrap_or_default(),
            did_you_mean(name, known.iter().copied()),
            known.join(", ")
        )
    } else if let Some(rest) = parsed.strip_prefix("unknown field `") {
        let name = rest.split('`').next().unwrap_or_default();
        let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
        let whole = key.unwrap_or_else(|| name.to_owned());
        format!(
            "unknown key `{whole}`{}{}",
            did_you_mean(name, known.iter().copied()),
            if known.is_empty() {
                String::new()
            } else {
                format!(" (known here: {})", known.join(", "))
            }
        )
    } else {
        match key {
            Some(key) => format!("`{key}`: {}", parsed.trim_end()),
            None => parsed.trim_end().replace('\n', ", "),
        }
    };
    let source = text.lines().nth(line - 1).unwrap_or_default();
    let snippet = if source.trim().is_empty() || error.span().is_none() {
        String::new()
    } else {
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let width = text
            .get(span.clone())
            .map_or(1, |marked| {
                marked.lines().next().unwrap_or_default().chars().count()
            })
            .max(1);
        format!(
            "\n{margin} |\n{number} | {source}\n{margin} | {}{}",
            " ".repeat(column - 1),
            "^".repeat(width)
        )
    };
    ConfigError::Invalid {
        path: path.display().to_string(),
        line,
        column,
        message,
        snippet,
    }
}

/// The path of the key or value that lies at `span`, as `stage.alarms[1].period`.
fn key_path(text: &str, span: &std::ops::Range<usize>) -> Option<String> {
    fn search(
        table: &toml::de::DeTable<'_>,
        span: &std::ops::Range<usize>,
        prefix: &str,
    ) -> Option<String> {
        for (key, value) in table {
            let path = if prefix.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{prefix}.{}", key.get_ref())
            };
            if key.span() == *span || value.span() == *span && !span.is_empty() {
                return Some(path);
            }
            if let Some(found) = inside(value.get_ref(), span, &path) {
                return Some(found);
            }
        }
        None
    }
    fn inside(
        value: &toml::de::DeValue<'_>,
        span: &std::ops::Range<usize>,
        path: &str,
    ) -> Option<String> {
        match value {
            toml::de::DeValue::Table(table) => search(table, span, path),
            toml::de::DeValue::Array(array) => {
                array.iter().enumerate().find_map(|(index, item)| {
                    let path = format!("{path}[{index}]");
                    if item.span() == *span {
                        return Some(path);
                    }
                    inside(item.get_ref(), span, &path)
                })
            }
            _ => None,
        }
    }
    let table = toml::de::DeTable::parse(text).ok()?;
    search(table.get_ref(), span, "")
}
