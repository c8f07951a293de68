//! Running the program, and reading what it told.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rollout::event::{Entry, Event};

/// The longest that anything may take.
pub const LIMIT: Duration = Duration::from_mins(2);

/// The directory of bundles, or a panic that says how to make them.
pub fn bundles() -> PathBuf {
    let place = std::env::var_os("SEREIN_BUNDLES").map_or_else(
        || {
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            here.ancestors()
                .map(|directory| directory.join(".serein/bundles"))
                .find(|path| path.is_dir())
                .unwrap_or_default()
        },
        PathBuf::from,
    );
    for version in ["1.0.0", "2.0.0", "2.0.1"] {
        assert!(
            place.join(version).join("bundle.json").is_file(),
            "no bundle of {version}: make them with `nix/host/bundles .serein/bundles 1.0.0 2.0.0 2.0.1`, or name their directory in SEREIN_BUNDLES"
        );
    }
    place
}

/// A directory for one test, with what the program is told to use.
pub struct Room {
    directory: tempfile::TempDir,
}

impl Room {
    pub fn new() -> Room {
        Room {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The configuration and templates of a bundle with some texts replaced; every replacement must
    /// hit.
    pub fn config(&self, edits: &[(&str, &str, &str)]) -> PathBuf {
        let source = bundles().join("2.0.1");
        let place = self.path("config");
        std::fs::create_dir_all(place.join("templates")).unwrap();
        for name in [
            "release.toml",
            "templates/task-definition.json.j2",
            "templates/appspec.yaml.j2",
        ] {
            let mut text = std::fs::read_to_string(source.join(name)).unwrap();
            for (file, from, to) in edits.iter().filter(|(file, _, _)| name.ends_with(file)) {
                assert!(text.contains(from), "{file} has no {from}");
                text = text.replace(from, to);
            }
            std::fs::write(place.join(name), text).unwrap();
        }
        place.join("release.toml")
    }

    /// The program with arguments; JSON on standard output unless the arguments say otherwise.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_release"));
        command
            .current_dir(self.directory.path())
            .args(arguments)
            .env("SEREIN_BUNDLES", bundles())
            .env_remove("NO_COLOR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts the program with its record in a file of this room.
    pub fn start(&self, name: &str, arguments: &[&str]) -> Running {
        let record = self.path(&format!("{name}.jsonl"));
        let mut command = self.command(arguments);
        if arguments.first() != Some(&"stage") {
            command.arg("--record").arg(&record);
        }
        if !arguments.contains(&"human") {
            command.args(["--format", "json"]);
        }
        Room::adopt(command, record)
    }

    /// Starts a command of [`Room::command`] that keeps its record in that file.
    pub fn adopt(mut command: Command, record: PathBuf) -> Running {
        let mut child = command.spawn().unwrap();
        let stdout = drain(child.stdout.take().unwrap());
        let stderr = drain(child.stderr.take().unwrap());
        Running {
            child,
            record,
            stdout: Some(stdout),
            stderr: Some(stderr),
        }
    }

    /// Runs the program to its end.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Ended {
        self.start(name, arguments).end()
    }
}

fn drain(mut pipe: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = pipe.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// The program while it runs. Dropped, it is killed.
pub struct Running {
    child: Child,
    record: PathBuf,
    stdout: Option<std::thread::JoinHandle<String>>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGINT, SIGKILL, …
    pub fn signal(&self, signal: rustix::process::Signal) {
        kill(self.pid(), signal);
    }

    /// What is in the record so far.
    pub fn entries(&self) -> Vec<Entry> {
        let text = std::fs::read_to_string(&self.record).unwrap_or_default();
        // The last line may be half written.
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits until the record has an event that `look` finds something in.
    pub fn until<T>(&mut self, what: &str, look: impl Fn(&Event) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = self.entries().iter().find_map(|entry| look(&entry.event)) {
                return found;
            }
            let status = self.child.try_wait().unwrap();
            assert!(status.is_none(), "ended before {what}: {}", self.told());
            assert!(
                begun.elapsed() < LIMIT,
                "no {what} in {LIMIT:?}: {}",
                self.told()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn told(&self) -> String {
        std::fs::read_to_string(&self.record).unwrap_or_default()
    }

    /// Waits for the end.
    pub fn end(mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                begun.elapsed() < LIMIT,
                "still runs after {LIMIT:?}: {}",
                self.told()
            );
            std::thread::sleep(Duration::from_millis(20));
        };
        Ended {
            code: status.code().unwrap_or(-status.signal().unwrap_or(0)),
            stdout: self.stdout.take().unwrap().join().unwrap(),
            stderr: self.stderr.take().unwrap().join().unwrap(),
            entries: self.entries(),
        }
    }
}

/// A run that ended.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub entries: Vec<Entry>,
}

impl Ended {
    /// Panics with everything that was told, unless the exit code is this one.
    pub fn expect(&self, code: i32) -> &Ended {
        if self.code != code {
            let mut told = String::new();
            for entry in &self.entries {
                let _ = writeln!(told, "{}", serde_json::to_string(entry).unwrap());
            }
            panic!(
                "exit code {} instead of {code}\n{}\n{told}",
                self.code, self.stderr
            );
        }
        self
    }

    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.entries.iter().map(|entry| &entry.event)
    }

    /// Green's shares in the order in which they came.
    pub fn weights(&self) -> Vec<u8> {
        self.events()
            .filter_map(|event| match event {
                Event::WeightsChanged { green, .. } => Some(*green),
                _ => None,
            })
            .collect()
    }

    /// The deployment that was created or watched.
    pub fn deployment(&self) -> Option<&str> {
        self.events().find_map(|event| match event {
            Event::DeploymentCreated {
                deployment_id,
                rollback_of: None,
                ..
            } => Some(deployment_id.as_str()),
            _ => None,
        })
    }

    /// The summary's sentence.
    pub fn outcome(&self) -> &str {
        match self.events().last() {
            Some(Event::Summary { outcome, .. }) => outcome,
            other => panic!("the record ends with {other:?}"),
        }
    }

    /// Requests of generated traffic: all, and lost.
    pub fn requests(&self) -> (u64, u64) {
        match self.events().last() {
            Some(Event::Summary { requests, .. }) => (requests.total(), requests.lost()),
            other => panic!("the record ends with {other:?}"),
        }
    }

    /// The steps that were finished.
    pub fn steps(&self) -> Vec<&str> {
        self.events()
            .filter_map(|event| match event {
                Event::StepFinished { step, .. } => Some(step.as_str()),
                _ => None,
            })
            .collect()
    }

    /// What a step said it did.
    pub fn detail(&self, wanted: &str) -> &str {
        self.events()
            .find_map(|event| match event {
                Event::StepFinished { step, detail } if step == wanted => Some(detail.as_str()),
                _ => None,
            })
            .unwrap_or_default()
    }
}

pub fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// One process, told apart from another that gets the same number later.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    pub pid: u32,
    pub name: String,
    /// Clock ticks since the machine's start.
    pub started: u64,
}

/// Everything that a process started, and what that started.
pub fn descendants(root: u32) -> Vec<Process> {
    let all: Vec<(Process, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .map(|(process, parent, _)| (process, parent))
        .collect();
    let mut family = HashSet::from([root]);
    loop {
        let before = family.len();
        for (process, parent) in &all {
            if family.contains(parent) {
                family.insert(process.pid);
            }
        }
        if family.len() == before {
            break;
        }
    }
    all.into_iter()
        .map(|(process, _)| process)
        .filter(|process| process.pid != root && family.contains(&process.pid))
        .collect()
}

/// Process, parent and state.
fn stat(pid: u32) -> Option<(Process, u32, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let process = Process {
        pid,
        name,
        started: fields.get(19)?.parse().ok()?,
    };
    Some((
        process,
        fields.get(1)?.parse().ok()?,
        (*fields.first()?).to_owned(),
    ))
}

/// Waits until none of them runs any more. A zombie is gone: orphans are reaped late.
pub fn wait_until_gone(processes: &[Process]) {
    let begun = Instant::now();
    loop {
        let left: Vec<&Process> = processes
            .iter()
            .filter(|process| {
                stat(process.pid).is_some_and(|(now, _, state)| now == **process && state != "Z")
            })
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "still there: {left:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The task ids of a record whose processes ended with a code.
pub fn exit_codes(ended: &Ended) -> Vec<(String, Option<i32>)> {
    ended
        .events()
        .filter_map(|event| match event {
            Event::TaskStopped {
                task, exit_code, ..
            } => Some((task.clone(), *exit_code)),
            _ => None,
        })
        .collect()
}
