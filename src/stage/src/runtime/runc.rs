//! Tasks run by `runc`, the reference implementation of the OCI runtime specification.
//!
//! It is slower to start than the stage's own sandbox and must be installed, so it is used on
//! request, as a second opinion: what behaves differently under it is the stage's mistake.
//!
//! As root a task has everything that it has in the sandbox: the network namespace is made by the
//! stage, which keeps a process in it, and `runc` joins it. As an ordinary user `runc` (1.1) cannot join
//! a namespace that another user namespace owns; the task then shares this machine's network and is
//! told to listen on a loopback address of its own (`HOST`), it is root of its user namespace (without
//! any capability) whatever the image says, and there are no limits.
//!
//! A container's first process is not a child of the stage, so the kernel does not end it with the
//! stage. The process that the stage keeps beside it does.

use std::{
    fs, io,
    net::Ipv4Addr,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use rustix::{
    pipe::PipeFlags,
    process::{Pid, PidfdFlags},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Container, ContainerSpec, Runtime, RuntimeError,
    container::Parts,
    host_name,
    ids::{self, IdMap},
    log,
    prepare::Command,
    sandbox::{self, PROCESSES},
    spawn::{self, Child, Handout, Spawner, handout::KILL_AT_END},
};

/// How `runc` works on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runc {
    /// What it says it is.
    pub version: String,
    /// Whether it can make user namespaces. Without one, a task's user is an unprivileged one of
    /// this machine.
    user_namespace: bool,
}

/// Whether `runc` works here: lets it run a program that is not there.
pub fn probe(spawner: &Arc<Spawner>, dir: &Path) -> Result<Runc, String> {
    let output = std::process::Command::new("runc")
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("runc cannot be run ({error}); apt-get install runc"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().next().unwrap_or("runc").to_owned();
    let (_rootfs, spec) = sandbox::probe_spec(dir)?;
    let command = Command::new(&spec, &[])?;
    let mut problem = String::new();
    for user_namespace in [true, false] {
        let runc = Runc {
            version: version.clone(),
            user_namespace,
        };
        let (output, write_output) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| error.to_string())?;
        let job = Job {
            spawner: Arc::clone(spawner),
            dir: dir.to_owned(),
            group: None,
            id: format!("{}-probe", std::process::id()),
            runc: runc.clone(),
            root: ids::is_root(),
            host: "probe".into(),
            address: sandbox::address(0),
            output: write_output,
            command: command.clone(),
            spec: spec.clone(),
        };
        let ran = job.run();
        drop(output);
        match ran {
            Err(reason) if reason.contains("no such file or directory") => return Ok(runc),
            Err(reason) => problem = format!("{version} does not work here: {reason}"),
            Ok(_) => problem = format!("{version} ran a program that is not there"),
        }
    }
    Err(problem)
}

/// A container of `runc`'s that runs.
struct Started {
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
    handout: Handout,
    listeners: Vec<std::net::TcpListener>,
    bundle: TempDir,
}

/// How long `runc` may take. Real time; it takes 0.1 s.
const PATIENCE: Duration = Duration::from_secs(30);

impl Runtime {
    /// Starts a task by `runc`.
    pub(super) async fn start_runc(
        &self,
        mut spec: ContainerSpec,
        id: String,
        number: u32,
    ) -> Result<Container, RuntimeError> {
        let runc = self.inner.runc.clone();
        let runc = runc.ok_or_else(|| RuntimeError::CannotStart("runc was not tried".into()))?;
        let root = ids::is_root();
        let host = host_name(&id);
        let address = if root {
            spec.address.unwrap_or_else(|| sandbox::address(number))
        } else {
            let address = sandbox::loopback_address();
            spec.env.0.push(("HOST".into(), address.to_string()));
            address
        };
        let command =
            Command::new(&spec, &[("HOSTNAME", &host)]).map_err(RuntimeError::CannotStart)?;
        let stop_signal = command.stop_signal;
        let log = log::open(&spec.log).map_err(|source| RuntimeError::Directory {
            path: spec.log.clone(),
            source,
        })?;
        let (output, write_output) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .map_err(|error| RuntimeError::CannotStart(error.to_string()))?;
        let job = Job {
            spawner: Arc::clone(&self.inner.spawner),
            dir: self.inner.dir.clone(),
            group: self.inner.runc_groups.as_ref().map(|named| named.path(&id)),
            id: format!("{}-{id}", std::process::id()),
            runc,
            root,
            host,
            address,
            output: write_output,
            command,
            spec: spec.clone(),
        };
        let started = tokio::task::spawn_blocking(move || job.run())
            .await
            .map_err(|error| RuntimeError::CannotStart(error.to_string()))?
            .map_err(RuntimeError::CannotStart)?;
        let parts = Parts {
            id,
            spec,
            child: started.child,
            first: Some((started.pid, started.pidfd)),
            handout: Some(started.handout),
            listeners: started.listeners,
            group: None,
            output,
            log,
            address,
            shared: !root,
            stop_signal,
            scratch: Some(started.bundle),
        };
        self.look_after(parts)
            .map_err(|error| RuntimeError::CannotStart(error.to_string()))
    }
}

