//! Tasks in namespaces of their own, made by the stage itself.

use std::{
    ffi::CString,
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
    sync::Arc,
};

use rustix::{
    io::Errno,
    pipe::PipeFlags,
    process::{Gid, Resource, Uid},
};
use tokio::{
    net::{TcpListener, unix::pipe},
    sync::watch,
};

use super::{
    Container, ContainerSpec, Runtime, RuntimeError,
    cgroup::Group,
    container::{self, Network, Supervised},
    dial::Sockets,
    host_name,
    ids::{self, IdMap, Identity},
    log::{self, Tail},
    open_root,
    prepare::{self, Command},
    spawn::{
        self, LaunchError, Launched, Spawner,
        child::{Plan, Sandbox, Step, User},
        sys::CStrings,
    },
};

/// What Fargate allows a task by default (task definition parameters, `ulimits`).
const OPEN_FILES: u64 = 65535;
/// The most processes of a task that does not say.
const PROCESSES: u32 = 4096;
const MIB: u64 = 1 << 20;

/// Everything that is made before the process is.
struct Prepared {
    plan: Plan,
    gate: OwnedFd,
    output: OwnedFd,
    root: OwnedFd,
    ids: IdMap,
}

fn prepare(
    command: &Command,
    spec: &ContainerSpec,
    host: &str,
    address: Ipv4Addr,
    limited: bool,
) -> Result<Prepared, String> {
    let identity = &command.identity;
    let ids = IdMap::for_task(identity.uid, identity.gid);
    if !ids.holds_user(identity.uid) || !ids.holds_group(identity.gid) {
        let (uid, gid) = (identity.uid, identity.gid);
        return Err(format!("user {uid} or group {gid} is above 65535"));
    }
    let c_string = |text: String, what: &str| {
        CString::new(text).map_err(|_| format!("{what} must not contain a NUL byte"))
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
    let hard = rustix::process::getrlimit(Resource::Nofile)
        .maximum
        .unwrap_or(OPEN_FILES);
    let memory = spec.memory.unwrap_or(1 << 30);
    let plan = Plan {
        gate: other_gate,
        output: write_output,
        input,
        keep,
        sandbox: Some(Sandbox {
            enter_as: ids.enter_as(),
            writable: !spec.readonly_root,
            tmp_options: c_string(format!("mode=1777,size={}", memory.max(MIB)), "tmp")?,
            layer_size: c_string(memory.max(MIB).to_string(), "size")?,
            host_name: c_string(host.to_owned(), "the host name")?,
            address,
            reach: spec.reach.clone(),
        }),
        user: Some(user(identity, ids)),
        open_files: hard.min(OPEN_FILES),
        processes: (!limited).then(|| u64::from(spec.pids.unwrap_or(PROCESSES))),
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
    pub(super) async fn start_sandbox(
        &self,
        spec: ContainerSpec,
        number: u32,
    ) -> Result<Container, RuntimeError> {
        let cannot = RuntimeError::CannotStart;
        let id = format!("{}-{number}", spec.name);
        let host = host_name(&id);
        let command = Command::new(&spec, &[("HOSTNAME", &host)]).map_err(cannot)?;
        let address = spec.address.unwrap_or_else(|| address(number));
        let group = self.group(&id, &spec)?;
        let prepared = prepare(&command, &spec, &host, address, group.is_some())
            .map_err(RuntimeError::CannotStart)?;
        let log = log::open(&spec.log).map_err(|source| RuntimeError::Directory {
            path: spec.log.clone(),
            source,
        })?;
        let Prepared {
            plan,
            gate,
            output,
            root,
            ids,
        } = prepared;
        let spawner = Arc::clone(&self.inner.spawner);
        let launch = move || {
            let confine = |pid| {
                group
                    .as_ref()
                    .map_or(Ok(()), |group: &Group| group.add(pid))
            };
            let launched = spawn::launch(&spawner, plan, &gate, root, Some(ids), confine);
            (launched, group)
        };
        let (launched, group) = tokio::task::spawn_blocking(launch)
            .await
            .map_err(|error| RuntimeError::CannotStart(error.to_string()))?;
        let launched = launched
            .map_err(|error| RuntimeError::CannotStart(explain(&error, &command, &spec)))?;
        let stop_signal = command.stop_signal;
        self.watch(id, spec, launched, group, output, log, address, stop_signal)
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

    #[expect(
        clippy::too_many_arguments,
        reason = "the pieces of one container, put together once"
    )]
    fn watch(
        &self,
        id: String,
        spec: ContainerSpec,
        launched: Launched,
        group: Option<Group>,
        output: OwnedFd,
        log: File,
        address: Ipv4Addr,
        stop_signal: rustix::process::Signal,
    ) -> io::Result<Container> {
        let tail = Tail::default();
        let output = pipe::Receiver::from_owned_fd(output)?;
        let pump = tokio::spawn(log::pump(output, log, spec.log_timestamps, tail.clone()));
        let (handout, sockets) = match launched.handout {
            Some(handout) => (
                Some(handout.child),
                Some(Arc::new(Sockets::new(handout.control)?)),
            ),
            None => (None, None),
        };
        let reach = launched
            .listeners
            .into_iter()
            .map(TcpListener::from_std)
            .collect::<io::Result<Vec<_>>>()?;
        let (exit, exited) = watch::channel(None);
        let container = Container {
            inner: Arc::new(container::Inner {
                pid: launched.child.pid().as_raw_nonzero().get().cast_unsigned(),
                pidfd: launched.child.pidfd()?,
                id: id.clone(),
                exit: exited,
                stop_signal,
                network: match sockets {
                    Some(sockets) => Network::Own { address, sockets },
                    None => Network::Shared { address },
                },
                log: spec.log,
                tail,
            }),
        };
        let supervised = Supervised {
            child: launched.child,
            handout,
            pump,
            reach: reach.into_iter().zip(spec.reach).collect(),
            group,
            exit,
        };
        self.containers().insert(id.clone(), container.clone());
        let runtime = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            supervised.run().await;
            if let Some(inner) = runtime.upgrade() {
                Self { inner }.containers().remove(&id);
            }
        });
        Ok(container)
    }
}

