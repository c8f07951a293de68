//! Tasks that the stage starts itself: in namespaces of their own, or as plain processes.

use std::{
    ffi::CString,
    fs::File,
    io,
    net::Ipv4Addr,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::{
    io::Errno,
    pipe::PipeFlags,
    process::{Gid, Resource, Uid},
};

use tempfile::TempDir;

use super::{
    Container, ContainerSpec, Runtime, RuntimeError,
    cgroup::Group,
    container::Parts,
    explain::explain,
    host_name,
    ids::{self, IdMap, Identity},
    log, open_root,
    prepare::{self, Command},
    spawn::{
        self, LaunchError, Spawner,
        child::{Plan, Sandbox, Step, User},
        sys::CStrings,
    },
};

/// What Fargate allows a task by default (task definition parameters, `ulimits`).
const OPEN_FILES: u64 = 65535;
/// The most processes of a task that does not say.
pub(super) const PROCESSES: u32 = 4096;
const MIB: u64 = 1 << 20;

/// Everything that is made before the process is.
struct Prepared {
    plan: Plan,
    gate: OwnedFd,
    output: OwnedFd,
    root: OwnedFd,
    ids: Option<IdMap>,
}

/// Where a process is to run.
enum Place<'a> {
    /// In namespaces of its own.
    Sandbox { host: &'a str, address: Ipv4Addr },
    /// On this machine, as an unprivileged user if the stage is root.
    Process,
}

fn prepare(
    command: &Command,
    spec: &ContainerSpec,
    place: &Place<'_>,
    limited: bool,
) -> Result<Prepared, String> {
    let identity = &command.identity;
    let c_string = |text: String, what: &str| {
        CString::new(text).map_err(|_| format!("{what} must not contain a NUL byte"))
    };
    let (ids, user, sandbox) = match place {
        Place::Sandbox { host, address } => {
            let ids = IdMap::for_task(identity.uid, identity.gid);
            if !ids.holds_user(identity.uid) || !ids.holds_group(identity.gid) {
                let (uid, gid) = (identity.uid, identity.gid);
                return Err(format!("user {uid} or group {gid} is above 65535"));
            }
            let memory = spec.memory.unwrap_or(1 << 30).max(MIB);
            let sandbox = Sandbox {
                enter_as: ids.enter_as(),
                writable: !spec.readonly_root,
                tmp_options: c_string(format!("mode=1777,size={memory}"), "tmp")?,
                layer_size: c_string(memory.to_string(), "size")?,
                host_name: c_string((*host).to_owned(), "the host name")?,
                address: *address,
                reach: spec.reach.clone(),
            };
            (Some(ids), Some(user(identity, ids)), Some(sandbox))
        }
        Place::Process => {
            let outside = ids::outside(identity).map(|(uid, gid)| User {
                uid: Uid::from_raw(uid),
                gid: Gid::from_raw(gid),
                groups: Some(vec![Gid::from_raw(gid)]),
            });
            (None, outside, None)
        }
    };
    let (gate, other_gate) = spawn::socket_pair().map_err(|e| no_descriptors(&e))?;
    let (output, write_output) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|e| no_descriptors(&e.into()))?;
    let input = OwnedFd::from(File::open("/dev/null").map_err(|e| format!("/dev/null: {e}"))?);
    let root = open_root(&spec.image.rootfs)
        .map_err(|error| format!("the unpacked image is gone: {error}"))?;
    let mut keep = [
        other_gate.as_raw_fd(),
        write_output.as_raw_fd(),
        input.as_raw_fd(),
    ];
    keep.sort_unstable();
    let plan = Plan {
        gate: other_gate,
        output: write_output,
        input,
        keep,
        // A machine's user has other processes, so that a limit of theirs would be no limit of this.
        processes: (!limited && sandbox.is_some())
            .then(|| u64::from(spec.pids.unwrap_or(PROCESSES))),
        sandbox,
        user,
        open_files: open_files(),
        working_directory: c_string(command.working_directory.clone(), "the working directory")?,
        programs: prepare::c_strings(&command.programs, "the program's path")?,
        argv: CStrings::new(prepare::c_strings(&command.argv, "an argument")?),
        envp: CStrings::new(prepare::c_strings(&command.env, "the environment")?),
    };
    Ok(Prepared {
        plan,
        gate,
        output,
        root,
        ids,
    })
}

/// How many files a task may open.
pub(super) fn open_files() -> u64 {
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
    hard.unwrap_or(OPEN_FILES).min(OPEN_FILES)
}

fn no_descriptors(error: &io::Error) -> String {
    format!("cannot make a pipe to the task: {error}")
}

fn user(identity: &Identity, ids: IdMap) -> User {
    User {
        uid: Uid::from_raw(identity.uid),
        gid: Gid::from_raw(identity.gid),
        groups: ids.groups_can_be_set().then(|| {
            std::iter::once(&identity.gid)
                .chain(&identity.groups)
                .filter(|gid| ids.holds_group(**gid))
                .map(|gid| Gid::from_raw(*gid))
                .collect()
        }),
    }
}

impl Runtime {
    /// Starts a task in namespaces of its own.
    pub(super) async fn start_sandbox(
        &self,
        spec: ContainerSpec,
        id: String,
        number: u32,
    ) -> Result<Container, RuntimeError> {
        let host = host_name(&id);
        let command =
            Command::new(&spec, &[("HOSTNAME", &host)]).map_err(RuntimeError::CannotStart)?;
        let address = spec.address.unwrap_or_else(|| address(number));
        let host = &host;
        self.start_own(spec, id, command, Place::Sandbox { host, address }, address)
            .await
    }

