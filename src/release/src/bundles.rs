//! A set of bundles: a directory with one directory a version.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// Where bundles are looked for: `--bundles`, then `$SEREIN_BUNDLES`, then `.serein/bundles`
/// upwards from the current directory.
pub fn directory(argument: Option<&Path>) -> PathBuf {
    const PLACE: &str = ".serein/bundles";
    if let Some(path) = argument {
        return path.to_owned();
    }
    if let Some(path) = std::env::var_os("SEREIN_BUNDLES").filter(|value| !value.is_empty()) {
        return path.into();
    }
    let here = std::env::current_dir().unwrap_or_default();
    here.ancestors()
        .map(|directory| directory.join(PLACE))
        .find(|path| path.is_dir())
        .unwrap_or_else(|| PLACE.into())
}

/// The versions in a directory of bundles, oldest first.
pub fn versions(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NoBundles {
                dir: directory.to_owned(),
            });
        }
        Err(error) => return Err(Error::io("read the bundles in", directory)(error)),
    };
    let mut versions: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("bundle.json").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    versions.sort_by_cached_key(|version| ordering(version));
    if versions.is_empty() {
        return Err(Error::NoBundles {
            dir: directory.to_owned(),
        });
    }
    Ok(versions)
}

/// The directory of one version's bundle.
pub fn find(directory: &Path, version: &str) -> Result<PathBuf, Error> {
    let known = versions(directory)?;
    if known.iter().any(|name| name == version) {
        return Ok(directory.join(version));
    }
    Err(Error::UnknownVersion {
        version: version.to_owned(),
        dir: directory.to_owned(),
        known: known.join(", "),
    })
}

/// Sorts 1.10.0 after 1.9.0: runs of digits as numbers, the rest as text.
fn ordering(version: &str) -> Vec<(u64, String)> {
    version
        .split(['.', '-', '+', '_'])
        .map(|part| (part.parse().unwrap_or(u64::MAX), part.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn set(versions: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for version in versions {
            let path = directory.path().join(version);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("bundle.json"), "{}").unwrap();
        }
        directory
    }

    #[test]
    fn versions_are_sorted_as_versions() {
        let directory = set(&["1.10.0", "1.9.0", "2.0.0"]);
        std::fs::create_dir(directory.path().join("not-a-bundle")).unwrap();
        assert_eq!(
            versions(directory.path()).unwrap(),
            ["1.9.0", "1.10.0", "2.0.0"]
        );
    }

    #[test]
    fn an_unknown_version_lists_the_known_ones() {
        let directory = set(&["1.0.0", "2.0.0", "2.0.1"]);
        let error = find(directory.path(), "2.1.0").unwrap_err();
        assert_eq!(error.exit_code(), crate::exit_codes::USAGE);
        let text = error.to_string();
        assert!(text.contains("there are: 1.0.0, 2.0.0, 2.0.1"), "{text}");
    }

    #[test]
    fn no_bundles_says_how_to_make_them() {
        let directory = tempfile::tempdir().unwrap();
        let error = find(&directory.path().join("none"), "2.0.0")
            .unwrap_err()
            .to_string();
        assert!(error.contains("nix/host/bundles"), "{error}");
    }
}
