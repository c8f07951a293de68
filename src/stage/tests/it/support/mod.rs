//! What the tests of several rooms share.
//!
//! [`test_image`] gives the path of an image archive whose program is `task.rs` beside this file: an
//! HTTP server that misbehaves on request (its table of paths and variables is there). It is built
//! once and kept in the target directory.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant},
};

use oci::image::{ImageSpec, LayerSpec, base, write_archive};

/// The program of the test image.
pub const PROGRAM: &str = "/bin/task";

/// The archive of the test image: user 65532, entry point `/bin/task`, command `serve`, port 8080,
/// environment `FROM_IMAGE=yes`.
pub fn test_image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let path = kept().join("task.tar");
        if std::env::var_os("STAGE_TEST_KEPT").is_some() {
            return path;
        }
        let spec = test_image_spec();
        if is_older(&path, &[test_program(), here("mod.rs")]) {
            at_once(&path, |path| {
                write_archive(&spec, path).unwrap();
            });
        }
        path
    })
}

/// The test image before it is written, for tests that want another.
pub fn test_image_spec() -> ImageSpec {
    let program = LayerSpec::new("the test program")
        .directory("bin", 0o755)
        .file_at("bin/task", 0o755, test_program())
        // For the tests of what cannot be started.
        .file("bin/not-executable", 0o644, "#!/bin/task print\n")
        .file("bin/no-interpreter", 0o755, "#!/bin/nope\n")
        .file("bin/garbage", 0o755, "\0garbage")
        .file("etc/for-root-only", 0o600, "secret");
    ImageSpec {
        layers: vec![base(), program],
        entrypoint: vec![PROGRAM.into()],
        cmd: vec!["serve".into()],
        env: vec![
            ("PATH".into(), "/bin".into()),
            ("FROM_IMAGE".into(), "yes".into()),
        ],
        exposed_ports: vec![8080],
        ..ImageSpec::new("task", "1")
    }
}

/// The statically linked test program on this machine.
pub fn test_program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built("task")).clone()
}

/// The deployment package of the test function (`function.rs` beside this file).
pub fn test_function() -> PathBuf {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    let pack = || {
        let program = built("function");
        let path = kept().join("function.zip");
        if is_older(&path, std::slice::from_ref(&program)) {
            at_once(&path, |path| {
                oci::function::write(&program, path).unwrap();
            });
        }
        path
    };
    PACKAGE.get_or_init(pack).clone()
}

/// A program of one source file beside this one, linked statically.
fn built(name: &str) -> PathBuf {
    let source = here(&format!("{name}.rs"));
    let path = kept().join(name);
    if is_older(&path, std::slice::from_ref(&source)) {
        at_once(&path, |path| {
            let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
            let built = Command::new(rustc)
                .args(["--edition=2024", "-O", "-Ctarget-feature=+crt-static"])
                .arg(format!("--crate-name={name}"))
                .arg("-o")
                .args([path, &source])
                .status();
            assert!(
                built.unwrap().success(),
                "cannot build the test program {name}"
            );
        });
    }
    path
}

fn here(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support");
    here.join(name)
}

fn is_older(path: &Path, sources: &[PathBuf]) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    let built = changed(path);
    built.is_none() || sources.iter().any(|source| changed(source) > built)
}

/// A directory that is kept between runs, below cargo's target directory.
///
/// `STAGE_TEST_KEPT` names another, for a test that runs as a user who cannot get there.
pub fn kept() -> PathBuf {
    let dir = std::env::var_os("STAGE_TEST_KEPT").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).join("stage-tests"),
        PathBuf::from,
    );
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Makes a file under another name first: tests of several processes may want it at once.
fn at_once(path: &Path, make: impl FnOnce(&Path)) {
    // A directory of its own: rustc puts objects of always the same names beside its output.
    let dir = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let other = dir.join(path.file_name().unwrap());
    make(&other);
    std::fs::rename(&other, path).unwrap();
    let _ = std::fs::remove_dir_all(&dir);
}

/// Waits until `condition` holds; at most ten seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let until = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// `GET path` over a new connection: the status and the body.
pub async fn get(dial: &dyn stage::runtime::Dial, path: &str) -> std::io::Result<(u16, String)> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = dial.dial().await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: task\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// Whether a process has ended. One that nobody has waited for yet has.
pub fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}
