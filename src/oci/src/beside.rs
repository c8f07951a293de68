//! Making something beside its destination, to be renamed when it is whole.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

/// The directory that holds `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A temporary directory in the one that holds `path`. Its maker can use it, whatever the umask.
pub(crate) fn directory(path: &Path, prefix: &str) -> io::Result<TempDir> {
    let directory = tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(parent(path))?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700))?;
    Ok(directory)
}
