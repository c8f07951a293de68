//! Whatever ends the stage, nothing of it is left; and whoever runs it, it works.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use stage::{
    leftovers::Claim,
    postgres::{Postgres, PostgresOptions},
};

use super::*;
use crate::support::{is_gone, kept};

const HELPER: &str = "STAGE_TEST_HELPER_DIR";
const KIND: &str = "STAGE_TEST_HELPER_KIND";

/// Not a test but a stage for the tests below, in a process of its own: starts tasks and a database,
/// says when it is ready, and waits to be killed.
#[tokio::test]
#[ignore = "a process of other tests"]
async fn helper() {
    let Some(dir) = std::env::var_os(HELPER) else {
        return;
    };
    let dir = Path::new(&dir);
    let (claim, swept) = Claim::of(dir).unwrap();
    println!("swept {}", swept.paths.len());
    let kind = std::env::var(KIND).unwrap().parse().unwrap();
    let options = RuntimeOptions {
        kind,
        claim: Some(claim.clone()),
        ..RuntimeOptions::new(dir.join("runtime"))
    };
    let runtime = Runtime::new(options).unwrap();
    let store = ImageStore::new(&dir.join("images")).unwrap();
    let image = store.import(test_image()).await.unwrap();
    let postgres = PostgresOptions {
        cache: Some(kept().join("postgres")),
        claim: Some(claim),
        ..PostgresOptions::new(dir.join("postgres"))
    };
    let _postgres = Postgres::start(postgres).await.unwrap();
    for command in ["serve", "fork-sleep"] {
        let mut spec = ContainerSpec::new("task", image.clone(), dir.join("log").join(command));
        spec.command = Some(vec![command.into()]);
        // Not a handler in sight that would end them by themselves.
        spec.env = [("IGNORE_SIGTERM", "1")].into_iter().collect();
        let container = runtime.start(spec).await.unwrap();
        while container.log_tail(1).is_empty() {
            tokio::task::yield_now().await;
        }
    }
    println!("ready");
    // Until whoever started it closes its input, or kills it.
    let closed = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    closed.await.unwrap().unwrap();
    runtime.shutdown().await;
}

struct Helper {
    process: Child,
    said: Vec<String>,
}

impl Helper {
    fn start(dir: &Path, kind: Kind) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "runtime::safety::helper",
                "--ignored",
                "--nocapture",
            ])
            .env(HELPER, dir)
            .env(KIND, kind.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut said = Vec::new();
        for line in output.lines() {
            said.push(line.unwrap());
            if said.last().is_some_and(|line| line == "ready") {
                return Self { process, said };
            }
        }
        panic!("the helper ended: {:?} {said:?}", process.wait());
    }

    fn pid(&self) -> i32 {
        self.process.id().cast_signed()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Everything that descends from a process.
fn descendants(pid: i32) -> Vec<i32> {
    let mut parents = std::collections::HashMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<i32>().ok());
        if let Some(parent) = parent {
            parents.entry(parent).or_insert_with(Vec::new).push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![pid];
    while let Some(pid) = next.pop() {
        let children = parents.get(&pid).cloned().unwrap_or_default();
        found.extend(&children);
        next.extend(children);
    }
    found
}

#[tokio::test]
async fn a_stage_killed_by_sigkill_leaves_no_process_and_the_next_starts_clean() {
    kill_a_stage(Kind::Sandbox).await;
}

#[tokio::test]
async fn nor_does_it_under_runc() {
    kill_a_stage(Kind::Runc).await;
}

async fn kill_a_stage(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let stage = dir.path().join("stage");
    let mut helper = Helper::start(&stage, kind);
    let processes = descendants(helper.pid());
    // Two tasks, what one of them forked, two processes for sockets, PostgreSQL and its workers.
    assert!(processes.len() >= 7, "{processes:?}");

    let error = Claim::of(&stage).unwrap_err().to_string();
    assert!(error.contains(&helper.pid().to_string()), "{error}");

    helper.process.kill().unwrap();
    helper.process.wait().unwrap();
    for pid in processes {
        eventually("no process of the stage is left", || async { is_gone(pid) }).await;
    }

    // `images`, `log`, `postgres` and `runtime`.
    let next = Helper::start(&stage, kind);
    assert!(next.said.contains(&"swept 4".to_owned()), "{:?}", next.said);
}

/// The same tests, by a user who is nobody special.
#[test]
fn an_ordinary_user_can_do_the_same() {
    if !is_root() {
        // Then every other test has shown it.
        return;
    }
    let nobody = Some(65534);
    let dir = tempfile::tempdir().unwrap();
    let give = |path: &Path| std::os::unix::fs::chown(path, nobody, nobody).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let place = |name: &str| dir.path().join(name);
    std::fs::copy(std::env::current_exe().unwrap(), place("tests")).unwrap();
    for name in ["kept", "tmp"] {
        std::fs::create_dir(place(name)).unwrap();
        give(&place(name));
    }
    std::fs::copy(test_image(), place("kept/task.tar")).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(place("tests"))
        .args(["runtime::", "postgres::", "--test-threads=2"])
        .env_remove("NEXTEST")
        .env("STAGE_TEST_KEPT", place("kept"))
        .env("TMPDIR", place("tmp"))
        .env("HOME", place("tmp"))
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("test result: ok."), "{said}");
}
