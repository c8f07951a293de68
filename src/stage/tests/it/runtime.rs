//! Tasks of the test image in the sandbox.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use stage::runtime::{
    Container, ContainerSpec, Dial, Image, ImageStore, Kind, Runtime, RuntimeOptions,
};
use tempfile::TempDir;

use crate::support::{eventually, get, test_image};

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

    fn spec(&self, command: &[&str]) -> ContainerSpec {
        let log = self.dir.path().join("task.log");
        let mut spec = ContainerSpec::new("task", self.image.clone(), log);
        spec.command = Some(command.iter().map(|word| (*word).to_owned()).collect());
        spec
    }

    /// Runs to the end: exit code and output.
    async fn run(&self, spec: ContainerSpec) -> (i32, String) {
        let container = self.runtime.start(spec).await.unwrap();
        let exit = container.wait().await;
        (exit.exit_code(), read(container.log_path()))
    }

    async fn serve(&self, env: &[(&str, &str)]) -> (Container, Arc<dyn Dial>) {
        let mut spec = self.spec(&["serve"]);
        spec.env = env.iter().copied().collect();
        self.serve_spec(spec).await
    }

    async fn serve_spec(&self, spec: ContainerSpec) -> (Container, Arc<dyn Dial>) {
        let container = self.runtime.start(spec).await.unwrap();
        let dial = container.dialer(8080);
        eventually("the task listens", || async {
            get(&*dial, "/").await.is_ok()
        })
        .await;
        (container, dial)
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_task_prints_and_ends() {
    let bench = Bench::new().await;
    let (code, output) = bench.run(bench.spec(&["print", "hello", "there"])).await;
    assert_eq!((code, output.as_str()), (0, "hello there\n"));
}

#[tokio::test]
async fn a_task_serves_and_stops() {
    let bench = Bench::new().await;
    let (container, dial) = bench.serve(&[("MESSAGE", "bonjour")]).await;
    let (status, body) = get(&*dial, "/").await.unwrap();
    assert_eq!((status, body.as_str()), (200, "bonjour"));
    let exit = container.stop(Duration::from_secs(10)).await;
    assert_eq!(exit.code, Some(0));
    assert!(read(container.log_path()).ends_with("stopped\n"));
    let refused = dial.dial().await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn what_a_task_sees_of_itself() {
    let bench = Bench::new().await;
    let (_, output) = bench.run(bench.spec(&["self"])).await;
    let has = |line: &str| output.lines().any(|l| l == line);
    for line in [
        "pid 1",
        "Uid 65532 65532 65532 65532",
        "NoNewPrivs 1",
        "processes 1",
    ] {
        assert!(has(line), "{line} is not in:\n{output}");
    }
}

#[expect(dead_code, reason = "soon")]
fn unused(_: SocketAddr) {}
