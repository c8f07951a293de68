//! Writing a bundle: beside its destination, verified there, then renamed.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use super::{
    BUNDLE_JSON, Bundle, BundleDefect, BundleError, BundleFile, BundleImage, BundleManifest,
    FORMAT, IMAGE, MIGRATIONS, RELEASE_TOML, STATIC, TEMPLATES, refuse, verify,
};
use crate::archive::Archive;
use crate::digest::Hashing;
use crate::{beside, json};

/// What a bundle is made of.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The application's name.
    pub name: String,
    /// The application's version.
    pub version: String,
    /// Source revision.
    pub revision: String,
    /// The image archive.
    pub image: PathBuf,
    /// Directory of templates.
    pub templates: PathBuf,
    /// Directory of migrations, each named `NNNN_expand_name.sql` or `NNNN_contract_name.sql`.
    pub migrations: PathBuf,
    /// `release.toml`.
    pub release_toml: PathBuf,
    /// Directory of static assets.
    pub static_dir: Option<PathBuf>,
    /// Versions of the tools that made it, by tool. `oci` is added.
    pub tools: BTreeMap<String, String>,
}

/// What happens to something that is at the destination already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// It is left alone, and that is an error unless it is this very bundle.
    #[default]
    Refuse,
    /// The bundle takes its place in one step; what was there is removed.
    Replace,
}

/// Writes a bundle to the directory `dest`, whole or not at all.
pub fn write(sources: &Sources, dest: &Path, existing: Existing) -> Result<Bundle, BundleError> {
    write_to(sources, dest, existing).map_err(|defect| refuse(dest, defect))
}

fn write_to(sources: &Sources, dest: &Path, existing: Existing) -> Result<Bundle, BundleDefect> {
    let failed = |error: io::Error| BundleDefect::Write {
        path: dest.to_owned(),
        error,
    };
    let building = beside::directory(dest, ".bundle-").map_err(failed)?;
    let bundle = fill(sources, building.path())?;
    let here = building.path();
    fs::set_permissions(here, Permissions::from_mode(0o755)).map_err(failed)?;

    let free = match fs::symlink_metadata(dest) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => true,
        Err(e) => return Err(failed(e)),
        // A rename replaces an empty directory.
        Ok(metadata) => metadata.is_dir() && fs::read_dir(dest).map_err(failed)?.next().is_none(),
    };
    if free {
        fs::rename(here, dest).map_err(failed)?;
        let _ = building.keep();
    } else if Bundle::open(dest).is_ok_and(|there| there.digest() == bundle.digest) {
        // The very same bundle: nothing to do, and nothing that reads it is disturbed.
    } else if existing == Existing::Replace {
        // What was there is now the temporary directory, and goes with it.
        rustix::fs::renameat_with(CWD, here, CWD, dest, RenameFlags::EXCHANGE)
            .map_err(|e| failed(e.into()))?;
        building.close().map_err(failed)?;
    } else {
        return Err(BundleDefect::Exists);
    }
    Ok(Bundle {
        dir: dest.to_owned(),
        ..bundle
    })
}

/// Makes the bundle in an empty directory.
fn fill(sources: &Sources, dir: &Path) -> Result<Bundle, BundleDefect> {
    let mut files = BTreeMap::new();
    copy(&sources.image, dir, IMAGE, &mut files)?;
    copy(&sources.release_toml, dir, RELEASE_TOML, &mut files)?;
    let trees = [
        (TEMPLATES, Some(&sources.templates)),
        (MIGRATIONS, Some(&sources.migrations)),
        (STATIC, sources.static_dir.as_ref()),
    ];
    for (name, source) in trees {
        let Some(source) = source else { continue };
        make_directory(&dir.join(name))?;
        for (below, path) in verify::tree(source)? {
            let name = format!("{name}/{below}");
            match path {
                // Sorted by name, so a directory comes before what is in it.
                None => make_directory(&dir.join(name))?,
                Some(path) => copy(&path, dir, &name, &mut files)?,
            }
        }
    }
    let image = Archive::open(&dir.join(IMAGE)).map_err(|mut error| {
        error.path.clone_from(&sources.image);
        BundleDefect::Image(error)
    })?;
    let mut tools = sources.tools.clone();
    tools.insert("oci".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let manifest = BundleManifest {
        format: FORMAT,
        name: sources.name.clone(),
        version: sources.version.clone(),
        revision: sources.revision.clone(),
        image: BundleImage {
            digest: image.manifest_digest(),
            size: image.compressed_size(),
        },
        migrations: verify::migrations(files.keys())?,
        files,
        tools,
    };
    let bytes = json::canonical(&manifest).map_err(|e| BundleDefect::Manifest(e.to_string()))?;
    let path = dir.join(BUNDLE_JSON);
    let failed = |error| BundleDefect::Write {
        path: path.clone(),
        error,
    };
    fs::write(&path, bytes).map_err(failed)?;
    fs::set_permissions(&path, Permissions::from_mode(0o644)).map_err(failed)?;
    verify::open(dir)
}

fn make_directory(path: &Path) -> Result<(), BundleDefect> {
    let failed = |error| BundleDefect::Write {
        path: path.to_owned(),
        error,
    };
    fs::create_dir(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(failed)
}

fn copy(
    source: &Path,
    dir: &Path,
    name: &str,
    files: &mut BTreeMap<String, BundleFile>,
) -> Result<(), BundleDefect> {
    let unread = |error| BundleDefect::Read {
        path: source.to_owned(),
        error,
    };
    let target = dir.join(name);
    let unwritten = |error| BundleDefect::Write {
        path: target.clone(),
        error,
    };
    let mut from = Hashing::new(File::open(source).map_err(unread)?);
    let mut to = File::create_new(&target).map_err(unwritten)?;
    // Which of the two failed cannot be told apart; a directory given as a file is the usual case.
    io::copy(&mut from, &mut to).map_err(unread)?;
    to.set_permissions(Permissions::from_mode(0o644))
        .map_err(unwritten)?;
    let (sha256, size) = from.finish();
    files.insert(name.to_owned(), BundleFile { sha256, size });
    Ok(())
}
