//! Bundles: written whole, verified whole.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oci::Digest;
use oci::bundle::{Bundle, BundleDefect, Existing, MigrationKind, Sources, write};

use crate::support::{listing, small_image};

struct Place {
    dir: tempfile::TempDir,
    sources: Sources,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (image, _) = small_image(dir.path());
        for name in ["templates/hooks", "migrations", "static/css", "bundles"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("templates/appspec.yaml"), "version: 0.0").unwrap();
        fs::write(path("templates/hooks/before.json"), "{}").unwrap();
        fs::write(path("migrations/0002_contract_drop.sql"), "drop").unwrap();
        fs::write(path("migrations/0001_expand_create.sql"), "create").unwrap();
        fs::write(path("static/css/site.css"), "body {}").unwrap();
        fs::write(path("release.toml"), "name = 'app'").unwrap();
        let sources = Sources {
            name: "app".into(),
            version: "1.0.0".into(),
            revision: "0123abc".into(),
            image,
            templates: path("templates"),
            migrations: path("migrations"),
            release_toml: path("release.toml"),
            static_dir: Some(path("static")),
            tools: BTreeMap::from([("rustc".into(), "1.95.0".into())]),
        };
        Self { dir, sources }
    }

    fn dest(&self) -> PathBuf {
        self.dir.path().join("bundles/1.0.0")
    }

    fn write(&self) -> Bundle {
        write(&self.sources, &self.dest(), Existing::Refuse).unwrap()
    }

    fn refuse_to_write(&self) -> BundleDefect {
        let error = write(&self.sources, &self.dest(), Existing::Refuse).unwrap_err();
        let left: Vec<_> = fs::read_dir(self.dir.path().join("bundles"))
            .unwrap()
            .collect();
        assert!(left.is_empty(), "something half-written is left: {left:?}");
        *error.defect
    }

    fn refuse_to_open(&self) -> BundleDefect {
        let error = Bundle::open(&self.dest()).unwrap_err();
        assert!(error.to_string().contains("1.0.0"), "{error}");
        *error.defect
    }

    /// Changes `bundle.json` as text, keeping it canonical.
    fn edit_json(&self, change: impl FnOnce(&str) -> String) {
        let path = self.dest().join("bundle.json");
        let text = fs::read_to_string(&path).unwrap();
        let changed = change(&text);
        assert_ne!(text, changed);
        fs::write(path, changed).unwrap();
    }
}

#[test]
fn what_is_written_is_opened() {
    let place = Place::new();
    let written = place.write();
    let bundle = Bundle::open(&place.dest()).unwrap();
    assert_eq!(bundle.digest(), written.digest());
    assert_eq!(
        bundle.digest(),
        Digest::of(&fs::read(place.dest().join("bundle.json")).unwrap())
    );
    assert_eq!(
        (bundle.name(), bundle.version(), bundle.revision()),
        ("app", "1.0.0", "0123abc")
    );
    let image = bundle.image().unwrap();
    assert_eq!(image.manifest_digest(), bundle.image_digest());
    assert_eq!(image.compressed_size(), bundle.manifest().image.size);
    let migrations: Vec<_> = bundle
        .migrations()
        .iter()
        .map(|m| (m.number, m.kind, m.file.as_str()))
        .collect();
    assert_eq!(
        migrations,
        [
            (
                1,
                MigrationKind::Expand,
                "migrations/0001_expand_create.sql"
            ),
            (
                2,
                MigrationKind::Contract,
                "migrations/0002_contract_drop.sql"
            ),
        ]
    );
    let templates: Vec<_> = bundle.templates().collect();
    assert_eq!(templates[0].0, "appspec.yaml");
    assert_eq!(fs::read_to_string(&templates[1].1).unwrap(), "{}");
    assert_eq!(
        bundle
            .static_files()
            .map(|(name, _)| name)
            .collect::<Vec<_>>(),
        ["css/site.css"]
    );
    assert_eq!(
        fs::read_to_string(bundle.release_toml()).unwrap(),
        "name = 'app'"
    );
    assert_eq!(bundle.manifest().tools["rustc"], "1.95.0");
    assert_eq!(bundle.manifest().tools["oci"], env!("CARGO_PKG_VERSION"));
    for line in listing(&place.dest()) {
        assert!(
            line.contains("/ 755") || line.contains(" 644 "),
            "{}",
            line.escape_debug().take(80).collect::<String>()
        );
    }
}