/// What it takes to start one container; blocking.
struct Job {
    spawner: Arc<Spawner>,
    dir: PathBuf,
    /// The control groups that `runc` makes.
    group: Option<String>,
    id: String,
    runc: Runc,
    root: bool,
    host: String,
    address: Ipv4Addr,
    output: OwnedFd,
    command: Command,
    spec: ContainerSpec,
}

impl Job {
    fn run(self) -> Result<Started, String> {
        let bundle = tempfile::Builder::new()
            .prefix("runc-")
            .tempdir_in(&self.dir)
            .map_err(|error| format!("{}: {error}", self.dir.display()))?;
        let (handout, listeners) = if self.root {
            let reach = self.spec.reach.clone();
            spawn::new_network(&self.spawner, self.address, reach).map_err(|e| e.to_string())?
        } else {
            let watchdog = spawn::watchdog(&self.spawner).map_err(|e| e.to_string())?;
            (watchdog, Vec::new())
        };
        let rootfs = self.rootfs(bundle.path())?;
        let config = self.config(&rootfs, handout.child.pid());
        let path = |name: &str| bundle.path().join(name);
        let problem = |error: io::Error| format!("cannot start runc: {error}");
        fs::write(path("config.json"), config.to_string()).map_err(problem)?;

        let output = self.output.try_clone().map_err(problem)?;
        let mut runc = std::process::Command::new("runc");
        runc.arg("--root")
            .arg(self.dir.join("runc"))
            .arg("--log")
            .arg(path("runc.log"))
            .args(["run", "--bundle"])
            .arg(bundle.path())
            .arg("--pid-file")
            .arg(path("pid"))
            .arg(&self.id)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(self.output);
        let child = self.spawner.command(runc).map_err(problem)?;
        let child = Child::adopt(&child).map_err(problem)?;
        let pid = wait_for_pid(&child, &path("pid")).ok_or_else(|| {
            let said = fs::read_to_string(path("runc.log")).unwrap_or_default();
            reason(&said, &self.spec.image.digest)
        })?;
        let pidfd = match child_of(child.pid(), pid) {
            Some(pidfd) => pidfd,
            // It has ended, and runc is about to.
            None => child.pidfd().map_err(problem)?,
        };
        spawn::child::send_socket(handout.control.as_fd(), KILL_AT_END, pidfd.as_fd())
            .map_err(|error| problem(error.into()))?;
        Ok(Started {
            child,
            pid,
            pidfd,
            handout,
            listeners,
            bundle,
        })
    }

    /// The image's files; if the container may write, a copy of its own.
    fn rootfs(&self, bundle: &Path) -> Result<PathBuf, String> {
        if self.spec.readonly_root {
            return Ok(self.spec.image.rootfs.clone());
        }
        let copy = bundle.join("rootfs");
        let copied = std::process::Command::new("cp")
            .args(["-a", "--reflink=auto", "--"])
            .args([&self.spec.image.rootfs, &copy])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot copy the image for a writable root: {error}"))?;
        if copied.status.success() {
            Ok(copy)
        } else {
            let said = String::from_utf8_lossy(&copied.stderr).into_owned();
            Err(format!("cannot copy the image for a writable root: {said}"))
        }
    }

