//! Images made by hand, programs of others, and what tests share.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::Compression;
use flate2::write::GzEncoder;
use oci::Digest;
use oci::image::{ImageSpec, Written, write_archive};
use serde_json::{Value, json};

/// The program under test.
pub(crate) fn oci() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oci"));
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

/// Runs a command and answers its output; it must succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// What a command printed, without the newline at the end.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone())
        .unwrap()
        .trim_end()
        .to_owned()
}

/// Whether a program is installed. In CI it must be; elsewhere the test says that it is skipped.
pub(crate) fn have(program: &str, package: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{program} is not installed: apt-get install --no-install-recommends {package}"
    );
    eprintln!(
        "skipped: {program} is not installed (apt-get install --no-install-recommends {package})"
    );
    false
}

/// An image of ours with a small application, and what was written.
pub(crate) fn small_image(dir: &Path) -> (PathBuf, Written) {
    let app = dir.join("built-app");
    fs::write(&app, app_bytes()).unwrap();
    let file = dir.join("image.tar");
    let written = write_archive(&ImageSpec::application("app", "1.0.0", &app), &file).unwrap();
    (file, written)
}

/// Bytes that stand for an application.
pub(crate) fn app_bytes() -> Vec<u8> {
    (0..20_000_u32)
        .flat_map(|i| (i * i).to_le_bytes())
        .collect()
}

/// One entry of a hand-made layer.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
}

pub(crate) fn item(kind: u8, name: &str, link: &str) -> Item {
    Item {
        name: name.into(),
        kind,
        link: link.into(),
        mode: 0o644,
        content: Vec::new(),
    }
}

pub(crate) fn file(name: &str, content: &str) -> Item {
    Item {
        content: content.into(),
        ..item(b'0', name, "")
    }
}

pub(crate) fn directory(name: &str) -> Item {
    item(b'5', name, "").mode(0o755)
}

pub(crate) fn symlink(name: &str, target: &str) -> Item {
    item(b'2', name, target)
}

pub(crate) fn hard_link(name: &str, target: &str) -> Item {
    item(b'1', name, target)
}

impl Item {
    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}

/// A tar of the entries as they are: no name is checked. Written by the crate `tar`, whose checks are
/// circumvented by setting the fields of its header; long names become GNU long names.
pub(crate) fn tar(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        if item.name.len() > 100 {
            append(
                &mut out,
                b'L',
                b"././@LongLink",
                b"",
                0,
                &[&item.name[..], b"\0"].concat(),
            );
        }
        if item.link.len() > 100 {
            append(
                &mut out,
                b'K',
                b"././@LongLink",
                b"",
                0,
                &[&item.link[..], b"\0"].concat(),
            );
        }
        append(
            &mut out,
            item.kind,
            &item.name,
            &item.link,
            item.mode,
            &item.content,
        );
    }
    out.extend_from_slice(&[0; 1024]);
    out
}

/// One header and content.
pub(crate) fn append(
    out: &mut Vec<u8>,
    kind: u8,
    name: &[u8],
    link: &[u8],
    mode: u32,
    content: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    let old = header.as_old_mut();
    let (name, link) = (&name[..name.len().min(100)], &link[..link.len().min(100)]);
    old.name[..name.len()].copy_from_slice(name);
    old.linkname[..link.len()].copy_from_slice(link);
    old.linkflag = [kind];
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(content.len() as u64);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}

/// One pax record: its length counts itself.
pub(crate) fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let length = (1..4)
        .map(|digits| rest.len() + digits)
        .find(|length| length.to_string().len() + rest.len() == *length);
    format!("{}{rest}", length.unwrap()).into_bytes()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image archive made by hand, as somebody else would make it; every part can be changed before it is
/// written.
pub(crate) struct Foreign {
    /// Files of the archive by path.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) manifest: Value,
    pub(crate) config: Value,
    pub(crate) index: Value,
}

impl Foreign {
    /// An image of these layers' tars.
    pub(crate) fn new(layers: &[Vec<u8>]) -> Self {
        let mut files = vec![(
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        )];
        let mut descriptors = Vec::new();
        let mut diff_ids = Vec::new();
        for layer in layers {
            let compressed = gzip(layer);
            diff_ids.push(Digest::of(layer).to_string());
            descriptors.push(json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": Digest::of(&compressed).to_string(),
                "size": compressed.len(),
            }));
            let blob = blob(compressed);
            if !files.contains(&blob) {
                files.push(blob);
            }
        }
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": null, "Cmd": ["/bin/app"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let manifest = json!({
            "schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json"},
            "layers": descriptors,
        });
        let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json"}]});
        Self {
            files,
            manifest,
            config,
            index,
        }
    }

    /// Fills in the digests and sizes that are not given, and writes the archive.
    pub(crate) fn write(mut self, path: &Path) {
        let config = self.config.to_string().into_bytes();
        refer(&mut self.manifest["config"], &config);
        let manifest = self.manifest.to_string().into_bytes();
        if let Some(descriptor) = self.index["manifests"].get_mut(0) {
            refer(descriptor, &manifest);
        }
        self.files.push(blob(config));
        self.files.push(blob(manifest));
        self.files
            .push(("index.json".to_owned(), self.index.to_string().into_bytes()));
        write_files(path, &self.files);
    }
}

fn blob(bytes: Vec<u8>) -> (String, Vec<u8>) {
    (format!("blobs/sha256/{}", Digest::of(&bytes).hex()), bytes)
}

fn refer(descriptor: &mut Value, bytes: &[u8]) {
    if descriptor.get("digest").is_none() {
        descriptor["digest"] = Digest::of(bytes).to_string().into();
    }
    if descriptor.get("size").is_none() {
        descriptor["size"] = bytes.len().into();
    }
}

/// Writes files as a tar.
pub(crate) fn write_files(path: &Path, files: &[(String, Vec<u8>)]) {
    let mut out = Vec::new();
    for (name, content) in files {
        append(&mut out, b'0', name.as_bytes(), b"", 0o644, content);
    }
    out.extend_from_slice(&[0; 1024]);
    fs::write(path, out).unwrap();
}

/// The files of a tar, in order.
pub(crate) fn read_files(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            files.push((entry.path().unwrap().to_str().unwrap().to_owned(), content));
        }
    }
    files
}

/// Everything below a directory: path, kind, mode and content or target, sorted.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt;
    let mut lines = Vec::new();
    let mut below = vec![dir.to_owned()];
    while let Some(next) = below.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            if metadata.is_dir() {
                lines.push(format!("{name}/ {mode:o}"));
                below.push(path);
            } else if metadata.is_symlink() {
                lines.push(format!(
                    "{name} -> {}",
                    fs::read_link(&path).unwrap().display()
                ));
            } else if metadata.is_file() {
                lines.push(format!(
                    "{name} {mode:o} {}",
                    String::from_utf8_lossy(&fs::read(&path).unwrap())
                ));
            } else {
                lines.push(format!("{name} SPECIAL"));
            }
        }
    }
    lines.sort();
    lines
}
