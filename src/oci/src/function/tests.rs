#![expect(clippy::unwrap_used, reason = "tests")]
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::*;

/// A script long enough to be compressed.
fn script() -> Vec<u8> {
    let mut script = b"#!/bin/sh\n".to_vec();
    for line in 0..200 {
        script.extend_from_slice(format!("echo {line}\n").as_bytes());
    }
    script
}

fn packed(dir: &Path) -> PathBuf {
    fs::write(dir.join("program"), script()).unwrap();
    let package = dir.join("function.zip");
    write(&dir.join("program"), &package).unwrap();
    package
}

fn problem(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let package = dir.path().join("function.zip");
    fs::write(&package, bytes).unwrap();
    let error = unpack(&package, &dir.path().join("out")).unwrap_err();
    error.to_string()
}

#[test]
fn what_was_packed_is_unpacked_with_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let package = packed(dir.path());
    let out = dir.path().join("out");
    unpack(&package, &out).unwrap();
    assert_eq!(fs::read(out.join(BOOTSTRAP)).unwrap(), script());
    let mode = fs::metadata(out.join(BOOTSTRAP)).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o755);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    assert!(fs::metadata(&package).unwrap().len() < 1200);
}

/// Whoever made the program, and whenever: pinned, so that nothing changes it unseen.
#[test]
fn the_bytes_depend_on_the_program_alone() {
    let dir = tempfile::tempdir().unwrap();
    let first = fs::read(packed(dir.path())).unwrap();
    fs::set_permissions(
        dir.path().join("program"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let digest = write(&dir.path().join("program"), &dir.path().join("again.zip")).unwrap();
    assert_eq!(fs::read(dir.path().join("again.zip")).unwrap(), first);
    assert_eq!(crate::Digest::of(&first), digest);
    assert_eq!(
        digest.to_string(),
        "sha256:5b5bc34f4881233ffdf05aaa4c9085c8c5df77ecb9fcf49f9eaf674dab8eea3a"
    );
}

#[test]
fn what_lambda_could_not_run_is_not_packed() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    fs::write(&program, "no program").unwrap();
    let out = dir.path().join("function.zip");
    let error = write(&program, &out).unwrap_err().to_string();
    assert!(error.contains("neither an executable"), "{error}");
    assert!(!out.exists());
    // This test itself is linked dynamically.
    let error = write(&std::env::current_exe().unwrap(), &out).unwrap_err();
    assert!(matches!(error, FunctionError::Dynamic { .. }), "{error}");
    let error = write(&dir.path().join("none"), &out).unwrap_err();
    assert!(matches!(error, FunctionError::Read { .. }), "{error}");
}

#[test]
fn every_cut_and_every_changed_byte_is_noticed_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(packed(dir.path())).unwrap();
    for length in (0..bytes.len()).step_by(7) {
        problem(&bytes[..length]);
    }
    for at in 0..bytes.len() {
        let mut spoilt = bytes.clone();
        spoilt[at] ^= 0xff;
        let package = dir.path().join("spoilt.zip");
        fs::write(&package, &spoilt).unwrap();
        let out = dir.path().join("out");
        let _ = fs::remove_dir_all(&out);
        // Times, versions and such may say anything; what is unpacked is right.
        if unpack(&package, &out).is_ok() {
            assert_eq!(
                fs::read(out.join(BOOTSTRAP)).unwrap(),
                script(),
                "byte {at}"
            );
        }
    }
}

/// The archive with another name, of the same length, in both headers.
fn renamed(name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(packed(dir.path())).unwrap();
    assert_eq!(name.len(), BOOTSTRAP.len());
    let mut renamed = bytes.clone();
    let found = |at: &usize| bytes[*at..].starts_with(BOOTSTRAP.as_bytes());
    let places: Vec<usize> = (0..bytes.len()).filter(found).collect();
    assert_eq!(places.len(), 2);
    for at in places {
        renamed[at..at + name.len()].copy_from_slice(name.as_bytes());
    }
    renamed
}

#[test]
fn no_name_leads_outside() {
    assert!(problem(&renamed("../bootst")).contains("leads outside"));
    assert!(problem(&renamed("/etc/cron")).contains("leads outside"));
    assert!(problem(&renamed("a\\..\\..\\b")[..]).contains("not a file's name"));
    assert!(problem(&renamed("bootstrat")).contains("no bootstrap"));
}

#[test]
fn what_has_no_place_in_a_package_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(packed(dir.path())).unwrap();
    let central = (0..bytes.len())
        .find(|at| bytes[*at..].starts_with(&CENTRAL.to_le_bytes()))
        .unwrap();
    let spoilt = |at: usize, value: &[u8]| {
        let mut spoilt = bytes.clone();
        spoilt[central + at..central + at + value.len()].copy_from_slice(value);
        problem(&spoilt)
    };
    assert!(spoilt(8, &[1]).contains("encrypted"));
    assert!(spoilt(10, &[93]).contains("method 93"));
    assert!(spoilt(24, &[0xff; 4]).contains("zip64"));
    assert!(spoilt(38, &(0o120_777_u32 << 16).to_le_bytes()).contains("neither a file"));
    assert!(spoilt(38, &(0o100_644_u32 << 16).to_le_bytes()).contains("not executable"));
    assert!(spoilt(16, &[0; 4]).contains("checksum"));
    let error = spoilt(24, &(u32::MAX - 1).to_le_bytes());
    assert!(error.contains("250 MiB"), "{error}");
}

/// Packages of other tools have several entries, directories and a mode of their own.
#[test]
fn a_package_of_another_tool() {
    let dir = tempfile::tempdir().unwrap();
    let script = "import zipfile\n\
        z = zipfile.ZipFile('other.zip', 'w', zipfile.ZIP_DEFLATED)\n\
        z.mkdir('lib') if hasattr(z, 'mkdir') else z.writestr('lib/', '')\n\
        z.writestr('lib/data.txt', 'data')\n\
        i = zipfile.ZipInfo('bootstrap'); i.external_attr = 0o100755 << 16\n\
        z.writestr(i, '#!/bin/sh\\necho hello\\n')\n\
        z.comment = b'a comment'\n\
        z.close()\n";
    let made = std::process::Command::new("python3")
        .args(["-c", script])
        .current_dir(dir.path())
        .status();
    assert!(
        made.unwrap().success(),
        "python3 is needed: it is another tool that makes zip archives"
    );
    let out = dir.path().join("out");
    unpack(&dir.path().join("other.zip"), &out).unwrap();
    assert_eq!(
        fs::read_to_string(out.join("lib/data.txt")).unwrap(),
        "data"
    );
    assert!(
        fs::read_to_string(out.join(BOOTSTRAP))
            .unwrap()
            .ends_with("hello\n")
    );

    // And it reads ours.
    let ours = packed(dir.path());
    let check = "import sys, zipfile\n\
        z = zipfile.ZipFile(sys.argv[1]); i = z.getinfo('bootstrap')\n\
        assert z.testzip() is None and i.external_attr >> 16 == 0o100755\n\
        assert i.date_time == (1980, 1, 1, 0, 0, 0), i.date_time\n";
    let read = std::process::Command::new("python3")
        .args(["-c", check])
        .arg(ours)
        .status();
    assert!(read.unwrap().success());
}
