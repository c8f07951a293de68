//! Which languages a client likes, best first.
//!
//! `Accept-Language` (RFC 9110, 12.5.4) is a list of language ranges with weights. We keep texts by
//! primary subtag, so the lookup scheme of RFC 4647, 3.4 (`fr-CA` falls back to `fr`) comes down to
//! the part before the first hyphen.

/// The language of the message that always exists.
const DEFAULT: &str = "en";

/// More ranges than any browser sends; the rest is not read.
const MOST: usize = 16;

/// The primary subtags of an `Accept-Language` header in order of weight, then English. Whatever is
/// not a language range is left out: a header we cannot read is no reason to refuse a page. `*` and
/// a weight of 0 add nothing, since there is always English to answer with.
pub fn preferred(accept_language: &str) -> Vec<String> {
    let mut ranges: Vec<(u16, String)> = accept_language
        .split(',')
        .take(MOST)
        .filter_map(|range| {
            let (tag, weight) =
                range
                    .split_once(';')
                    .map_or((range, Some(1000)), |(tag, parameter)| {
                        (
                            tag,
                            parameter.trim().strip_prefix(['q', 'Q']).and_then(weight),
                        )
                    });
            let primary = tag.trim().split('-').next().unwrap_or_default();
            let plausible = (2..=3).contains(&primary.len())
                && primary.bytes().all(|byte| byte.is_ascii_alphabetic());
            let weight = weight?;
            (plausible && weight > 0).then(|| (weight, primary.to_ascii_lowercase()))
        })
        .collect();
    ranges.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight)); // stable: ties keep their order
    ranges.push((0, DEFAULT.to_owned()));
    let mut languages: Vec<String> = Vec::with_capacity(ranges.len());
    for (_, language) in ranges {
        if !languages.contains(&language) {
            languages.push(language);
        }
    }
    languages
}

/// `=0.8` in thousandths; at most three decimals, 0 to 1 (RFC 9110, 12.4.2).
fn weight(parameter: &str) -> Option<u16> {
    let value = parameter.trim_start().strip_prefix('=')?.trim();
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let digits = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || !matches!(whole, "0" | "1") {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        _ => (thousandths == 0).then_some(1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_by_weight_and_ends_in_english() {
        for (header, expected) in [
            ("", "en"),
            ("fr", "fr en"),
            ("fr-CA", "fr en"),
            ("en;q=0.8, fr", "fr en"),
            ("en-GB,en;q=0.9,fr;q=0.8", "en fr"),
            ("de, fr;q=0.5, it;q=0.75", "de it fr en"),
            ("de;q=0.5, fr;q=0.5", "de fr en"),
            ("FR;Q=0.3,*;q=0.1", "fr en"),
            ("fr ; q = 0.5", "fr en"),
        ] {
            assert_eq!(preferred(header).join(" "), expected, "{header:?}");
        }
    }

    #[test]
    fn leaves_out_what_it_cannot_read() {
        for header in [
            "fr;q=0",
            "fr;q=0.000",
            "*",
            ";;;,,,",
            "fr;q=2",
            "fr;q=1.5",
            "fr;q=-1",
            "fr;q=0.1234",
            "fr;q=nan",
            "fr;q=",
            "fr;level=1",
            "f",
            "x-klingon",
            "français",
            "'; DROP TABLE message",
        ] {
            assert_eq!(preferred(header), ["en"], "{header:?}");
        }
        assert_eq!(preferred(&"aa,".repeat(100_000)), ["aa", "en"]);
    }
}
