//! Clients that share no code with the SDKs for Rust: the AWS CLI and boto3.
//!
//! `AWS_CLI` and `PYTHON` say where they are; `./check` installs both.

use std::{path::PathBuf, process::Command};

use aws_sdk_codedeploy::types::DeploymentStatus;
use serde_json::Value;

use crate::{
    registry::{program, program_that},
    world::{self, ALL_AT_ONCE, Setting, World},
};

/// The AWS CLI with the stage's endpoint and user, and nothing from this machine's configuration.
struct Cli {
    program: String,
    endpoint: String,
    dir: tempfile::TempDir,
}

impl Cli {
    fn of(world: &World) -> Option<Self> {
        Some(Self {
            program: program("aws", "AWS_CLI")?,
            endpoint: world.stage.endpoint_url(),
            dir: tempfile::tempdir().unwrap(),
        })
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", "stage")
            .env("AWS_SECRET_ACCESS_KEY", "stage")
            .env("AWS_DEFAULT_REGION", "eu-west-1")
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_PAGER", "")
            .env_remove("AWS_PROFILE")
            .current_dir(self.dir.path());
        command
    }

    /// Runs a command line; its words are separated by blanks.
    async fn run(&self, line: &str) -> Result<Value, String> {
        let mut command = self.command(&self.program);
        command.args(line.split_whitespace());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8(output.stdout).unwrap();
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn ok(&self, line: &str) -> Value {
        self.run(line)
            .await
            .unwrap_or_else(|error| panic!("aws {line}: {error}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_cli_releases_and_stops() {
    let setting = Setting {
        config: ALL_AT_ONCE,
        ready_wait: Some(2880),
        termination_wait: 1,
        ..Setting::default()
    };
    let world = World::serving(120.0, setting).await;
    let Some(cli) = Cli::of(&world) else {
        return world.stop().await;
    };

    let services = cli
        .ok("ecs describe-services --cluster demo --services demo")
        .await;
    assert_eq!(
        services["services"][0]["deployments"],
        serde_json::json!([])
    );
    assert_eq!(services["services"][0]["taskSets"][0]["status"], "PRIMARY");

    let definition = serde_json::json!({
        "family": "app", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
        "cpu": "256", "memory": "512",
        "containerDefinitions": [{
            "name": "app", "image": world.image, "portMappings": [{ "containerPort": 8080 }],
            "environment": [{ "name": "MESSAGE", "value": "green" }],
        }],
    });
    cli.file("definition.json", &definition.to_string());
    let registered = cli
        .ok("ecs register-task-definition --cli-input-json file://definition.json")
        .await;
    let arn = registered["taskDefinition"]["taskDefinitionArn"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(arn.ends_with(":task-definition/app:2"), "{arn}");

    cli.file("appspec.json", &world::appspec(&arn, &[]));
    cli.ok("s3 cp appspec.json s3://demo-releases/appspec.json")
        .await;
    let listed = cli.ok("s3 ls s3://demo-releases/").await;
    assert!(
        listed.as_str().unwrap().contains("appspec.json"),
        "{listed}"
    );
    let create = "deploy create-deployment --application-name demo --deployment-group-name demo \
        --s3-location bucket=demo-releases,key=appspec.json,bundleType=JSON";
    let id = cli.ok(create).await["deploymentId"]
        .as_str()
        .unwrap()
        .to_owned();
    let second = cli.run(create).await.unwrap_err();
    assert!(
        second.contains("DeploymentLimitExceededException") && second.contains(&id),
        "{second}"
    );

    world.until_status(&id, DeploymentStatus::Ready).await;
    let shown = cli
        .ok(&format!("deploy get-deployment --deployment-id {id}"))
        .await;
    assert_eq!(shown["deploymentInfo"]["status"], "Ready");
    cli.ok(&format!(
        "deploy continue-deployment --deployment-id {id} --deployment-wait-type READY_WAIT"
    ))
    .await;
    cli.ok(&format!(
        "deploy wait deployment-successful --deployment-id {id}"
    ))
    .await;
    assert_eq!(world.get("/").await.1, "green");

    world.until_alone().await;
    let id = cli.ok(create).await["deploymentId"]
        .as_str()
        .unwrap()
        .to_owned();
    world.until_status(&id, DeploymentStatus::Ready).await;
    let stop = format!("deploy stop-deployment --deployment-id {id} --auto-rollback-enabled");
    assert_eq!(cli.ok(&stop).await["status"], "Pending");
    world.until_status(&id, DeploymentStatus::Stopped).await;
    let list = "deploy list-deployments --application-name demo --deployment-group-name demo";
    assert_eq!(
        cli.ok(list).await["deployments"].as_array().unwrap().len(),
        3
    );
    let wait = cli
        .run(&format!(
            "deploy wait deployment-successful --deployment-id {id}"
        ))
        .await;
    assert!(wait.unwrap_err().contains("terminal failure state"));
    world.stop().await;
}

const BOTO: &str = r#"
import boto3, json, sys, botocore.exceptions
image, role = sys.argv[1], "arn:aws:iam::000000000000:role/x"
ecs, deploy, s3 = (boto3.client(name) for name in ("ecs", "codedeploy", "s3"))
arn = ecs.register_task_definition(
    family="job", networkMode="awsvpc", requiresCompatibilities=["FARGATE"], cpu="256", memory="512",
    containerDefinitions=[{"name": "app", "image": image, "portMappings": [{"containerPort": 8080}]}],
)["taskDefinition"]["taskDefinitionArn"]
run = ecs.run_task(
    cluster="demo", taskDefinition=arn, launchType="FARGATE",
    networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
    overrides={"containerOverrides": [{"name": "app", "command": ["exit", "5"]}]},
)
assert not run["failures"], run
task = run["tasks"][0]["taskArn"]
ecs.get_waiter("tasks_stopped").wait(cluster="demo", tasks=[task], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
ended = ecs.describe_tasks(cluster="demo", tasks=[task])["tasks"][0]
assert ended["containers"][0]["exitCode"] == 5, ended
assert ended["stopCode"] == "EssentialContainerExited", ended
assert ended["createdAt"].year >= 2025, ended

appspec = {"version": 0.0, "Resources": [{"TargetService": {"Type": "AWS::ECS::Service", "Properties": {
    "TaskDefinition": arn, "LoadBalancerInfo": {"ContainerName": "app", "ContainerPort": 8080}}}}]}
s3.put_object(Bucket="demo-releases", Key="a/appspec.yaml", Body=json.dumps(appspec))
assert s3.get_object(Bucket="demo-releases", Key="a/appspec.yaml")["Body"].read() == json.dumps(appspec).encode()
id = deploy.create_deployment(applicationName="demo", deploymentGroupName="demo", revision={
    "revisionType": "S3",
    "s3Location": {"bucket": "demo-releases", "key": "a/appspec.yaml", "bundleType": "YAML"},
})["deploymentId"]
deploy.get_waiter("deployment_successful").wait(deploymentId=id, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
target = deploy.get_deployment_target(deploymentId=id, targetId="demo:demo")["deploymentTarget"]["ecsTarget"]
assert [s["trafficWeight"] for s in target["taskSetsInfo"]] == [0.0, 100.0], target
assert target["taskSetsInfo"][0]["identifer"].startswith("ecs-svc/"), target
try:
    ecs.get_waiter("services_stable").wait(cluster="demo", services=["demo"], WaiterConfig={"Delay": 1, "MaxAttempts": 2})
    raise AssertionError("services_stable cannot succeed for a CODE_DEPLOY service")
except botocore.exceptions.WaiterError as error:
    assert "Max attempts exceeded" in str(error), error
try:
    deploy.get_deployment(deploymentId="d-NOBODY000")
    raise AssertionError("found")
except deploy.exceptions.DeploymentDoesNotExistException:
    pass
"#;

#[tokio::test(flavor = "multi_thread")]
async fn boto3_waits_as_it_does_for_aws() {
    let setting = Setting {
        config: ALL_AT_ONCE,
        termination_wait: 0,
        ..Setting::default()
    };
    let world = World::serving(120.0, setting).await;
    let (Some(cli), Some(python)) = (
        Cli::of(&world),
        program_that("python3", "PYTHON", &["-c", "import boto3"]),
    ) else {
        return world.stop().await;
    };
    cli.file("test.py", BOTO);
    let mut command = cli.command(&python);
    command.args(["test.py", &world.image]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    world.stop().await;
}
