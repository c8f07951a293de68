//! What a new process does on its way from `clone3` to the task's program.
//!
//! It runs in a copy of the stage's memory in which all other threads have vanished in the middle of
//! whatever they were doing. So nothing here allocates, takes a lock, or can panic: everything that
//! needs memory was prepared in the [`Plan`], and what happens here is system calls in a row. The
//! first one that fails is reported by its [`Step`] and error number through the *gate*, a socket
//! that connects the child with the stage until `execve` closes it.

use std::{
    ffi::CString,
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::Mode,
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        SocketFlags, SocketType,
    },
    process::{Gid, Resource, Rlimit, Signal, Uid},
    thread::{CapabilitySet, CapabilitySets},
};

use super::{
    root,
    sys::{self, CStrings},
};

/// Everything that a new process needs to know; made before it exists.
pub struct Plan {
    /// The child's end of the socket to the stage.
    pub gate: OwnedFd,
    /// Becomes standard output and standard error.
    pub output: OwnedFd,
    /// Becomes standard input: `/dev/null`.
    pub input: OwnedFd,
    /// The three above, in ascending order.
    pub keep: [RawFd; 3],
    /// The file system and network of a sandbox; `None`: those of this machine.
    pub sandbox: Option<Sandbox>,
    /// Who the program runs as; `None`: as the stage does.
    pub user: Option<User>,
    /// The most files it may open.
    pub open_files: u64,
    /// The most processes of its user, where no control group limits them.
    pub processes: Option<u64>,
    /// Where it starts.
    pub working_directory: CString,
    /// The paths that are tried, in order.
    pub programs: Vec<CString>,
    /// Its arguments.
    pub argv: CStrings,
    /// Its environment.
    pub envp: CStrings,
}

/// The sandbox around a task. The working directory of the new process is the image's root.
pub struct Sandbox {
    /// Whom to become while the sandbox is made: where the stage is root, root is not mapped.
    pub enter_as: Option<(Uid, Gid)>,
    /// Whether the root file system can be written, into a layer in memory.
    pub writable: bool,
    /// The sizes of the file systems in memory, for `mount`: `mode=…,size=…`.
    pub tmp_options: CString,
    /// Likewise, of the writable layer.
    pub layer_size: CString,
    /// What `gethostname` says.
    pub host_name: CString,
    /// The task's own address.
    pub address: Ipv4Addr,
    /// Addresses to listen on for the stage.
    pub reach: Vec<SocketAddr>,
}

/// A user and its groups, by the numbers of the process's user namespace.
pub struct User {
    /// The user.
    pub uid: Uid,
    /// Its group.
    pub gid: Gid,
    /// Further groups; `None` where the kernel does not let us say.
    pub groups: Option<Vec<Gid>>,
}

/// What a child was doing when it failed. The numbers go through the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    Descriptors = 1,
    Identity,
    Network,
    Reach,
    Propagation,
    Root,
    Layer,
    Overlay,
    Pivot,
    Proc,
    Tmp,
    Devices,
    Detach,
    ReadOnly,
    HostName,
    Limits,
    Privileges,
    WorkingDirectory,
    Output,
    Exec,
}

impl Step {
    const ALL: [Self; 20] = [
        Self::Descriptors,
        Self::Identity,
        Self::Network,
        Self::Reach,
        Self::Propagation,
        Self::Root,
        Self::Layer,
        Self::Overlay,
        Self::Pivot,
        Self::Proc,
        Self::Tmp,
        Self::Devices,
        Self::Detach,
        Self::ReadOnly,
        Self::HostName,
        Self::Limits,
        Self::Privileges,
        Self::WorkingDirectory,
        Self::Output,
        Self::Exec,
    ];

    /// The step with a number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as u8 == number)
    }

    /// What was attempted, to follow "cannot".
    pub fn describe(self) -> &'static str {
        match self {
            Self::Descriptors => "close inherited files (close_range)",
            Self::Identity => "become the namespace's user",
            Self::Network => "take up the loopback interface of a network namespace",
            Self::Reach => "listen inside the network namespace for a service of this machine",
            Self::Propagation => "make the mounts of a mount namespace private",
            Self::Root => "mount the image's files (open_tree, move_mount)",
            Self::Layer => "mount a layer in memory for a writable root",
            Self::Overlay => "mount an overlay for a writable root",
            Self::Pivot => "make the image the root (pivot_root)",
            Self::Proc => "mount /proc",
            Self::Tmp => "mount /tmp",
            Self::Devices => "fill /dev",
            Self::Detach => "let go of this machine's files",
            Self::ReadOnly => "make the root read-only",
            Self::HostName => "set the host name",
            Self::Limits => "set resource limits",
            Self::Privileges => "give up privileges",
            Self::WorkingDirectory => "change to the working directory",
            Self::Output => "redirect the output",
            Self::Exec => "run the program",
        }
    }
}

/// First byte of a message through the gate: the step that failed and its error follow.
pub const FAILED: u8 = b'F';
/// First byte of a message through the gate: a listening socket comes with it.
pub const LISTENER: u8 = b'L';

pub(super) type Done<T = ()> = Result<T, (Step, Errno)>;

/// Attaches the step to an error.
pub(super) trait At<T> {
    fn at(self, step: Step) -> Done<T>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step) -> Done<T> {
        self.map_err(|error| (step, error))
    }
}

/// The new process. Ends as the task's program, or reports why not.
pub fn run(plan: &Plan) -> ! {
    let (step, error) = become_task(plan);
    let [a, b, c, d] = error.raw_os_error().to_ne_bytes();
    // If this fails the stage is gone, and nobody wants to know.
    let _ = rustix::net::send(
        &plan.gate,
        &[FAILED, step as u8, a, b, c, d],
        SendFlags::NOSIGNAL,
    );
    sys::exit(127)
}

