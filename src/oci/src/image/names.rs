//! What can name an image, and how its time is written.

use super::ImageError;

/// Distribution specification, "Pulling manifests": the grammar of a repository name.
pub(super) fn check_name(name: &str) -> Result<(), ImageError> {
    let part_ok = |part: &str| {
        part.bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    if !name.is_empty() && name.len() <= 128 && name.split('/').all(part_ok) {
        return Ok(());
    }
    let rule = "lower-case letters and digits, joined by `.`, `_`, `-` or `/`";
    Err(ImageError::Name {
        what: "name",
        value: name.to_owned(),
        rule,
    })
}

/// Distribution specification, "Pulling manifests": the grammar of a tag.
pub(super) fn check_tag(tag: &str) -> Result<(), ImageError> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(ok) && !tag.starts_with(['.', '-']) {
        return Ok(());
    }
    let rule = "up to 128 letters, digits, `_`, `.` and `-`, the first of them none of `.-`";
    Err(ImageError::Name {
        what: "version",
        value: tag.to_owned(),
        rule,
    })
}

/// Seconds since the epoch as RFC 3339 in UTC; nothing after the year 9999.
///
/// The days-to-date arithmetic is Howard Hinnant's `civil_from_days`.
pub(super) fn rfc3339(seconds: u64) -> Option<String> {
    if seconds > 253_402_300_799 {
        return None;
    }
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    ))
}
