//! The file system of a task.

use super::*;

#[tokio::test]
async fn a_task_sees_its_image_and_nothing_else() {
    let bench = Bench::new().await;
    let task = bench.serve(&[]).await;
    let root = task.get("/list/").await;
    let names: Vec<&str> = root.split(' ').collect();
    for name in ["bin", "dev", "etc", "proc", "tmp"] {
        assert!(names.contains(&name), "{root}");
    }
    for name in ["boot", "usr", "opt"] {
        assert!(!names.contains(&name), "{root}");
    }
    assert_eq!(
        task.get("/list/dev").await,
        "fd full null random shm stderr stdin stdout urandom zero"
    );
    assert_eq!(task.get("/write/dev/null").await, "written");
    assert_eq!(task.get("/write/dev/full").await, "StorageFull");
    assert_eq!(task.get("/read/dev/null").await, "0");
    // Its own processes only.
    let proc = task.get("/list/proc").await;
    let pids: Vec<&str> = proc
        .split(' ')
        .filter(|name| name.parse::<u32>().is_ok())
        .collect();
    assert_eq!(pids, ["1"]);
}

#[tokio::test]
async fn the_root_is_read_only_and_temporary_files_are_not() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("serve");
    // As root, so that only the mount forbids it.
    spec.user = Some("0:0".into());
    let task = bench.serve_spec(spec).await;
    for path in [
        "/write/x",
        "/write/etc/x",
        "/write/bin/task",
        "/write/dev/x",
    ] {
        assert_eq!(task.get(path).await, "ReadOnlyFilesystem", "{path}");
    }
    for path in ["/write/tmp/x", "/write/dev/shm/x"] {
        assert_eq!(task.get(path).await, "written", "{path}");
    }
}

#[tokio::test]
async fn permissions_of_the_image_hold() {
    let bench = Bench::new().await;
    let file = "/read/etc/for-root-only";
    let task = bench.serve(&[]).await;
    if is_root() {
        assert_eq!(task.get(file).await, "PermissionDenied");
    }
    let mut spec = bench.spec("serve");
    spec.user = Some("root".into());
    let task = bench.serve_spec(spec).await;
    assert_eq!(task.get(file).await, "6", "root of the image owns it");
}

#[tokio::test]
async fn a_writable_root_is_the_tasks_own() {
    let bench = Bench::new().await;
    let spec = || {
        let mut spec = bench.spec("serve");
        spec.readonly_root = false;
        spec.user = Some("0:0".into());
        spec
    };
    let task = bench.serve_spec(spec()).await;
    for path in ["x", "etc/x", "etc/passwd"] {
        assert_eq!(
            task.get(&format!("/write/{path}")).await,
            "written",
            "{path}"
        );
    }
    assert_eq!(task.get("/read/etc/passwd").await, "1");
    assert_eq!(task.get("/list/dev").await.split(' ').count(), 10);

    let other = bench.serve_spec(spec()).await;
    assert_ne!(other.get("/read/etc/passwd").await, "1");
    assert!(!bench.image.rootfs.join("x").exists());
    assert!(read(&bench.image.rootfs.join("etc/passwd")).contains("nonroot"));
}

#[tokio::test]
async fn a_writable_root_is_that_of_its_user() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("serve");
    spec.readonly_root = false;
    let task = bench.serve_spec(spec).await;
    let expected = if is_root() {
        "PermissionDenied"
    } else {
        "written"
    };
    assert_eq!(task.get("/write/etc/x").await, expected);
    assert_eq!(task.get("/write/tmp/x").await, "written");
}

#[tokio::test]
async fn the_working_directory_is_that_of_the_definition() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("self");
    spec.working_directory = Some("/etc".into());
    let (_, facts) = bench.run(spec).await;
    assert_eq!(value(&facts, "cwd"), "/etc");
}
