//! A layer: a sorted list of what it holds, and the one way it is written as a tar.
//!
//! The tar is plain ustar: a header of 512 bytes and the content, no extensions. Everything a header
//! could say about the machine that wrote it is a constant: times are 1 s after the epoch (0 makes some
//! tools believe that the time is missing), owners are what the image says and 0 unless told otherwise,
//! names of users and groups are empty, modes come from the specification of the layer and not from the
//! file that was read. Entries are in the byte order of their paths, and the directories that lead to
//! an entry are always written, with mode 0755, so that no unpacker has to choose a mode for them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::tarball::BLOCK;

/// Time of every entry, in seconds since the epoch.
const MTIME: u64 = 1;

/// What a layer holds. Paths are relative to the image's root, with or without a leading slash.
#[derive(Debug, Clone, Default)]
pub struct LayerSpec {
    comment: String,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    node: Node,
    mode: u32,
    uid: u32,
    gid: u32,
}

#[derive(Debug, Clone)]
enum Node {
    Directory,
    File(Content),
    Symlink(String),
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Vec<u8>),
    Path(PathBuf),
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// A path that leaves the image, or that a plain tar header cannot hold.
    #[error("cannot put {path:?} into an image: {reason}")]
    Path {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file in a tree that is neither a regular file, a directory nor a symbolic link.
    #[error("cannot put {0} into an image: it is neither a file, a directory nor a symbolic link")]
    Kind(PathBuf),
    /// A file that could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that changed while it was read.
    #[error("{path} changed while it was read: {expected} bytes became {found}")]
    Changed {
        /// The file.
        path: PathBuf,
        /// Size when it was opened.
        expected: u64,
        /// Bytes that were there.
        found: u64,
    },
    /// The output could not be written.
    #[error("cannot write a layer: {0}")]
    Write(#[from] io::Error),
}

impl LayerSpec {
    /// An empty layer. `comment` says in the image's history what it is.
    pub fn new(comment: impl Into<String>) -> Self {
        Self {
            comment: comment.into(),
            entries: BTreeMap::new(),
        }
    }

    /// What the image's history says of this layer.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// A directory with the given permission bits (such as 0o755, or 0o1777 for `tmp`).
    #[must_use]
    pub fn directory(self, path: impl Into<String>, mode: u32) -> Self {
        self.with(path.into(), Node::Directory, mode)
    }

    /// A file with this content.
    #[must_use]
    pub fn file(self, path: impl Into<String>, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.with(
            path.into(),
            Node::File(Content::Bytes(content.into())),
            mode,
        )
    }

    /// A file with the content of the file `source`, read when the image is written. Of `source`
    /// nothing but the bytes counts: not its name, owner, mode or times.
    #[must_use]
    pub fn file_at(self, path: impl Into<String>, mode: u32, source: impl Into<PathBuf>) -> Self {
        self.with(path.into(), Node::File(Content::Path(source.into())), mode)
    }

    /// A symbolic link to `target`.
    #[must_use]
    pub fn symlink(self, path: impl Into<String>, target: impl Into<String>) -> Self {
        self.with(path.into(), Node::Symlink(target.into()), 0o777)
    }

    /// Gives an entry of this layer an owner; unless told otherwise everything belongs to 0:0.
    /// Paths that the layer does not hold are ignored.
    #[must_use]
    pub fn owned_by(mut self, path: &str, uid: u32, gid: u32) -> Self {
        if let Some(entry) = self.entries.get_mut(trim(path)) {
            (entry.uid, entry.gid) = (uid, gid);
        }
        self
    }

    /// Everything under the directory `source`, put under `path` in the image. Modes become 0755 for
    /// directories and files that anybody may execute, 0644 for other files; owners become 0:0.
    pub fn tree(mut self, path: &str, source: &Path) -> Result<Self, LayerError> {
        self = self.directory(path, 0o755);
        let failed = |source: io::Error, path: &Path| LayerError::Read {
            path: path.into(),
            source,
        };
        for item in fs::read_dir(source).map_err(|e| failed(e, source))? {
            let item = item.map_err(|e| failed(e, source))?;
            let from = item.path();
            let Some(name) = item.file_name().to_str().map(str::to_owned) else {
                let path = from.display().to_string();
                return Err(LayerError::Path {
                    path,
                    reason: "its name is not UTF-8",
                });
            };
            let to = if trim(path).is_empty() {
                name
            } else {
                format!("{}/{name}", trim(path))
            };
            let metadata = fs::symlink_metadata(&from).map_err(|e| failed(e, &from))?;
            self = if metadata.is_dir() {
                self.tree(&to, &from)?
            } else if metadata.is_symlink() {
                let target = fs::read_link(&from).map_err(|e| failed(e, &from))?;
                let Some(target) = target.to_str() else {
                    let path = from.display().to_string();
                    return Err(LayerError::Path {
                        path,
                        reason: "its target is not UTF-8",
                    });
                };
                self.symlink(to, target)
            } else if metadata.is_file() {
                let executable = metadata.permissions().mode() & 0o111 != 0;
                self.file_at(to, if executable { 0o755 } else { 0o644 }, from)
            } else {
                return Err(LayerError::Kind(from));
            };
        }
        Ok(self)
    }

    fn with(mut self, path: String, node: Node, mode: u32) -> Self {
        let key = trim(&path);
        let key = if key.len() == path.len() {
            path
        } else {
            key.to_owned()
        };
        if !key.is_empty() {
            self.entries.insert(
                key,
                Entry {
                    node,
                    mode,
                    uid: 0,
                    gid: 0,
                },
            );
        }
        self
    }

    /// Writes the layer as a tar, sorted, with the directories that lead to each entry.
    pub(crate) fn write_tar(&self, mut out: impl Write) -> Result<(), LayerError> {
        let parent = Entry {
            node: Node::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
        };
        let mut all: BTreeMap<&str, &Entry> = BTreeMap::new();
        for (path, entry) in &self.entries {
            check(path)?;
            for (slash, _) in path.match_indices('/') {
                let lead = &path[..slash];
                match self.entries.get(lead) {
                    None => {
                        all.insert(lead, &parent);
                    }
                    Some(Entry {
                        node: Node::Directory,
                        ..
                    }) => {}
                    Some(_) => {
                        return Err(LayerError::Path {
                            path: path.clone(),
                            reason: "something that leads to it is not a directory",
                        });
                    }
                }
            }
            all.insert(path, entry);
        }
        for (path, entry) in all {
            entry.write(path, &mut out)?;
        }
        out.write_all(&[0; 2 * BLOCK])?;
        Ok(())
    }
}

impl Entry {
    fn write(&self, path: &str, out: &mut impl Write) -> Result<(), LayerError> {
        let header = |kind, size, target| Header {
            path,
            kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            size,
            target,
        };
        match &self.node {
            Node::Directory => out.write_all(&header(b'5', 0, "").block()?)?,
            Node::Symlink(target) => out.write_all(&header(b'2', 0, target).block()?)?,
            Node::File(Content::Bytes(bytes)) => {
                let size = bytes.len() as u64;
                out.write_all(&header(b'0', size, "").block()?)?;
                out.write_all(bytes)?;
                pad(size, out)?;
            }
            Node::File(Content::Path(source)) => {
                let failed = |e| LayerError::Read {
                    path: source.clone(),
                    source: e,
                };
                let mut file = File::open(source).map_err(failed)?;
                let metadata = file.metadata().map_err(failed)?;
                if !metadata.is_file() {
                    return Err(LayerError::Kind(source.clone()));
                }
                let size = metadata.len();
                out.write_all(&header(b'0', size, "").block()?)?;
                let mut buffer = vec![0; 128 * 1024];
                let mut found = 0;
                loop {
                    let n = file.read(&mut buffer).map_err(failed)?;
                    found += n as u64;
                    if n == 0 || found > size {
                        break;
                    }
                    out.write_all(&buffer[..n])?;
                }
                if found != size {
                    return Err(LayerError::Changed {
                        path: source.clone(),
                        expected: size,
                        found,
                    });
                }
                pad(size, out)?;
            }
        }
        Ok(())
    }
}

/// One ustar header (POSIX.1-1988, as `pax(1)` describes it under "ustar Interchange Format").
pub(crate) struct Header<'a> {
    pub path: &'a str,
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub target: &'a str,
}

