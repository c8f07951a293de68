//! Write, open, unpack; and what an implementation that shares no code with ours reads.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use oci::archive::Archive;
use oci::image::{ImageError, ImageSpec, LayerError, LayerSpec, write_archive};
use oci::unpack::{Limits, unpack};
use oci_spec::image::{
    Arch, ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout, Os,
};

use crate::support::{app_bytes, listing, read_files, small_image};

#[test]
fn what_is_written_is_opened_and_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let (image, written) = small_image(dir.path());
    let archive = Archive::open(&image).unwrap();
    assert_eq!(archive.manifest_digest(), written.manifest_digest);
    assert_eq!(archive.compressed_size(), written.compressed_size);
    assert_eq!(fs::metadata(&image).unwrap().len(), written.size);
    let sizes: Vec<_> = written
        .layers
        .iter()
        .map(|layer| layer.uncompressed_size)
        .collect();
    assert_eq!(archive.uncompressed_sizes(), sizes);
    let mut blob = Vec::new();
    archive
        .blob(written.layers[2].digest)
        .unwrap()
        .read_to_end(&mut blob)
        .unwrap();
    assert_eq!(oci::Digest::of(&blob), written.layers[2].digest);

    let root = dir.path().join("root");
    let unpacked = unpack(&archive, &root, &Limits::default()).unwrap();
    assert_eq!(unpacked.bytes, sizes.iter().sum::<u64>());
    assert_eq!(fs::read(root.join("bin/app")).unwrap(), app_bytes());
    let rest: Vec<_> = listing(&root)
        .into_iter()
        .filter(|line| !line.starts_with("bin/app") && !line.contains("BEGIN CERT"))
        .collect();
    let expected = "\
bin/ 755|dev/ 755|etc/ 755|etc/group 644 root:x:0:
nonroot:x:65532:
nobody:x:65534:
|etc/hostname 644 |etc/hosts 644 127.0.0.1\tlocalhost
::1\tlocalhost
|etc/nsswitch.conf 644 passwd: files
group: files
hosts: files dns
|etc/passwd 644 root:x:0:0:root:/root:/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
|etc/resolv.conf 644 |etc/ssl/ 755|etc/ssl/cert.pem -> certs/ca-certificates.crt|etc/ssl/certs/ 755|home/ 755|home/nonroot/ 700|\
proc/ 555|root/ 700|run/ 755|sys/ 555|tmp/ 1777|var/ 755|var/tmp/ 1777";
    assert_eq!(rest.join("|"), expected);
    if rustix::process::geteuid().is_root() {
        let owner = |path: &str| {
            (
                fs::metadata(root.join(path)).unwrap().uid(),
                fs::metadata(root.join(path)).unwrap().gid(),
            )
        };
        assert_eq!(owner("home/nonroot"), (65532, 65532));
        assert_eq!(owner("bin/app"), (0, 0));
    }
}

#[test]
fn an_ordinary_user_unpacks_without_owners() {
    if !rustix::process::geteuid().is_root() {
        // Then every other test shows it.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(
        dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let (image, _) = small_image(dir.path());
    let program = dir.path().join("oci");
    fs::copy(env!("CARGO_BIN_EXE_oci"), &program).unwrap();
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "umask 0777; exec ./oci unpack image.tar root"])
        .current_dir(dir.path());
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    std::os::unix::process::CommandExt::gid(&mut command, 65534);
    crate::support::run(&mut command);
    let root = dir.path().join("root");
    assert_eq!(
        fs::metadata(root.join("home/nonroot")).unwrap().uid(),
        65534
    );
    let archive = Archive::open(&image).unwrap();
    let by_root = dir.path().join("by-root");
    unpack(&archive, &by_root, &Limits::default()).unwrap();
    assert_eq!(listing(&root), listing(&by_root));
}

#[test]
fn another_implementation_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let app = dir.path().join("app");
    fs::write(&app, app_bytes()).unwrap();
    let spec = ImageSpec {
        revision: Some("0123abc".into()),
        created: 1_709_210_096,
        architecture: "arm64".into(),
        labels: BTreeMap::from([("team".into(), "web".into())]),
        cmd: vec!["serve".into()],
        ..ImageSpec::application("shop/app", "2.0.0", &app)
    };
    let image = dir.path().join("image.tar");
    let written = write_archive(&spec, &image).unwrap();
    let files: BTreeMap<_, _> = read_files(&image).into_iter().collect();
    let blob = |digest: &str| &files[&format!("blobs/{}", digest.replace(':', "/"))][..];

    OciLayout::from_reader(&files["oci-layout"][..]).unwrap();
    let index = ImageIndex::from_reader(&files["index.json"][..]).unwrap();
    let [descriptor] = &index.manifests()[..] else {
        panic!("one image")
    };
    assert_eq!(
        descriptor.digest().to_string(),
        written.manifest_digest.to_string()
    );
    assert_eq!(descriptor.media_type(), &MediaType::ImageManifest);
    assert_eq!(
        descriptor.annotations().as_ref().unwrap()["org.opencontainers.image.ref.name"],
        "2.0.0"
    );
    let platform = descriptor.platform().as_ref().unwrap();
    assert_eq!(
        (platform.os(), platform.architecture()),
        (&Os::Linux, &Arch::ARM64)
    );

    let manifest = ImageManifest::from_reader(blob(descriptor.digest().as_ref())).unwrap();
    assert_eq!(
        manifest.config().digest().to_string(),
        written.config_digest.to_string()
    );
    let annotations = manifest.annotations().as_ref().unwrap();
    assert_eq!(annotations["org.opencontainers.image.version"], "2.0.0");
    assert_eq!(annotations["org.opencontainers.image.revision"], "0123abc");
    assert_eq!(
        annotations["org.opencontainers.image.created"],
        "2024-02-29T12:34:56Z"
    );
    assert!(
        manifest
            .layers()
            .iter()
            .all(|layer| layer.media_type() == &MediaType::ImageLayerGzip)
    );

    let config =
        ImageConfiguration::from_reader(blob(manifest.config().digest().as_ref())).unwrap();
    assert_eq!(config.created().as_deref(), Some("2024-02-29T12:34:56Z"));
    let run = config.config().as_ref().unwrap();
    assert_eq!(run.user().as_deref(), Some("65532:65532"));
    assert_eq!(
        run.exposed_ports().as_deref(),
        Some(&["8080/tcp".to_owned()][..])
    );
    assert_eq!(
        run.entrypoint().as_deref(),
        Some(&["/bin/app".to_owned()][..])
    );
    assert_eq!(run.cmd().as_deref(), Some(&["serve".to_owned()][..]));
    assert_eq!(run.labels().as_ref().unwrap()["team"], "web");
    let history = config.history().as_ref().unwrap();
    assert_eq!((history.len(), config.rootfs().diff_ids().len()), (3, 3));

    let docker: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(docker[0]["RepoTags"][0], "shop/app:2.0.0");
    assert_eq!(
        docker[0]["Config"],
        format!("blobs/sha256/{}", written.config_digest.hex())
    );
    assert_eq!(docker[0]["Layers"].as_array().unwrap().len(), 3);
}

