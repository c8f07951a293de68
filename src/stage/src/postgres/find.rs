//! Finding the PostgreSQL that is installed on this machine.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::PostgresError;

/// Where Debian and its relatives keep servers, a directory a major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The directory with `postgres` and `initdb`: the one that was configured and no other, or else the
/// newest of Debian's, what `pg_config` says, and the PATH, in this order.
pub fn bin(configured: Option<&Path>) -> Result<PathBuf, PostgresError> {
    let places = match configured {
        Some(dir) => vec![dir.to_owned()],
        None => everywhere(
            Path::new(DEBIAN),
            pg_config().as_deref(),
            &env::var("PATH").unwrap_or_default(),
        ),
    };
    choose(&places)
}

fn choose(places: &[PathBuf]) -> Result<PathBuf, PostgresError> {
    let complete = |dir: &&PathBuf| dir.join("postgres").is_file() && dir.join("initdb").is_file();
    match places.iter().find(complete) {
        Some(dir) => Ok(dir.clone()),
        None => Err(PostgresError::NotInstalled {
            looked_in: places
                .iter()
                .map(|place| place.display().to_string())
                .collect(),
        }),
    }
}

fn everywhere(debian: &Path, pg_config: Option<&Path>, path: &str) -> Vec<PathBuf> {
    let versions: BTreeSet<u32> = fs::read_dir(debian)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let newest_first = versions
        .iter()
        .rev()
        .map(|version| debian.join(version.to_string()).join("bin"));
    let mut places: Vec<PathBuf> = newest_first.collect();
    if places.is_empty() {
        // For the message.
        places.push(debian.join("*/bin"));
    }
    places.extend(pg_config.map(Path::to_owned));
    places.extend(env::split_paths(path).filter(|dir| dir.is_absolute()));
    places
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config")
        .arg("--bindir")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let dir = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(dir.trim())).filter(|dir| dir.is_absolute())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn install(dir: &Path, programs: &[&str]) {
        fs::create_dir_all(dir).unwrap();
        for program in programs {
            fs::write(dir.join(program), "").unwrap();
        }
    }

    #[test]
    fn the_newest_complete_server_wins() {
        let top = tempfile::tempdir().unwrap();
        let bin = |version: &str| top.path().join(version).join("bin");
        install(&bin("9"), &["postgres", "initdb"]);
        install(&bin("15"), &["postgres", "initdb"]);
        install(&bin("17"), &["psql"]);
        let places = everywhere(top.path(), None, "/nowhere");
        assert_eq!(
            choose(&places).unwrap(),
            bin("15"),
            "17 has no server, 9 is older"
        );
    }

    #[test]
    fn the_path_comes_last() {
        let top = tempfile::tempdir().unwrap();
        let (config, path) = (top.path().join("config"), top.path().join("path"));
        install(&path, &["postgres", "initdb"]);
        let in_path = path.display().to_string();
        let places = || everywhere(&top.path().join("none"), Some(&config), &in_path);
        assert_eq!(choose(&places()).unwrap(), path);
        install(&config, &["postgres", "initdb"]);
        assert_eq!(choose(&places()).unwrap(), config);
    }

    #[test]
    fn without_a_server_the_package_is_named() {
        let error = bin(Some(Path::new("/nowhere"))).unwrap_err().to_string();
        assert!(error.contains("/nowhere"), "{error}");
        assert!(error.contains("apt-get install postgresql"), "{error}");
    }
}
