//! Verifying a whole archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;

use super::layer::{Place, Section, find, finish_layer, layer_reader};
use super::{Archive, Config, Defect, Descriptor, Limits, Manifest};
use crate::Digest;
use crate::image::{ANNOTATION_LAYOUT, LAYOUT, archive_header, surroundings};
use crate::model::{Index, Layout, MEDIA_CONFIG, MEDIA_INDEX, MEDIA_MANIFEST};
use crate::tarball::{BLOCK, Entry, Kind, Reader};

pub(super) fn verify(path: &Path, limits: &Limits) -> Result<Archive, Defect> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Defect::Read(io::Error::other("not a regular file")));
    }
    let contents = scan(&file)?;
    for (expected, place) in &contents.blobs {
        let (found, _) = Digest::of_reader(Section {
            file: &file,
            at: place.at,
            left: place.size,
        })?;
        if found != *expected {
            return Err(Defect::BlobDigest {
                expected: *expected,
                found,
            });
        }
    }

    let layout: Layout = contents.document(&file, "oci-layout", limits)?;
    if layout.version != "1.0.0" {
        let reason = format!(
            "imageLayoutVersion is {:?}, only 1.0.0 is known",
            layout.version
        );
        return Err(Defect::Document {
            what: "oci-layout".into(),
            reason,
        });
    }
    let index: Index = contents.document(&file, "index.json", limits)?;
    let manifest_descriptor = contents.choose(&file, index, limits)?;
    let blob = |descriptor: &Descriptor, what: &str| -> Result<Vec<u8>, Defect> {
        let place = find(&contents.blobs, descriptor, what)?;
        read_document(&file, place, what, limits)
    };
    let manifest: Manifest = parse(
        &blob(&manifest_descriptor, "manifest")?,
        &format!("manifest {}", manifest_descriptor.digest),
    )?;
    check_manifest(&manifest)?;
    let what = format!("configuration {}", manifest.config.digest);
    let config: Config = parse(&blob(&manifest.config, "configuration")?, &what)?;
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        let (ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
        let reason = format!("it has {ids} diff_ids for {layers} layers");
        return Err(Defect::Document { what, reason });
    }

    let mut uncompressed_sizes = Vec::new();
    let mut used = 0;
    for index in 0..manifest.layers.len() {
        let reader = layer_reader(&file, &contents.blobs, &manifest, index, used, limits.bytes)?;
        let bytes = finish_layer(&manifest, &config, index, reader)?;
        used += bytes;
        uncompressed_sizes.push(bytes);
    }
    let ours = manifest
        .annotations
        .get(ANNOTATION_LAYOUT)
        .is_some_and(|layout| layout == LAYOUT);
    if ours {
        contents.compare_surroundings(&file, &manifest, &manifest_descriptor, &config)?;
    }
    let path = path.to_owned();
    let blobs = contents.blobs;
    Ok(Archive {
        path,
        file,
        blobs,
        manifest_descriptor,
        manifest,
        config,
        uncompressed_sizes,
    })
}

fn check_manifest(manifest: &Manifest) -> Result<(), Defect> {
    if manifest.schema_version != 2 {
        let reason = format!("schemaVersion is {}, not 2", manifest.schema_version);
        return Err(Defect::Document {
            what: "manifest".into(),
            reason,
        });
    }
    if let Some(found) = &manifest.media_type
        && found != MEDIA_MANIFEST
    {
        return Err(media_type(
            "manifest",
            found,
            "only OCI image manifests are read",
        ));
    }
    if manifest.config.media_type != MEDIA_CONFIG {
        return Err(media_type(
            "configuration",
            &manifest.config.media_type,
            "only OCI image configurations are read",
        ));
    }
    Ok(())
}

fn media_type(what: &str, found: &str, hint: &'static str) -> Defect {
    Defect::MediaType {
        what: what.to_owned(),
        found: found.to_owned(),
        hint,
    }
}

/// The files of an archive, before anything in them is believed.
struct Contents {
    blobs: BTreeMap<Digest, Place>,
    documents: BTreeMap<&'static str, Place>,
    headers: BTreeMap<String, Box<[u8; BLOCK]>>,
}

/// The files of an archive that are not blobs. `repositories` is docker's oldest form, which some tools
/// still add; it is not read.
const DOCUMENTS: [&str; 4] = ["index.json", "manifest.json", "oci-layout", "repositories"];

/// The most files that an archive may have; an image has one a layer, and a handful.
const MOST_FILES: u64 = 10_000;

fn scan(file: &File) -> Result<Contents, Defect> {
    let size = file.metadata()?.len();
    let mut tar = Reader::strict(Section {
        file,
        at: 0,
        left: size,
    });
    let mut contents = Contents {
        blobs: BTreeMap::new(),
        documents: BTreeMap::new(),
        headers: BTreeMap::new(),
    };
    let mut entries = 0;
    while let Some(entry) = tar.next().map_err(Defect::Tar)? {
        entries += 1;
        if entries > MOST_FILES {
            return Err(Defect::Files(MOST_FILES));
        }
        contents.add(
            &entry,
            Place {
                at: tar.position(),
                size: entry.size,
            },
        )?;
    }
    Ok(contents)
}

