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
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd, RawFd},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SocketFlags, SocketType},
    process::{Gid, Signal, Uid},
    thread::{CapabilitySet, CapabilitySets, ThreadNameSpaceType},
};

use super::{child, sys};

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
}

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
            // The stage maps users first.
            if rustix::net::recv(control, &mut byte, RecvFlags::empty())?.0 == 0 {
                return Ok(());
            }
            if let Some((uid, gid)) = plan.enter_as {
                child::enter_as(uid, gid)?;
            }
            child::network_up(*address)?;
            for address in reach {
                child::offer(*address, control)?;
            }
        }
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
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    loop {
        match rustix::net::recv(control, &mut byte, RecvFlags::empty()) {
            Ok((0, _)) => return Ok(()),
            Ok(_) => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let socket =
                    rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
                child::send_socket(control, b'S', socket.as_fd())?;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
