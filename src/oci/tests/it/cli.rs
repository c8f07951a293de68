//! The program: what it prints, and how it fails.

use std::fs;
use std::path::Path;

use oci::archive::Archive;

use crate::deterministic::static_elf;
use crate::support::{oci, run, small_image, stdout};

#[test]
fn help_of_every_command() {
    let help = stdout(&run(oci().arg("--help")));
    for command in ["image", "bundle", "function", "inspect", "unpack", "push"] {
        assert!(help.contains(command));
        let help = stdout(&run(oci().args([command, "--help"])));
        assert!(help.contains("Usage: oci "), "{help}");
    }
}

/// Runs the program where an application and something that is no image are; answers its exit code and
/// message.
fn fail(arguments: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("not-an-image"), "x").unwrap();
    static_elf(&dir.path().join("app"));
    let output = oci()
        .args(arguments)
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(output.stdout.is_empty(), "{arguments:?}");
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn wrong_usage_is_2() {
    let image = ["image", "--app", "app", "--version", "1", "--out", "i"];
    let bundle =
        "bundle --out b --version 1 --revision r --templates t --migrations m --release-toml r";
    let bundle: Vec<_> = bundle.split(' ').collect();
    for usage in [
        vec![],
        vec!["images"],
        vec!["image"],
        [&image[..], &["--created", "yesterday"]].concat(),
        [&image[..], &["--label", "novalue"]].concat(),
        vec!["inspect"],
        vec!["unpack", "not-an-image"],
        bundle.clone(),
        [&bundle[..], &["--app", "a", "--image", "i"]].concat(),
    ] {
        assert_eq!(fail(&usage).0, 2, "{usage:?}");
    }
}

#[test]
fn failure_is_1_and_names_what_failed() {
    let image = |app, version| vec!["image", "--app", app, "--version", version, "--out", "i"];
    for (failing, says) in [
        (vec!["inspect", "not-an-image"], "not-an-image"),
        (vec!["inspect", "missing"], "missing"),
        (vec!["inspect", "."], "bundle.json"),
        (vec!["unpack", "not-an-image", "root"], "not-an-image"),
        (image("missing", "1"), "missing"),
        (image("not-an-image", "1"), "not an executable"),
        (image("app", "one two"), "one two"),
    ] {
        let (code, message) = fail(&failing);
        assert_eq!(code, 1, "{failing:?}");
        assert!(
            message.starts_with("error: ") && message.contains(says),
            "{message}"
        );
    }
}

#[test]
fn a_dynamically_linked_application_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = oci()
        .args([
            "image",
            "--version",
            "1",
            "--out",
            "i.tar",
            "--app",
            env!("CARGO_BIN_EXE_oci"),
        ])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let looked = oci::elf::look(Path::new(env!("CARGO_BIN_EXE_oci")))
        .unwrap()
        .unwrap();
    assert_eq!(looked.architecture, Some(oci::image::host_architecture()));
    match looked.loader {
        Some(loader) => {
            let message = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1));
            assert!(
                message.contains(&loader) && message.contains("crt-static"),
                "{message}"
            );
        }
        // Built statically, as the RUSTFLAGS of this build wanted.
        None => assert!(output.status.success()),
    }
}

