//! What a stage that was killed leaves behind, and how the next one removes exactly that.
//!
//! A stage that ends in order removes what it made. One that is killed by SIGKILL cannot; the kernel
//! then kills its tasks, but files stay, and a process that was being started at that very moment
//! might. So a stage *claims* its directory: it locks a file there, which the kernel unlocks
//! however the stage ends, and it writes down each process it starts. The next stage in the same
//! directory gets the lock, and so knows that the writer is dead.
//!
//! A process is only ever ended if it is provably the one that was written down: process ids are
//! used again, but not together with the same start time since boot (`/proc/PID/stat`, field 22).

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal};

/// A process of this boot, for ever: its id and when it started, in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessId {
    pid: i32,
    start: u64,
}

impl ProcessId {
    /// The process with this id, if there is one.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            start: stat(pid)?.1,
        })
    }

    /// This process.
    pub fn own() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self::of(pid).unwrap_or(Self { pid, start: 0 })
    }

    /// The number that the system knows it by.
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Whether it still runs. One that has ended and was not waited for does not.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|(state, start)| start == self.start && state != 'Z')
    }

    /// Ends it by SIGKILL, if it still runs; returns whether it did.
    fn kill(self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return false;
        };
        // First the reference, then the check: the reference cannot come to mean another process.
        let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
            return false;
        };
        self.is_alive() && rustix::process::pidfd_send_signal(pidfd, Signal::KILL).is_ok()
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.pid, self.start)
    }
}

impl FromStr for ProcessId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (pid, start) = text.split_once('-').ok_or(())?;
        let pid = pid.parse().map_err(|_| ())?;
        let start = start.parse().map_err(|_| ())?;
        if pid > 0 {
            Ok(Self { pid, start })
        } else {
            Err(())
        }
    }
}

/// The state and start time of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

/// A directory that is this stage's alone until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Claim {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    // Holds the lock.
    _lock: File,
    processes: Mutex<File>,
}

/// What a dead stage had left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Ids of processes that still ran and were killed.
    pub processes: Vec<i32>,
    /// Files and directories that were removed.
    pub paths: Vec<PathBuf>,
}

/// Why a directory cannot be claimed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Another stage runs in it.
    #[error(
        "cannot use {} as the stage's directory: the stage with process id {owner} runs there; end it, or name another directory", dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process id of the stage in it, `unknown` if it has not written it yet.
        owner: String,
    },
    /// It holds things that no stage has put there.
    #[error(
        "cannot use {} as the stage's directory: it holds {found}, which is not a stage's; name an empty or new directory", dir.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// A file in it.
        found: String,
    },
    /// A process of a dead stage cannot be ended.
    #[error(
        "cannot clean up after a stage that was killed: its process {pid} does not end; end it by `kill -9 {pid}`"
    )]
    Survivor {
        /// Its id.
        pid: i32,
    },
    /// A file cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

const LOCK: &str = "stage.lock";
const PROCESSES: &str = "stage.processes";
/// How long a killed process may take to go. Real time.
const PATIENCE: Duration = Duration::from_secs(10);

impl Claim {
    /// Claims `dir`, which is made if it is missing, and removes what a dead stage left in it.
    ///
    /// A directory that holds anything but has no lock file of a stage is refused: its contents
    /// would be removed.
    pub fn of(dir: &Path) -> Result<(Self, Swept), ClaimError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ClaimError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(io(dir))?;
        let lock_path = dir.join(LOCK);
        if !lock_path.exists()
            && let Some(entry) = fs::read_dir(dir).map_err(io(dir))?.flatten().next()
            // Another stage may be claiming it at this moment.
            && entry.file_name() != LOCK
        {
            return Err(ClaimError::Foreign {
                dir: dir.to_owned(),
                found: entry.file_name().to_string_lossy().into_owned(),
            });
        }
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = lock.read_to_string(&mut owner);
                let owner = owner.trim().split('-').next().unwrap_or_default();
                return Err(ClaimError::InUse {
                    dir: dir.to_owned(),
                    owner: if owner.is_empty() { "unknown" } else { owner }.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(&lock_path)(source)),
        }
        // Ours. Whoever wrote the list is dead.
        let processes_path = dir.join(PROCESSES);
        let swept = sweep(dir, &processes_path)?;
        lock.set_len(0).map_err(io(&lock_path))?;
        let me = ProcessId::own();
        writeln!(lock, "{me}").map_err(io(&lock_path))?;
        let processes = File::options()
            .create(true)
            .append(true)
            .open(&processes_path)
            .map_err(io(&processes_path))?;
        let inner = Inner {
            dir: dir.to_owned(),
            _lock: lock,
            processes: Mutex::new(processes),
        };
        Ok((
            Self {
                inner: Arc::new(inner),
            },
            swept,
        ))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Writes down a process that this stage has started.
    pub fn started(&self, pid: u32) {
        let id = i32::try_from(pid).ok().and_then(ProcessId::of);
        if let Some(id) = id {
            let mut file = self
                .inner
                .processes
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // The kernel ends it with the stage in any case; the list is the second net.
            let _ = writeln!(file, "{id}");
        }
    }
}

