//! Which users of this machine the users of a task are, and who an image says it runs as.
//!
//! Inside its user namespace a task may be root; outside, it must be nobody. A stage that runs as
//! root maps the users 0–65535 of a task to a range of this machine's that no account has. A stage
//! that runs as an ordinary user can map only itself, to the one user that the task runs as.

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    process::{Gid, Pid, Uid},
};

/// The first user of the range that a root stage maps tasks to.
///
/// It lies above systemd's container range (524288–1879048191) and far above what
/// `/etc/subuid` hands out (systemd.io/UIDS-GIDS).
const BASE: u32 = 0x7000_0000;
const COUNT: u32 = 0x1_0000;
/// `nobody`, where the range is not to be had.
const NOBODY: u32 = 65534;

/// A map of a user namespace: users and groups alike, one run of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// The first user and group inside.
    inside: (u32, u32),
    /// The user and group of this machine that they are.
    outside: (u32, u32),
    /// How many users and groups are mapped, in a row.
    count: u32,
    /// Whether the stage's own user is outside of the map, as root is.
    foreign: bool,
}

impl IdMap {
    /// The map for a task that runs as `uid` and `gid`.
    pub fn for_task(uid: u32, gid: u32) -> Self {
        match unprivileged_range() {
            Some((first, count)) if count > 1 => Self {
                inside: (0, 0),
                outside: (first, first),
                count,
                foreign: true,
            },
            Some((nobody, count)) => Self {
                inside: (uid, gid),
                outside: (nobody, nobody),
                count,
                foreign: true,
            },
            None => Self {
                inside: (uid, gid),
                outside: (
                    rustix::process::geteuid().as_raw(),
                    rustix::process::getegid().as_raw(),
                ),
                count: 1,
                foreign: false,
            },
        }
    }

    /// Whether a task can run as this user.
    pub fn holds_user(self, uid: u32) -> bool {
        uid.checked_sub(self.inside.0)
            .is_some_and(|nth| nth < self.count)
    }

    /// Whether a task can have this group.
    pub fn holds_group(self, gid: u32) -> bool {
        gid.checked_sub(self.inside.1)
            .is_some_and(|nth| nth < self.count)
    }

    /// Whom a new process must become before it can own anything in the namespace.
    pub fn enter_as(self) -> Option<(Uid, Gid)> {
        self.foreign
            .then(|| (Uid::from_raw(self.inside.0), Gid::from_raw(self.inside.1)))
    }

    /// Whether the kernel lets a task choose its further groups.
    pub fn groups_can_be_set(self) -> bool {
        self.foreign
    }

    /// What `uid_map` and `gid_map` of the namespace hold: first inside, first outside, count.
    pub fn lines(self) -> [(u32, u32, u32); 2] {
        [
            (self.inside.0, self.outside.0, self.count),
            (self.inside.1, self.outside.1, self.count),
        ]
    }

    /// Writes the map of the user namespace that a process has just been made in.
    pub fn write(self, pid: Pid) -> io::Result<()> {
        let dir = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        if !self.foreign {
            // The kernel's condition for a map by an unprivileged user.
            write(&dir.join("setgroups"), "deny")?;
        }
        let [uids, gids] = self
            .lines()
            .map(|(inside, outside, count)| format!("{inside} {outside} {count}\n"));
        write(&dir.join("uid_map"), &uids)?;
        write(&dir.join("gid_map"), &gids)
    }
}

/// Whether the stage runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// By how much users of a task are shifted on this machine: `None` if this is not root, or if the
/// range is not there because this is already a container with a smaller one.
pub fn shift() -> Option<u32> {
    unprivileged_range()
        .filter(|(_, count)| *count == COUNT)
        .map(|(first, _)| first)
}

/// Users of this machine who own nothing, for the tasks of a root stage: the first, and how many.
/// `None` if this is not root, or root of a user namespace that has no other user.
fn unprivileged_range() -> Option<(u32, u32)> {
    if !is_root() {
        return None;
    }
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let (uids, gids) = (read("/proc/self/uid_map"), read("/proc/self/gid_map"));
    [(BASE, COUNT), (NOBODY, 1)]
        .into_iter()
        .find(|(first, count)| covers(&uids, *first, *count) && covers(&gids, *first, *count))
}

/// Whether a map (`/proc/self/uid_map`) has a range.
fn covers(map: &str, first: u32, count: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|n| n.parse().unwrap_or(0_u64));
        let mapped = numbers.next().unwrap_or(0);
        let length = numbers.nth(1).unwrap_or(0);
        let (first, count) = (u64::from(first), u64::from(count));
        mapped <= first && first + count <= mapped + length
    })
}

/// Who a task is on this machine if nothing isolates it: somebody who owns nothing. `None`: as the
/// stage, which is no more than an ordinary user itself.
pub fn outside(identity: &Identity) -> Option<(u32, u32)> {
    unprivileged_range().map(|(first, count)| {
        let nth = |id: u32| first + id.min(count - 1);
        (nth(identity.uid), nth(identity.gid))
    })
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    // One write: the kernel takes a map only as a whole.
    fs::write(path, text)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Who a container runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Further groups that the image's `/etc/group` lists the user in.
    pub groups: Vec<u32>,
    /// The user's home in the image's `/etc/passwd`.
    pub home: Option<String>,
}

