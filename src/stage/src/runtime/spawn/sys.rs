//! The unsafe corner: the few system calls for which there is no safe function.
//!
//! Everything else a new process does on its way to `execve` is in [`super::child`], in safe code
//! over `rustix`, which on Linux makes system calls directly: no allocation, no locks, no `errno`
//! shared with anything. That matters because a forked child of a program with many threads has
//! only one of them: a lock that another held (malloc's, for one) is never released in it.

#![expect(
    unsafe_code,
    reason = "clone3, execve, ioctl and signal dispositions have no safe form; all of it is in this file"
)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_long},
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    os::unix::process::CommandExt,
    process::Command,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal},
};

use tokio::io::{Interest, unix::AsyncFd};

use super::{child, handout};

/// The namespaces of a sandboxed task.
pub const ALL_NAMESPACES: c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET;

/// The namespace of a task that another program starts.
pub const NETWORK_NAMESPACE: c_int = libc::CLONE_NEWNET;

/// What a new process does.
///
/// These are the only two functions that ever run between `clone3` and `execve`; being named here
/// (and not passed as a closure) makes it possible to check that they keep to the rules.
#[derive(Clone, Copy)]
pub enum Role<'a> {
    /// Becomes a task.
    Task(&'a child::Plan),
    /// Hands out sockets of a network namespace.
    Handout(&'a handout::Plan),
}

/// A new process, not yet waited for.
#[derive(Debug)]
pub struct Cloned {
    /// Its id in the stage's namespace.
    pub pid: Pid,
    /// Refers to it even after its id has been used again.
    pub pidfd: OwnedFd,
}

/// Makes a process in new `namespaces` (`CLONE_NEW…`), with every signal blocked and none handled.
pub fn clone(namespaces: c_int, role: Role<'_>) -> io::Result<Cloned> {
    let mut pidfd: c_int = -1;
    let mut args = [0_u64; 11];
    args[0] = (u64::from(namespaces.cast_unsigned()))
        | u64::from(libc::CLONE_PIDFD.cast_unsigned())
        | CLONE_CLEAR_SIGHAND;
    args[1] = std::ptr::from_mut(&mut pidfd) as u64;
    args[4] = u64::from(libc::SIGCHLD.cast_unsigned());

    // A handler of this program must not run in the child before its dispositions are reset, so
    // signals are blocked around the call. The child starts with them blocked.
    let before = block_signals()?;
    // SAFETY: `args` is a zeroed `struct clone_args` (11 × u64, CLONE_ARGS_SIZE_VER2) whose only
    // pointer, `pidfd`, is to a live `c_int`. There is no CLONE_VM, so the child has a copy of all
    // memory, and its stack is a copy of this one: returning into the code below is sound in both
    // processes.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, args.as_mut_ptr(), size_of_val(&args)) };
    if pid == 0 {
        // The child. Both functions only make system calls and never return.
        match role {
            Role::Task(plan) => child::run(plan),
            Role::Handout(plan) => handout::run(plan),
        }
    }
    let error = io::Error::last_os_error();
    restore_signals(&before);
    let pid = match i32::try_from(pid) {
        Ok(pid) if pid > 0 => Pid::from_raw(pid),
        _ => None,
    };
    let Some(pid) = pid else {
        return Err(error);
    };
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so it stored a new descriptor that nobody owns yet.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned { pid, pidfd })
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

fn block_signals() -> io::Result<libc::sigset_t> {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both point to memory for one `sigset_t`; sigfillset initialises `all`, and
    // pthread_sigmask initialises `before` when it succeeds, which is checked.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) {
            0 => Ok(before.assume_init()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: `before` is an initialised signal set; a null third argument is allowed.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

/// In a child: every signal has its default action and none is blocked, as a new program expects.
///
/// `clone3` has reset what was handled; what was *ignored* (Rust ignores SIGPIPE) survives even
/// `execve` unless it is reset here.
pub fn default_signals() {
    // `struct sigaction` as the kernel knows it: handler (0 is SIG_DFL), flags, restorer, mask. Not
    // through glibc, which keeps signals 32 and 33 to itself.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: `default` is four words as the kernel wants them, a null third argument is
        // allowed, and 8 is the size of its signal set. SIGKILL and SIGSTOP are refused.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8,
            )
        };
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises `none` before it is read.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Strings as `execve` wants them: an array of pointers that ends with a null pointer.
pub struct CStrings {
    pointers: Vec<*const c_char>,
    /// What the pointers point to.
    _strings: Vec<CString>,
}

// SAFETY: the pointers are into the heap memory of `strings`, which moves along and is never
// changed.
unsafe impl Send for CStrings {}
// SAFETY: nothing can be changed through a shared reference.
unsafe impl Sync for CStrings {}

impl CStrings {
    /// Takes the strings.
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect();
        Self {
            pointers,
            _strings: strings,
        }
    }
}

/// Becomes another program. Returns only if that failed.
pub fn execve(path: &CStr, argv: &CStrings, envp: &CStrings) -> Errno {
    // SAFETY: `path` ends with a NUL; both arrays end with a null pointer, and their strings live
    // until the call has succeeded, when the memory is gone altogether.
    unsafe {
        libc::execve(
            path.as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
        );
    }
    last_errno()
}

/// Closes every descriptor above 2 but those in `keep`, which must be sorted.
pub fn close_all_but(keep: &[RawFd]) -> Result<(), Errno> {
    let mut from: c_long = 3;
    for &fd in keep {
        let fd = c_long::from(fd);
        if from < fd {
            close_range(from, fd - 1)?;
        }
        from = from.max(fd + 1);
    }
    close_range(from, c_long::from(u32::MAX))
}

fn close_range(from: c_long, to: c_long) -> Result<(), Errno> {
    // SAFETY: only ever called in a child just after clone3: what is closed belongs to Rust values
    // of the parent's, whose destructors do not run in the child.
    match unsafe { libc::syscall(libc::SYS_close_range, from, to, 0_u64) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Sets the address of a network interface (or of an alias such as `lo:0`), and takes it up.
pub fn interface_up(
    socket: BorrowedFd<'_>,
    name: &CStr,
    address: Option<Ipv4Addr>,
) -> Result<(), Errno> {
    // SAFETY: `ifreq` is plain old data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes()) {
        *to = from.cast_signed();
    }
    if let Some(address) = address {
        // SAFETY: `sockaddr_in` is plain old data, for which all zeroes is a value.
        let mut inet: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        inet.sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or(2);
        inet.sin_addr.s_addr = u32::from(address).to_be();
        // SAFETY: `sockaddr` and `sockaddr_in` have the same size (16 bytes) and no invalid bits.
        request.ifr_ifru.ifru_addr =
            unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(inet) };
        ioctl(socket, libc::SIOCSIFADDR, &mut request)?;
    }
    ioctl(socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has just stored the flags in this field.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | i16::try_from(libc::IFF_UP).unwrap_or(1);
    ioctl(socket, libc::SIOCSIFFLAGS, &mut request)
}

fn ioctl(
    socket: BorrowedFd<'_>,
    what: libc::c_ulong,
    request: &mut libc::ifreq,
) -> Result<(), Errno> {
    // SAFETY: the interface requests used above read and write one `ifreq`, which this is.
    match unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_mut(request)) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Watches a descriptor for becoming readable. Needs a Tokio runtime.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is the same open descriptor from now until it is dropped.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    Ok(watched?)
}

/// Ends this process at once: no destructors, no exit handlers.
pub fn exit(code: c_int) -> ! {
    // SAFETY: `_exit` is always safe to call.
    unsafe { libc::_exit(code) }
}

/// Gives the calling thread a working directory of its own, apart from that of the process.
pub fn own_working_directory() -> io::Result<()> {
    // SAFETY: of all flags only FILES is dangerous; FS affects working directory, root and umask.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }?;
    Ok(())
}

/// Makes the program that `command` starts die with the *thread* that starts it.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure makes one system call and does not allocate.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            Ok(())
        });
    }
}
