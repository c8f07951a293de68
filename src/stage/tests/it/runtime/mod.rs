//! Tasks of the test image, by every kind of isolation.

mod ends;
mod files;
mod images;
mod kinds;
mod network;
mod safety;
mod sandbox;
mod starts;

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use stage::runtime::{
    Container, ContainerSpec, Dial, Exit, Image, ImageStore, Kind, Runtime, RuntimeError,
    RuntimeOptions,
};
use tempfile::TempDir;

use crate::support::{eventually, get, test_image};

/// A runtime with the test image.
struct Bench {
    runtime: Runtime,
    image: Image,
    dir: TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::of(Kind::Sandbox).await
    }

    async fn of(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // A plain process of a root stage runs as somebody else, who must be able to pass.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = RuntimeOptions {
            kind,
            ..RuntimeOptions::new(dir.path().join("runtime"))
        };
        let runtime = Runtime::new(options).unwrap();
        let store = ImageStore::new(&dir.path().join("images")).unwrap();
        let image = store.import(test_image()).await.unwrap();
        Self {
            runtime,
            image,
            dir,
        }
    }

    /// The test program with arguments.
    fn spec(&self, command: &str) -> ContainerSpec {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = self.dir.path().join(format!("{number}.log"));
        let mut spec = ContainerSpec::new("task", self.image.clone(), log);
        spec.command = Some(command.split(' ').map(str::to_owned).collect());
        spec
    }

    async fn start(&self, command: &str) -> Container {
        self.runtime.start(self.spec(command)).await.unwrap()
    }

    /// Runs to the end: exit code and output.
    async fn run(&self, spec: ContainerSpec) -> (i32, String) {
        let container = self.runtime.start(spec).await.unwrap();
        let exit = container.wait().await;
        (exit.exit_code(), read(container.log_path()))
    }

    /// Why it does not start.
    async fn refusal(&self, spec: ContainerSpec) -> String {
        let error = self.runtime.start(spec).await.unwrap_err();
        assert!(matches!(error, RuntimeError::CannotStart(_)), "{error:?}");
        error.to_string()
    }

    async fn serve(&self, env: &[(&str, &str)]) -> Served {
        let mut spec = self.spec("serve");
        spec.env = env.iter().copied().collect();
        self.serve_spec(spec).await
    }

    async fn serve_spec(&self, spec: ContainerSpec) -> Served {
        let container = self.runtime.start(spec).await.unwrap();
        let dial = container.dialer(8080);
        eventually("the task listens", || async {
            get(&*dial, "/").await.is_ok()
        })
        .await;
        Served { container, dial }
    }
}

/// A task that listens.
struct Served {
    container: Container,
    dial: Arc<dyn Dial>,
}

impl Served {
    async fn get(&self, path: &str) -> String {
        let (status, body) = get(&*self.dial, path).await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The value of a line `name value`.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

/// A service of this machine that says `word` to everybody.
async fn service(word: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, word.as_bytes()).await;
        }
    });
    address
}
