//! How a new process makes an image its root file system.
//!
//! Part of [`super::child`], and under the same rules: nothing here allocates, locks or panics.

use std::{
    ffi::CStr,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags,
        MoveMountFlags, OpenTreeFlags, UnmountFlags,
    },
    path::DecInt,
};

use super::child::{At as _, Done, Sandbox, Step};

/// Makes the image the root file system, with a fresh `/proc`, `/tmp` and `/dev`.
///
/// The new mounts are made *after* `pivot_root`, so that a symbolic link in the image leads only to
/// the image; and before the old root is let go, because the kernel allows a new `/proc` only
/// where one can be seen already, and because the devices come from the old `/dev`.
pub fn enter(sandbox: &Sandbox) -> Done {
    rustix::mount::mount_change(
        c"/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )
    .at(Step::Propagation)?;
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = rustix::fs::open(c"/", directory, Mode::empty()).at(Step::Root)?;
    if sandbox.writable {
        writable_root(&sandbox.layer_size)?;
    } else {
        read_only_root().at(Step::Root)?;
    }
    // The old root ends up on top of the new one, where only `old` can name it.
    rustix::process::pivot_root(c".", c".").at(Step::Pivot)?;
    rustix::process::chdir(c"/").at(Step::Pivot)?;

    let common = MountFlags::NOSUID | MountFlags::NODEV;
    let none = None::<&CStr>;
    let noexec = common | MountFlags::NOEXEC;
    rustix::mount::mount(c"proc", c"/proc", c"proc", noexec, none).at(Step::Proc)?;
    let options = Some(sandbox.tmp_options.as_c_str());
    rustix::mount::mount(c"tmpfs", c"/tmp", c"tmpfs", common, options).at(Step::Tmp)?;
    devices(&old).at(Step::Devices)?;
    unprivileged_ports();

    rustix::process::fchdir(&old).at(Step::Detach)?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH).at(Step::Detach)?;
    rustix::process::chdir(c"/").at(Step::Detach)?;
    let mut flags = MountFlags::BIND | common;
    if !sandbox.writable {
        flags |= MountFlags::RDONLY;
    }
    rustix::mount::mount_remount(c"/", flags, c"").at(Step::ReadOnly)
}

/// Mounts the image, which is the working directory, onto itself, and goes there.
fn read_only_root() -> Result<(), Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, c".", flags)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, c"", CWD, c".", empty)?;
    rustix::process::fchdir(&tree)
}

/// Mounts an overlay of the image, which is the working directory, and a layer in memory.
fn writable_root(size: &CStr) -> Done {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let image = rustix::fs::open(c".", directory, Mode::empty()).at(Step::Layer)?;
    let memory = FsOpenFlags::FSOPEN_CLOEXEC;
    let layer = rustix::mount::fsopen(c"tmpfs", memory).at(Step::Layer)?;
    rustix::mount::fsconfig_set_string(layer.as_fd(), c"size", size).at(Step::Layer)?;
    rustix::mount::fsconfig_set_string(layer.as_fd(), c"mode", c"0755").at(Step::Layer)?;
    rustix::mount::fsconfig_create(layer.as_fd()).at(Step::Layer)?;
    let layer = rustix::mount::fsmount(
        layer.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
    )
    .at(Step::Layer)?;
    // In this mount namespace only, the layer hides the image's directory; `image` still names it.
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&layer, c"", CWD, c".", empty).at(Step::Layer)?;
    rustix::process::fchdir(&layer).at(Step::Layer)?;
    let mode = Mode::from_raw_mode(0o755);
    for name in [c"upper", c"work", c"root"] {
        rustix::fs::mkdir(name, mode).at(Step::Layer)?;
    }

    let mut lower = [0_u8; 64];
    let lower = descriptor_path(&image, &mut lower).at(Step::Overlay)?;
    let overlay = rustix::mount::fsopen(c"overlay", memory).at(Step::Overlay)?;
    for (key, value) in [
        (c"lowerdir", lower),
        (c"upperdir", c"upper"),
        (c"workdir", c"work"),
    ] {
        rustix::mount::fsconfig_set_string(overlay.as_fd(), key, value).at(Step::Overlay)?;
    }
    // In a user namespace `trusted.*` attributes cannot be written, `user.*` can.
    rustix::mount::fsconfig_set_flag(overlay.as_fd(), c"userxattr").at(Step::Overlay)?;
    rustix::mount::fsconfig_create(overlay.as_fd()).at(Step::Overlay)?;
    let overlay = rustix::mount::fsmount(
        overlay.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
    )
    .at(Step::Overlay)?;
    rustix::mount::move_mount(&overlay, c"", CWD, c"root", empty).at(Step::Overlay)?;
    rustix::process::fchdir(&overlay).at(Step::Overlay)
}

/// `/proc/self/fd/N`, written into `buffer`.
fn descriptor_path<'a>(fd: &OwnedFd, buffer: &'a mut [u8; 64]) -> Result<&'a CStr, Errno> {
    let number = DecInt::from_fd(fd);
    let parts = b"/proc/self/fd/".iter().chain(number.as_bytes());
    for (to, from) in buffer.iter_mut().zip(parts) {
        *to = *from;
    }
    CStr::from_bytes_until_nul(buffer).map_err(|_| Errno::INVAL)
}

/// A `/dev` with what programs need, bound from the `/dev` of `old`: nobody but real root can make
/// a device.
fn devices(old: &OwnedFd) -> Result<(), Errno> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount(
        c"tmpfs",
        c"/dev",
        c"tmpfs",
        flags,
        Some(c"mode=755,size=64k"),
    )?;
    // Relative paths now lead into the old root, absolute ones into the new one.
    rustix::process::fchdir(old)?;
    for (source, target) in [
        (c"dev/null", c"/dev/null"),
        (c"dev/zero", c"/dev/zero"),
        (c"dev/full", c"/dev/full"),
        (c"dev/random", c"/dev/random"),
        (c"dev/urandom", c"/dev/urandom"),
    ] {
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::WRONLY;
        drop(rustix::fs::open(
            target,
            create,
            Mode::from_raw_mode(0o666),
        )?);
        rustix::mount::mount_bind(source, target)?;
    }
    rustix::process::chdir(c"/")?;
    for (target, link) in [
        (c"/proc/self/fd", c"/dev/fd"),
        (c"/proc/self/fd/0", c"/dev/stdin"),
        (c"/proc/self/fd/1", c"/dev/stdout"),
        (c"/proc/self/fd/2", c"/dev/stderr"),
    ] {
        rustix::fs::symlink(target, link)?;
    }
    rustix::fs::mkdir(c"/dev/shm", Mode::from_raw_mode(0o755))?;
    let shm = flags | MountFlags::NODEV;
    let options = Some(c"mode=1777,size=64m");
    rustix::mount::mount(c"tmpfs", c"/dev/shm", c"tmpfs", shm, options)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | flags;
    rustix::mount::mount_remount(c"/dev", flags, c"")
}

/// Lets every user listen on ports below 1024, as Docker and containerd do; a kernel without that
/// setting loses nothing else.
pub fn unprivileged_ports() {
    let path = c"/proc/sys/net/ipv4/ip_unprivileged_port_start";
    if let Ok(file) = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(&file, b"0");
    }
}
