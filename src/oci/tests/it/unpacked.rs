//! What valid images unpack to.

use std::fs;
use std::os::unix::fs::MetadataExt;

use oci::archive::Archive;
use oci::unpack::{Limits, unpack};

use crate::support::{Foreign, Item, directory, file, hard_link, listing, symlink, tar};

fn unpacked(layers: &[Vec<Item>]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.tar");
    let layers: Vec<_> = layers.iter().map(|layer| tar(layer)).collect();
    Foreign::new(&layers).write(&image);
    let root = dir.path().join("root");
    unpack(&Archive::open(&image).unwrap(), &root, &Limits::default()).unwrap();
    listing(&root)
}

#[test]
fn links_inside_are_followed_as_in_a_container() {
    let lower = vec![
        directory("usr/lib/"),
        symlink("lib", "usr/lib"),
        symlink("absolute", "/usr/lib"),
        symlink("usr/up", "../usr/lib/./"),
        symlink("dangling", "/nowhere"),
        file("usr/lib/libc.so", "1"),
        hard_link("usr/lib/libc.so.6", "usr/lib/libc.so"),
    ];
    let upper = vec![
        file("lib/a", "a"),
        file("absolute/b", "b"),
        file("usr/up/c", "c"),
        file("dangling", "a file now"),
        hard_link("d", "lib/a"),
    ];
    assert_eq!(
        unpacked(&[lower, upper]),
        [
            "absolute -> /usr/lib",
            "d 644 a",
            "dangling 644 a file now",
            "lib -> usr/lib",
            "usr/ 755",
            "usr/lib/ 755",
            "usr/lib/a 644 a",
            "usr/lib/b 644 b",
            "usr/lib/c 644 c",
            "usr/lib/libc.so 644 1",
            "usr/lib/libc.so.6 644 1",
            "usr/up -> ../usr/lib/./",
        ]
    );
}

#[test]
fn whiteouts_delete_what_lower_layers_have() {
    let lower = vec![
        file("a", "1"),
        file("d/e/f", "1"),
        file("d/g", "1"),
        directory("full/"),
        file("full/x", "1"),
        symlink("link", "a"),
    ];
    let upper = vec![
        file(".wh.a", ""),
        file("d/.wh.e", ""),
        file("full/.wh..wh..opq", ""),
        file("full/y", "2"),
        file(".wh.link", ""),
        file(".wh.never", ""),
    ];
    assert_eq!(
        unpacked(&[lower, upper]),
        ["d/ 755", "d/g 644 1", "full/ 755", "full/y 644 2"]
    );
}

#[test]
fn whiteouts_spare_their_own_layer_wherever_they_stand() {
    let lower = vec![file("d/old", "1"), file("a", "1")];
    let upper = vec![
        file("d/new", "2"),
        file("d/.wh..wh..opq", ""),
        file("a", "2"),
        file(".wh.a", ""),
    ];
    assert_eq!(
        unpacked(&[lower, upper]),
        ["a 644 2", "d/ 755", "d/new 644 2"]
    );
}

#[test]
fn upper_layers_replace_lower_ones() {
    let lower = vec![
        file("file", "1"),
        directory("dir/"),
        file("dir/below", "1"),
        symlink("link", "dir"),
        directory("kept/").mode(0o700),
        file("kept/x", "1"),
    ];
    let upper = vec![
        directory("file/"),
        file("file/x", "2"),
        file("dir", "2"),
        directory("link/"),
        directory("kept/").mode(0o750),
    ];
    assert_eq!(
        unpacked(&[lower, upper]),
        [
            "dir 644 2",
            "file/ 755",
            "file/x 644 2",
            "kept/ 750",
            "kept/x 644 1",
            "link/ 755"
        ]
    );
}

#[test]
fn directories_may_forbid_writing() {
    let lower = vec![
        directory("d/").mode(0o555),
        directory("d/e").mode(0o500),
        file("d/e/f", "1").mode(0o400),
    ];
    let upper = vec![file("d/e/g", "2")];
    assert_eq!(
        unpacked(&[lower, upper]),
        ["d/ 555", "d/e/ 500", "d/e/f 400 1", "d/e/g 644 2"]
    );
}

#[test]
fn odd_but_valid_names() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let items = vec![
        directory("./"),
        file("./a//b", "1"),
        file("with space\n", "2"),
        file("..c", "3"),
        file(&long, "4"),
        symlink("s", &"t/".repeat(90)),
    ];
    let mut expected = vec![
        "..c 644 3".to_owned(),
        "a/ 755".to_owned(),
        "a/b 644 1".to_owned(),
        format!("{}/ 755", "d".repeat(150)),
        format!("{long} 644 4"),
        format!("s -> {}", "t/".repeat(90)),
        "with space\n 644 2".to_owned(),
    ];
    expected.sort();
    assert_eq!(unpacked(&[items]), expected);
}

#[test]
fn times_are_those_of_the_layer() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.tar");
    Foreign::new(&[tar(&[
        directory("d"),
        file("d/f", "x"),
        symlink("d/s", "f"),
    ])])
    .write(&image);
    let root = dir.path().join("root");
    unpack(&Archive::open(&image).unwrap(), &root, &Limits::default()).unwrap();
    for path in ["d", "d/f", "d/s"] {
        assert_eq!(
            fs::symlink_metadata(root.join(path)).unwrap().mtime(),
            1,
            "{path}"
        );
    }
}
