//! Write, open, unpack.

use std::fs;

use oci::archive::Archive;
use oci::image::{ImageSpec, write_archive};
use oci::unpack::{Limits, unpack};

#[test]
fn what_is_written_is_opened_and_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let app = dir.path().join("built");
    fs::write(&app, b"#!/bin/true\n").unwrap();
    let file = dir.path().join("image.tar");
    let written = write_archive(&ImageSpec::application("app", "1.0.0", &app), &file).unwrap();
    let archive = Archive::open(&file).unwrap();
    assert_eq!(archive.manifest_digest(), written.manifest_digest);
    assert_eq!(archive.compressed_size(), written.compressed_size);
    let root = dir.path().join("root");
    unpack(&archive, &root, &Limits::default()).unwrap();
    assert_eq!(fs::read(root.join("bin/app")).unwrap(), b"#!/bin/true\n");
}