fn become_task(plan: &Plan) -> (Step, Errno) {
    match prepare(plan) {
        Ok(()) => (Step::Exec, exec(plan)),
        Err(failed) => failed,
    }
}

fn prepare(plan: &Plan) -> Done {
    // A session of its own: Ctrl-C at the stage's terminal is the stage's business.
    let _ = rustix::process::setsid();
    sys::close_all_but(&plan.keep).at(Step::Descriptors)?;
    wait_for_stage(plan.gate.as_fd());
    if let Some(sandbox) = &plan.sandbox {
        enter(sandbox, plan.gate.as_fd())?;
    }
    limit(plan).at(Step::Limits)?;
    give_up_privileges(plan).at(Step::Privileges)?;
    rustix::process::chdir(plan.working_directory.as_c_str()).at(Step::WorkingDirectory)?;
    rustix::stdio::dup2_stdin(&plan.input).at(Step::Output)?;
    rustix::stdio::dup2_stdout(&plan.output).at(Step::Output)?;
    rustix::stdio::dup2_stderr(&plan.output).at(Step::Output)?;
    // From here on the kernel kills this process when the stage dies. Whether it was alive when
    // that began is seen at the gate, which its death closes *before* the kernel sends the signal.
    if hung_up(plan.gate.as_fd()) {
        sys::exit(127);
    }
    sys::default_signals();
    Ok(())
}

/// Waits until the stage has mapped users and set limits; ends if the stage has ended.
fn wait_for_stage(gate: BorrowedFd<'_>) {
    let mut byte = [0_u8; 1];
    loop {
        match rustix::net::recv(gate, &mut byte, RecvFlags::empty()) {
            Ok((1, _)) => return,
            Err(Errno::INTR) => {}
            _ => sys::exit(127),
        }
    }
}

fn hung_up(gate: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(gate, PollFlags::RDHUP)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(n) if n > 0)
}

fn enter(sandbox: &Sandbox, gate: BorrowedFd<'_>) -> Done {
    if let Some((uid, gid)) = sandbox.enter_as {
        enter_as(uid, gid).at(Step::Identity)?;
    }
    network_up(sandbox.address).at(Step::Network)?;
    for address in &sandbox.reach {
        offer(*address, gate).at(Step::Reach)?;
    }
    root::enter(sandbox)?;
    rustix::system::sethostname(sandbox.host_name.to_bytes()).at(Step::HostName)
}

/// Becomes a user of this user namespace, who owns nothing outside of it. The capabilities that
/// the first process of a namespace has are kept.
pub fn enter_as(uid: Uid, gid: Gid) -> Result<(), Errno> {
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// Takes up the loopback interface of a new network namespace and gives it the task's address.
///
/// A task on Fargate is reached at its own address, not at 127.0.0.1: one that listens only there
/// is never healthy. With an address of its own on the stage, that is noticed here.
pub fn network_up(address: Ipv4Addr) -> Result<(), Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sys::interface_up(socket.as_fd(), c"lo", None)?;
    sys::interface_up(socket.as_fd(), c"lo:0", Some(address))
}

/// Listens on an address of this namespace and passes the socket to the stage.
pub fn offer(address: SocketAddr, gate: BorrowedFd<'_>) -> Result<(), Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 128)?;
    send_socket(gate, LISTENER, socket.as_fd())
}

/// Sends a byte and a socket.
pub fn send_socket(to: BorrowedFd<'_>, byte: u8, socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket];
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(Errno::NOBUFS);
    }
    let bytes = [byte];
    let data = [rustix::io::IoSlice::new(&bytes)];
    loop {
        match rustix::net::sendmsg(to, &data, &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn limit(plan: &Plan) -> Result<(), Errno> {
    let both = |value| Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    rustix::process::setrlimit(Resource::Core, both(0))?;
    rustix::process::setrlimit(Resource::Nofile, both(plan.open_files))?;
    if let Some(processes) = plan.processes {
        rustix::process::setrlimit(Resource::Nproc, both(processes))?;
    }
    Ok(())
}

/// Becomes the task's user, without any capability and with no way to get one.
fn give_up_privileges(plan: &Plan) -> Result<(), Errno> {
    // The kernel refuses numbers that it does not know; there are at most 64.
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            // Without privileges there is nothing to give up, and `no_new_privs` keeps it so.
            Err(Errno::PERM) if plan.sandbox.is_none() => break,
            Err(error) => return Err(error),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    if let Some(user) = &plan.user {
        if let Some(groups) = &user.groups {
            rustix::thread::set_thread_groups(groups)?;
        }
        rustix::thread::set_thread_res_gid(user.gid, user.gid, user.gid)?;
        rustix::thread::set_thread_res_uid(user.uid, user.uid, user.uid)?;
    }
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Last, for a change of the user clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
}

/// Tries the programs in order, as `execvp` does. Returns the error that says most.
fn exec(plan: &Plan) -> Errno {
    let mut answer = Errno::NOENT;
    for program in &plan.programs {
        let mut error = sys::execve(program, &plan.argv, &plan.envp);
        // Another thread of the stage may be forking while the file that it has just unpacked is
        // still open for writing in the fork: that passes.
        for _ in 0..50 {
            if error != Errno::TXTBSY {
                break;
            }
            let pause = Duration::from_millis(2);
            let _ = rustix::thread::nanosleep(&Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(pause.subsec_nanos()),
            });
            error = sys::execve(program, &plan.argv, &plan.envp);
        }
        match error {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => answer = error,
            other => return other,
        }
    }
    answer
}
