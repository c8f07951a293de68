//! Limits of memory and processes, by control groups where they can be had.
//!
//! A root stage makes a group for each task, in version 1 or version 2 of the kernel's interface,
//! whichever has the two controllers. An ordinary user usually cannot (unless systemd has delegated
//! a part of the tree); then a task has no memory limit, and the runtime says so: a report that
//! promised a limit that is not there would be worse than none.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::Pid;

use crate::leftovers::ProcessId;

/// Where this machine lets us make groups.
#[derive(Debug)]
pub struct Groups {
    version: Version,
    /// Directories for the groups of this stage: that of `memory` first. In version 2 there is only
    /// one.
    parents: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The control group of one task; removed when dropped.
#[derive(Debug)]
pub struct Group {
    version: Version,
    dirs: Vec<PathBuf>,
}

const PREFIX: &str = "serein-";

/// A name that says whose groups are below it. One program may have several runtimes, whose
/// containers have the same names.
fn own_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}.{number}", ProcessId::own())
}

impl Groups {
    /// Finds a place for groups. The error says why there is none.
    pub fn find() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").map_err(|e| e.to_string())?;
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|e| e.to_string())?;
        let mut problems = Vec::new();
        for places in candidates(&mounts, &own) {
            match Self::make(&places) {
                Ok(groups) => return Ok(groups),
                Err(problem) => problems.push(problem),
            }
        }
        problems.pop().map_or_else(
            || Err("no control groups are mounted".into()),
            |problem| Err(format!("control groups cannot be made here: {problem}")),
        )
    }

    fn make(places: &Places) -> Result<Self, String> {
        let name = own_name();
        let mut groups = Self {
            version: places.version,
            parents: Vec::new(),
        };
        for place in &places.dirs {
            sweep(place);
            if places.version == Version::Two {
                // Already so on most machines; where it is not and cannot be, the check below says.
                let _ = fs::write(place.join("cgroup.subtree_control"), "+memory +pids");
            }
            let dir = place.join(&name);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(format!("{}: {error}", dir.display()));
                }
                _ => groups.parents.push(dir.clone()),
            }
            if places.version == Version::Two {
                for file in ["memory.max", "pids.max"] {
                    if !dir.join(file).exists() {
                        return Err(format!("{} has no {file}", dir.display()));
                    }
                }
                fs::write(dir.join("cgroup.subtree_control"), "+memory +pids")
                    .map_err(|error| format!("{}: {error}", dir.display()))?;
            }
        }
        Ok(groups)
    }

    /// Makes a group.
    pub fn group(&self, id: &str, memory: Option<u64>, pids: u32) -> io::Result<Group> {
        let mut group = Group {
            version: self.version,
            dirs: Vec::new(),
        };
        for parent in &self.parents {
            let dir = parent.join(id);
            fs::create_dir(&dir)?;
            group.dirs.push(dir);
        }
        let (Some(first), Some(last)) = (group.dirs.first(), group.dirs.last()) else {
            return Ok(group);
        };
        if let Some(bytes) = memory {
            match self.version {
                Version::One => {
                    fs::write(first.join("memory.limit_in_bytes"), bytes.to_string())?;
                    // Fargate tasks do not swap. Not every kernel counts swap.
                    let _ = fs::write(first.join("memory.memsw.limit_in_bytes"), bytes.to_string());
                }
                Version::Two => {
                    fs::write(first.join("memory.max"), bytes.to_string())?;
                    let _ = fs::write(first.join("memory.swap.max"), "0");
                    let _ = fs::write(first.join("memory.oom.group"), "1");
                }
            }
        }
        fs::write(last.join("pids.max"), pids.to_string())?;
        Ok(group)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // Those of the last tasks may still be there.
        for dir in &self.parents {
            remove_groups(dir);
        }
    }
}

impl Group {
    /// Puts a process (and what it starts) into the group.
    pub fn add(&self, pid: Pid) -> io::Result<()> {
        for dir in &self.dirs {
            let file = dir.join("cgroup.procs");
            fs::write(&file, pid.as_raw_nonzero().to_string()).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", file.display()))
            })?;
        }
        Ok(())
    }

    /// Whether a process in the group was killed because the memory limit was reached.
    pub fn out_of_memory(&self) -> bool {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let Some(dir) = self.dirs.first() else {
            return false;
        };
        let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
        text.lines().any(|line| {
            line.strip_prefix("oom_kill ")
                .is_some_and(|count| count.trim() != "0")
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // A group is busy for a moment after its last process has ended.
            for _ in 0..20 {
                match fs::remove_dir(dir) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                    _ => break,
                }
            }
        }
    }
}

/// A name for the groups that another program (`runc`) makes for this stage, below which it makes
/// them; removed when dropped.
#[derive(Debug)]
pub struct Named {
    /// Our own group in each hierarchy.
    places: Vec<PathBuf>,
    name: String,
}

impl Named {
    /// Removes what dead stages have left under their names.
    pub fn new() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let places = hierarchies(&read("/proc/self/mounts"), &read("/proc/self/cgroup"));
        for place in &places {
            sweep(place);
        }
        Self {
            places,
            name: own_name(),
        }
    }

    /// A path for a group, relative to our own.
    pub fn path(&self, id: &str) -> String {
        format!("{}/{id}", self.name)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        for place in &self.places {
            let dir = place.join(&self.name);
            if dir.is_dir() {
                remove_groups(&dir);
            }
        }
    }
}

