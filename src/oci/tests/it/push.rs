//! Pushing to Debian's `docker-registry`, and reading back with skopeo.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oci::archive::Archive;
use oci::image::{ImageSpec, write_archive};
use oci::push::{Credentials, PushError, Pushed, push};

use crate::consumers::skopeo;
use crate::support::{have, oci, run, small_image, stdout};

/// A registry of its own on loopback, ended with the test.
struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    fn start(dir: &Path, more: &str) -> Option<Self> {
        if !have("docker-registry", "docker-registry") {
            return None;
        }
        // The registry cannot tell which port it got, so one that was free a moment ago is tried, and
        // another one if somebody was faster.
        for attempt in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let address = format!("127.0.0.1:{port}");
            let storage = dir.join(format!("registry-{attempt}"));
            let config = dir.join("registry.yml");
            let text = format!(
                "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\", secret: x}}\n{more}",
                storage.display()
            );
            fs::write(&config, text).unwrap();
            let child = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn();
            let mut registry = Self {
                child: child.unwrap(),
                address,
            };
            if registry.is_ready() {
                return Some(registry);
            }
        }
        panic!("docker-registry did not start");
    }

    /// Waits until it says that it listens. Its log is read on, so that it never blocks.
    fn is_ready(&mut self) -> bool {
        let mut log = BufReader::new(self.child.stderr.take().unwrap());
        let mut line = String::new();
        while log.read_line(&mut line).unwrap() > 0 {
            if line.contains("listening on") {
                std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
                return self.answers();
            }
            line.clear();
        }
        false
    }

    fn answers(&mut self) -> bool {
        let limit = Instant::now() + Duration::from_secs(20);
        while Instant::now() < limit && self.child.try_wait().unwrap().is_none() {
            if std::net::TcpStream::connect(&self.address).is_ok() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn push_to(
    archive: &Archive,
    reference: &str,
    credentials: &Credentials,
) -> Result<Pushed, PushError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(push(archive, reference, credentials))
}

#[test]
fn an_image_is_pushed_unchanged_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), "") else {
        return;
    };
    let (image, written) = small_image(dir.path());
    let archive = Archive::open(&image).unwrap();
    let reference = format!("{}/shop/app:1.0.0", registry.address);
    let first = push_to(&archive, &reference, &Credentials::Anonymous).unwrap();
    assert_eq!(
        first,
        Pushed {
            digest: written.manifest_digest,
            sent: 4,
            present: 0
        }
    );
    let second = push_to(&archive, &reference, &Credentials::Anonymous).unwrap();
    assert_eq!(
        second,
        Pushed {
            digest: written.manifest_digest,
            sent: 0,
            present: 4
        }
    );

    // Of the next version only what differs is sent: the application's layer and the configuration.
    let app = dir.path().join("next");
    fs::write(&app, "next").unwrap();
    let next = dir.path().join("next.tar");
    write_archive(&ImageSpec::application("app", "1.0.1", &app), &next).unwrap();
    let next = push_to(
        &Archive::open(&next).unwrap(),
        &format!("{}/shop/app:1.0.1", registry.address),
        &Credentials::Anonymous,
    )
    .unwrap();
    assert_eq!((next.sent, next.present), (2, 2));

    if !have("skopeo", "skopeo") {
        return;
    }
    let back = dir.path().join("back.tar");
    let inspected = run(skopeo()
        .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"])
        .arg(format!("docker://{reference}")));
    assert_eq!(stdout(&inspected), written.manifest_digest.to_string());
    run(skopeo()
        .args(["copy", "--quiet", "--src-tls-verify=false"])
        .arg(format!("docker://{reference}"))
        .arg(format!("oci-archive:{}", back.display())));
    assert_eq!(
        Archive::open(&back).unwrap().manifest_digest(),
        written.manifest_digest
    );
}

#[test]
fn the_program_pushes_past_a_proxy_in_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), "") else {
        return;
    };
    let (image, written) = small_image(dir.path());
    let mut command = oci();
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"] {
        // Nothing listens there.
        command.env(name, "http://127.0.0.1:1");
    }
    let output = run(command
        .arg("push")
        .arg(&image)
        .arg(format!("{}/app:1.0.0", registry.address)));
    assert_eq!(stdout(&output), written.manifest_digest.to_string());
}

#[test]
fn a_registry_that_wants_a_password() {
    let dir = tempfile::tempdir().unwrap();
    // `htpasswd -Bbn user secret`
    fs::write(
        dir.path().join("htpasswd"),
        "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n",
    )
    .unwrap();
    let auth = format!(
        "auth: {{htpasswd: {{realm: r, path: {}}}}}\n",
        dir.path().join("htpasswd").display()
    );
    let Some(registry) = Registry::start(dir.path(), &auth) else {
        return;
    };
    let (image, written) = small_image(dir.path());
    let archive = Archive::open(&image).unwrap();
    let reference = format!("{}/app:1.0.0", registry.address);
    for wrong in [
        Credentials::Anonymous,
        Credentials::Basic {
            user: "user".into(),
            password: "wrong".into(),
        },
    ] {
        let error = push_to(&archive, &reference, &wrong).unwrap_err();
        assert!(matches!(error, PushError::Registry { .. }), "{error}");
    }
    let right = Credentials::Basic {
        user: "user".into(),
        password: "secret".into(),
    };
    assert_eq!(
        push_to(&archive, &reference, &right).unwrap().digest,
        written.manifest_digest
    );
    let output = run(oci()
        .arg("push")
        .arg(&image)
        .arg(&reference)
        .env("OCI_USER", "user")
        .env("OCI_PASSWORD", "secret"));
    assert_eq!(stdout(&output), written.manifest_digest.to_string());
}

#[test]
fn a_registry_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let (image, _) = small_image(dir.path());
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = push_to(
        &Archive::open(&image).unwrap(),
        &format!("127.0.0.1:{port}/app:1"),
        &Credentials::Anonymous,
    )
    .unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

/// A registry that stores something else than it was sent: by hand, because no real one does.
#[test]
fn a_registry_that_answers_another_digest() {
    let dir = tempfile::tempdir().unwrap();
    let (image, written) = small_image(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let other = oci::Digest::of(b"another");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(Result::ok);
            let first = request.next().unwrap_or_default();
            request.take_while(|line| !line.is_empty()).for_each(drop);
            // It has every blob, takes the manifest, and then serves another one.
            let answer = if first.starts_with("PUT") {
                "HTTP/1.1 201 Created\r\nLocation: /v2/app/manifests/1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
            } else {
                format!(
                    "HTTP/1.1 200 OK\r\nDocker-Content-Digest: {other}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            };
            let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
        }
    });
    let error = push_to(
        &Archive::open(&image).unwrap(),
        &format!("{address}/app:1"),
        &Credentials::Anonymous,
    )
    .unwrap_err();
    let PushError::OtherDigest {
        expected, found, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (*expected, found.clone()),
        (written.manifest_digest, other.to_string())
    );
}
