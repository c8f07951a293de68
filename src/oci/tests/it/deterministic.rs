//! The same inputs give the same bytes, whatever else differs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use oci::image::{ImageSpec, LayerSpec, write_archive};

use crate::support::{app_bytes, have, oci, run, stdout};

fn write(layers: Vec<LayerSpec>, dir: &Path) -> Vec<u8> {
    let spec = ImageSpec {
        layers,
        ..ImageSpec::new("app", "1.0.0")
    };
    let path = dir.join("image.tar");
    write_archive(&spec, &path).unwrap();
    fs::read(path).unwrap()
}

/// The digest of a small image, written down: it changes only when the form of images, a version of a
/// dependency that writes them, or the list of root certificates changes. If none of these was meant,
/// something of the machine, or another compressor, got into the image.
#[test]
fn a_small_image_has_the_digest_that_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let app = dir.path().join("app");
    fs::write(&app, app_bytes()).unwrap();
    let layers = vec![oci::image::base(), oci::image::application(&app)];
    let spec = ImageSpec {
        layers,
        architecture: "amd64".into(),
        created: 1_700_000_000,
        revision: Some("0123abc".into()),
        entrypoint: vec!["/bin/app".into()],
        exposed_ports: vec![8080],
        ..ImageSpec::new("app", "1.0.0")
    };
    let written = write_archive(&spec, &dir.path().join("image.tar")).unwrap();
    let uncompressed: Vec<_> = written
        .layers
        .iter()
        .map(|layer| layer.diff_id.to_string())
        .collect();
    assert_eq!(
        uncompressed,
        [
            "sha256:208f10f166edadde9a17416e8b0b65251912347ebabba05b1e446b7eb744561b",
            "sha256:9bda2cdcf22cfceca38bf1cc43b8e5aff5d5699258d14aab519bf3cda144be42"
        ],
        "the layers before compression"
    );
    assert_eq!(
        written.manifest_digest.to_string(),
        "sha256:ae7924d9dbdb74396f475b058252cdb2a58450f61013f132de213ea46276e612",
        "the layers are the same, so it is the compressor or the documents"
    );
}

#[test]
fn the_order_of_building_and_of_directories_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..50).map(|i| format!("file-{}", i * 7919 % 50)).collect();
    let make = |order: &mut dyn Iterator<Item = &String>, tree: &Path| {
        fs::create_dir_all(tree.join("sub")).unwrap();
        for name in order {
            fs::write(tree.join(name), name).unwrap();
            fs::write(tree.join("sub").join(name), name).unwrap();
        }
        LayerSpec::new("tree").tree("srv", tree).unwrap()
    };
    let one = make(&mut names.iter(), &dir.path().join("one"));
    let two = make(&mut names.iter().rev(), &dir.path().join("two"));
    assert_eq!(write(vec![one], dir.path()), write(vec![two], dir.path()));
    let forward = LayerSpec::new("")
        .file("b/x", 0o644, "1")
        .directory("a", 0o755)
        .file("/a/y/", 0o644, "2");
    let backward = LayerSpec::new("")
        .file("a/y", 0o644, "2")
        .directory("/a/", 0o755)
        .directory("b", 0o755)
        .file("b/x", 0o644, "1");
    assert_eq!(
        write(vec![forward], dir.path()),
        write(vec![backward], dir.path())
    );
}

#[test]
fn times_and_modes_of_files_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    for name in ["sub/data", "program"] {
        fs::write(tree.join(name), name).unwrap();
    }
    let set = |name: &str, mode: u32, seconds: u64| {
        let file = fs::File::open(tree.join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            .unwrap();
        file.set_permissions(fs::Permissions::from_mode(mode))
            .unwrap();
    };
    let layers = || {
        vec![
            LayerSpec::new("").tree("/", &tree).unwrap(),
            oci::image::application(tree.join("program")),
        ]
    };
    set("sub/data", 0o600, 1);
    set("program", 0o700, 1);
    set("sub", 0o700, 1);
    let one = write(layers(), dir.path());
    set("sub/data", 0o666, 4_000_000_000);
    set("program", 0o4555, 1_000_000);
    set("sub", 0o1777, 7);
    assert_eq!(write(layers(), dir.path()), one);
    // Whether anybody may execute a file does matter.
    set("sub/data", 0o700, 1);
    assert_ne!(write(layers(), dir.path()), one);
}