/// Our own group in every hierarchy of either version.
fn hierarchies(mounts: &str, own: &str) -> Vec<PathBuf> {
    let own_path = |options: &[&str]| {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            let path = fields.next()?;
            let named = controllers.split(',').all(|c| options.contains(&c));
            (named && !controllers.is_empty()).then_some(path)
        })
    };
    let unified = own.lines().find_map(|line| line.strip_prefix("0::"));
    mounts
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, point, kind, options, ..] = fields.as_slice() else {
                return None;
            };
            let options: Vec<&str> = options.split(',').collect();
            let path = match *kind {
                "cgroup" => own_path(&options)?,
                "cgroup2" => unified?,
                _ => return None,
            };
            Some(within(Path::new(point), path))
        })
        .collect()
}

/// A path that is not there means that we see only a part of the tree: its top is ours.
fn within(mount: &Path, path: &str) -> PathBuf {
    let dir = mount.join(path.trim_start_matches('/'));
    if dir.is_dir() { dir } else { mount.to_owned() }
}

/// Removes a group and those below it; groups with processes stay.
fn remove_groups(dir: &Path) {
    for group in fs::read_dir(dir).into_iter().flatten().flatten() {
        if group.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&group.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

/// Removes the groups of stages that are gone. Only empty groups can be removed.
fn sweep(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('.').next())
            .and_then(|owner| owner.parse::<ProcessId>().ok());
        if owner.is_some_and(|owner| !owner.is_alive()) {
            remove_groups(&entry.path());
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Places {
    version: Version,
    dirs: Vec<PathBuf>,
}

/// Where groups might be made, from `/proc/self/mounts` and `/proc/self/cgroup`.
fn candidates(mounts: &str, own: &str) -> Vec<Places> {
    let own_path = |controller: &str| {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            let path = fields.next()?;
            (controllers == controller || controllers.split(',').any(|c| c == controller))
                .then_some(path)
        })
    };
    let mounted = |kind: &str, option: &str| {
        mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, point, filesystem, options, ..] = fields.as_slice() else {
                return None;
            };
            let has = option.is_empty() || options.split(',').any(|o| o == option);
            (*filesystem == kind && has).then(|| PathBuf::from(point))
        })
    };
    let mut found = Vec::new();
    if let (Some(memory), Some(pids)) = (mounted("cgroup", "memory"), mounted("cgroup", "pids")) {
        found.push(Places {
            version: Version::One,
            dirs: vec![
                within(&memory, own_path("memory").unwrap_or("/")),
                within(&pids, own_path("pids").unwrap_or("/")),
            ],
        });
    } else if let Some(mount) = mounted("cgroup2", "") {
        let here = within(&mount, own_path("").unwrap_or("/"));
        // Version 2 allows processes only in leaves: beside our own group, not below it. Last the
        // root, which is exempt.
        let beside = here.parent().filter(|dir| dir.starts_with(&mount));
        let mut dirs: Vec<PathBuf> = beside.map(Path::to_owned).into_iter().collect();
        if !dirs.contains(&mount) {
            dirs.push(mount);
        }
        found.extend(dirs.into_iter().map(|dir| Places {
            version: Version::Two,
            dirs: vec![dir],
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn version_one_is_found_by_its_controllers() {
        let mounts = "cgroup /tmp/none/memory cgroup rw,relatime,memory 0 0\n\
                      cgroup /tmp/none/pids cgroup rw,relatime,pids 0 0\n\
                      cgroup2 /tmp/none/unified cgroup2 rw 0 0\n";
        let own = "4:memory:/some/where\n3:pids:/\n0::/\n";
        let found = candidates(mounts, own);
        assert_eq!(
            found,
            [Places {
                version: Version::One,
                dirs: vec!["/tmp/none/memory".into(), "/tmp/none/pids".into()],
            }],
            "paths that are not visible are left out"
        );
    }

    #[test]
    fn version_two_is_tried_beside_our_own_group_and_at_the_top() {
        let top = tempfile::tempdir().unwrap();
        let own = top.path().join("user.slice/app.slice/x.scope");
        fs::create_dir_all(&own).unwrap();
        let mounts = format!("cgroup2 {} cgroup2 rw 0 0\n", top.path().display());
        let found = candidates(&mounts, "0::/user.slice/app.slice/x.scope\n");
        let dirs: Vec<_> = found.iter().flat_map(|p| p.dirs.clone()).collect();
        let beside = top.path().join("user.slice/app.slice");
        assert_eq!(dirs, [beside, top.path().to_owned()]);
    }

    #[test]
    fn every_hierarchy_has_its_own_path() {
        let top = tempfile::tempdir().unwrap();
        let dir = |path: &str| {
            let dir = top.path().join(path);
            fs::create_dir_all(&dir).unwrap();
            dir
        };
        let (cpu, named, two) = (dir("cpu/a"), dir("systemd/b"), dir("unified/c"));
        let point = |name: &str| top.path().join(name).display().to_string();
        let mounts = format!(
            "cgroup {} cgroup rw,cpu,cpuacct 0 0\n\
             cgroup {} cgroup rw,name=systemd 0 0\n\
             cgroup2 {} cgroup2 rw 0 0\n\
             tmpfs /tmp tmpfs rw 0 0\n",
            point("cpu"),
            point("systemd"),
            point("unified")
        );
        let own = "2:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c\n";
        assert_eq!(hierarchies(&mounts, own), [cpu, named, two]);
    }

    #[test]
    fn no_control_groups_is_no_candidate() {
        assert_eq!(candidates("proc /proc proc rw 0 0\n", "0::/\n"), []);
    }
}
