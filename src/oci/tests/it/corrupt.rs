//! Archives in which something is wrong: one flipped byte, something missing, something too much.

use std::fs;
use std::path::Path;

use oci::Digest;
use oci::archive::{Archive, Defect};
use serde_json::json;

use crate::support::{Foreign, append, file, gzip, read_files, small_image, tar, write_files};

fn defect(path: &Path) -> Defect {
    *Archive::open(path).expect_err("it must be refused").defect
}

/// Every byte of an archive of ours counts: in a blob, in the three files that no digest covers, in the
/// tar's headers and in its padding.
#[test]
fn one_flipped_byte_anywhere_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (image, _) = small_image(dir.path());
    let whole = fs::read(&image).unwrap();
    let other = dir.path().join("other.tar");
    let mut checked = 0;
    let mut at = 0;
    let mut next_blob_byte = 0;
    while at < whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= if at % 2 == 0 { 0x01 } else { 0x20 };
        fs::write(&other, &bytes).unwrap();
        assert!(Archive::open(&other).is_err(), "byte {at} may be anything");
        checked += 1;
        // A seventh of all bytes, and a hundred or so of each large blob.
        let in_large_blob = at > next_blob_byte && large_blob_at(&whole, at);
        next_blob_byte = at;
        at += if in_large_blob {
            997
        } else if at % 512 < 40 {
            1
        } else {
            7
        };
    }
    assert!(checked > 2000, "only {checked} bytes were tried");
}

/// Whether a byte lies in a run of more than 8 KiB without a tar header before it.
fn large_blob_at(whole: &[u8], at: usize) -> bool {
    let mut header = 0;
    while header + 512 <= whole.len() {
        let size = std::str::from_utf8(&whole[header + 124..header + 135])
            .map(|size| usize::from_str_radix(size, 8));
        let Ok(Ok(size)) = size else { return false };
        let content = header + 512;
        if at >= header && at < content + size {
            return size > 8192 && at > content + 512 && at + 512 < content + size;
        }
        header = content + size.next_multiple_of(512);
    }
    false
}

#[test]
fn a_flipped_byte_in_a_blob_names_the_blob_and_both_digests() {
    let dir = tempfile::tempdir().unwrap();
    let (image, written) = small_image(dir.path());
    let mut files = read_files(&image);
    for layer in &written.layers {
        let name = format!("blobs/sha256/{}", layer.digest.hex());
        let index = files.iter().position(|(path, _)| *path == name).unwrap();
        let middle = files[index].1.len() / 2;
        files[index].1[middle] ^= 1;
        let other = dir.path().join("other.tar");
        write_files(&other, &files);
        let found = Digest::of(&files[index].1);
        let message = Archive::open(&other).unwrap_err().to_string();
        assert!(
            message.contains(&layer.digest.to_string()) && message.contains(&found.to_string()),
            "{message}"
        );
        assert!(message.contains("other.tar"), "{message}");
        files[index].1[middle] ^= 1;
    }
}

#[test]
fn truncated_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (image, _) = small_image(dir.path());
    let whole = fs::read(&image).unwrap();
    let other = dir.path().join("other.tar");
    for length in (0..whole.len()).step_by(509).chain([
        whole.len() - 1,
        whole.len() - 512,
        whole.len() - 1024,
    ]) {
        fs::write(&other, &whole[..length]).unwrap();
        assert!(matches!(defect(&other), Defect::Tar(_)), "{length} bytes");
    }
}