fn sweep(dir: &Path, processes: &Path) -> Result<Swept, ClaimError> {
    let mut swept = Swept::default();
    let list = fs::read_to_string(processes).unwrap_or_default();
    let ours = list.lines().filter_map(|line| line.parse().ok());
    let killed: Vec<ProcessId> = ours.filter(|id: &ProcessId| id.kill()).collect();
    let until = Instant::now() + PATIENCE;
    for id in killed {
        while id.is_alive() {
            if Instant::now() > until {
                return Err(ClaimError::Survivor { pid: id.pid });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        swept.processes.push(id.pid);
    }
    let entries = fs::read_dir(dir).map_err(|source| ClaimError::Io {
        path: dir.to_owned(),
        source,
    })?;
    for entry in entries.flatten() {
        if entry.file_name() == LOCK {
            continue;
        }
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_dir {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(|source| ClaimError::Io {
            path: path.clone(),
            source,
        })?;
        if entry.file_name() != PROCESSES {
            swept.paths.push(path);
        }
    }
    swept.paths.sort();
    Ok(swept)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn sleeper() -> std::process::Child {
        std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap()
    }

    fn is_running(child: &mut std::process::Child) -> bool {
        child.try_wait().unwrap().is_none()
    }

    #[test]
    fn a_process_is_known_by_its_start_too() {
        let mut child = sleeper();
        let id = ProcessId::of(child.id().cast_signed()).unwrap();
        assert!(id.is_alive());
        assert_eq!(id.to_string().parse(), Ok(id));
        let other = ProcessId {
            start: id.start + 1,
            ..id
        };
        assert!(!other.is_alive());
        assert!(!other.kill(), "another process with the same id is spared");
        assert!(is_running(&mut child));
        assert!(id.kill());
        child.wait().unwrap();
        assert!(!id.is_alive());
    }

    #[test]
    fn nonsense_in_a_list_is_no_process() {
        for text in ["", "1", "x-y", "-1-5", "0-0", "12-"] {
            assert!(text.parse::<ProcessId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_directory_is_claimed_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let (claim, _) = Claim::of(dir.path()).unwrap();
        let error = Claim::of(dir.path()).unwrap_err().to_string();
        let pid = std::process::id().to_string();
        assert!(error.contains(&pid), "{error}");
        drop(claim);
        Claim::of(dir.path()).unwrap();
    }

    #[test]
    fn what_a_dead_stage_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (mut ours, mut not_ours) = (sleeper(), sleeper());
        {
            let (claim, swept) = Claim::of(dir.path()).unwrap();
            assert_eq!(swept, Swept::default());
            claim.started(ours.id());
            // As after a process whose number was used again.
            let list = dir.path().join(PROCESSES);
            let mut list = File::options().append(true).open(list).unwrap();
            writeln!(list, "{}-1", not_ours.id()).unwrap();
            fs::create_dir(dir.path().join("images")).unwrap();
            fs::write(dir.path().join("images/file"), "x").unwrap();
        }
        let (_claim, swept) = Claim::of(dir.path()).unwrap();
        assert_eq!(swept.processes, [ours.id().cast_signed()]);
        assert_eq!(swept.paths, [dir.path().join("images")]);
        assert!(!dir.path().join("images").exists());
        assert!(!is_running(&mut ours));
        assert!(is_running(&mut not_ours));
        not_ours.kill().unwrap();
        not_ours.wait().unwrap();
    }

    #[test]
    fn somebody_elses_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
        let error = Claim::of(dir.path()).unwrap_err().to_string();
        assert!(error.contains("thesis.tex"), "{error}");
        assert!(dir.path().join("thesis.tex").exists());
    }
}