#[test]
fn an_image_is_made_inspected_and_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    static_elf(&dir.path().join("app"));
    let oci = |arguments: &[&str]| stdout(&run(oci().args(arguments).current_dir(dir.path())));
    let digest = oci(&[
        "image",
        "--app",
        "app",
        "--name",
        "shop",
        "--version",
        "2.0.0",
        "--revision",
        "abc",
        "--created",
        "1700000000",
        "--label",
        "team=web",
        "--env",
        "LOG=info",
        "--out",
        "i.tar",
    ]);
    let archive = Archive::open(&dir.path().join("i.tar")).unwrap();
    assert_eq!(archive.manifest_digest().to_string(), digest);
    let config = archive.config();
    assert_eq!(config.architecture, "amd64");
    assert_eq!(config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(config.config.env, ["PATH=/bin", "LOG=info"]);
    assert_eq!(config.config.labels["team"], "web");

    let human = oci(&["inspect", "i.tar"]);
    for line in [
        &format!("image     {digest}"),
        "version   2.0.0",
        "revision  abc",
        "user      65532:65532",
        "ports     8080/tcp",
        "runs      /bin/app",
    ] {
        assert!(
            human.lines().any(|found| found == line),
            "{line:?} is not in\n{human}"
        );
    }
    let json: serde_json::Value =
        serde_json::from_str(&oci(&["inspect", "i.tar", "--format", "json"])).unwrap();
    assert_eq!(json["digest"], digest);
    assert_eq!(json["compressed_size"], archive.compressed_size());

    assert_eq!(oci(&["unpack", "i.tar", "root"]), digest);
    assert_eq!(
        fs::read(dir.path().join("root/bin/app")).unwrap(),
        fs::read(dir.path().join("app")).unwrap()
    );
}

#[test]
fn the_limits_of_unpacking_can_be_set() {
    let dir = tempfile::tempdir().unwrap();
    let (image, _) = small_image(dir.path());
    for (limit, says) in [
        (["--max-bytes", "50000"], "50000 bytes"),
        (["--max-entries", "5"], "5 entries"),
    ] {
        let output = oci()
            .arg("unpack")
            .args(limit)
            .arg(&image)
            .arg(dir.path().join("root"))
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(message.contains(says), "{message}");
        assert!(!dir.path().join("root").exists());
    }
}

#[test]
fn a_bundle_is_made_and_inspected() {
    let dir = tempfile::tempdir().unwrap();
    static_elf(&dir.path().join("app"));
    fs::create_dir(dir.path().join("templates")).unwrap();
    fs::create_dir(dir.path().join("migrations")).unwrap();
    fs::write(dir.path().join("migrations/0001_expand_create.sql"), "x").unwrap();
    fs::write(dir.path().join("release.toml"), "x").unwrap();
    let bundle = |more: &[&str]| {
        let mut command = oci();
        command.current_dir(dir.path()).args([
            "bundle",
            "--version",
            "2.0.0",
            "--revision",
            "abc",
            "--templates",
            "templates",
        ]);
        command
            .args([
                "--migrations",
                "migrations",
                "--release-toml",
                "release.toml",
                "--tool",
                "rustc=1.95.0",
            ])
            .args(more);
        stdout(&run(&mut command))
    };
    let digest = bundle(&["--app", "app", "--created", "7", "--out", "one"]);
    run(oci().current_dir(dir.path()).args([
        "image",
        "--app",
        "app",
        "--version",
        "2.0.0",
        "--revision",
        "abc",
        "--created",
        "7",
        "--out",
        "i.tar",
    ]));
    assert_eq!(
        bundle(&["--image", "i.tar", "--out", "two"]),
        digest,
        "the same image, made before"
    );
    assert_eq!(
        bundle(&["--image", "i.tar", "--out", "two"]),
        digest,
        "once more"
    );

    let human = stdout(&run(oci().current_dir(dir.path()).args(["inspect", "one"])));
    for line in [
        &format!("bundle    {digest}"),
        "migration 0001 expand create",
        "tool      rustc 1.95.0",
    ] {
        assert!(
            human.lines().any(|found| found == line),
            "{line:?} is not in\n{human}"
        );
    }
    let json = stdout(&run(oci()
        .current_dir(dir.path())
        .args(["inspect", "one", "--format", "json"])));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["digest"], digest);
    assert_eq!(json["bundle"]["migrations"][0]["kind"], "expand");
    assert_eq!(json["bundle"]["image"]["digest"], json["image"]["digest"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let (image, _) = small_image(dir.path());
    let script = format!(
        "{} inspect {} --format json | true; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_oci"),
        image.display()
    );
    run(std::process::Command::new("bash").args(["-c", &script]));
}
