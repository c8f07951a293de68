//! Functions as processes: the runtime API, time-outs, crashes, and what is left of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use stage::functions::{FunctionError, FunctionOptions};

use crate::support::{eventually, is_gone, test_function};
use crate::world::World;

const NAME: &str = "CodeDeployHook_test";

fn options(mode: &str) -> FunctionOptions {
    FunctionOptions {
        environment: BTreeMap::from([("MODE".to_owned(), mode.to_owned())]),
        timeout: Duration::from_secs(30),
        ..FunctionOptions::new(test_function())
    }
}

/// A stage with the test function in one mode.
async fn stage(options: FunctionOptions) -> World {
    let world = World::empty(1.0).await;
    let arn = world.stage.functions().create(NAME, options).unwrap();
    assert_eq!(
        arn,
        format!("arn:aws:lambda:eu-west-1:000000000000:function:{NAME}")
    );
    world
}

fn log(world: &World) -> String {
    std::fs::read_to_string(world.stage.functions().log(NAME)).unwrap_or_default()
}

/// Calls it, and waits until it has been reported so many times in all.
async fn call(world: &World, reports: usize) -> String {
    assert!(world.stage.functions().invoke(NAME, json!({"n": reports})));
    eventually("it is reported", || async {
        log(world).matches("REPORT RequestId").count() == reports
    })
    .await;
    log(world)
}

/// What follows a word at the beginning of lines.
fn lines<'a>(log: &'a str, word: &str) -> Vec<&'a str> {
    log.lines()
        .filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_started_once_and_gets_every_event() {
    let world = stage(options("")).await;
    call(&world, 1).await;
    let log = call(&world, 2).await;
    assert_eq!(lines(&log, "event"), [r#"{"n":1}"#, r#"{"n":2}"#]);
    let pids = lines(&log, "pid");
    assert_eq!(pids[0], pids[1]);
    assert_eq!(log.matches("Init Duration").count(), 1);
    for left in lines(&log, "left") {
        let left: u64 = left.parse().unwrap();
        assert!((20_000..=30_000).contains(&left), "{left}");
    }
    let arn = format!("arn:aws:lambda:eu-west-1:000000000000:function:{NAME}");
    assert_eq!(lines(&log, "arn"), [arn.as_str(), &arn]);
    for trace in lines(&log, "trace") {
        assert!(
            trace.starts_with("Root=1-") && trace.contains(";Parent="),
            "{trace}"
        );
    }
    let order: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once(" RequestId").map(|(word, _)| word))
        .collect();
    assert_eq!(order, ["START", "END", "REPORT"].repeat(2));

    let pid = pids[0].parse().unwrap();
    assert!(!is_gone(pid));
    world.stop().await;
    assert!(is_gone(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_lambdas() {
    let mut options = options("env");
    options.environment.insert("HOOK_X".into(), "1".into());
    options.memory_mb = 256;
    let world = stage(options).await;
    let log = call(&world, 1).await;
    let endpoint = format!("AWS_ENDPOINT_URL={}", world.stage.endpoint_url());
    for line in [
        "HOOK_X=1",
        "AWS_LAMBDA_FUNCTION_NAME=CodeDeployHook_test",
        "AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
        "AWS_REGION=eu-west-1",
        "AWS_ACCESS_KEY_ID=stage",
        "_HANDLER=bootstrap",
        &endpoint,
    ] {
        assert!(log.lines().any(|found| found == line), "no {line} in {log}");
    }
    // Nothing of this process.
    assert!(!log.contains("CARGO_MANIFEST_DIR"), "{log}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_told_and_the_process_stays() {
    let world = stage(options("error")).await;
    call(&world, 1).await;
    let log = call(&world, 2).await;
    assert_eq!(log.matches(" Error: as told").count(), 2, "{log}");
    let pids = lines(&log, "pid");
    assert_eq!(pids[0], pids[1]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_told_and_the_next_call_has_another_process() {
    let world = stage(options("exit")).await;
    call(&world, 1).await;
    let log = call(&world, 2).await;
    let told = "Error: Runtime exited with error: exit status 7\nRuntime.ExitError";
    assert_eq!(log.matches(told).count(), 2, "{log}");
    let pids = lines(&log, "pid");
    assert_ne!(pids[0], pids[1]);
    assert_eq!(log.matches("Init Duration").count(), 2);
    world.stop().await;
}

/// A process that ends when nobody looks is not used again.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_between_two_calls() {
    let world = stage(options("end-between")).await;
    let log = call(&world, 1).await;
    let pid = lines(&log, "pid")[0].parse().unwrap();
    eventually("it ends", || async { is_gone(pid) }).await;
    let log = call(&world, 2).await;
    assert!(!log.contains("Error:"), "{log}");
    assert_eq!(lines(&log, "event").len(), 2);
    world.stop().await;
}

/// The time-out ends the process and what it has started.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_too_long() {
    let mut options = options("silent");
    options.timeout = Duration::from_secs(1);
    let world = stage(options).await;
    let log = call(&world, 1).await;
    assert!(log.contains(" Task timed out after 1.00 seconds"), "{log}");
    for word in ["pid", "child"] {
        let pid = lines(&log, word)[0].parse().unwrap();
        eventually("it is gone", || async { is_gone(pid) }).await;
    }
    world.stop().await;
}

/// A stage that is dropped without being stopped ends its functions too.
#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_is_dropped() {
    let world = stage(options("silent")).await;
    assert!(world.stage.functions().invoke(NAME, json!({})));
    eventually("it has a child", || async {
        log(&world).contains("\nchild ")
    })
    .await;
    let log = log(&world);
    let pids = ["pid", "child"].map(|word| lines(&log, word)[0].parse().unwrap());
    drop(world);
    for pid in pids {
        eventually("it is gone", || async { is_gone(pid) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_start() {
    let world = stage(options("exit-at-once")).await;
    let log = call(&world, 1).await;
    assert!(log.contains("exit status 3\nRuntime.ExitError"), "{log}");
    world.stop().await;

    let world = stage(options("init-error")).await;
    let log = call(&world, 1).await;
    assert!(log.contains("no luck\nRuntime.InitError"), "{log}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_api_refuses_what_lambdas_refuses() {
    let world = stage(options("wrong-id")).await;
    let log = call(&world, 1).await;
    eventually("it has asked", || async {
        lines(&self::log(&world), "status").len() == 4
    })
    .await;
    assert_eq!(
        lines(&self::log(&world), "status"),
        ["400", "404", "202", "400"]
    );
    assert!(!log.contains("Error:"), "{log}");
    world.stop().await;

    let world = stage(options("large")).await;
    let log = call(&world, 1).await;
    assert!(log.contains("Function.ResponseSizeTooLarge"), "{log}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_is_named() {
    let world = World::empty(1.0).await;
    let functions = world.stage.functions();
    let made = |name: &str, change: &dyn Fn(&mut FunctionOptions)| {
        let mut options = options("");
        change(&mut options);
        functions.create(name, options)
    };
    let error = made("a b", &|_| ()).unwrap_err();
    assert!(matches!(error, FunctionError::Invalid { .. }), "{error}");
    let error = made("x", &|options| options.package = PathBuf::from("none.zip"));
    assert!(error.unwrap_err().to_string().contains("none.zip"));
    let error = made("x", &|options| {
        options.package = test_function().with_extension("");
    });
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("not a function's package")
    );
    assert!(!functions.invoke("x", json!({})));
    world.stop().await;
}