#[test]
fn garbage_at_the_end_and_entries_that_do_not_belong() {
    let dir = tempfile::tempdir().unwrap();
    let (image, written) = small_image(dir.path());
    let whole = fs::read(&image).unwrap();
    let other = dir.path().join("other.tar");
    fs::write(&other, [&whole[..], b"garbage"].concat()).unwrap();
    assert!(matches!(defect(&other), Defect::Tar(_)));
    // Further zeros are what GNU tar writes.
    fs::write(&other, [&whole[..], &[0; 512 * 19]].concat()).unwrap();
    Archive::open(&other).unwrap();

    let files = read_files(&image);
    let with = |name: &str, content: &[u8]| {
        let mut files = files.clone();
        files.push((name.to_owned(), content.to_vec()));
        write_files(&other, &files);
        defect(&other).to_string()
    };
    for name in [
        "notes.txt",
        "blobs/sha256/abc",
        "blobs/sha512/abc",
        "../index.json",
        "/index.json",
        "blobs/index.json",
    ] {
        let message = with(name, b"x");
        assert!(message.contains(name), "{message}");
    }
    assert!(with("index.json", b"{}").contains("twice"));
    assert!(
        with(
            &format!("blobs/sha256/{}", written.config_digest.hex()),
            b"{}"
        )
        .contains("twice")
    );
    // A blob that is what its name says, but that nothing refers to, changes nothing about the image.
    let mut more = files.clone();
    more.push((
        format!("blobs/sha256/{}", Digest::of(b"x").hex()),
        b"x".to_vec(),
    ));
    write_files(&other, &more);
    assert_eq!(
        Archive::open(&other).unwrap().manifest_digest(),
        written.manifest_digest
    );
    more.last_mut().unwrap().1[0] = b'y';
    write_files(&other, &more);
    assert!(matches!(defect(&other), Defect::BlobDigest { .. }));

    let mut link = Vec::new();
    append(&mut link, b'2', b"oci-layout", b"/etc/passwd", 0o644, b"");
    fs::write(&other, [link, whole].concat()).unwrap();
    assert!(matches!(defect(&other), Defect::Stray { .. }));
}

/// skopeo and registries keep our manifest, annotation included, and write their own `index.json`.
#[test]
fn an_image_of_ours_in_an_archive_by_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (image, written) = small_image(dir.path());
    let mut files = read_files(&image);
    let other = dir.path().join("other.tar");
    write_files(&other, &files);
    assert_eq!(
        Archive::open(&image).unwrap().manifest_digest(),
        written.manifest_digest
    );
    files.retain(|(name, _)| name != "manifest.json");
    let index = files
        .iter_mut()
        .find(|(name, _)| name == "index.json")
        .unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&index.1).unwrap();
    value["manifests"][0]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    index.1 = value.to_string().into_bytes();
    write_files(&other, &files);
    assert_eq!(
        Archive::open(&other).unwrap().manifest_digest(),
        written.manifest_digest
    );
}

#[test]
fn missing_files() {
    let dir = tempfile::tempdir().unwrap();
    let (image, written) = small_image(dir.path());
    let files = read_files(&image);
    let other = dir.path().join("other.tar");
    let without = |name: &str| {
        let rest: Vec<_> = files
            .iter()
            .filter(|(path, _)| path != name)
            .cloned()
            .collect();
        assert_eq!(rest.len(), files.len() - 1);
        write_files(&other, &rest);
        defect(&other)
    };
    for name in ["oci-layout", "index.json"] {
        assert!(matches!(without(name), Defect::Missing(missing) if missing == name));
    }
    // Ours hold docker's manifest.json too; other people's archives of the same image may not.
    let without_docker = fs::read(&image).unwrap();
    let at = without_docker
        .windows(13)
        .rposition(|window| window == b"manifest.json")
        .unwrap();
    fs::write(
        &other,
        [&without_docker[..at], &without_docker[at + 1024..]].concat(),
    )
    .unwrap();
    assert!(matches!(defect(&other), Defect::Missing(missing) if missing == "manifest.json"));

    let digests = written.layers.iter().map(|layer| layer.digest);
    for digest in digests.chain([written.config_digest, written.manifest_digest]) {
        let defect = without(&format!("blobs/sha256/{}", digest.hex()));
        assert!(
            matches!(defect, Defect::MissingBlob { digest: missing, .. } if missing == digest),
            "{defect}"
        );
    }
    assert!(matches!(
        defect(&dir.path().join("nothing")),
        Defect::Read(_)
    ));
    assert!(matches!(defect(dir.path()), Defect::Read(_)));
}