impl Contents {
    fn add(&mut self, entry: &Entry, place: Place) -> Result<(), Defect> {
        let stray = |reason| Defect::Stray {
            path: String::from_utf8_lossy(&entry.path).into_owned(),
            reason,
        };
        let name =
            std::str::from_utf8(&entry.path).map_err(|_| stray("whose name is not UTF-8"))?;
        // GNU tar writes `./index.json` for `tar -c .`.
        let name = name.trim_start_matches("./").trim_end_matches('/');
        let known_before = match entry.kind {
            Kind::Directory if matches!(name, "" | "." | "blobs" | "blobs/sha256") => {
                self.headers.insert(name.to_owned(), entry.header.clone());
                return Ok(());
            }
            Kind::File => match name.strip_prefix("blobs/sha256/") {
                Some(digits) => {
                    let digest = format!("sha256:{digits}").parse();
                    let digest = digest.map_err(|_| stray("whose name is not a digest"))?;
                    self.blobs.insert(digest, place).is_some()
                }
                None => match DOCUMENTS.iter().find(|document| **document == name) {
                    Some(document) => self.documents.insert(document, place).is_some(),
                    None => return Err(stray("which does not belong there")),
                },
            },
            _ => {
                return Err(stray(
                    "which is neither a file nor a directory of the layout",
                ));
            }
        };
        if known_before {
            return Err(stray("twice"));
        }
        self.headers.insert(name.to_owned(), entry.header.clone());
        Ok(())
    }

    fn document<T: DeserializeOwned>(
        &self,
        file: &File,
        name: &'static str,
        limits: &Limits,
    ) -> Result<T, Defect> {
        let place = self
            .documents
            .get(name)
            .ok_or_else(|| Defect::Missing(name.to_owned()))?;
        parse(&read_document(file, *place, name, limits)?, name)
    }

    /// The one image that the index leads to, perhaps through an index of one platform.
    fn choose(&self, file: &File, mut index: Index, limits: &Limits) -> Result<Descriptor, Defect> {
        // An index in `index.json` holds images; deeper ones do not occur.
        for _ in 0..2 {
            if index.schema_version != 2 {
                let reason = format!("schemaVersion is {}, not 2", index.schema_version);
                return Err(Defect::Document {
                    what: "index".into(),
                    reason,
                });
            }
            let count = index.manifests.len();
            let Some(descriptor) = index.manifests.pop().filter(|_| count == 1) else {
                return Err(Defect::Several(count));
            };
            match descriptor.media_type.as_str() {
                MEDIA_MANIFEST => return Ok(descriptor),
                MEDIA_INDEX => {
                    let place = find(&self.blobs, &descriptor, "index")?;
                    let bytes = read_document(file, place, "index", limits)?;
                    index = parse(&bytes, &format!("index {}", descriptor.digest))?;
                }
                other => {
                    return Err(media_type(
                        "manifest",
                        other,
                        "only OCI image manifests are read",
                    ));
                }
            }
        }
        Err(Defect::Document {
            what: "index.json".into(),
            reason: "it leads to an index of indexes".into(),
        })
    }

    /// Compares what no digest covers with what the manifest makes it, for an archive that this crate
    /// wrote. One of our images in an archive by somebody else (skopeo keeps our annotation) is told by
    /// more than one difference: what they write differs in the header of every entry.
    fn compare_surroundings(
        &self,
        file: &File,
        manifest: &Manifest,
        descriptor: &Descriptor,
        config: &Config,
    ) -> Result<(), Defect> {
        let mut defects = Vec::new();
        for (name, expected) in surroundings(manifest, descriptor.digest, descriptor.size, config) {
            let Some(place) = self.documents.get(name.as_str()) else {
                defects.push(Defect::Missing(name));
                continue;
            };
            let mut found = Vec::new();
            // One more byte than expected shows that it is longer.
            let section = Section {
                file,
                at: place.at,
                left: place.size,
            };
            section
                .take(expected.len() as u64 + 1)
                .read_to_end(&mut found)?;
            defects.extend(differ(&expected, &found, || name));
        }
        for (name, found) in &self.headers {
            let blob = name
                .strip_prefix("blobs/sha256/")
                .and_then(|digits| format!("sha256:{digits}").parse().ok());
            let place = match blob {
                Some(digest) => self.blobs.get(&digest),
                None => self.documents.get(name.as_str()),
            };
            // The root, for one, has no header in an archive of ours.
            let Ok(expected) = archive_header(name, place.map(|place| place.size)) else {
                return Ok(());
            };
            defects.extend(differ(&expected, &found[..], || {
                format!("the tar header of {name}")
            }));
        }
        if defects.len() > 1 {
            return Ok(());
        }
        defects.pop().map_or(Ok(()), Err)
    }
}

fn differ(expected: &[u8], found: &[u8], what: impl FnOnce() -> String) -> Option<Defect> {
    if expected == found {
        return None;
    }
    let at = expected
        .iter()
        .zip(found)
        .take_while(|(a, b)| a == b)
        .count();
    Some(Defect::Surroundings { what: what(), at })
}

fn read_document(
    file: &File,
    place: Place,
    what: &str,
    limits: &Limits,
) -> Result<Vec<u8>, Defect> {
    if place.size > limits.document {
        return Err(Defect::Limit {
            what: what.to_owned(),
            limit: limits.document,
        });
    }
    let mut bytes = Vec::new();
    Section {
        file,
        at: place.at,
        left: place.size,
    }
    .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Defect> {
    serde_json::from_slice(bytes).map_err(|e| Defect::Document {
        what: what.to_owned(),
        reason: e.to_string(),
    })
}
