//! Why a program did not start, in the words of an ECS container's `reason`.
//!
//! A task that cannot start is the commonest fault of a first release, and this text is all that ECS
//! shows of it. So it names what was to be run, in which image, and what is wrong with it.

use std::{io, net::SocketAddr};

use rustix::io::Errno;

use super::{
    ContainerSpec, ids,
    prepare::Command,
    spawn::{LaunchError, child::Step},
};

/// The reason, to follow `CannotStartContainerError: `.
pub fn explain(error: &LaunchError, command: &Command, spec: &ContainerSpec) -> String {
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
