//! The files of a cluster: where they are, who owns them, and how they come to be in no time.
//!
//! `initdb` takes a second in memory and two or more on a disk. What it makes is always the same, so it
//! is kept in a cache and copied; a copy that the server does not like is thrown away together with
//! the cached one.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest as _, Sha256};

use super::{Placement, PostgresError};
use crate::{
    leftovers::ProcessId,
    runtime::{remove_tree, spawn::Spawner},
};

/// The database superuser; it can log in over the Unix-domain socket only.
pub const SUPERUSER: &str = "postgres";

/// Who the server runs as: it refuses root.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl Account {
    /// `None`: as the stage does. A root stage uses `postgres`, or `nobody`.
    ///
    /// The account must be in `/etc/passwd`: the server looks itself up there.
    pub fn for_server() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"].into_iter().find_map(|name| {
            passwd.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let [login, _, uid, gid, ..] = fields.as_slice() else {
                    return None;
                };
                (*login == name).then_some(())?;
                Some(Self {
                    uid: uid.parse().ok()?,
                    gid: gid.parse().ok()?,
                })
            })
        })
    }
}

/// The directory of one cluster, removed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    account: Option<Account>,
    bin: PathBuf,
}

const IN_MEMORY: &str = "/dev/shm";
const PREFIX: &str = "serein-";
/// A cluster needs about 30 MB and grows with what is written.
const ROOM: u64 = 256 << 20;
/// `sockaddr_un` has room for 107 bytes, and the server adds `/.s.PGSQL.65535`.
const LONGEST_SOCKET_DIR: usize = 107 - "/.s.PGSQL.65535".len();

impl Cluster {
    /// Makes an empty directory for a cluster.
    pub fn new(dir: &Path, placement: Placement, bin: PathBuf) -> Result<Self, PostgresError> {
        let account = Account::for_server();
        let memory = Path::new(IN_MEMORY);
        sweep(memory);
        let mut place = dir.join("cluster");
        let usable = |dir: &Path| {
            reachable(dir, account) && dir.join("s").as_os_str().len() <= LONGEST_SOCKET_DIR
        };
        let in_memory = placement == Placement::Memory || !usable(&place);
        if in_memory && has_room(memory) {
            let unique = tempfile::Builder::new()
                .prefix(&format!("{PREFIX}{}.", ProcessId::own()))
                .tempdir_in(memory);
            if let Ok(unique) = unique {
                place = unique.keep();
            }
        }
        if !usable(&place) {
            return Err(PostgresError::Unreachable { path: place });
        }
        let cluster = Self {
            dir: place,
            account,
            bin,
        };
        for dir in [cluster.dir.clone(), cluster.socket_dir()] {
            cluster.make_dir(&dir).map_err(directory(&dir))?;
        }
        Ok(cluster)
    }

    /// The directory with the data.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The directory with the socket; only the server's user and root can enter it.
    pub fn socket_dir(&self) -> PathBuf {
        self.dir.join("s")
    }

    /// One of PostgreSQL's programs, to be run as the server's user.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("PATH", "/usr/bin:/bin")
            .current_dir(&self.dir)
            .stdin(std::process::Stdio::null())
            // Ctrl-C at the stage's terminal is the stage's business.
            .process_group(0);
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    /// Fills the data directory from the cache, if there is one that fits; returns whether.
    pub fn copy_cached(&self, cache: &Path) -> bool {
        let cached = cache.join(self.cache_key());
        if !cached.is_dir() {
            return false;
        }
        let copied = copy(&cached, &self.data(), self.account).and_then(|()| self.configure());
        if let Err(error) = &copied {
            tracing::warn!(%error, "cannot copy the cached database cluster; making a new one");
            let _ = remove_tree(&self.data());
        }
        copied.is_ok()
    }

    /// Throws the cached cluster away, and what was copied from it.
    pub fn distrust_cache(&self, cache: &Path) {
        let _ = remove_tree(&cache.join(self.cache_key()));
        let _ = remove_tree(&self.data());
    }

