//! Makes processes.
//!
//! All of them are made by one thread that lives as long as the [`Runtime`](super::Runtime). The
//! kernel kills a process with `PR_SET_PDEATHSIG` when the *thread* that made it ends: a thread of a
//! pool, which ends when it has been idle for a while, would take tasks with it. And the thread has
//! a working directory of its own, so that it can stand in an image's root when it makes a task:
//! that is how the task gets there however little its user may see of the path.

pub mod child;
pub mod handout;
mod root;
pub mod sys;

use std::{
    ffi::c_int,
    io,
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    sync::mpsc,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags,
        SocketFlags, SocketType,
    },
    process::{Gid, Pid, Signal, Uid, WaitId, WaitIdOptions},
};

use super::{Exit, ids::IdMap};
use child::Step;

/// A child process that has not been waited for yet; dropping it kills it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    waited_for: bool,
}

impl Child {
    /// Takes over a process that std has started.
    pub fn adopt(child: &std::process::Child) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        // Not waited for yet, so the number is still that of this process.
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        Ok(Self {
            pid,
            pidfd,
            waited_for: false,
        })
    }

    /// Its id in the stage's namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Refers to it even after its id has been used again.
    pub fn pidfd(&self) -> io::Result<OwnedFd> {
        self.pidfd.try_clone()
    }

    /// Sends it a signal; nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) {
        signal_pidfd(&self.pidfd, signal);
    }

    /// Waits for its end, at once when it ends.
    pub async fn wait(mut self) -> io::Result<Exit> {
        self.ended().await?;
        let exit = reap(&self.pidfd, WaitIdOptions::empty())?;
        self.waited_for = true;
        exit.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Waits for its end, without taking notice of it: until [`Child::wait`], its id stays its own.
    pub async fn ended(&self) -> io::Result<()> {
        let pidfd = sys::watch(self.pidfd.try_clone()?)?;
        pidfd.readable().await?.retain_ready();
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.waited_for {
            self.signal(Signal::KILL);
            // The kernel needs a few milliseconds to take a process apart.
            if is_readable(&self.pidfd, Duration::from_secs(1)) {
                let _ = reap(&self.pidfd, WaitIdOptions::NOHANG);
            }
        }
    }
}

/// Waits, blocking, until a descriptor is readable, and a pidfd is when its process has ended.
pub fn is_readable(fd: &OwnedFd, limit: Duration) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    matches!(rustix::event::poll(&mut fds, Some(&limit)), Ok(n) if n > 0)
}

/// Sends a signal to the process that `pidfd` refers to; nothing happens if it has ended.
pub fn signal_pidfd(pidfd: &OwnedFd, signal: Signal) {
    let _ = rustix::process::pidfd_send_signal(pidfd, signal);
}

fn reap(pidfd: &OwnedFd, options: WaitIdOptions) -> io::Result<Option<Exit>> {
    let id = WaitId::PidFd(pidfd.as_fd());
    let status = rustix::process::waitid(id, WaitIdOptions::EXITED | options)?;
    Ok(status.map(|status| Exit {
        code: status.exit_status(),
        signal: status.terminating_signal(),
        out_of_memory: false,
    }))
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread that makes processes. When it is dropped, the kernel kills all of them.
#[derive(Debug)]
pub struct Spawner {
    jobs: mpsc::Sender<Job>,
}

impl Spawner {
    /// Starts the thread.
    pub fn new() -> io::Result<Self> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        let run = move || {
            let _ = ready.send(sys::own_working_directory());
            for job in todo {
                job();
            }
        };
        std::thread::Builder::new()
            .name("stage-spawner".into())
            .spawn(run)?;
        is_ready.recv().map_err(|_| io::ErrorKind::BrokenPipe)??;
        Ok(Self { jobs })
    }

    /// Runs something on the thread and waits, blocking, for its result.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (answer, result) = mpsc::channel();
        let job = Box::new(move || {
            let _ = answer.send(job());
        });
        self.jobs.send(job).map_err(|_| io::ErrorKind::BrokenPipe)?;
        result.recv().map_err(|_| io::ErrorKind::BrokenPipe)?
    }

    /// Starts a program that dies with the stage.
    pub fn command(&self, mut command: std::process::Command) -> io::Result<std::process::Child> {
        sys::die_with_parent(&mut command);
        self.run(move || command.spawn())
    }
}