    /// Starts a task as a plain process of this machine, told to listen on an address of its own.
    pub(super) async fn start_process(
        &self,
        mut spec: ContainerSpec,
        id: String,
    ) -> Result<Container, RuntimeError> {
        let address = loopback_address();
        spec.env.0.push(("HOST".into(), address.to_string()));
        let command = Command::new(&spec, &[])
            .map_err(RuntimeError::CannotStart)?
            .outside(&spec.image.rootfs);
        self.start_own(spec, id, command, Place::Process, address)
            .await
    }

    async fn start_own(
        &self,
        spec: ContainerSpec,
        id: String,
        command: Command,
        place: Place<'_>,
        address: Ipv4Addr,
    ) -> Result<Container, RuntimeError> {
        let group = self.group(&id, &spec)?;
        let Prepared {
            plan,
            gate,
            output,
            root,
            ids,
        } = prepare(&command, &spec, &place, group.is_some()).map_err(RuntimeError::CannotStart)?;
        let log = log::open(&spec.log).map_err(|source| RuntimeError::Directory {
            path: spec.log.clone(),
            source,
        })?;
        let spawner = Arc::clone(&self.inner.spawner);
        let launch = move || {
            let confine = |pid| match &group {
                Some(group) => group.add(pid),
                None => Ok(()),
            };
            let launched = spawn::launch(&spawner, plan, &gate, root, ids, confine);
            (launched, group)
        };
        let (launched, group) = tokio::task::spawn_blocking(launch)
            .await
            .map_err(|error| RuntimeError::CannotStart(error.to_string()))?;
        let launched = launched
            .map_err(|error| RuntimeError::CannotStart(explain(&error, &command, &spec)))?;
        let parts = Parts {
            id,
            child: launched.child,
            first: None,
            handout: launched.handout,
            listeners: launched.listeners,
            group,
            output,
            log,
            address,
            shared: matches!(place, Place::Process),
            stop_signal: command.stop_signal,
            scratch: None,
            spec,
        };
        self.look_after(parts)
            .map_err(|error| RuntimeError::CannotStart(error.to_string()))
    }

    fn group(&self, id: &str, spec: &ContainerSpec) -> Result<Option<Group>, RuntimeError> {
        let Some(groups) = &self.inner.groups else {
            return Ok(None);
        };
        groups
            .group(id, spec.memory, spec.pids.unwrap_or(PROCESSES))
            .map(Some)
            .map_err(|error| {
                RuntimeError::CannotStart(format!("cannot set the limits of the task: {error}"))
            })
    }
}

/// An address for the container with this number, unlike that of the last 60,000 or so.
pub(super) fn address(number: u32) -> Ipv4Addr {
    // 10.0.0.0/16, as a VPC might have; a host part of 0 or 255 is not an address of a host.
    let third = (number / 254) % 256;
    let fourth = number % 254 + 1;
    Ipv4Addr::from(0x0A00_0000 | third << 8 | fourth)
}

/// An address of this machine that hardly anybody uses, and no other task: all of 127.0.0.0/8 is
/// there without being set up.
pub(super) fn loopback_address() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed) % 254;
    // Stages on one machine keep out of each other's way by their process ids: each has 254
    // addresses, and 258 of them make a network of the second number.
    let stage = std::process::id() % (128 * 258);
    let second = 64 + u8::try_from(stage / 258).unwrap_or(0);
    let [_, _, third, fourth] = (stage % 258 * 254 + number).to_be_bytes();
    Ipv4Addr::new(127, second, third, fourth)
}

/// A program that is not there in an image that is empty: what a kind of isolation is tried with.
pub(super) fn probe_spec(dir: &Path) -> Result<(TempDir, ContainerSpec), String> {
    let rootfs = tempfile::Builder::new()
        .prefix("probe-")
        // A task's user is another, who must be able to pass.
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in(dir)
        .map_err(|error| format!("{}: {error}", dir.display()))?;
    for name in ["dev", "proc", "tmp"] {
        std::fs::create_dir(rootfs.path().join(name)).map_err(|error| error.to_string())?;
    }
    let image = super::Image {
        digest: String::new(),
        rootfs: rootfs.path().to_owned(),
        config: super::ImageConfig::default(),
    };
    let mut spec = ContainerSpec::new("probe", image, "");
    spec.entrypoint = Some(vec!["/nothing".into()]);
    spec.user = Some("65532:65532".into());
    Ok((rootfs, spec))
}

/// Whether sandboxes work on this machine: makes one and sees it get as far as running a program
/// that is not there.
pub fn probe(spawner: &Spawner, dir: &Path) -> Result<(), String> {
    let (_rootfs, spec) = probe_spec(dir)?;
    let command = Command::new(&spec, &[])?;
    let place = Place::Sandbox {
        host: "probe",
        address: address(0),
    };
    let prepared = prepare(&command, &spec, &place, true)?;
    let no_limits = |_| Ok(());
    let Prepared {
        plan,
        gate,
        root,
        ids,
        ..
    } = prepared;
    match spawn::launch(spawner, plan, &gate, root, ids, no_limits) {
        Err(LaunchError::Child(Step::Exec, Errno::NOENT)) => Ok(()),
        Err(error) => Err(format!("namespaces do not work here: {error}")),
        Ok(_) => Err("namespaces do not work here: a program ran that is not there".into()),
    }
}
