//! A private PostgreSQL for one test, gone with it.
//!
//! `initdb` takes a second or two and a copy of its result a tenth of one, so the first test that
//! needs a server leaves a template beside the test binaries. A server lives in memory where there
//! is some to be had, listens on a socket in its own directory only, and is watched by a shell that
//! stops it and removes the directory when the test ends, in whatever way: the shell waits for the
//! end of a pipe that the test holds.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// A server with one database, `postgres`, and one role, `app`, that needs no password.
pub struct Postgres {
    dir: PathBuf,
    bin: PathBuf,
    watcher: Option<(Child, ChildStdin)>,
}

/// Who the server runs as: it refuses root.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let entry = |name: &str| {
        let line = passwd
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse::<u32>().ok());
        Some((ids.next()??, ids.next()??))
    };
    Some(
        entry("postgres")
            .or_else(|| entry("nobody"))
            .expect("a user to run PostgreSQL as"),
    )
}

/// The newest installed server's programs.
fn programs() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions: Vec<(u32, PathBuf)> = installed
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
        })
        .collect();
    versions.sort();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    versions
        .into_iter()
        .rev()
        .map(|(_, bin)| bin)
        .chain(std::env::split_paths(&on_path))
        .find(|bin| bin.join("postgres").exists() && bin.join("initdb").exists())
        .expect("PostgreSQL's server; on Debian: apt-get install postgresql")
}

/// A new empty directory with a short name that only the server's user may enter.
fn directory() -> PathBuf {
    let place = [Path::new("/dev/shm"), Path::new("/tmp")]
        .into_iter()
        .find(|place| tempfile::tempfile_in(place).is_ok())
        .expect("a directory to write to");
    let dir = tempfile::Builder::new()
        .prefix("app-test-")
        .tempdir_in(place)
        .unwrap()
        .keep();
    if let Some((uid, gid)) = user() {
        chown(&dir, Some(uid), Some(gid)).unwrap();
    }
    dir
}

fn copy(from: &Path, to: &Path) {
    let owner = user();
    let own = |path: &Path| {
        if let Some((uid, gid)) = owner {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    };
    fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    own(to);
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
            own(&target);
        }
    }
}

/// The directory of a cluster that `initdb` made with these programs; made now if it is not there.
fn template(bin: &Path) -> PathBuf {
    let version = Command::new(bin.join("initdb"))
        .arg("--version")
        .output()
        .unwrap()
        .stdout;
    let version: String = String::from_utf8(version)
        .unwrap()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let beside = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned();
    let template = beside.join(format!("postgres-template-{version}"));
    let lock = File::create(template.with_extension("lock")).unwrap();
    lock.lock().unwrap(); // tests are processes, and start together
    if !template.exists() {
        let dir = directory();
        let data = dir.join("data");
        let mut initdb = Command::new(bin.join("initdb"));
        initdb
            .arg("-D")
            .arg(&data)
            .args(["-U", "app", "-A", "trust", "--no-sync", "-E", "UTF8"]);
        initdb
            .args(["--locale=C", "--no-instructions"])
            .current_dir(&dir);
        if let Some((uid, gid)) = user() {
            initdb.uid(uid).gid(gid);
        }
        let output = initdb.output().unwrap();
        assert!(
            output.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let partly = template.with_extension("partly");
        if partly.exists() {
            fs::remove_dir_all(&partly).unwrap();
        }
        copy(&data, &partly);
        fs::rename(&partly, &template).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
    template
}

/// `$1` is the server's program, `$2` its directory. Stops it when a line comes (its directory
/// stays) or the pipe ends (it goes).
const WATCHER: &str = r#"
"$1" -D "$2/data" -k "$2" -F -c listen_addresses= -c shared_buffers=16MB -c max_connections=20 \
    -c synchronous_commit=off -c autovacuum=off -c jit=off </dev/null >>"$2/log" 2>&1 &
server=$!
if read -r signal; then keep=yes; else signal=QUIT keep=; fi
kill "-$signal" "$server"
wait "$server"
[ -n "$keep" ] || rm -rf -- "$2"
"#;

impl Postgres {
    /// A server that answers.
    pub fn start() -> Self {
        let mut postgres = Self::stopped();
        postgres.start_again();
        postgres
    }

    /// A server that has not been started yet.
    pub fn stopped() -> Self {
        let bin = programs();
        let dir = directory();
        copy(&template(&bin), &dir.join("data"));
        Self {
            dir,
            bin,
            watcher: None,
        }
    }

    /// Starts it, and waits until it answers.
    pub fn start_again(&mut self) {
        assert!(self.watcher.is_none(), "it is running");
        let mut command = Command::new("sh");
        command
            .args(["-c", WATCHER, "sh"])
            .arg(self.bin.join("postgres"))
            .arg(&self.dir);
        // Of a process group of its own: what ends the test by force leaves the watcher alone.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        command.current_dir(&self.dir);
        if let Some((uid, gid)) = user() {
            command.uid(uid).gid(gid);
        }
        let mut child = command.spawn().unwrap();
        let pipe = child.stdin.take().unwrap();
        self.watcher = Some((child, pipe));
        let end = Instant::now() + Duration::from_secs(30);
        while self.try_sql("SELECT 1").is_err() {
            assert!(
                Instant::now() < end,
                "{}",
                fs::read_to_string(self.dir.join("log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it, as an administrator would; connections are ended. Its data stay.
    pub fn stop(&mut self) {
        let (mut child, mut pipe) = self.watcher.take().expect("it is running");
        pipe.write_all(b"INT\n").unwrap();
        child.wait().unwrap();
    }

    /// `DATABASE_URL` of its socket.
    pub fn url(&self) -> String {
        format!(
            "postgres://app@localhost/postgres?host={}",
            self.dir.display()
        )
    }

    /// The socket itself.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(".s.PGSQL.5432")
    }

    fn psql(&self) -> Command {
        let psql = self.bin.join("psql");
        let mut command = Command::new(if psql.exists() { psql } else { "psql".into() });
        command
            .arg("-h")
            .arg(&self.dir)
            .args(["-U", "app", "-d", "postgres", "-XqAt"]);
        command
            .args(["-v", "ON_ERROR_STOP=1"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin");
        command
    }

    fn try_sql(&self, sql: &str) -> Result<String, String> {
        let output = self.psql().args(["-c", sql]).output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout)
                .unwrap()
                .trim_end()
                .to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// What psql prints for these statements: a line a row, columns between `|`.
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// A session in which these statements have been run, open until it is dropped.
    pub fn session(&self, sql: &str) -> Session {
        let mut child = self
            .psql()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{sql};\n\\echo session is open").unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap() == "session is open"),
            "{sql}"
        );
        Session {
            child,
            stdin: Some(stdin),
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some((mut child, pipe)) = self.watcher.take() {
            drop(pipe);
            let _ = child.wait();
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// An open psql: whatever it has locked is locked.
pub struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Session {
    /// Ends it and what it held.
    pub fn end(self) {
        drop(self);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
