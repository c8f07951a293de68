//! Opening a bundle.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{
    BUNDLE_JSON, Bundle, BundleDefect, BundleFile, BundleManifest, FORMAT, IMAGE, MIGRATIONS,
    Migration, RELEASE_TOML, STATIC, TEMPLATES,
};
use crate::archive::Archive;
use crate::model::ANNOTATION_VERSION;
use crate::{Digest, json};

/// The largest `bundle.json` that is read, in bytes: some 30,000 files.
const LARGEST: u64 = 4 << 20;

pub(super) fn open(dir: &Path) -> Result<Bundle, BundleDefect> {
    let (manifest, digest) = read_manifest(&dir.join(BUNDLE_JSON))?;
    compare_files(dir, &manifest)?;
    for needed in [IMAGE, RELEASE_TOML] {
        if !manifest.files.contains_key(needed) {
            return Err(BundleDefect::Missing(needed.to_owned()));
        }
    }
    if manifest.migrations != migrations(manifest.files.keys())? {
        return Err(BundleDefect::Manifest(
            "its migrations are not those in migrations/".into(),
        ));
    }
    compare_image(
        &Archive::open(&dir.join(IMAGE)).map_err(BundleDefect::Image)?,
        &manifest,
    )?;
    Ok(Bundle {
        dir: dir.to_owned(),
        digest,
        manifest,
    })
}

fn read_manifest(path: &Path) -> Result<(BundleManifest, Digest), BundleDefect> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => BundleDefect::NotABundle(path.to_owned()),
        _ => BundleDefect::Read {
            path: path.to_owned(),
            error,
        },
    };
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(BundleDefect::Manifest(format!(
            "it is larger than {LARGEST} bytes"
        )));
    }
    let invalid = |error: serde_json::Error| BundleDefect::Manifest(error.to_string());
    // The format first: the members of another one are not known.
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(invalid)?;
    match value.get("format") {
        Some(format) if *format == FORMAT => {}
        Some(format) => return Err(BundleDefect::Format(format.clone())),
        None => return Err(BundleDefect::Manifest("it has no format".into())),
    }
    // From the bytes and not from the value, so that a member given twice is an error.
    let manifest: BundleManifest = serde_json::from_slice(&bytes).map_err(invalid)?;
    if json::canonical(&manifest).map_err(invalid)? != bytes {
        return Err(BundleDefect::Manifest(
            "it is not in canonical form (sorted keys, no white space)".into(),
        ));
    }
    Ok((manifest, Digest::of(&bytes)))
}

fn compare_files(dir: &Path, manifest: &BundleManifest) -> Result<(), BundleDefect> {
    let mut found = tree(dir)?;
    found.remove(BUNDLE_JSON);
    if let Some(missing) = manifest
        .files
        .keys()
        .find(|file| !found.contains_key(*file))
    {
        return Err(BundleDefect::Missing(missing.clone()));
    }
    for (name, path) in &found {
        let Some(path) = path else {
            let known = |d: &&str| name == d || name.starts_with(&format!("{d}/"));
            if [TEMPLATES, MIGRATIONS, STATIC].iter().any(known) {
                continue;
            }
            return Err(BundleDefect::Extra(format!("{name}/")));
        };
        let Some(BundleFile {
            sha256: expected,
            size,
        }) = manifest.files.get(name)
        else {
            return Err(BundleDefect::Extra(name.clone()));
        };
        let (digest, bytes) = digest_of(path)?;
        if digest != *expected {
            return Err(BundleDefect::Changed {
                file: name.clone(),
                expected: *expected,
                found: digest,
            });
        }
        if bytes != *size {
            return Err(BundleDefect::Manifest(format!(
                "it gives {name} {size} bytes, and it has {bytes}"
            )));
        }
    }
    Ok(())
}

pub(super) fn digest_of(path: &Path) -> Result<(Digest, u64), BundleDefect> {
    let failed = |error| BundleDefect::Read {
        path: path.to_owned(),
        error,
    };
    Digest::of_reader(File::open(path).map_err(failed)?).map_err(failed)
}

fn compare_image(image: &Archive, manifest: &BundleManifest) -> Result<(), BundleDefect> {
    let other = |what, expected: String, found: String| {
        Err(BundleDefect::OtherImage {
            what,
            expected,
            found,
        })
    };
    let (digest, size) = (image.manifest_digest(), image.compressed_size());
    if digest != manifest.image.digest {
        return other(
            "the image",
            manifest.image.digest.to_string(),
            digest.to_string(),
        );
    }
    if size != manifest.image.size {
        return other("bytes", manifest.image.size.to_string(), size.to_string());
    }
    match image.manifest().annotations.get(ANNOTATION_VERSION) {
        Some(version) if *version != manifest.version => {
            other("the version", manifest.version.clone(), version.clone())
        }
        _ => Ok(()),
    }
}

/// The migrations among the files of a bundle, in order.
pub(super) fn migrations<'a>(
    files: impl Iterator<Item = &'a String>,
) -> Result<Vec<Migration>, BundleDefect> {
    let mut migrations: Vec<Migration> = Vec::new();
    for file in files {
        let Some(name) = file.strip_prefix("migrations/") else {
            continue;
        };
        let migration = Migration::parse(name).map_err(BundleDefect::Migration)?;
        if let Some(other) = migrations
            .iter()
            .find(|other| other.number == migration.number)
        {
            return Err(BundleDefect::SameNumber(other.file.clone(), migration.file));
        }
        migrations.push(migration);
    }
    migrations.sort_by_key(|migration| migration.number);
    Ok(migrations)
}

/// Everything below `dir`, by its name with `/`: files with their path, directories without one.
pub(super) fn tree(dir: &Path) -> Result<BTreeMap<String, Option<PathBuf>>, BundleDefect> {
    let mut found = BTreeMap::new();
    let mut below = vec![(String::new(), dir.to_owned())];
    while let Some((prefix, dir)) = below.pop() {
        let failed = |error| BundleDefect::Read {
            path: dir.clone(),
            error,
        };
        for item in fs::read_dir(&dir).map_err(failed)? {
            let item = item.map_err(failed)?;
            let path = item.path();
            let name = match item.file_name().into_string() {
                Ok(name) if !name.contains(char::is_control) => format!("{prefix}{name}"),
                _ => return Err(BundleDefect::Name(path)),
            };
            let kind = item.file_type().map_err(failed)?;
            if kind.is_dir() {
                below.push((format!("{name}/"), path));
                found.insert(name, None);
            } else if kind.is_file() {
                found.insert(name, Some(path));
            } else {
                return Err(BundleDefect::Kind(path));
            }
        }
    }
    Ok(found)
}