fn foreign() -> Foreign {
    Foreign::new(&[tar(&[file("f", "x")]), tar(&[file("g", "y")])])
}

#[test]
fn an_archive_by_hand_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.tar");
    foreign().write(&image);
    let archive = Archive::open(&image).unwrap();
    assert_eq!(archive.layers().len(), 2);
    assert_eq!(archive.config().config.cmd, ["/bin/app"]);
    assert_eq!(archive.config().config.env, Vec::<String>::new());
}

#[test]
fn sizes_and_digests_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.tar");
    let refused = |change: &dyn Fn(&mut Foreign)| {
        let mut foreign = foreign();
        change(&mut foreign);
        foreign.write(&image);
        defect(&image)
    };
    assert!(matches!(
        refused(&|i| i.manifest["layers"][1]["size"] = 7.into()),
        Defect::BlobSize { expected: 7, .. }
    ));
    assert!(matches!(
        refused(&|i| i.manifest["config"]["size"] = 7.into()),
        Defect::BlobSize { expected: 7, .. }
    ));
    assert!(matches!(
        refused(&|i| i.index["manifests"][0]["size"] = 7.into()),
        Defect::BlobSize { expected: 7, .. }
    ));
    let nothing = Digest::of(b"nothing");
    let other = || nothing.to_string().into();
    assert!(
        matches!(refused(&|i| i.manifest["layers"][0]["digest"] = other()), Defect::MissingBlob { digest, .. } if digest == nothing)
    );
    assert!(
        matches!(refused(&|i| i.index["manifests"][0]["digest"] = other()), Defect::MissingBlob { digest, .. } if digest == nothing)
    );
    // The digests before compression.
    assert!(
        matches!(refused(&|i| i.config["rootfs"]["diff_ids"][1] = other()), Defect::DiffId { layer: 2, expected, .. } if expected == nothing)
    );
    let both = refused(&|i| {
        i.config["rootfs"]["diff_ids"] = json!([Digest::of(&tar(&[file("f", "x")])).to_string()]);
    });
    assert!(
        both.to_string().contains("1 diff_ids for 2 layers"),
        "{both}"
    );
    // A digest of another kind.
    let sha512 = refused(&|i| {
        i.manifest["layers"][0]["digest"] = format!("sha512:{}", "0".repeat(128)).into();
    });
    assert!(matches!(sha512, Defect::Document { .. }), "{sha512}");
}

#[test]
fn media_types_that_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.tar");
    let refused = |change: &dyn Fn(&mut Foreign)| {
        let mut foreign = foreign();
        change(&mut foreign);
        foreign.write(&image);
        match defect(&image) {
            Defect::MediaType { what, found, .. } => (what, found),
            other => panic!("{other}"),
        }
    };
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    assert_eq!(
        refused(&|i| i.manifest["layers"][1]["mediaType"] = zstd.into()),
        ("layer 2".into(), zstd.into())
    );
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    assert_eq!(
        refused(&|i| i.manifest["mediaType"] = docker.into()),
        ("manifest".into(), docker.into())
    );
    assert_eq!(
        refused(&|i| i.index["manifests"][0]["mediaType"] = docker.into()),
        ("manifest".into(), docker.into())
    );
    assert_eq!(
        refused(&|i| i.manifest["config"]["mediaType"] = "a/b".into()),
        ("configuration".into(), "a/b".into())
    );
}