/// The form of `bundle.json`, by somebody who only has `sha256sum` and a JSON parser.
#[test]
fn bundle_json_is_plain() {
    let place = Place::new();
    place.write();
    let text = fs::read_to_string(place.dest().join("bundle.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(!text.contains(|c: char| c.is_whitespace()));
    let files = value["files"].as_object().unwrap();
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        [
            "image.tar",
            "migrations/0001_expand_create.sql",
            "migrations/0002_contract_drop.sql",
            "release.toml",
            "static/css/site.css",
            "templates/appspec.yaml",
            "templates/hooks/before.json",
        ]
    );
    for (name, file) in files {
        let bytes = fs::read(place.dest().join(name)).unwrap();
        assert_eq!(
            format!("sha256:{}", file["sha256"].as_str().unwrap()),
            Digest::of(&bytes).to_string()
        );
        assert_eq!(file["size"], bytes.len());
    }
    let keys: Vec<_> = [
        "files",
        "format",
        "image",
        "migrations",
        "name",
        "revision",
        "tools",
        "version",
    ]
    .map(|key| text.find(&format!("\"{key}\":")).unwrap())
    .into();
    assert!(keys.is_sorted());
}

#[test]
fn the_same_sources_give_the_same_bundle() {
    let (one, two) = (Place::new(), Place::new());
    fs::set_permissions(
        two.dir.path().join("release.toml"),
        fs::Permissions::from_mode(0o400),
    )
    .unwrap();
    fs::set_permissions(
        two.dir.path().join("templates"),
        fs::Permissions::from_mode(0o700),
    )
    .unwrap();
    assert_eq!(one.write().digest(), two.write().digest());
    assert_eq!(listing(&one.dest()), listing(&two.dest()));
}

#[test]
fn an_existing_bundle() {
    let mut place = Place::new();
    let first = place.write();
    // The same again is no error, and changes nothing.
    assert_eq!(place.write().digest(), first.digest());
    place.sources.revision = "other".into();
    let error = write(&place.sources, &place.dest(), Existing::Refuse).unwrap_err();
    assert!(matches!(*error.defect, BundleDefect::Exists), "{error}");
    assert_eq!(
        Bundle::open(&place.dest()).unwrap().digest(),
        first.digest()
    );
    let second = write(&place.sources, &place.dest(), Existing::Replace).unwrap();
    assert_ne!(second.digest(), first.digest());
    assert_eq!(
        Bundle::open(&place.dest()).unwrap().digest(),
        second.digest()
    );
    assert_eq!(
        fs::read_dir(place.dir.path().join("bundles"))
            .unwrap()
            .count(),
        1,
        "the old one is left behind"
    );
}

#[test]
fn a_changed_byte_in_any_file() {
    let place = Place::new();
    let bundle = place.write();
    for file in bundle.manifest().files.keys() {
        let path = place.dest().join(file);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        fs::write(&path, &bad).unwrap();
        let defect = place.refuse_to_open();
        assert!(
            matches!(&defect, BundleDefect::Changed { file: named, expected, found } if named == file
                && *expected == Digest::of(&good) && *found == Digest::of(&bad)),
            "{defect}"
        );
        fs::write(&path, &good).unwrap();
    }
    Bundle::open(&place.dest()).unwrap();
}

#[test]
fn a_missing_file_and_an_extra_one() {
    let place = Place::new();
    let bundle = place.write();
    for file in bundle.manifest().files.keys() {
        let path = place.dest().join(file);
        let good = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(
            matches!(place.refuse_to_open(), BundleDefect::Missing(missing) if missing == *file)
        );
        fs::write(&path, good).unwrap();
    }
    for extra in [
        "notes.txt",
        "templates/extra.json",
        "static/x",
        "migrations/0003_expand_x.sql",
        ".hidden",
    ] {
        let path = place.dest().join(extra);
        fs::write(&path, "x").unwrap();
        assert!(matches!(place.refuse_to_open(), BundleDefect::Extra(named) if named == extra));
        fs::remove_file(path).unwrap();
    }
    fs::create_dir(place.dest().join("more")).unwrap();
    assert!(matches!(place.refuse_to_open(), BundleDefect::Extra(named) if named == "more/"));
    fs::remove_dir(place.dest().join("more")).unwrap();

    let template = place.dest().join("templates/appspec.yaml");
    fs::remove_file(&template).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &template).unwrap();
    assert!(matches!(place.refuse_to_open(), BundleDefect::Kind(path) if path == template));
}

#[test]
fn a_directory_that_is_no_bundle() {
    let place = Place::new();
    assert!(matches!(
        place.refuse_to_open(),
        BundleDefect::NotABundle(_)
    ));
    fs::create_dir(place.dest()).unwrap();
    let defect = place.refuse_to_open();
    assert!(
        matches!(&defect, BundleDefect::NotABundle(path) if path.ends_with("1.0.0/bundle.json")),
        "{defect}"
    );
}