/// Looks up an image's `USER`: `user`, `uid`, `user:group`, `uid:gid` and mixtures (OCI image
/// specification, config). Without a group it is the user's own, and root's if the image does not
/// know the user, as Docker does. Empty is root.
pub fn resolve(rootfs: &Path, user: &str) -> Result<Identity, String> {
    let passwd = read_in_root(rootfs, "etc/passwd").unwrap_or_default();
    let group = read_in_root(rootfs, "etc/group").unwrap_or_default();
    look_up(&passwd, &group, user)
}

fn look_up(passwd: &str, group: &str, user: &str) -> Result<Identity, String> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group_name)) => (name, Some(group_name).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (uid, gid) = (
            fields.get(2)?.parse::<u32>().ok()?,
            fields.get(3)?.parse::<u32>().ok()?,
        );
        (fields.first() == Some(&name) || number == Some(uid)).then(|| {
            let home = fields.get(5).filter(|home| !home.is_empty());
            let login = fields.first().copied().unwrap_or_default();
            (login.to_owned(), uid, gid, home.map(|h| (*h).to_owned()))
        })
    });
    let (login, uid, own_gid, home) = match (entry, number) {
        (Some(entry), _) => entry,
        (None, Some(uid)) => (String::new(), uid, 0, None),
        (None, None) => {
            return Err(format!(
                "the user {name:?} is not in the image's /etc/passwd"
            ));
        }
    };
    let groups = group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse::<u32>().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    });
    if let Some(wanted) = group_name {
        let gid = match wanted.parse() {
            Ok(gid) => gid,
            Err(_) => groups
                .into_iter()
                .find_map(|(name, gid, _)| (name == wanted).then_some(gid))
                .ok_or_else(|| format!("the group {wanted:?} is not in the image's /etc/group"))?,
        };
        return Ok(Identity {
            uid,
            gid,
            groups: Vec::new(),
            home,
        });
    }
    let groups = groups
        .filter(|(_, gid, members)| {
            !login.is_empty() && *gid != own_gid && members.split(',').any(|m| m == login)
        })
        .map(|(_, gid, _)| gid)
        .take(64)
        .collect();
    Ok(Identity {
        uid,
        gid: own_gid,
        groups,
        home,
    })
}

/// Reads a file of an image; symbolic links cannot lead out of it.
pub fn read_in_root(rootfs: &Path, path: &str) -> io::Result<String> {
    let mut text = String::new();
    // Nobody's passwd is larger.
    open_in_root(rootfs, path)?
        .take(1 << 20)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Opens a file of an image for reading; symbolic links cannot lead out of it.
pub fn open_in_root(rootfs: &Path, path: &str) -> io::Result<fs::File> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(rootfs, directory, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
    Ok(fs::File::from(file))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:65532:65533::/srv/web:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:65533:\nlogs:x:40:other,web\nmedia:x:41:other\n";

    fn ids(user: &str) -> (u32, u32) {
        let identity = look_up(PASSWD, GROUP, user).unwrap();
        (identity.uid, identity.gid)
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        assert_eq!(ids("web"), (65532, 65533));
        assert_eq!(ids("65532"), (65532, 65533), "the group is the user's own");
        assert_eq!(ids("65532:65532"), (65532, 65532));
        assert_eq!(ids("web:logs"), (65532, 40));
        assert_eq!(ids("1234"), (1234, 0), "Docker's rule for unknown users");
        assert_eq!(ids(""), (0, 0));
        assert_eq!(ids("web:"), (65532, 65533));
    }

    #[test]
    fn further_groups_are_those_that_list_the_user() {
        let identity = look_up(PASSWD, GROUP, "web").unwrap();
        assert_eq!(identity.groups, [40]);
        assert_eq!(identity.home.as_deref(), Some("/srv/web"));
        let identity = look_up(PASSWD, GROUP, "web:media").unwrap();
        assert_eq!(identity.groups, [0_u32; 0], "a named group stands alone");
    }

    #[test]
    fn a_map_covers_what_is_in_one_line_of_it() {
        let all = "         0          0 4294967295\n";
        assert!(covers(all, BASE, COUNT) && covers(all, NOBODY, 1));
        let container = "0 1000 1\n1 100000 65536\n";
        assert!(!covers(container, BASE, COUNT));
        assert!(covers(container, NOBODY, 1));
        assert!(!covers("0 1000 1\n", NOBODY, 1));
        assert!(!covers("", 0, 1));
    }

    #[test]
    fn unknown_names_are_named() {
        let error = look_up(PASSWD, GROUP, "nginx").unwrap_err();
        assert!(error.contains("\"nginx\""), "{error}");
        let error = look_up(PASSWD, GROUP, "web:wheel").unwrap_err();
        assert!(error.contains("\"wheel\""), "{error}");
    }
}