/// A task's program runs.
#[derive(Debug)]
pub struct Launched {
    /// Its first process.
    pub child: Child,
    /// The process that hands out its sockets, if it has a network of its own.
    pub handout: Option<Handout>,
    /// The sockets that listen inside, in the order of `reach`.
    pub listeners: Vec<TcpListener>,
}

/// The process that hands out sockets of a network namespace.
#[derive(Debug)]
pub struct Handout {
    /// The process.
    pub child: Child,
    /// The stage's end of the connection; closing it ends the process.
    pub control: OwnedFd,
}

/// Why a task's program does not run.
#[derive(Debug)]
pub enum LaunchError {
    /// The stage could not make the process.
    Stage(&'static str, io::Error),
    /// The new process could not go on.
    Child(Step, Errno),
    /// The new process ended without a word.
    Vanished,
}

impl std::fmt::Display for LaunchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stage(what, error) => write!(f, "cannot {what}: {error}"),
            Self::Child(step, errno) => {
                write!(f, "cannot {}: {}", step.describe(), io::Error::from(*errno))
            }
            Self::Vanished => f.write_str("the new process ended before it ran its program"),
        }
    }
}

/// A pair of connected sockets that keep the bounds of messages.
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Makes a process that becomes a task, and waits, blocking, until its program runs.
///
/// `confine` is called with the process's id before it does anything, to put it under limits.
pub fn launch(
    spawner: &Spawner,
    plan: child::Plan,
    gate: &OwnedFd,
    root: OwnedFd,
    ids: Option<IdMap>,
    confine: impl FnOnce(Pid) -> io::Result<()>,
) -> Result<Launched, LaunchError> {
    let namespaces = match &plan.sandbox {
        Some(_) => sys::ALL_NAMESPACES,
        None => 0,
    };
    let isolated = plan.sandbox.is_some();
    let child = clone(spawner, namespaces, Some(root), Made::Task(Box::new(plan)))
        .map_err(|error| LaunchError::Stage("make a process in new namespaces", error))?;
    // From here on, whatever fails drops the child, which ends it.
    let pid = child.pid();
    confine(pid).map_err(|error| LaunchError::Stage("limit the process", error))?;
    if let Some(ids) = ids {
        ids.write(pid)
            .map_err(|error| LaunchError::Stage("map users", error))?;
    }
    let handout = if isolated {
        let namespace = child.pidfd().map(handout::Namespace::Of);
        let enter_as = ids.and_then(IdMap::enter_as);
        let made = namespace.and_then(|namespace| hand_out(spawner, 0, namespace, enter_as));
        Some(made.map_err(|error| LaunchError::Stage("make a process for sockets", error))?)
    } else {
        None
    };
    let listeners = converse(gate)?;
    Ok(Launched {
        child,
        handout,
        listeners,
    })
}

/// Makes a network namespace of its own for a task that another program starts, and the process
/// that hands out its sockets. Only root can: the namespace is not in a user namespace.
pub fn new_network(
    spawner: &Spawner,
    address: Ipv4Addr,
    reach: Vec<SocketAddr>,
) -> Result<(Handout, Vec<TcpListener>), LaunchError> {
    let namespace = handout::Namespace::New { address, reach };
    let handout = hand_out(spawner, sys::NETWORK_NAMESPACE, namespace, None)
        .map_err(|error| LaunchError::Stage("make a network namespace", error))?;
    let listeners = converse(&handout.control)?;
    Ok((handout, listeners))
}

