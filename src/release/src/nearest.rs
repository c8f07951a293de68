//! "Did you mean": the nearest of the known names.
//!
//! Every error of this program that refuses a name (a key of release.toml, a field of a task
//! definition, a variable of a template, a version, a strategy) says which known name is closest,
//! because most refused names are typing errors.

/// The known name with the smallest edit distance to `name`, if it is near enough to be meant:
/// at most a third of the longer name's length, and at least one letter in common.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= (name.chars().count().max(candidate.chars().count()) / 3).max(1)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "x"?` or nothing, ready to be appended to a message.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// The optimal string alignment distance, without regard to case: insertions, deletions,
/// substitutions and swaps of neighbours cost one each.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_typing_errors_and_leaves_strangers_alone() {
        let known = ["speed", "traffic", "baseline", "alarms"];
        assert_eq!(nearest("spede", known), Some("speed"));
        assert_eq!(nearest("Baseline", known), Some("baseline"));
        assert_eq!(nearest("trafic", known), Some("traffic"));
        assert_eq!(nearest("kubernetes", known), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn distance_is_symmetric_and_zero_for_equals() {
        assert_eq!(distance("canary", "canary"), 0);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("canray", "canary"), 1);
    }
}