/// An address for the container with this number, unlike that of the last 60,000 or so.
fn address(number: u32) -> Ipv4Addr {
    // 10.0.0.0/16, as a VPC might have; a host part of 0 or 255 is not an address of a host.
    let third = (number / 254) % 256;
    let fourth = number % 254 + 1;
    Ipv4Addr::from(0x0A00_0000 | third << 8 | fourth)
}

/// Why a program did not start, in the words of an ECS container's `reason`.
fn explain(error: &LaunchError, command: &Command, spec: &ContainerSpec) -> String {
    let program = &command.argv[0];
    let image = &spec.image.digest;
    let LaunchError::Child(step, errno) = error else {
        return error.to_string();
    };
    match (*step, *errno) {
        (Step::Exec, Errno::NOENT) if program.contains('/') => {
            if ids::open_in_root(&spec.image.rootfs, program).is_ok() {
                format!(
                    "exec {program:?}: it is in the image {image}, but the interpreter that it \
                     names (after #!, or as its dynamic loader) is not"
                )
            } else {
                format!("exec {program:?}: no such file or directory in the image {image}")
            }
        }
        (Step::Exec, Errno::NOENT) => {
            format!("exec {program:?}: executable file not found in $PATH of the image {image}")
        }
        (Step::Exec, Errno::ACCESS) => format!(
            "exec {program:?}: permission denied: in the image {image} it is not a file that user \
             {} may execute",
            command.identity.uid
        ),
        (Step::Exec, Errno::NOEXEC) => format!(
            "exec {program:?}: exec format error: the image {image} is not for this machine's \
             architecture"
        ),
        (Step::Exec, errno) => format!("exec {program:?}: {}", io::Error::from(errno)),
        (Step::WorkingDirectory, errno) => format!(
            "chdir to {:?}: {} in the image {image}",
            command.working_directory,
            io::Error::from(errno)
        ),
        (Step::Reach, errno) => format!(
            "cannot offer {} to the task: {}",
            list(&spec.reach),
            io::Error::from(errno)
        ),
        _ => error.to_string(),
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

/// Whether sandboxes work on this machine: makes one of an empty directory and sees it get as far
/// as running a program that is not there.
pub fn probe(spawner: &Spawner, dir: &Path) -> Result<(), String> {
    let rootfs = tempfile::Builder::new()
        .prefix("probe-")
        .tempdir_in(dir)
        .map_err(|error| format!("{}: {error}", dir.display()))?;
    for name in ["dev", "proc", "tmp"] {
        std::fs::create_dir(rootfs.path().join(name)).map_err(|error| error.to_string())?;
    }
    {
        // A task's user is another, who must be able to pass.
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(rootfs.path(), mode).map_err(|error| error.to_string())?;
    }
    let mut spec = ContainerSpec::new(
        "probe",
        super::Image {
            digest: String::new(),
            rootfs: rootfs.path().to_owned(),
            config: super::ImageConfig::default(),
        },
        "",
    );
    spec.entrypoint = Some(vec!["/nothing".into()]);
    spec.user = Some("65532:65532".into());
    let command = Command::new(&spec, &[])?;
    let prepared = prepare(&command, &spec, "probe", address(0), true)?;
    let no_limits = |_| Ok(());
    let Prepared {
        plan,
        gate,
        root,
        ids,
        ..
    } = prepared;
    match spawn::launch(spawner, plan, &gate, root, Some(ids), no_limits) {
        Err(LaunchError::Child(Step::Exec, Errno::NOENT)) => Ok(()),
        Err(error) => Err(format!("namespaces do not work here: {error}")),
        Ok(launched) => {
            launched.child.kill_and_reap();
            if let Some(handout) = launched.handout {
                handout.child.kill_and_reap();
            }
            Err("namespaces do not work here: a program ran that is not there".into())
        }
    }
}