#[test]
fn documents_that_are_not_valid() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.tar");
    let refused = |change: &dyn Fn(&mut Foreign)| {
        let mut foreign = foreign();
        change(&mut foreign);
        foreign.write(&image);
        defect(&image).to_string()
    };
    assert!(refused(&|i| i.index["schemaVersion"] = 1.into()).contains("schemaVersion is 1"));
    assert!(refused(&|i| i.manifest["schemaVersion"] = 3.into()).contains("schemaVersion is 3"));
    assert!(
        refused(&|i| i.files[0].1 = br#"{"imageLayoutVersion":"2.0.0"}"#.to_vec())
            .contains("only 1.0.0")
    );
    assert!(refused(&|i| i.files[0].1 = b"{}".to_vec()).contains("oci-layout is not valid"));
    assert!(refused(&|i| i.config = json!([])).contains("configuration sha256:"));
    assert!(
        refused(&|i| i.config = json!({"x": "y".repeat(5 << 20)}))
            .contains("larger than the limit")
    );
    let two = |i: &mut Foreign| {
        let first = json!({"mediaType": "a", "digest": Digest::of(b"").to_string(), "size": 0});
        i.index["manifests"] =
            json!([{"mediaType": "application/vnd.oci.image.manifest.v1+json"}, first]);
    };
    assert!(refused(&two).contains("holds 2 images"));
    assert!(refused(&|i| i.index["manifests"] = json!([])).contains("holds 0 images"));
}

#[test]
fn an_index_in_the_index_is_followed_once() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.tar");
    foreign().write(&image);
    let mut files = read_files(&image);
    let wrap = |files: &mut Vec<(String, Vec<u8>)>| {
        let (_, inner) = files.pop().unwrap();
        let digest = Digest::of(&inner);
        let index = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest.to_string(), "size": inner.len()},
        ]});
        files.push((format!("blobs/sha256/{}", digest.hex()), inner));
        files.push(("index.json".into(), index.to_string().into_bytes()));
    };
    wrap(&mut files);
    write_files(&image, &files);
    assert_eq!(Archive::open(&image).unwrap().layers().len(), 2);
    wrap(&mut files);
    write_files(&image, &files);
    assert!(defect(&image).to_string().contains("index of indexes"));
}

#[test]
fn a_layer_that_is_not_what_its_media_type_says() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.tar");
    let layer = tar(&[file("f", "x")]);
    // Not compressed at all, and something after the compressed part.
    for stored in [
        layer.clone(),
        [gzip(&layer), b"more".to_vec()].concat(),
        gzip(&layer)[..40].to_vec(),
    ] {
        let mut foreign = Foreign::new(std::slice::from_ref(&layer));
        let digest = Digest::of(&stored);
        foreign.files[1] = (format!("blobs/sha256/{}", digest.hex()), stored.clone());
        foreign.manifest["layers"][0]["digest"] = digest.to_string().into();
        foreign.manifest["layers"][0]["size"] = stored.len().into();
        foreign.write(&image);
        let defect = defect(&image);
        assert!(
            matches!(defect, Defect::Uncompress { layer: 1, .. }),
            "{defect}"
        );
    }
    // A plain tar is read when it says so.
    let mut foreign = Foreign::new(std::slice::from_ref(&layer));
    let digest = Digest::of(&layer);
    foreign.files[1] = (format!("blobs/sha256/{}", digest.hex()), layer.clone());
    foreign.manifest["layers"][0] = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest.to_string(), "size": layer.len()});
    foreign.write(&image);
    Archive::open(&image).unwrap();
}

#[test]
fn a_file_that_changes_after_it_was_opened_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (image, written) = small_image(dir.path());
    let archive = Archive::open(&image).unwrap();
    let mut bytes = fs::read(&image).unwrap();
    let layer = written.layers.last().unwrap();
    let name = format!("blobs/sha256/{}", layer.digest.hex());
    let header = bytes
        .windows(name.len())
        .position(|window| window == name.as_bytes())
        .unwrap();
    bytes[header + 512 + 4000] ^= 1;
    // In place: the same file, as the archive holds it open.
    fs::write(&image, &bytes).unwrap();
    let root = dir.path().join("root");
    let error = oci::unpack::unpack(&archive, &root, &oci::unpack::Limits::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains(&layer.digest.to_string()), "{error}");
    assert!(!root.exists());
}
