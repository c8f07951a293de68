//! Images of tasks, unpacked.
//!
//! An image is verified and unpacked once and then shared, read-only, by every task that runs it:
//! the second start of a version costs no copying. The tree appears under its digest by one
//! `rename`, so that it is there whole or not at all, whatever ends the stage meanwhile.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use oci::{archive::Archive, unpack};
use serde::{Deserialize, Serialize};

use super::ids;
use crate::leftovers::ProcessId;

/// Unpacked images in a directory, by manifest digest. Clones share everything.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// Images that are being unpacked, so that two imports of one image do it once.
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// An unpacked image. It stays on disk as long as its store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of the image's manifest, `sha256:…`.
    pub digest: String,
    /// The directory with the image's files.
    pub rootfs: PathBuf,
    /// What the image says about how it is run.
    pub config: ImageConfig,
}

/// The part of an image's configuration that says how it is run, as the OCI image specification
/// names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments.
    pub cmd: Vec<String>,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// `uid`, `uid:gid`, `user` or `user:group`; empty is root.
    pub user: String,
    /// Where the program starts; empty is `/`.
    pub working_dir: String,
    /// The signal that asks it to end, as `SIGTERM` or `15`; empty is SIGTERM.
    pub stop_signal: String,
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The store's directory cannot be used.
    #[error("cannot keep images in {}: {source}", path.display())]
    Directory {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The archive is not a valid image.
    #[error("cannot unpack the image {}: {problem}", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Where a task finds its own process list, devices and temporary files.
const MOUNT_POINTS: [&str; 3] = ["dev", "proc", "tmp"];
const UNPACKING: &str = ".unpacking-";
const CONFIG: &str = "config.json";
const ROOTFS: &str = "rootfs";

impl ImageStore {
    /// Keeps images in `dir`, which is made if it is missing.
    pub fn new(dir: &Path) -> Result<Self, ImageError> {
        fs::create_dir_all(dir).map_err(directory(dir))?;
        let dir = fs::canonicalize(dir).map_err(directory(dir))?;
        for entry in fs::read_dir(&dir).map_err(directory(&dir))?.flatten() {
            let name = entry.file_name();
            let owner = name
                .to_str()
                .and_then(|name| name.strip_prefix(UNPACKING))
                .and_then(|rest| rest.split('.').next())
                .and_then(|owner| owner.parse::<ProcessId>().ok());
            if owner.is_some_and(|owner| !owner.is_alive()) {
                // Of a stage that was killed in the middle. If it cannot be removed it is in nobody's
                // way.
                let _ = remove_tree(&entry.path());
            }
        }
        Ok(Self {
            inner: Arc::new(Inner {
                dir,
                busy: Mutex::default(),
            }),
        })
    }

    /// Verifies an archive and unpacks it, unless that has been done before.
    pub async fn import(&self, archive: &Path) -> Result<Image, ImageError> {
        let path = archive.to_owned();
        let opened = blocking(move || {
            Archive::open(&path).map_err(|error| ImageError::Archive {
                problem: error.to_string(),
                archive: path,
            })
        })
        .await?;
        let digest = opened.manifest_digest().to_string();
        let turn = {
            let mut busy = self.busy();
            Arc::clone(busy.entry(digest.clone()).or_default())
        };
        let _turn = turn.lock().await;
        if let Some(image) = self.get(&digest) {
            return Ok(image);
        }
        let store = self.clone();
        let image = blocking(move || store.unpack(&opened, digest)).await?;
        self.busy().remove(&image.digest);
        Ok(image)
    }

    /// An image that has been imported.
    pub fn get(&self, digest: &str) -> Option<Image> {
        let dir = self.dir_of(digest);
        let config = fs::read(dir.join(CONFIG)).ok()?;
        Some(Image {
            digest: digest.to_owned(),
            rootfs: dir.join(ROOTFS),
            config: serde_json::from_slice(&config).ok()?,
        })
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.inner
            .busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn dir_of(&self, digest: &str) -> PathBuf {
        // A digest is `algorithm:hex`; whatever else it is here, it names one directory of ours.
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = digest.chars().map(plain).collect();
        self.inner.dir.join(name)
    }

    fn unpack(&self, archive: &Archive, digest: String) -> Result<Image, ImageError> {
        let refuse = |problem: String| ImageError::Archive {
            archive: archive.path().to_owned(),
            problem,
        };
        let prefix = format!("{UNPACKING}{}.", ProcessId::own());
        let staging = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(&self.inner.dir)
            .map_err(directory(&self.inner.dir))?;
        let rootfs = staging.path().join(ROOTFS);
        unpack::unpack(archive, &rootfs, &unpack::Limits::default())
            .map_err(|error| refuse(error.to_string()))?;
        prepare(&rootfs).map_err(refuse)?;

        let run = &archive.config().config;
        let config = ImageConfig {
            entrypoint: run.entrypoint.clone(),
            cmd: run.cmd.clone(),
            env: run.env.clone(),
            user: run.user.clone(),
            working_dir: run.working_dir.clone(),
            stop_signal: run.stop_signal.clone(),
        };
        let file = staging.path().join(CONFIG);
        let json = serde_json::to_vec_pretty(&config).map_err(|error| refuse(error.to_string()))?;
        fs::write(&file, json).map_err(directory(&file))?;
        // Tasks reach it as a user of their own, who must be able to pass.
        fs::set_permissions(staging.path(), fs::Permissions::from_mode(0o755))
            .map_err(directory(staging.path()))?;

        let dir = self.dir_of(&digest);
        let staging = staging.keep();
        if let Err(error) = fs::rename(&staging, &dir) {
            let _ = remove_tree(&staging);
            // Another program that shares the directory was faster: its tree is as good.
            if self.get(&digest).is_none() {
                return Err(directory(&dir)(error));
            }
        }
        Ok(Image {
            digest,
            rootfs: dir.join(ROOTFS),
            config,
        })
    }
}

fn directory(path: &Path) -> impl FnOnce(io::Error) -> ImageError + use<> {
    let path = path.to_owned();
    move |source| ImageError::Directory { path, source }
}

async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(job).await {
        Ok(result) => result,
        // It cannot have been aborted: nobody else has the handle.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Makes a tree ready to be a read-only root: the mount points are there, and a root stage's tasks,
/// whose root is not this machine's, own its files.
fn prepare(rootfs: &Path) -> Result<(), String> {
    for name in MOUNT_POINTS {
        let path = rootfs.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(format!(
                    "its /{name} is not a directory; a task needs one to mount its own"
                ));
            }
            Err(_) => fs::DirBuilder::new()
                .mode(0o755)
                .create(&path)
                .map_err(|error| format!("cannot make its /{name}: {error}"))?,
        }
    }
    fs::set_permissions(rootfs, fs::Permissions::from_mode(0o755))
        .map_err(|error| error.to_string())?;
    if let Some(base) = ids::shift() {
        shift_owners(rootfs, base)
            .map_err(|error| format!("cannot give it to its users: {error}"))?;
    }
    Ok(())
}

fn shift_owners(path: &Path, base: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            shift_owners(&entry?.path(), base)?;
        }
    }
    let shifted = |id: u32| base + id.min(0xFFFF);
    let (uid, gid) = (shifted(metadata.uid()), shifted(metadata.gid()));
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    if metadata.is_file() {
        // A change of owner clears the set-user-id bits, which a task could not use in any case.
        fs::set_permissions(path, fs::Permissions::from_mode(metadata.mode() & 0o777))?;
    }
    Ok(())
}

/// Removes a tree, also where its directories cannot be written, as they may be in an image.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    make_writable(path);
    fs::remove_dir_all(path)
}

fn make_writable(path: &Path) {
    let is_dir = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    if is_dir {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            make_writable(&entry.path());
        }
    }
}
