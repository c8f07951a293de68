//! Deployments with the hook of `src/hook`: the very package that Lambda would get, run by the stage.
//!
//! It is `hook.zip` of `$SEREIN_BUNDLES`, else of `.serein/bundles` upwards from this crate.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_sdk_codedeploy::types::{DeploymentStatus, ErrorCode, LifecycleEventStatus};
use stage::functions::FunctionOptions;

use crate::support::test_function;
use crate::world::{CANARY, Setting, World};

const NAME: &str = "CodeDeployHook_smoke";
const HOOKS: [(&str, &str); 1] = [("AfterAllowTestTraffic", NAME)];

fn package() -> PathBuf {
    let bundles = std::env::var_os("SEREIN_BUNDLES").map_or_else(
        || {
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            here.ancestors()
                .map(|directory| directory.join(".serein/bundles"))
                .find(|path| path.is_dir())
                .unwrap_or_default()
        },
        PathBuf::from,
    );
    let package = bundles.join("hook.zip");
    assert!(
        package.is_file(),
        "no {}: make it with `nix/host/bundles .serein/bundles`, or name its directory in SEREIN_BUNDLES",
        package.display()
    );
    package
}

fn setting() -> Setting {
    Setting {
        config: CANARY,
        termination_wait: 0,
        ..Setting::default()
    }
}

/// A stage with the hook that has these variables.
async fn guarded(speed: f64, variables: &[(&str, &str)]) -> World {
    let world = World::serving(speed, setting()).await;
    let mut options = FunctionOptions::new(package());
    options.timeout = Duration::from_mins(1);
    let test_url = world.stage.test_url();
    let url = ("HOOK_TEST_URL", test_url.as_str());
    for (name, value) in variables.iter().chain([&url]) {
        options
            .environment
            .insert((*name).to_owned(), (*value).to_owned());
    }
    world.stage.functions().create(NAME, options).unwrap();
    world
}

fn log(world: &World) -> String {
    std::fs::read_to_string(world.stage.functions().log(NAME)).unwrap_or_default()
}

/// The hook's own line.
fn verdict(world: &World) -> serde_json::Value {
    let log = log(world);
    let line = log.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(line.unwrap_or_else(|| panic!("no verdict in {log}"))).unwrap()
}

/// The deployment fails at the hook, and blue has everything.
async fn is_refused(world: &World, green: &[(&str, &str)], code: ErrorCode) -> String {
    let id = world.deploy_with_hooks(green, &HOOKS).await;
    let info = world.until_status(&id, DeploymentStatus::Failed).await;
    let error = info.error_information().unwrap();
    assert_eq!(error.code(), Some(&code));
    let failed = world.events_that_are(&id, LifecycleEventStatus::Failed);
    assert_eq!(failed.await, ["AfterAllowTestTraffic"]);
    let rollback = info.rollback_info().unwrap().rollback_deployment_id();
    let rollback = rollback.unwrap();
    world
        .until_status(rollback, DeploymentStatus::Succeeded)
        .await;
    assert_eq!(world.weight("demo-a"), 100);
    assert_eq!(world.get("/").await, (200, "blue".to_owned()));
    error.message().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_green_passes() {
    let world = guarded(120.0, &[("HOOK_PATHS", "/ /healthz/ready")]).await;
    let id = world
        .deploy_with_hooks(&[("MESSAGE", "green")], &HOOKS)
        .await;
    world.until_status(&id, DeploymentStatus::Succeeded).await;
    assert_eq!(world.get("/").await.1, "green");
    let verdict = verdict(&world);
    assert_eq!(verdict["status"], "Succeeded");
    assert_eq!(verdict["deployment_id"], id.as_str());
    assert_eq!(verdict["failed"], 0);
    assert!(log(&world).contains("REPORT RequestId"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_green_that_fails_is_refused_before_it_has_a_user() {
    let world = guarded(120.0, &[("HOOK_PATHS", "/ /status/500")]).await;
    let green = [("MESSAGE", "green")];
    is_refused(&world, &green, ErrorCode::HookExecutionFailure).await;
    let verdict = verdict(&world);
    assert_eq!(verdict["status"], "Failed");
    let message = verdict["message"].as_str().unwrap();
    assert!(message.contains("/status/500 500"), "{message}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_not_there_is_refused() {
    let world = guarded(120.0, &[("HOOK_PATHS", "/ /status/404")]).await;
    is_refused(&world, &[], ErrorCode::HookExecutionFailure).await;
    let message = verdict(&world)["message"].to_string();
    assert!(
        message.contains("no good answer of /status/404"),
        "{message}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_make_no_sense_are_refused() {
    let world = guarded(120.0, &[("HOOK_CONCURRENCY", "many")]).await;
    is_refused(&world, &[], ErrorCode::HookExecutionFailure).await;
    let verdict = verdict(&world);
    assert_eq!(verdict["reason"], "configuration");
    assert!(verdict["message"].to_string().contains("HOOK_CONCURRENCY"));
    world.stop().await;
}

/// CodeDeploy knows nothing of a function that crashes or is silent: the deployment fails when the
/// hour is over, here two and a half seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_never_answers_costs_an_hour() {
    for mode in ["exit", "silent", ""] {
        let world = World::serving(1440.0, setting()).await;
        let mut options = FunctionOptions::new(test_function());
        options.timeout = Duration::from_secs(1);
        options.environment.insert("MODE".into(), mode.into());
        world.stage.functions().create(NAME, options).unwrap();
        let begun = Instant::now();
        let message = is_refused(&world, &[], ErrorCode::Timeout).await;
        assert!(begun.elapsed() > Duration::from_millis(2500));
        assert!(message.contains("status callback"), "{mode}: {message}");
        let said = match mode {
            "exit" => "Runtime.ExitError",
            "silent" => "Task timed out",
            _ => "REPORT RequestId",
        };
        assert!(log(&world).contains(said), "{mode}: {}", log(&world));
        world.stop().await;
    }
}
