//! The process that hands out sockets of a task's network namespace.
//!
//! A socket belongs to the namespace in which it was created. The stage cannot enter a namespace of
//! another user namespace: the kernel forbids that to a program with more than one thread. So one
//! small process per task does it for the stage: for each byte that it receives it creates a socket
//! and sends it back. It ends when the stage closes the connection, which the end of the stage does
//! in any case.
//!
//! Like [`super::child`] it runs in a copy of the stage's memory and keeps to the same rules. It is
//! not in the task's process namespace: the task can neither see it nor signal it.

use std::{
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags,
        SocketFlags, SocketType,
    },
    process::{Gid, Signal, Uid},
    thread::{CapabilitySet, CapabilitySets, ThreadNameSpaceType},
};

use super::{child, root, sys};

/// What the process needs to know; made before it exists.
pub struct Plan {
    /// Its end of the connection to the stage.
    pub control: OwnedFd,
    /// The descriptors that it keeps, in ascending order.
    pub keep: Vec<RawFd>,
    /// Where the namespace comes from.
    pub namespace: Namespace,
    /// Whom it becomes in its user namespace.
    pub enter_as: Option<(Uid, Gid)>,
}

/// Where the network namespace comes from.
pub enum Namespace {
    /// It is the one of the process that this refers to.
    Of(OwnedFd),
    /// It was made together with this process, for `runc` to join.
    New {
        /// The task's own address.
        address: Ipv4Addr,
        /// Addresses to listen on for the stage.
        reach: Vec<SocketAddr>,
    },
    /// None: this process is there only to outlive the stage by a moment.
    Host,
}

/// A message: the network is up.
pub const READY: u8 = b'R';
/// A message to the process: hand out a socket.
pub const SOCKET: u8 = b'?';
/// A message to the process: when the stage has ended, kill the process that comes with it. `runc`'s
/// tasks are not children of the stage, so that the kernel does not do that by itself.
pub const KILL_AT_END: u8 = b'K';

/// The whole life of the process.
pub fn run(plan: &Plan) -> ! {
    let _ = serve(plan);
    sys::exit(0)
}

fn serve(plan: &Plan) -> Result<(), Errno> {
    let _ = rustix::process::setsid();
    sys::close_all_but(&plan.keep)?;
    let control = plan.control.as_fd();
    let mut byte = [0_u8; 1];
    match &plan.namespace {
        Namespace::Of(pidfd) => {
            rustix::thread::move_into_thread_name_spaces(
                pidfd.as_fd(),
                ThreadNameSpaceType::USER | ThreadNameSpaceType::NETWORK,
            )?;
            if let Some((uid, gid)) = plan.enter_as {
                child::enter_as(uid, gid)?;
            }
        }
        Namespace::New { address, reach } => {
            // The stage says when.
            if rustix::net::recv(control, &mut byte, RecvFlags::empty())?.0 == 0 {
                return Ok(());
            }
            child::network_up(*address)?;
            root::unprivileged_ports();
            for address in reach {
                child::offer(*address, control)?;
            }
            rustix::net::send(control, &[READY], SendFlags::NOSIGNAL)?;
        }
        Namespace::Host => {}
    }
    if matches!(plan.namespace, Namespace::Of(_)) {
        // The others need theirs to kill a process of another user, and must outlive the stage.
        let none = CapabilitySet::empty();
        rustix::thread::set_capabilities(
            None,
            CapabilitySets {
                effective: none,
                permitted: none,
                inheritable: none,
            },
        )?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    rustix::thread::set_no_new_privs(true)?;
    let mut ward = None;
    loop {
        let (length, kind, fd) = receive(control)?;
        match (length, kind, fd) {
            (0, ..) => break,
            (_, KILL_AT_END, Some(pidfd)) => ward = Some(pidfd),
            _ => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let stream = SocketType::STREAM;
                let socket = rustix::net::socket_with(AddressFamily::INET, stream, flags, None)?;
                child::send_socket(control, b'S', socket.as_fd())?;
            }
        }
    }
    if let Some(ward) = ward {
        rustix::process::pidfd_send_signal(ward, Signal::KILL)?;
    }
    Ok(())
}

/// Receives a message: its length, its first byte, and the descriptor that came with it.
fn receive(control: BorrowedFd<'_>) -> Result<(usize, u8, Option<OwnedFd>), Errno> {
    let mut byte = [0_u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut data = [rustix::io::IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(control, &mut data, &mut ancillary, flags) {
            Ok(received) => {
                let fd = ancillary.drain().find_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                    _ => None,
                });
                return Ok((received.bytes, byte[0], fd));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