#[test]
fn a_bundle_json_that_is_not_what_it_must_be() {
    let place = Place::new();
    place.write();
    let path = place.dest().join("bundle.json");
    let good = fs::read_to_string(&path).unwrap();
    let refused = |change: &dyn Fn(&str) -> String| {
        place.edit_json(|text| change(text));
        let defect = place.refuse_to_open();
        fs::write(&path, &good).unwrap();
        defect
    };
    let unknown = refused(&|text| text.replace("\"format\":1", "\"format\":2"));
    assert!(
        matches!(&unknown, BundleDefect::Format(format) if *format == 2),
        "{unknown}"
    );
    assert!(unknown.to_string().contains("format 2"), "{unknown}");
    let invalid = |change: &dyn Fn(&str) -> String, reason: &str| {
        let defect = refused(change);
        assert!(
            matches!(&defect, BundleDefect::Manifest(text) if text.contains(reason)),
            "{defect}"
        );
    };
    invalid(&|text| text.replace("\"format\":1,", ""), "no format");
    invalid(
        &|text| text.replace("\"revision\":", "\"revison\":"),
        "revison",
    );
    invalid(&|text| text.replace("\"name\":\"app\",", ""), "name");
    invalid(&|text| format!("{text}\n"), "canonical");
    invalid(
        &|text| text.replace("\"format\":1", "\"format\": 1"),
        "canonical",
    );
    invalid(
        &|text| text.replace("\"format\":1", "\"format\":1,\"format\":1"),
        "duplicate",
    );
    invalid(&|text| text[..text.len() - 1].to_owned(), "EOF");
    invalid(
        &|text| text.replace("\"kind\":\"expand\"", "\"kind\":\"contract\""),
        "migrations",
    );
    invalid(
        &|text| text.replace("\"name\":\"create\"", "\"name\":\"another\""),
        "migrations",
    );
    invalid(
        &|text| text.replacen("\"size\":12}", "\"size\":13}", 1),
        "bytes",
    );
    // The image in the archive is another one than bundle.json says.
    let digest = Bundle::open(&place.dest()).unwrap().image_digest();
    let other = refused(&|text| text.replace(&digest.to_string(), &Digest::of(b"").to_string()));
    assert!(matches!(other, BundleDefect::OtherImage { .. }), "{other}");
    let other = refused(&|text| text.replace("\"version\":\"1.0.0\"", "\"version\":\"1.0.1\""));
    assert!(
        matches!(
            other,
            BundleDefect::OtherImage {
                what: "the version",
                ..
            }
        ),
        "{other}"
    );
}

#[test]
fn an_image_that_is_corrupt_inside() {
    // bundle.json agrees with image.tar, but a layer does not agree with the manifest.
    let place = Place::new();
    let mut bytes = fs::read(&place.sources.image).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&place.sources.image, bytes).unwrap();
    let defect = place.refuse_to_write();
    assert!(matches!(defect, BundleDefect::Image(_)), "{defect}");
}

#[test]
fn sources_that_make_no_bundle() {
    let place = Place::new();
    let path = |name: &str| place.dir.path().join(name);
    let with = |name: &str, make: &dyn Fn(&Path)| {
        make(&path(name));
        let defect = place.refuse_to_write();
        fs::remove_file(path(name)).unwrap();
        defect
    };
    let file = |path: &Path| fs::write(path, "x").unwrap();
    for name in [
        "0003_x.sql",
        "3_expand_x.sql",
        "0003_expand_x.txt",
        "README",
    ] {
        let defect = with(&format!("migrations/{name}"), &file);
        assert!(
            matches!(&defect, BundleDefect::Migration(e) if e.0 == name),
            "{defect}"
        );
    }
    let defect = with("migrations/0001_expand_other.sql", &file);
    assert!(matches!(defect, BundleDefect::SameNumber(..)), "{defect}");
    let defect = with("templates/link", &|path| {
        std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
    });
    assert!(
        matches!(&defect, BundleDefect::Kind(at) if *at == path("templates/link")),
        "{defect}"
    );
    let defect = with("templates/new\nline", &file);
    assert!(matches!(defect, BundleDefect::Name(_)), "{defect}");

    let missing = |change: &dyn Fn(&mut Sources)| {
        let mut place = Place::new();
        change(&mut place.sources);
        match place.refuse_to_write() {
            BundleDefect::Read { path, .. } => path,
            other => panic!("{other}"),
        }
    };
    assert_eq!(
        missing(&|s| s.release_toml = "/no/release.toml".into()),
        Path::new("/no/release.toml")
    );
    assert_eq!(
        missing(&|s| s.templates = "/no/templates".into()),
        Path::new("/no/templates")
    );
    assert_eq!(
        missing(&|s| s.image = "/no/image.tar".into()),
        Path::new("/no/image.tar")
    );
    assert!(missing(&|s| s.release_toml.clone_from(&s.templates)).ends_with("templates"));
}

#[test]
fn a_version_that_is_not_the_images() {
    let mut place = Place::new();
    place.sources.version = "2.0.0".into();
    let defect = place.refuse_to_write();
    assert!(
        matches!(
            defect,
            BundleDefect::OtherImage {
                what: "the version",
                ..
            }
        ),
        "{defect}"
    );
}