#[test]
fn the_certificates_are_those_of_the_crate() {
    use base64::Engine;
    let dir = tempfile::tempdir().unwrap();
    let (image, _) = small_image(dir.path());
    let root = dir.path().join("root");
    unpack(&Archive::open(&image).unwrap(), &root, &Limits::default()).unwrap();
    let pem = fs::read_to_string(root.join("etc/ssl/cert.pem")).unwrap();
    assert!(pem.lines().all(|line| line.len() <= 64));
    let mut found: Vec<Vec<u8>> = pem
        .split_terminator("-----END CERTIFICATE-----\n")
        .map(|block| {
            block
                .strip_prefix("-----BEGIN CERTIFICATE-----\n")
                .unwrap()
                .replace('\n', "")
        })
        .map(|block| base64::prelude::BASE64_STANDARD.decode(block).unwrap())
        .collect();
    let mut expected: Vec<Vec<u8>> = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|der| der.to_vec())
        .collect();
    found.sort();
    expected.sort();
    assert!(found == expected);
    assert!(found.len() > 100);
}

#[test]
fn long_names_are_split_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.tar");
    let write = |path: &str| {
        let layers = vec![LayerSpec::new("").file(path, 0o644, "x")];
        write_archive(
            &ImageSpec {
                layers,
                ..ImageSpec::new("app", "1")
            },
            &image,
        )
    };
    let long = format!("{}/{}/{}", "a".repeat(100), "b".repeat(54), "c".repeat(100));
    write(&long).unwrap();
    let root = dir.path().join("root");
    unpack(&Archive::open(&image).unwrap(), &root, &Limits::default()).unwrap();
    assert_eq!(fs::read_to_string(root.join(&long)).unwrap(), "x");
    for wrong in [
        "c".repeat(101),
        format!("{}/{}", "a".repeat(156), "b"),
        "a/../b".into(),
        "a//b".into(),
        "./a".into(),
        ".wh.a".into(),
        "a\0b".into(),
    ] {
        let error = write(&wrong).unwrap_err();
        assert!(
            matches!(&error, ImageError::Layer(LayerError::Path { path, .. }) if wrong.starts_with(path.as_str())),
            "{error}"
        );
    }
}

#[test]
fn what_cannot_be_written_is_an_error_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let image = out.join("image.tar");
    let refused = |spec: &ImageSpec| {
        let message = write_archive(spec, &image).unwrap_err().to_string();
        assert_eq!(
            fs::read_dir(&out).unwrap().count(),
            0,
            "something is left behind"
        );
        message
    };
    let missing = dir.path().join("missing");
    assert!(refused(&ImageSpec::application("app", "1", &missing)).contains("missing"));
    assert!(refused(&ImageSpec::application("app", "1", dir.path())).contains("neither a file"));
    for (name, version) in [
        ("App", "1"),
        ("", "1"),
        ("a//b", "1"),
        ("-a", "1"),
        ("a", ""),
        ("a", "1 2"),
        ("a", ".1"),
        ("a", "1/2"),
    ] {
        assert!(
            refused(&ImageSpec::new(name, version)).contains("cannot name an image"),
            "{name}:{version}"
        );
    }
    assert!(
        refused(&ImageSpec {
            created: 1 << 40,
            ..ImageSpec::new("a", "1")
        })
        .contains("created")
    );
    let layers = vec![
        LayerSpec::new("")
            .file("a", 0o644, "x")
            .file("a/b", 0o644, "x"),
    ];
    assert!(
        refused(&ImageSpec {
            layers,
            ..ImageSpec::new("a", "1")
        })
        .contains("is not a directory")
    );
    let error = write_archive(
        &ImageSpec::new("a", "1"),
        &dir.path().join("no/dir/image.tar"),
    )
    .unwrap_err();
    assert!(matches!(error, ImageError::Write { .. }), "{error}");
}

#[test]
fn an_archive_is_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (image, _) = small_image(dir.path());
    let open = fs::File::open(&image).unwrap();
    let before = fs::read(&image).unwrap();
    write_archive(&ImageSpec::new("app", "2"), &image).unwrap();
    let mut still = Vec::new();
    (&open).read_to_end(&mut still).unwrap();
    assert!(
        still == before,
        "who has it open goes on reading the old one"
    );
    assert_eq!(Archive::open(&image).unwrap().layers().len(), 0);
}