    fn config(&self, rootfs: &Path, network: Pid) -> Value {
        let mut identity = self.command.identity.clone();
        if !self.root {
            // runc wants a root, and only one user can be mapped.
            (identity.uid, identity.gid) = (0, 0);
        }
        let ids = IdMap::for_task(identity.uid, identity.gid);
        let [uids, gids] = ids.lines().map(|(inside, outside, count)| {
            json!([{ "containerID": inside, "hostID": outside, "size": count }])
        });
        let memory = self.spec.memory.unwrap_or(1 << 30);
        let mount = |destination: &str, kind: &str, options: Value| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
        let mut namespaces = vec![
            json!({ "type": "pid" }),
            json!({ "type": "mount" }),
            json!({ "type": "ipc" }),
            json!({ "type": "uts" }),
        ];
        let mut linux = json!({});
        if self.runc.user_namespace {
            namespaces.push(json!({ "type": "user" }));
            linux = json!({ "uidMappings": uids, "gidMappings": gids });
        } else if let Some(outside) = ids::outside(&identity) {
            (identity.uid, identity.gid) = outside;
            identity.groups.clear();
        }
        if self.root {
            let path = format!("/proc/{}/ns/net", network.as_raw_nonzero());
            namespaces.push(json!({ "type": "network", "path": path }));
            let pids = self.spec.pids.unwrap_or(PROCESSES);
            linux["resources"] = json!({ "pids": { "limit": pids } });
            if let Some(limit) = self.spec.memory {
                linux["resources"]["memory"] = json!({ "limit": limit, "swap": limit });
            }
            linux["cgroupsPath"] = json!(self.group);
        }
        linux["namespaces"] = Value::from(namespaces);
        let files = sandbox::open_files();
        json!({
            "ociVersion": "1.0.2",
            "hostname": self.host,
            "root": { "path": rootfs, "readonly": self.spec.readonly_root },
            "process": {
                "terminal": false,
                "user": {
                    "uid": identity.uid,
                    "gid": identity.gid,
                    "additionalGids": if self.root { identity.groups } else { Vec::new() },
                },
                "args": self.command.argv,
                "env": self.command.env,
                "cwd": self.command.working_directory,
                "noNewPrivileges": true,
                "capabilities": {
                    "bounding": [], "effective": [], "permitted": [], "ambient": [], "inheritable": []
                },
                "rlimits": [
                    { "type": "RLIMIT_NOFILE", "hard": files, "soft": files },
                    { "type": "RLIMIT_CORE", "hard": 0, "soft": 0 },
                ],
            },
            "mounts": [
                mount("/proc", "proc", json!(["nosuid", "nodev", "noexec"])),
                mount("/dev", "tmpfs", json!(["nosuid", "mode=755", "size=64k"])),
                mount("/dev/shm", "tmpfs", json!(["nosuid", "nodev", "noexec", "mode=1777", "size=64m"])),
                mount("/tmp", "tmpfs", json!(["nosuid", "nodev", "mode=1777", format!("size={memory}")])),
            ],
            "linux": linux,
        })
    }
}

/// The id of the container's first process, once its program runs; `None` if `runc` has ended before.
fn wait_for_pid(runc: &Child, file: &Path) -> Option<Pid> {
    let until = std::time::Instant::now() + PATIENCE;
    let pidfd = runc.pidfd().ok()?;
    while std::time::Instant::now() < until {
        let ended = spawn::is_readable(&pidfd, Duration::from_millis(5));
        let pid = fs::read_to_string(file).ok();
        if let Some(pid) = pid.and_then(|text| text.trim().parse().ok()) {
            return Pid::from_raw(pid);
        }
        if ended {
            return None;
        }
    }
    None
}

/// Refers to a process, if it is a child of that parent: the number alone may be another's by now.
fn child_of(parent: Pid, pid: Pid) -> Option<OwnedFd> {
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let found: i32 = fields.nth(1)?.parse().ok()?;
    (found == parent.as_raw_nonzero().get()).then_some(pidfd)
}

/// What `runc` said, from its log: a line of `key=value` pairs, the last of which is `msg`.
fn reason(log: &str, image: &str) -> String {
    let last = log.lines().rev().find_map(|line| {
        let message = line.split_once("msg=")?.1;
        Some(message.trim_matches('"').replace("\\\"", "\""))
    });
    let last = last.unwrap_or_else(|| "runc ended without a word".into());
    format!("OCI runtime create failed: {last}, in the image {image}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_message_of_a_log_is_the_reason() {
        let log = "time=\"T\" level=warning msg=\"be careful\"\n\
                   time=\"T\" level=error msg=\"runc run failed: exec: \\\"/bin/nope\\\": stat: no such file\"\n";
        assert_eq!(
            reason(log, "sha256:0"),
            "OCI runtime create failed: runc run failed: exec: \"/bin/nope\": stat: no such file, \
             in the image sha256:0"
        );
        assert!(reason("", "x").contains("without a word"));
    }
}
