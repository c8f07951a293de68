//! What is refused by its name or its kind alone, before anything is made.

use rustix::io::Errno;

use super::{Refusal, UnpackError};
use crate::tarball::{Entry, Kind};

/// The longest name of an entry, in bytes: `PATH_MAX` of Linux.
const NAME: usize = 4096;
/// What the names of whiteouts begin with.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// The whiteout that empties its directory.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";

/// An entry whose name was checked.
pub(super) struct Checked<'a> {
    pub(super) layer: usize,
    pub(super) entry: &'a Entry,
    /// The name's components, without `.`; empty for the root.
    pub(super) components: Vec<&'a [u8]>,
}

impl<'a> Checked<'a> {
    pub(super) fn new(layer: usize, entry: &'a Entry) -> Result<Self, UnpackError> {
        let checked = Self {
            layer,
            entry,
            components: Vec::new(),
        };
        let components = components(&entry.path).map_err(|reason| checked.refuse(reason))?;
        let checked = Self {
            components,
            ..checked
        };
        checked.check().map_err(|reason| checked.refuse(reason))?;
        Ok(checked)
    }

    fn check(&self) -> Result<(), Refusal> {
        let Entry {
            kind, link, path, ..
        } = self.entry;
        let target = || String::from_utf8_lossy(link).into_owned();
        if self.components.is_empty() && *kind != Kind::Directory {
            return Err(Refusal::Root);
        }
        match kind {
            Kind::CharacterDevice | Kind::BlockDevice => return Err(Refusal::Device),
            Kind::Fifo => return Err(Refusal::Fifo),
            Kind::File if path.ends_with(b"/") => return Err(Refusal::FileWithSlash),
            Kind::Symlink => {
                if link.is_empty() || link.contains(&0) || link.len() >= NAME {
                    return Err(Refusal::LinkTarget);
                }
                if climbs_out(self.components.len() - 1, link) {
                    return Err(Refusal::SymlinkEscapes(target()));
                }
            }
            Kind::HardLink => match components(link) {
                Ok(components) if !components.is_empty() => {}
                _ => return Err(Refusal::HardLinkEscapes(target())),
            },
            Kind::File | Kind::Directory => {}
        }
        // `.wh.` in the middle of a path would be a directory that was itself deleted.
        let (last, lead) = self
            .components
            .split_last()
            .map_or((&b""[..], &[][..]), |(last, lead)| (*last, lead));
        if lead.iter().any(|component| component.starts_with(WHITEOUT)) {
            return Err(Refusal::Whiteout);
        }
        match last.strip_prefix(WHITEOUT) {
            Some(_) if last == OPAQUE => Ok(()),
            // What begins with `.wh..wh.` is reserved for markers like the opaque one.
            Some(name) if matches!(name, b"" | b"." | b"..") || name.starts_with(WHITEOUT) => {
                Err(Refusal::Whiteout)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn is_whiteout(&self) -> bool {
        self.components
            .last()
            .is_some_and(|last| last.starts_with(WHITEOUT))
    }

    pub(super) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.entry.path).into_owned()
    }

    pub(super) fn refuse(&self, reason: Refusal) -> UnpackError {
        UnpackError::Refused {
            layer: self.layer,
            path: self.shown(),
            reason,
        }
    }

    pub(super) fn failed(&self, action: &'static str) -> impl Fn(Errno) -> UnpackError + '_ {
        move |errno| UnpackError::Write {
            layer: self.layer,
            action,
            path: self.shown(),
            error: errno.into(),
        }
    }
}

/// The components of a name inside the image; `.` and doubled slashes are left out.
pub(super) fn components(path: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    if path.is_empty() || path.contains(&0) {
        return Err(Refusal::Name);
    }
    if path[0] == b'/' {
        return Err(Refusal::Absolute);
    }
    let components: Vec<_> = path
        .split(|byte| *byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
        .collect();
    if components.contains(&&b".."[..]) {
        return Err(Refusal::ParentComponent);
    }
    if path.len() >= NAME || components.iter().any(|part| part.len() > 255) {
        return Err(Refusal::TooLong);
    }
    Ok(components)
}

/// Whether a relative link that lies `depth` directories below the root climbs above it. Absolute
/// links are relative to the image's root, as in a container.
fn climbs_out(depth: usize, target: &[u8]) -> bool {
    let mut depth = if target.first() == Some(&b'/') {
        0
    } else {
        depth
    };
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}