impl Header<'_> {
    pub(crate) fn block(&self) -> Result<[u8; BLOCK], LayerError> {
        let refuse = |reason| LayerError::Path {
            path: self.path.to_owned(),
            reason,
        };
        // A directory's name ends in a slash, unless that is the byte too much: its kind says it too.
        let with_slash = format!("{}/", self.path);
        let (prefix, name) = match self.kind {
            b'5' => split(&with_slash).or_else(|| split(self.path)),
            _ => split(self.path),
        }
        .ok_or_else(|| refuse("it is too long for a tar header (about 250 bytes)"))?;
        if self.target.len() > 100 {
            return Err(refuse("its target is longer than 100 bytes"));
        }
        if self.kind == b'2' && (self.target.is_empty() || self.target.contains('\0')) {
            return Err(refuse("its target is empty or holds a NUL"));
        }
        if self.size >= 1 << 33 {
            return Err(refuse("it is larger than 8 GiB"));
        }
        if self.uid >= 1 << 21 || self.gid >= 1 << 21 {
            return Err(refuse(
                "its owner's number is larger than a tar header holds (2097151)",
            ));
        }
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        put(100, format!("{:07o}", self.mode & 0o7777).as_bytes());
        put(108, format!("{:07o}", self.uid).as_bytes());
        put(116, format!("{:07o}", self.gid).as_bytes());
        put(124, format!("{:011o}", self.size).as_bytes());
        put(136, format!("{MTIME:011o}").as_bytes());
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, self.target.as_bytes());
        put(257, b"ustar\x0000");
        put(329, b"0000000");
        put(337, b"0000000");
        put(345, prefix.as_bytes());
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Ok(block)
    }
}

/// Zeros up to the next block.
pub(crate) fn pad(size: u64, out: &mut impl Write) -> io::Result<()> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 {
        Ok(())
    } else {
        out.write_all(&[0; BLOCK][over..])
    }
}

/// The header's prefix and name: the name takes 100 bytes, the prefix 155, with a slash between.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= 100 {
        return Some(("", path));
    }
    path.match_indices('/')
        .map(|(at, _)| (&path[..at], &path[at + 1..]))
        .find(|(prefix, name)| prefix.len() <= 155 && !name.is_empty() && name.len() <= 100)
}

fn trim(path: &str) -> &str {
    path.trim_start_matches('/').trim_end_matches('/')
}

fn check(path: &str) -> Result<(), LayerError> {
    let refuse = |reason| {
        Err(LayerError::Path {
            path: path.to_owned(),
            reason,
        })
    };
    if path.contains('\0') {
        return refuse("it holds a NUL");
    }
    for part in path.split('/') {
        match part {
            "" => return refuse("it has an empty component"),
            "." | ".." => return refuse("it has a component `.` or `..`"),
            _ if part.starts_with(".wh.") => {
                return refuse("names that start with `.wh.` delete files of lower layers");
            }
            _ => {}
        }
    }
    Ok(())
}
