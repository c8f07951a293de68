//! Layers by somebody who wants to write outside, or to fill the disk: each is a clear error, and
//! nothing is left behind, inside or outside.

use std::fs;
use std::path::{Path, PathBuf};

use oci::archive::{Archive, Defect};
use oci::unpack::{Limits, Refusal, UnpackError, unpack};

use crate::support::{
    Foreign, Item, append, directory, file, hard_link, item, listing, record, symlink, tar,
};

/// A place with a victim beside the directory to unpack to.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/victim"), "untouched").unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("work/root")
    }

    fn outside(&self) -> String {
        self.dir.path().join("outside").to_str().unwrap().to_owned()
    }

    fn unpack(&self, layers: &[Vec<u8>], limits: &Limits) -> Result<(), UnpackError> {
        let image = self.dir.path().join("image.tar");
        Foreign::new(layers).write(&image);
        let archive = Archive::open(&image).unwrap();
        unpack(&archive, &self.root(), limits).map(drop)
    }

    /// Unpacks what must be refused; answers the error.
    fn refuse(&self, layers: &[Vec<u8>]) -> UnpackError {
        let error = self
            .unpack(layers, &Limits::default())
            .expect_err("it must be refused");
        self.check_nothing_happened();
        error
    }

    fn check_nothing_happened(&self) {
        assert_eq!(
            listing(&self.dir.path().join("outside")),
            ["victim 644 untouched"]
        );
        assert_eq!(
            listing(&self.dir.path().join("work")),
            Vec::<String>::new(),
            "something is left behind"
        );
    }
}

/// The refusal of a layer, and the name of the refused entry.
fn refusal(items: &[Item]) -> (String, Refusal) {
    match Place::new().refuse(&[tar(items)]) {
        UnpackError::Refused {
            layer: 1,
            path,
            reason,
        } => (path, reason),
        other => panic!("another error: {other}"),
    }
}

#[test]
fn names_that_lead_out() {
    let refused = |name: &str| refusal(&[directory("a/"), file(name, "x")]).1;
    assert_eq!(refused("../outside/victim"), Refusal::ParentComponent);
    assert_eq!(refused("a/../../outside/victim"), Refusal::ParentComponent);
    assert_eq!(refused("a/.."), Refusal::ParentComponent);
    assert_eq!(refused(".."), Refusal::ParentComponent);
    assert_eq!(refused("/outside"), Refusal::Absolute);
    assert_eq!(refused("//outside"), Refusal::Absolute);
    assert_eq!(refused(""), Refusal::Name);
    assert_eq!(refused("./"), Refusal::Root);
    assert_eq!(refused("."), Refusal::Root);
    assert_eq!(refused("a/file/"), Refusal::FileWithSlash);
    assert_eq!(refused(&"a".repeat(256)), Refusal::TooLong);
    assert_eq!(refused(&"a/".repeat(2100)), Refusal::TooLong);
    assert_eq!(
        refused(&format!("{}b", "a/".repeat(2100))),
        Refusal::TooLong
    );
}

#[test]
fn directories_that_lead_out() {
    assert_eq!(refusal(&[directory("../d")]).1, Refusal::ParentComponent);
    assert_eq!(refusal(&[directory("/d")]).1, Refusal::Absolute);
}

