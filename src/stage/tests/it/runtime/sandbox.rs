//! What a task in the sandbox is, and what it is not allowed.

use super::*;

#[tokio::test]
async fn a_task_is_an_unprivileged_first_process() {
    let bench = Bench::new().await;
    let (code, facts) = bench.run(bench.spec("self")).await;
    assert_eq!(code, 0);
    for (name, expected) in [
        ("pid", "1"),
        ("processes", "1"),
        ("Uid", "65532 65532 65532 65532"),
        ("Gid", "65532 65532 65532 65532"),
        ("NoNewPrivs", "1"),
        ("CapEff", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("SigBlk", "0000000000000000"),
        // Rust's own start-up ignores SIGPIPE; nothing is inherited.
        ("SigIgn", "0000000000001000"),
        ("cwd", "/"),
    ] {
        assert_eq!(value(&facts, name), expected, "{name}");
    }
    if is_root() {
        assert_eq!(
            value(&facts, "Groups"),
            "65532",
            "none of the stage's groups"
        );
    }
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_ne!(value(&facts, "hostname"), own.trim());
}

#[tokio::test]
async fn a_task_inherits_no_file_of_the_stage() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    let inheritable = rustix::io::dup(secret.as_file()).unwrap();
    let bench = Bench::new().await;
    let (_, facts) = bench.run(bench.spec("self")).await;
    drop(inheritable);
    let fds = value(&facts, "fds");
    let numbers: Vec<&str> = fds
        .split(' ')
        .filter_map(|fd| fd.split('=').next())
        .collect();
    // The last is the one that the list was read by.
    assert_eq!(numbers, ["0", "1", "2", "3"], "{fds}");
    assert!(fds.starts_with("0=/dev/null 1=pipe:"), "{fds}");
}

#[tokio::test]
async fn the_environment_is_what_was_given() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("env");
    spec.env = [("LATER", "1"), ("FROM_IMAGE", "overridden"), ("LATER", "2")]
        .into_iter()
        .collect();
    let (_, output) = bench.run(spec).await;
    let lines: Vec<&str> = output.lines().collect();
    let [from, home, host, later, path] = lines.as_slice() else {
        panic!("{output}");
    };
    assert_eq!(
        [*from, *home, *later, *path],
        [
            "FROM_IMAGE=overridden",
            "HOME=/home/nonroot",
            "LATER=2",
            "PATH=/bin"
        ]
    );
    assert!(host.starts_with("HOSTNAME=task-"), "{host}");
}

#[tokio::test]
async fn a_user_by_name_by_number_and_root() {
    let bench = Bench::new().await;
    for (user, uid, gid) in [
        ("nobody", "65534", "65534"),
        ("1000:2000", "1000", "2000"),
        ("root", "0", "0"),
    ] {
        let mut spec = bench.spec("self");
        spec.user = Some(user.into());
        let (_, facts) = bench.run(spec).await;
        assert_eq!(value(&facts, "Uid"), [uid; 4].join(" "));
        assert_eq!(value(&facts, "Gid"), [gid; 4].join(" "));
        assert_eq!(value(&facts, "CapEff"), "0000000000000000");
    }
}

/// Root inside is nobody outside.
#[tokio::test]
async fn root_of_a_task_is_not_root_of_this_machine() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("sleep");
    spec.user = Some("0:0".into());
    let container = bench.runtime.start(spec).await.unwrap();
    let status = read(Path::new(&format!("/proc/{}/status", container.pid())));
    let uid = status
        .lines()
        .find(|line| line.starts_with("Uid:"))
        .unwrap();
    let uid: u32 = uid.split_whitespace().nth(1).unwrap().parse().unwrap();
    if is_root() {
        assert!(uid >= 0x7000_0000, "{uid}");
    } else {
        assert_eq!(uid, rustix::process::geteuid().as_raw());
    }
    container.kill();
    container.wait().await;
}

#[tokio::test]
async fn a_memory_limit_ends_a_task_and_is_said() {
    let bench = Bench::new().await;
    if let Err(problem) = &bench.runtime.isolation().limits {
        // Nothing is promised here, and that is said.
        assert!(!is_root(), "{problem}");
        let report = bench.runtime.isolation().to_string();
        assert!(
            report.contains("memory limits are not enforced"),
            "{report}"
        );
        return;
    }
    let mut spec = bench.spec("serve");
    spec.memory = Some(64 << 20);
    let task = bench.serve_spec(spec).await;
    assert_eq!(task.get("/allocate/16").await, (16 << 20).to_string());
    get(&*task.dial, "/allocate/256").await.unwrap_err();
    let exit = task.container.wait().await;
    assert_eq!((exit.exit_code(), exit.out_of_memory), (137, true));

    // An ordinary SIGKILL is not taken for it.
    let container = bench.start("sleep").await;
    container.kill();
    let exit = container.wait().await;
    assert_eq!((exit.exit_code(), exit.out_of_memory), (137, false));
}

#[tokio::test]
async fn the_number_of_processes_is_limited() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("serve");
    spec.pids = Some(20);
    let task = bench.serve_spec(spec).await;
    let started: u32 = task.get("/spawn/100").await.parse().unwrap();
    assert!((10..20).contains(&started), "{started}");
}

#[tokio::test]
async fn a_low_port_needs_no_privilege() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("serve");
    spec.env = [("PORT", "80")].into_iter().collect();
    let container = bench.runtime.start(spec).await.unwrap();
    let dial = container.dialer(80);
    eventually("the task listens on port 80", || async {
        get(&*dial, "/").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn the_report_says_how_tasks_are_isolated() {
    let bench = Bench::of(Kind::Auto).await;
    let isolation = bench.runtime.isolation();
    assert_eq!(isolation.kind, Kind::Sandbox, "{isolation}");
    assert!(isolation.because.is_empty(), "{isolation}");
    assert!(
        isolation.to_string().contains("own namespaces"),
        "{isolation}"
    );
}
