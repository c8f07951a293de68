//! Random layers never write outside, whatever they are made of.

use std::fs;

use oci::archive::Archive;
use oci::unpack::{Limits, unpack};
use proptest::prelude::*;

use crate::support::{Foreign, Item, listing, tar};

/// Components that get in each other's way, lead out and delete.
fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["..", ".", "", ".wh.a", ".wh..wh..opq", ".wh..", "outside", "victim"]).prop_map(str::to_owned),
    ]
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(component(), 1..5).prop_map(|parts| parts.join("/"))
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        path(),
        path().prop_map(|path| format!("/{path}")),
        // `OUTSIDE` stands for the absolute path of the victim's directory.
        prop::sample::select(vec![
            "..",
            "../..",
            "../outside",
            "OUTSIDE",
            "OUTSIDE/victim",
            "/proc/self/cwd",
            "."
        ])
        .prop_map(str::to_owned),
    ]
}

fn entry() -> impl Strategy<Value = Item> {
    let kind = prop::sample::select(vec![
        b'0', b'0', b'0', b'5', b'5', b'2', b'2', b'2', b'1', b'3', b'6',
    ]);
    (
        kind,
        path(),
        target(),
        prop::sample::select(vec![0o644, 0o4755, 0o000, 0o777]),
    )
        .prop_map(|(kind, name, link, mode)| {
            let content = if kind == b'0' {
                b"x".to_vec()
            } else {
                Vec::new()
            };
            Item {
                kind,
                name: name.into_bytes(),
                link: link.into_bytes(),
                mode,
                content,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_written_outside(layers in prop::collection::vec(prop::collection::vec(entry(), 1..12), 1..4)) {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("victim"), "untouched").unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        let layers: Vec<_> = layers.into_iter().map(|mut items| {
            for item in &mut items {
                let link = String::from_utf8(item.link.clone()).unwrap();
                item.link = link.replace("OUTSIDE", outside.to_str().unwrap()).into_bytes();
            }
            tar(&items)
        }).collect();
        let image = dir.path().join("image.tar");
        Foreign::new(&layers).write(&image);
        let archive = Archive::open(&image).unwrap();
        let root = dir.path().join("work/root");

        let unpacked = unpack(&archive, &root, &Limits::default());

        prop_assert_eq!(listing(&outside), ["victim 644 untouched"]);
        let names: Vec<_> = fs::read_dir(dir.path().join("work")).unwrap().map(|e| e.unwrap().file_name()).collect();
        // Whole or not at all.
        if unpacked.is_ok() {
            prop_assert_eq!(names, ["root"]);
            prop_assert!(!listing(&root).iter().any(|line| line.contains("SPECIAL")));
        } else {
            prop_assert!(names.is_empty(), "left behind: {:?}", names);
        }
    }
}