/// Makes a process that kills another, which it is told, as soon as the stage has ended.
pub fn watchdog(spawner: &Spawner) -> io::Result<Handout> {
    hand_out(spawner, 0, handout::Namespace::Host, None)
}

enum Made {
    Task(Box<child::Plan>),
    Handout(handout::Plan),
}

fn clone(
    spawner: &Spawner,
    namespaces: c_int,
    directory: Option<OwnedFd>,
    made: Made,
) -> io::Result<Child> {
    // The plan, and with it the child's ends of all sockets, is dropped on the thread.
    let cloned = spawner.run(move || {
        if let Some(directory) = &directory {
            rustix::process::fchdir(directory)?;
        }
        let role = match &made {
            Made::Task(plan) => sys::Role::Task(plan),
            Made::Handout(plan) => sys::Role::Handout(plan),
        };
        let cloned = sys::clone(namespaces, role);
        if directory.is_some() {
            // Stand on nothing that somebody may want to remove.
            let _ = rustix::process::chdir(c"/");
        }
        cloned
    })?;
    Ok(Child {
        pid: cloned.pid,
        pidfd: cloned.pidfd,
        waited_for: false,
    })
}

fn hand_out(
    spawner: &Spawner,
    namespaces: c_int,
    namespace: handout::Namespace,
    enter_as: Option<(Uid, Gid)>,
) -> io::Result<Handout> {
    let (control, other) = socket_pair()?;
    let mut keep = vec![other.as_raw_fd()];
    if let handout::Namespace::Of(pidfd) = &namespace {
        keep.push(pidfd.as_raw_fd());
    }
    keep.sort_unstable();
    let plan = handout::Plan {
        control: other,
        keep,
        namespace,
        enter_as,
    };
    let child = clone(spawner, namespaces, None, Made::Handout(plan))?;
    Ok(Handout { child, control })
}

/// How long a new process may take to run its program. Real time; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Lets the child go on, and hears from it until it runs its program.
fn converse(gate: &OwnedFd) -> Result<Vec<TcpListener>, LaunchError> {
    let stage = |error: Errno| LaunchError::Stage("talk to the new process", error.into());
    rustix::net::sockopt::set_socket_timeout(
        gate,
        rustix::net::sockopt::Timeout::Recv,
        Some(PATIENCE),
    )
    .map_err(stage)?;
    rustix::net::send(gate, b"!", SendFlags::NOSIGNAL).map_err(stage)?;
    let mut listeners = Vec::new();
    loop {
        let (message, socket) = receive(gate, RecvFlags::empty()).map_err(stage)?;
        match (message.as_slice(), socket) {
            // `execve` has closed the gate. Or the process has died, which its exit will tell.
            ([] | [handout::READY], _) => return Ok(listeners),
            ([child::LISTENER], Some(socket)) => listeners.push(TcpListener::from(socket)),
            ([child::FAILED, step, a, b, c, d], _) => {
                let errno = Errno::from_raw_os_error(i32::from_ne_bytes([*a, *b, *c, *d]));
                return Err(match Step::from_number(*step) {
                    Some(step) => LaunchError::Child(step, errno),
                    None => LaunchError::Vanished,
                });
            }
            _ => return Err(LaunchError::Vanished),
        }
    }
}

/// Receives one message and the socket that comes with it, if one does. Empty: the other end is
/// closed.
pub fn receive(from: impl AsFd, flags: RecvFlags) -> Result<(Vec<u8>, Option<OwnedFd>), Errno> {
    let mut buffer = [0_u8; 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut data = [rustix::io::IoSliceMut::new(&mut buffer)];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(from.as_fd(), &mut data, &mut control, flags) {
            Ok(received) => {
                let socket = control.drain().find_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                    _ => None,
                });
                let length = received.bytes.min(buffer.len());
                return Ok((buffer[..length].to_vec(), socket));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