/// The program, run by another user with another umask, directory, time zone, locale, home, number of
/// processors and environment.
#[test]
fn user_umask_directory_and_environment_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let app = dir.path().join("app");
    fs::copy(env!("CARGO_BIN_EXE_oci"), dir.path().join("oci")).unwrap();
    static_elf(&app);
    for name in ["templates", "migrations", "out-1", "out-2"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("templates/appspec.yaml"), "x").unwrap();
    fs::write(dir.path().join("migrations/0001_expand_x.sql"), "x").unwrap();
    fs::write(dir.path().join("release.toml"), "x").unwrap();

    let arguments = "--version 1.0.0 --revision abc --created 1700000000 --label a=b --env B=C";
    let bundle = "--templates templates --migrations migrations --release-toml release.toml";
    let script = |out: &str| {
        format!(
            "set -e; ./oci image --app app {arguments} --out {out}/image.tar; \
             ./oci bundle --app app {arguments} {bundle} --out {out}/bundle"
        )
    };
    let plain = run(Command::new("sh")
        .args(["-c", &script("out-1")])
        .current_dir(dir.path()));

    fs::set_permissions(dir.path().join("out-2"), fs::Permissions::from_mode(0o777)).unwrap();
    // Relative to another directory, with another umask, on one processor.
    let elsewhere = dir.path().join("migrations");
    let script = format!(
        "umask 0777; cd {}/..; taskset -c 0 sh -c '{}'",
        elsewhere.display(),
        script("out-2")
    );
    let mut other = Command::new("sh");
    other.args(["-c", &script]).current_dir("/").env_clear();
    other.env("PATH", std::env::var_os("PATH").unwrap());
    for (name, value) in [
        ("TZ", "Asia/Kathmandu"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("HOME", "/nonexistent"),
        ("USER", "x"),
        ("COLUMNS", "30"),
    ] {
        other.env(name, value);
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::process::CommandExt::uid(&mut other, 65534);
        std::os::unix::process::CommandExt::gid(&mut other, 65534);
    } else {
        eprintln!("not root: the user is not varied");
    }
    let other = run(&mut other);
    assert_eq!(stdout(&plain), stdout(&other));
    for file in ["image.tar", "bundle/image.tar", "bundle/bundle.json"] {
        let read = |out: &str| fs::read(dir.path().join(out).join(file)).unwrap();
        assert!(read("out-1") == read("out-2"), "{file} differs");
    }
    // The bundle's image is the one that `oci image` makes.
    assert!(
        fs::read(dir.path().join("out-1/image.tar")).unwrap()
            == fs::read(dir.path().join("out-1/bundle/image.tar")).unwrap()
    );
}

/// A file that looks like a statically linked executable to who reads its header.
pub(crate) fn static_elf(path: &Path) {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    bytes[18] = 62;
    bytes.extend(app_bytes());
    fs::write(path, bytes).unwrap();
}

/// A file system that answers the names of a directory in another order each time.
#[test]
fn a_file_system_that_shuffles_directories() {
    if !have("disorderfs", "disorderfs") || !have("fusermount", "fuse") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    for i in 0..40 {
        fs::write(tree.join(format!("f{i}")), "x").unwrap();
        fs::write(tree.join(format!("sub/f{i}")), "x").unwrap();
    }
    let mount = dir.path().join("mount");
    fs::create_dir(&mount).unwrap();
    let mounted = Command::new("disorderfs")
        .args(["--quiet", "--shuffle-dirents=yes"])
        .args([&tree, &mount])
        .output()
        .unwrap();
    if !mounted.status.success() {
        // FUSE needs /dev/fuse, which ordinary users of this machine may not have.
        assert!(
            !rustix::process::geteuid().is_root(),
            "{}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        eprintln!(
            "skipped: disorderfs cannot mount here: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        return;
    }
    let _mounted = Mounted(&mount);
    let layer = |root: &Path| LayerSpec::new("").tree("srv", root).unwrap();
    let plain = write(vec![layer(&tree)], dir.path());
    for _ in 0..3 {
        assert!(write(vec![layer(&mount)], dir.path()) == plain);
    }
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fusermount").arg("-u").arg(self.0).status();
    }
}

#[test]
fn the_environment_gives_the_time_only_when_no_argument_does() {
    let dir = tempfile::tempdir().unwrap();
    static_elf(&dir.path().join("app"));
    let digest = |created: Option<&str>, environment: Option<&str>| {
        let mut command = oci();
        command.current_dir(dir.path()).args([
            "image",
            "--app",
            "app",
            "--version",
            "1",
            "--out",
            "i.tar",
        ]);
        if let Some(created) = created {
            command.args(["--created", created]);
        }
        if let Some(environment) = environment {
            command.env("SOURCE_DATE_EPOCH", environment);
        }
        stdout(&run(&mut command))
    };
    assert_eq!(digest(None, None), digest(Some("0"), Some("5")));
    assert_eq!(digest(None, Some("5")), digest(Some("5"), None));
    assert_ne!(digest(Some("5"), None), digest(Some("6"), None));
}