#[test]
fn names_in_pax_records_and_long_names_are_held_to_the_same() {
    let mut pax = Vec::new();
    append(
        &mut pax,
        b'x',
        b"pax",
        b"",
        0o644,
        &record("path", "../outside/victim"),
    );
    append(&mut pax, b'0', b"harmless", b"", 0o644, b"x");
    let error = Place::new().refuse(&[pax]);
    assert!(
        matches!(&error, UnpackError::Refused { path, reason: Refusal::ParentComponent, .. } if path == "../outside/victim"),
        "{error}"
    );

    let long = format!("{}../../outside/victim", "a/".repeat(60));
    assert_eq!(
        refusal(&[file(&long, "x")]),
        (long, Refusal::ParentComponent)
    );

    let mut nul = Vec::new();
    append(&mut nul, b'x', b"pax", b"", 0o644, &record("path", "a\0b"));
    append(&mut nul, b'0', b"harmless", b"", 0o644, b"x");
    let error = Place::new().refuse(&[nul]);
    assert!(
        matches!(
            &error,
            UnpackError::Refused {
                reason: Refusal::Name,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn symbolic_links_that_climb_out() {
    for target in [
        "..",
        "../outside",
        "a/../../outside",
        "./../outside",
        "/../outside",
        "a//../.././outside",
    ] {
        let (path, reason) = refusal(&[symlink("link", target)]);
        assert_eq!(
            (path.as_str(), reason),
            ("link", Refusal::SymlinkEscapes(target.into()))
        );
    }
    assert!(matches!(
        refusal(&[symlink("a/b/link", "../../../outside")]).1,
        Refusal::SymlinkEscapes(_)
    ));
    assert_eq!(refusal(&[symlink("link", "")]).1, Refusal::LinkTarget);
    assert_eq!(
        refusal(&[symlink("link", &"a".repeat(4096))]).1,
        Refusal::LinkTarget
    );
}

#[test]
fn writing_through_a_symbolic_link() {
    // In a container the link's target would be below the image's root, where nothing of that name is.
    let place = Place::new();
    let outside = place.outside();
    for entry in [
        file("link/victim", "x"),
        directory("link/new"),
        symlink("link/new", "x"),
        hard_link("link/new", "own"),
    ] {
        let error = place.refuse(&[tar(&[file("own", "x"), symlink("link", &outside), entry])]);
        let UnpackError::Refused {
            reason: Refusal::Parent(parent),
            ..
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!(parent, "link");
    }
    // Likewise when the link is in a lower layer, and when it is reached in two steps.
    place.refuse(&[
        tar(&[symlink("link", &outside)]),
        tar(&[file("link/victim", "x")]),
    ]);
    place.refuse(&[tar(&[
        symlink("a", "b"),
        symlink("b", &outside),
        file("a/victim", "x"),
    ])]);
    // A loop.
    let error = place.refuse(&[tar(&[
        symlink("a", "b"),
        symlink("b", "a"),
        file("a/x", "x"),
    ])]);
    assert!(
        matches!(
            &error,
            UnpackError::Refused {
                reason: Refusal::Parent(_),
                ..
            }
        ),
        "{error}"
    );
    // A link to a file, and links to what the kernel makes up.
    place.refuse(&[tar(&[file("f", "x"), symlink("a", "f"), file("a/x", "x")])]);
    place.refuse(&[tar(&[symlink("a", "/proc/self/cwd"), file("a/x", "x")])]);
}

#[test]
fn a_file_in_place_of_a_symbolic_link_replaces_it() {
    let place = Place::new();
    let victim = format!("{}/victim", place.outside());
    let layer = tar(&[
        symlink("link", &victim),
        file("link", "new"),
        symlink("dir", &place.outside()),
        directory("dir/"),
        file("dir/victim", "x"),
    ]);
    place.unpack(&[layer], &Limits::default()).unwrap();
    assert_eq!(
        listing(&place.root()),
        ["dir/ 755", "dir/victim 644 x", "link 644 new"]
    );
    assert_eq!(fs::read_to_string(victim).unwrap(), "untouched");
}

#[test]
fn hard_links_to_what_is_outside() {
    for target in [
        "../outside/victim",
        "a/../../outside/victim",
        "/outside/victim",
        "",
    ] {
        assert_eq!(
            refusal(&[hard_link("link", target)]).1,
            Refusal::HardLinkEscapes(target.into())
        );
    }
    assert_eq!(
        refusal(&[hard_link("link", "nothing")]).1,
        Refusal::HardLinkTarget("nothing".into())
    );
    assert_eq!(
        refusal(&[directory("d/"), hard_link("link", "d")]).1,
        Refusal::HardLinkTarget("d".into())
    );
    assert_eq!(
        refusal(&[hard_link("link", "./")]).1,
        Refusal::HardLinkEscapes("./".into())
    );
    // Through a symbolic link.
    let place = Place::new();
    let outside = place.outside();
    let error = place.refuse(&[tar(&[
        symlink("out", &outside),
        hard_link("link", "out/victim"),
    ])]);
    assert!(
        matches!(
            &error,
            UnpackError::Refused {
                reason: Refusal::HardLinkTarget(_),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn writing_through_a_hard_link_to_a_symbolic_link() {
    let place = Place::new();
    let victim = format!("{}/victim", place.outside());
    let layer = tar(&[symlink("a", &victim), hard_link("b", "a"), file("b", "new")]);
    place.unpack(&[layer], &Limits::default()).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert_eq!(fs::read_to_string(place.root().join("b")).unwrap(), "new");
}

#[test]
fn a_hard_linked_file_is_replaced_and_not_written_into() {
    let place = Place::new();
    let layers = [
        tar(&[file("a", "one"), hard_link("b", "a")]),
        tar(&[file("b", "two")]),
    ];
    place.unpack(&layers, &Limits::default()).unwrap();
    assert_eq!(listing(&place.root()), ["a 644 one", "b 644 two"]);
}

#[test]
fn device_nodes_and_fifos() {
    assert_eq!(refusal(&[item(b'3', "dev/null", "")]).1, Refusal::Device);
    assert_eq!(refusal(&[item(b'4', "dev/sda", "")]).1, Refusal::Device);
    assert_eq!(refusal(&[item(b'6', "fifo", "")]).1, Refusal::Fifo);
    // What has no meaning in a layer at all.
    for kind in [b'S', b'V', b'Z', b'D'] {
        let error = Place::new().refuse(&[tar(&[item(kind, "x", "")])]);
        assert!(
            matches!(&error, UnpackError::Tar { layer: 1, .. }),
            "{error}"
        );
    }
}

#[test]
fn set_user_id_bits_are_left_out() {
    let place = Place::new();
    let items = [
        file("su", "x").mode(0o4755),
        file("wall", "x").mode(0o2755),
        file("sticky", "x").mode(0o1644),
        directory("d").mode(0o6755),
        directory("tmp").mode(0o1777),
    ];
    let image = place.dir.path().join("image.tar");
    Foreign::new(&[tar(&items)]).write(&image);
    let unpacked = unpack(
        &Archive::open(&image).unwrap(),
        &place.root(),
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(
        listing(&place.root()),
        [
            "d/ 755",
            "sticky 644 x",
            "su 755 x",
            "tmp/ 1777",
            "wall 755 x"
        ]
    );
    assert_eq!(unpacked.privileges_dropped, 3);
}

#[test]
fn whiteouts_of_what_is_not_a_name() {
    for name in [
        ".wh.",
        ".wh..",
        ".wh...",
        "a/.wh...",
        ".wh..wh.",
        ".wh..wh.plnk",
        ".wh..wh..opqx",
        ".wh.a/b",
    ] {
        let (path, reason) = refusal(&[directory("a/"), file(name, "")]);
        assert_eq!((path.as_str(), reason), (name, Refusal::Whiteout));
    }
    assert_eq!(
        refusal(&[file("../.wh.outside", "")]).1,
        Refusal::ParentComponent
    );
}

#[test]
fn whiteouts_through_symbolic_links() {
    let place = Place::new();
    let outside = place.outside();
    for whiteout in ["link/.wh.victim", "link/.wh..wh..opq"] {
        // There is nothing at that path inside the image, so there is nothing to delete.
        place
            .unpack(
                &[
                    tar(&[symlink("link", &outside)]),
                    tar(&[file(whiteout, "")]),
                ],
                &Limits::default(),
            )
            .unwrap();
        assert_eq!(listing(&place.root()), [format!("link -> {outside}")]);
        assert_eq!(
            fs::read_to_string(format!("{outside}/victim")).unwrap(),
            "untouched"
        );
        fs::remove_dir_all(place.root()).unwrap();
    }
    // The link itself is deleted, not what it leads to.
    place
        .unpack(
            &[
                tar(&[symlink("link", &outside)]),
                tar(&[file(".wh.link", "")]),
            ],
            &Limits::default(),
        )
        .unwrap();
    assert_eq!(listing(&place.root()), Vec::<String>::new());
    assert_eq!(
        fs::read_to_string(format!("{outside}/victim")).unwrap(),
        "untouched"
    );
}

#[test]
fn bombs() {
    let place = Place::new();
    let zeros = Item {
        content: vec![0; 5 << 20],
        ..file("zeros", "")
    };
    let small = Limits {
        bytes: 1 << 20,
        ..Limits::default()
    };
    let error = place
        .unpack(&[tar(std::slice::from_ref(&zeros))], &small)
        .unwrap_err();
    assert!(
        matches!(&error, UnpackError::Archive(e) if matches!(*e.defect, Defect::Limit { limit, .. } if limit == 1 << 20)),
        "{error}"
    );
    place.check_nothing_happened();

    // The limit is for all layers together.
    let third = Limits {
        bytes: 12 << 20,
        ..Limits::default()
    };
    let error = place
        .unpack(
            &[
                tar(std::slice::from_ref(&zeros)),
                tar(std::slice::from_ref(&zeros)),
                tar(std::slice::from_ref(&zeros)),
            ],
            &third,
        )
        .unwrap_err();
    assert!(error.to_string().contains("layer 3"), "{error}");
    place.check_nothing_happened();

    // Opening an archive uncompresses it too.
    let image = place.dir.path().join("image.tar");
    Foreign::new(&[tar(&[zeros])]).write(&image);
    assert!(fs::metadata(&image).unwrap().len() < 100_000);
    let error = Archive::open_with(&image, &small).unwrap_err();
    assert!(matches!(*error.defect, Defect::Limit { .. }), "{error}");

    let many: Vec<Item> = (0..2000).map(|i| file(&format!("f{i}"), "")).collect();
    let error = place
        .unpack(
            &[tar(&many)],
            &Limits {
                entries: 1000,
                ..Limits::default()
            },
        )
        .unwrap_err();
    assert!(
        matches!(
            error,
            UnpackError::Limit {
                what: "entries",
                limit: 1000,
                ..
            }
        ),
        "{error}"
    );
    place.check_nothing_happened();

    let error = place
        .unpack(
            &[tar(&[file(&format!("{}f", "d/".repeat(1000)), "")])],
            &Limits::default(),
        )
        .unwrap_err();
    assert!(
        matches!(error, UnpackError::Limit { limit: 128, .. }),
        "{error}"
    );
    place.check_nothing_happened();

    // Links make a path deeper than its name.
    let mut items: Vec<Item> = vec![
        directory(&"d/".repeat(100)),
        symlink("l", &"d/".repeat(100)),
    ];
    items.push(directory(&format!("l/{}", "d/".repeat(100))));
    let error = place
        .unpack(&[tar(&items)], &Limits::default())
        .unwrap_err();
    assert!(
        matches!(error, UnpackError::Limit { limit: 128, .. }),
        "{error}"
    );
    place.check_nothing_happened();
}

#[test]
fn tars_that_readers_understand_differently() {
    let refused = |layer: Vec<u8>, reason: &str| {
        let error = Place::new().refuse(&[layer]).to_string();
        assert!(error.contains(reason), "{error}");
    };
    // A size that a pax record gives and the header does not.
    let mut size = Vec::new();
    append(&mut size, b'x', b"pax", b"", 0o644, &record("size", "0"));
    append(
        &mut size,
        b'0',
        b"f",
        b"",
        0o644,
        &tar(&[file("../hidden", "x")]),
    );
    refused(size, "its size is not that of the header");
    // Content where there is none.
    let mut content = Vec::new();
    append(
        &mut content,
        b'5',
        b"d/",
        b"",
        0o755,
        &tar(&[file("../hidden", "x")]),
    );
    refused(content, "has content, which its kind cannot have");
    // Something after the end.
    refused(
        [tar(&[]), tar(&[file("../hidden", "x")])].concat(),
        "where a tar has only zeros",
    );
    // Extensions of nothing, given twice, malformed, for all entries.
    let mut dangling = Vec::new();
    append(&mut dangling, b'L', b"x", b"", 0, b"name\0");
    refused(dangling.clone(), "no entry follows it");
    append(&mut dangling, b'L', b"x", b"", 0, b"other\0");
    append(&mut dangling, b'0', b"f", b"", 0, b"");
    refused(dangling, "was given before");
    for malformed_record in [
        &b"99 path=x\n"[..],
        b"path=x\n",
        b"9 path=xx",
        b"8 path=x\n",
        b"x path=x\n",
        b"0 \n",
        b"7 path\n",
    ] {
        let mut malformed = Vec::new();
        append(&mut malformed, b'x', b"pax", b"", 0o644, malformed_record);
        append(&mut malformed, b'0', b"f", b"", 0o644, b"");
        refused(malformed, "no pax record");
    }
    let mut global = Vec::new();
    append(&mut global, b'g', b"pax", b"", 0o644, &record("path", "x"));
    append(&mut global, b'0', b"f", b"", 0o644, b"");
    refused(global, "all entries at once");
    let mut sparse = Vec::new();
    append(
        &mut sparse,
        b'x',
        b"pax",
        b"",
        0o644,
        &record("GNU.sparse.major", "1"),
    );
    append(&mut sparse, b'0', b"f", b"", 0o644, b"");
    refused(sparse, "sparse files are not supported");
    // Names of a length that nobody would allocate.
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().linkflag = [b'L'];
    header.set_size(1 << 40);
    header.set_cksum();
    refused(
        [header.as_bytes().to_vec(), vec![0; 4096]].concat(),
        "longer than 1 MiB",
    );
    // No tar at all, and one that ends in the middle.
    refused(b"hello".repeat(200), "checksum");
    let whole = tar(&[file("f", &"x".repeat(2000))]);
    refused(whole[..1000].to_vec(), "truncated");
    refused(whole[..100].to_vec(), "truncated");
}

#[test]
fn a_destination_that_cannot_be_used() {
    let place = Place::new();
    let image = place.dir.path().join("image.tar");
    Foreign::new(&[tar(&[file("f", "x")])]).write(&image);
    let archive = Archive::open(&image).unwrap();
    let refused = |dest: &Path| {
        unpack(&archive, dest, &Limits::default())
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&place.dir.path().join("outside")).contains("it is not empty"));
    assert!(refused(&place.dir.path().join("outside/victim")).contains("victim"));
    assert!(refused(&place.dir.path().join("no/parent")).contains("beside it"));
    // An empty directory may be there.
    fs::create_dir(place.root()).unwrap();
    unpack(&archive, &place.root(), &Limits::default()).unwrap();
    assert_eq!(listing(&place.root()), ["f 644 x"]);
}
