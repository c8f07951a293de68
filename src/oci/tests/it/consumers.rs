//! Programs by others: what they make of our archives, and what we make of theirs.

use std::fs;
use std::path::Path;
use std::process::Command;

use oci::Digest;
use oci::archive::Archive;
use oci::unpack::{Limits, unpack};

use crate::support::{app_bytes, have, listing, run, small_image, stdout};

#[test]
fn skopeo_keeps_the_digest() {
    if !have("skopeo", "skopeo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (image, written) = small_image(dir.path());
    let copied = dir.path().join("copied");
    run(skopeo()
        .args(["copy", "--quiet"])
        .arg(transport("oci-archive", &image, ""))
        .arg(transport("dir", &copied, "")));
    assert_eq!(
        Digest::of(&fs::read(copied.join("manifest.json")).unwrap()),
        written.manifest_digest
    );
    // By its name, which is the version.
    let inspected = run(skopeo()
        .args([
            "inspect",
            "--format",
            "{{.Digest}} {{.Os}} {{.Created.Unix}}",
        ])
        .arg(transport("oci-archive", &image, ":1.0.0")));
    assert_eq!(
        stdout(&inspected),
        format!("{} linux 0", written.manifest_digest)
    );
}

#[test]
fn skopeo_reads_the_archive_as_dockers_too() {
    if !have("skopeo", "skopeo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (image, written) = small_image(dir.path());
    let copied = dir.path().join("copied");
    run(skopeo()
        .args(["copy", "--quiet"])
        .arg(transport("docker-archive", &image, ":app:1.0.0"))
        .arg(transport("dir", &copied, "")));
    // The configuration's digest is docker's image id.
    assert!(copied.join(written.config_digest.hex()).is_file());
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(copied.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(
        manifest["config"]["digest"],
        written.config_digest.to_string()
    );
    assert_eq!(
        manifest["layers"].as_array().unwrap().len(),
        written.layers.len()
    );
}

#[test]
fn an_archive_that_skopeo_wrote_is_read() {
    if !have("skopeo", "skopeo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (image, written) = small_image(dir.path());
    let theirs = dir.path().join("theirs.tar");
    run(skopeo()
        .args(["copy", "--quiet"])
        .arg(transport("oci-archive", &image, ""))
        .arg(transport("oci-archive", &theirs, ":name:tag")));
    let archive = Archive::open(&theirs).unwrap();
    assert_eq!(archive.manifest_digest(), written.manifest_digest);
    same_tree(&archive, &Archive::open(&image).unwrap());
}

#[test]
fn an_archive_that_buildah_wrote_is_read() {
    if !have("buildah", "buildah") {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "skipped: buildah needs subordinate user ids, which an ordinary user may not have"
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::write(tree.join("bin/app"), app_bytes()).unwrap();
    std::os::unix::fs::symlink("bin/app", tree.join("link")).unwrap();
    let buildah = || {
        let mut command = Command::new("buildah");
        command
            .args(["--storage-driver", "vfs", "--root"])
            .arg(dir.path().join("storage"))
            .arg("--runroot")
            .arg(dir.path().join("run"));
        command
    };
    let container = stdout(&run(buildah().args(["from", "scratch"])));
    run(buildah()
        .args(["copy", "--quiet", &container])
        .arg(&tree)
        .arg("/"));
    run(buildah().args(["config", "--user", "65532", "--port", "8080", &container]));
    let theirs = dir.path().join("theirs.tar");
    run(buildah()
        .args(["commit", "--quiet", "--rm", &container])
        .arg(transport("oci-archive", &theirs, "")));
    let archive = Archive::open(&theirs).unwrap();
    assert_eq!(archive.config().config.user, "65532");
    assert!(archive.config().config.exposed_ports.contains("8080"));
    let root = dir.path().join("root");
    unpack(&archive, &root, &Limits::default()).unwrap();
    assert_eq!(fs::read(root.join("link")).unwrap(), app_bytes());
}

#[test]
fn a_layout_that_umoci_wrote_is_read_and_ours_by_umoci() {
    if !have("umoci", "umoci") || !have("skopeo", "skopeo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (image, _) = small_image(dir.path());
    // Ours as a layout, changed by umoci, packed by tar.
    let layout = dir.path().join("layout");
    run(skopeo()
        .args(["copy", "--quiet"])
        .arg(transport("oci-archive", &image, ""))
        .arg(transport("oci", &layout, ":ours")));
    let name = format!("{}:ours", layout.display());
    run(Command::new("umoci")
        .args(["unpack", "--rootless", "--image", &name])
        .arg(dir.path().join("unpacked")));
    let archive = Archive::open(&image).unwrap();
    let root = dir.path().join("root");
    unpack(&archive, &root, &Limits::default()).unwrap();
    assert_eq!(
        listing(&dir.path().join("unpacked/rootfs")),
        listing(&root),
        "umoci and we unpack the same"
    );

    fs::write(dir.path().join("more"), "more").unwrap();
    run(Command::new("umoci")
        .args(["insert", "--rootless", "--image", &name])
        .arg(dir.path().join("more"))
        .arg("/etc/more"));
    run(Command::new("umoci").args(["gc", "--layout"]).arg(&layout));
    let theirs = dir.path().join("theirs.tar");
    run(Command::new("tar")
        .arg("-cf")
        .arg(&theirs)
        .arg("-C")
        .arg(&layout)
        .arg("."));
    let archive = Archive::open(&theirs).unwrap();
    assert_eq!(archive.layers().len(), 4);
    let more = dir.path().join("more-root");
    unpack(&archive, &more, &Limits::default()).unwrap();
    assert_eq!(fs::read_to_string(more.join("etc/more")).unwrap(), "more");
    assert_eq!(fs::read(more.join("bin/app")).unwrap(), app_bytes());
}

fn same_tree(one: &Archive, two: &Archive) {
    let dir = tempfile::tempdir().unwrap();
    let tree = |archive: &Archive, name: &str| {
        let root = dir.path().join(name);
        unpack(archive, &root, &Limits::default()).unwrap();
        listing(&root)
    };
    assert_eq!(tree(one, "one"), tree(two, "two"));
}

/// skopeo, without the policy that a machine may or may not have in /etc/containers.
pub(crate) fn skopeo() -> Command {
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy");
    command
}

fn transport(name: &str, path: &Path, rest: &str) -> String {
    format!("{name}:{}{rest}", path.display())
}