    /// Makes a new cluster in the data directory.
    pub fn init(&self, spawner: &Spawner) -> Result<(), PostgresError> {
        let data = self.data();
        self.make_dir(&data).map_err(directory(&data))?;
        let output = self.dir.join("initdb.log");
        let log = fs::File::create(&output).map_err(directory(&output))?;
        let errors = log.try_clone().map_err(directory(&output))?;
        let mut initdb = self.command("initdb");
        initdb
            .arg("-D")
            .arg(&data)
            .args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"])
            .args(["--no-sync", "--no-instructions", "--wal-segsize=1"])
            .stdout(log)
            .stderr(errors);
        let status = spawner
            .command(initdb)
            .and_then(|mut child| child.wait())
            .map_err(directory(&self.bin.join("initdb")))?;
        if status.success() {
            return self.configure().map_err(directory(&data));
        }
        let said = fs::read_to_string(&output).unwrap_or_default();
        Err(PostgresError::Failed {
            program: "initdb",
            status: status.to_string(),
            output: last_lines(&said),
        })
    }

    /// Keeps a copy of a fresh cluster. That it fails is no misfortune.
    pub fn fill_cache(&self, cache: &Path) {
        let fill = || -> io::Result<()> {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(cache)?;
            let staging = tempfile::Builder::new().prefix(".new-").tempdir_in(cache)?;
            let tree = staging.path().join("data");
            copy(&self.data(), &tree, None)?;
            // Whoever renames first wins; the others' copies are as good.
            match fs::rename(&tree, cache.join(self.cache_key())) {
                Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
                _ => Ok(()),
            }
        };
        if let Err(error) = fill() {
            tracing::debug!(%error, "cannot keep a database cluster for the next time");
        }
    }

    /// Names what a cached cluster depends on: the server, and how we make clusters.
    fn cache_key(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"1 ");
        hash.update(self.bin.as_os_str().as_encoded_bytes());
        if let Ok(server) = fs::metadata(self.bin.join("postgres")) {
            hash.update(server.len().to_be_bytes());
            hash.update(server.mtime().to_be_bytes());
        }
        format!("cluster-{}", hex::encode(&hash.finalize()[..8]))
    }

    /// Who may log in: over the socket, whose directory is private, everybody; over TCP who knows a
    /// password.
    fn configure(&self) -> io::Result<()> {
        fs::write(
            self.data().join("pg_hba.conf"),
            "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
        )
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        give(path, self.account)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The server's processes may be writing their last files.
        for _ in 0..50 {
            match remove_tree(&self.dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                _ => return,
            }
        }
    }
}

fn copy(from: &Path, to: &Path, owner: Option<Account>) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(to)?;
    give(to, owner)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&source, &target, owner)?;
        } else {
            fs::copy(&source, &target)?;
            give(&target, owner)?;
        }
    }
    Ok(())
}

fn give(path: &Path, owner: Option<Account>) -> io::Result<()> {
    match owner {
        Some(account) => std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid)),
        None => Ok(()),
    }
}

fn directory(path: &Path) -> impl FnOnce(io::Error) -> PostgresError + use<> {
    let path = path.to_owned();
    move |source| PostgresError::Directory { path, source }
}

/// Whether the server's user can get to a directory that is still to be made.
fn reachable(path: &Path, account: Option<Account>) -> bool {
    let Some(account) = account else {
        return true;
    };
    path.ancestors()
        .skip(1)
        .filter_map(|dir| fs::metadata(dir).ok())
        .all(|dir| {
            let shift = match () {
                () if dir.uid() == account.uid => 6,
                () if dir.gid() == account.gid => 3,
                () => 0,
            };
            dir.mode() >> shift & 1 == 1
        })
}

fn has_room(dir: &Path) -> bool {
    rustix::fs::statvfs(dir).is_ok_and(|fs| fs.f_bavail * fs.f_frsize >= ROOM)
        && rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Removes the clusters in memory of stages that were killed.
fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('.').next())
            .and_then(|owner| owner.parse::<ProcessId>().ok());
        if owner.is_some_and(|owner| !owner.is_alive()) {
            // Another user's is not ours to remove, and cannot be.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// What to show of a log.
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}
