//! A stage in front of the rest of an account. The upstream is a stand-in that knows the few calls
//! which the stage makes; with an emulator and Terraform the same is tried by terraform/check.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_codedeploy::{error::ProvideErrorMetadata as _, types::DeploymentStatus};
use aws_sdk_ecs::types::Secret;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use stage::{Options, Stack, elb::Listener};

use crate::world::{Setting, World};

const ACCOUNT: &str = "123456789012";
const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:demo-AbCdEf";

/// What the stand-in answers with, and what it was asked.
#[derive(Default)]
struct Rest {
    ports: [u16; 2],
    threshold: u32,
    calls: Vec<(String, BTreeMap<String, String>)>,
}

impl Rest {
    fn answer(&mut self, what: &str, parameters: BTreeMap<String, String>) -> (u16, String) {
        let get = |name: &str| parameters.get(name).cloned().unwrap_or_default();
        let stack = Stack {
            account_id: ACCOUNT.into(),
            ..Stack::named("demo")
        };
        let listener = |arn: String, port: u16, groups: [(&str, u32); 2]| {
            let groups = groups.map(|(name, weight)| {
                let arn = stack.target_group_arn(name);
                format!("<member><TargetGroupArn>{arn}</TargetGroupArn><Weight>{weight}</Weight></member>")
            });
            let groups = groups.concat();
            format!(
                "<member><ListenerArn>{arn}</ListenerArn><Port>{port}</Port><DefaultActions><member><Type>forward\
                 </Type><ForwardConfig><TargetGroups>{groups}</TargetGroups></ForwardConfig></member></DefaultActions></member>"
            )
        };
        let body = match what {
            "GetCallerIdentity" => format!("<Account>{ACCOUNT}</Account>"),
            "DescribeTargetGroups" => {
                let arn = get("TargetGroupArns.member.1");
                let name = arn.split('/').nth(1).unwrap_or_default();
                format!(
                    "<TargetGroups><member><TargetGroupName>{name}</TargetGroupName><HealthCheckPath>/healthz/ready\
                     </HealthCheckPath><HealthCheckIntervalSeconds>10</HealthCheckIntervalSeconds><LoadBalancerArns>\
                     <member>{}</member></LoadBalancerArns></member></TargetGroups>",
                    stack.load_balancer_arn()
                )
            }
            "DescribeTargetGroupAttributes" => {
                "<Attributes><member><Key>deregistration_delay.timeout_seconds</Key><Value>7</Value></member></Attributes>".to_owned()
            }
            "DescribeListeners" => {
                let production = listener(stack.production_listener_arn(), self.ports[0], [("demo-a", 100), ("demo-b", 0)]);
                let test = listener(stack.test_listener_arn(), self.ports[1], [("demo-a", 0), ("demo-b", 1)]);
                format!("<Listeners>{production}{test}</Listeners>")
            }
            "DescribeAlarms" => format!(
                "<MetricAlarms><member><AlarmName>demo-red</AlarmName><Namespace>AWS/ApplicationELB</Namespace>\
                 <MetricName>HTTPCode_Target_5XX_Count</MetricName><Statistic>Sum</Statistic><Period>60</Period>\
                 <EvaluationPeriods>1</EvaluationPeriods><Threshold>{}</Threshold><ComparisonOperator>\
                 GreaterThanThreshold</ComparisonOperator><TreatMissingData>notBreaching</TreatMissingData>\
                 <Dimensions/></member></MetricAlarms>",
                self.threshold
            ),
            "ModifyListener" | "PUT /bucket" | "POST /2015-03-31/functions" => String::new(),
            "secretsmanager.GetSecretValue" => {
                let body = r#"{"SecretString":"{\"password\":\"from upstream\"}"}"#;
                self.calls.push((what.to_owned(), parameters));
                return (200, body.to_owned());
            }
            _ => {
                self.calls.push((what.to_owned(), parameters));
                return (500, "not implemented".to_owned());
            }
        };
        self.calls.push((what.to_owned(), parameters));
        (200, format!("<Answer>{body}</Answer>"))
    }

    /// The weights of the last `ModifyListener` of a listener, by target group.
    fn weights(&self, listener: &str) -> Option<BTreeMap<String, String>> {
        let (_, parameters) = self.calls.iter().rev().find(|(what, parameters)| {
            what == "ModifyListener" && parameters["ListenerArn"] == listener
        })?;
        let group =
            |n: u32| format!("DefaultActions.member.1.ForwardConfig.TargetGroups.member.{n}");
        let weights = [1, 2].map(|n| {
            let arn = &parameters[&format!("{}.TargetGroupArn", group(n))];
            let name = arn.split('/').nth(1).unwrap_or_default();
            (
                name.to_owned(),
                parameters[&format!("{}.Weight", group(n))].clone(),
            )
        });
        Some(weights.into())
    }

    fn asked(&self, what: &str) -> bool {
        self.calls.iter().any(|(call, _)| call == what)
    }
}

/// A stage in front of the stand-in.
struct InFront {
    world: World,
    rest: Arc<Mutex<Rest>>,
}

async fn in_front() -> InFront {
    let rest = Arc::new(Mutex::new(Rest {
        threshold: 5,
        ..Rest::default()
    }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    let served = Arc::clone(&rest);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let rest = Arc::clone(&served);
            let service = service_fn(move |request| answer(Arc::clone(&rest), request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let world = World::of(Options {
        speed: 60.0,
        upstream: Some(upstream),
        stack: Stack::named("demo"),
        ..Options::default()
    })
    .await;
    let balancer = world.stage.load_balancer();
    rest.lock().unwrap().ports = [
        balancer.production_address().port(),
        balancer.test_address().port(),
    ];
    InFront { world, rest }
}

async fn answer(
    rest: Arc<Mutex<Rest>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let decode = |text: &str| text.replace("%3A", ":").replace("%2F", "/");
    let parameters: BTreeMap<String, String> = std::str::from_utf8(&body)
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    let target = parts.headers.get("x-amz-target");
    let what = match (target, parameters.get("Action")) {
        (Some(target), _) => target.to_str().unwrap().to_owned(),
        (None, Some(action)) => action.clone(),
        (None, None) => format!(
            "{} {}",
            parts.method,
            parts.uri.path().trim_end_matches('/')
        ),
    };
    let (status, text) = rest.lock().unwrap().answer(&what, parameters);
    Ok(Response::builder()
        .status(status)
        .body(text.into())
        .unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_terraform_made_is_taken_over_and_weights_are_carried_back() {
    let InFront { world, rest } = in_front().await;
    assert_eq!(world.stage.stack().account_id, ACCOUNT);
    let setting = Setting {
        alarms: vec!["demo-red"],
        termination_wait: 0,
        ..Setting::default()
    };
    world.serve(&setting, 1).await;
    let balancer = world.stage.load_balancer();
    let delay = balancer.deregistration_delay("demo-a").unwrap();
    assert_eq!(
        delay,
        Duration::from_secs(7),
        "the target group is the one that was made"
    );
    let threshold = || {
        world
            .stage
            .alarms()
            .get("demo-red")
            .unwrap()
            .definition
            .threshold
    };
    assert!((threshold() - 5.0).abs() < 1e-9, "so is the alarm");

    // It is changed, as Terraform does, without a word to the stage.
    rest.lock().unwrap().threshold = 9;
    let container = world.container(&[("MESSAGE", "green")]).secrets(
        Secret::builder()
            .name("PASSWORD")
            .value_from(format!("{SECRET}:password::"))
            .build()
            .unwrap(),
    );
    let definition = world.register_container("app", container).await;
    let id = world.deploy_definition(&definition, &[]).await;
    world.until_status(&id, DeploymentStatus::Succeeded).await;
    assert!(
        (threshold() - 9.0).abs() < 1e-9,
        "the alarm is asked for at each deployment"
    );
    let secret = world
        .stage
        .secrets()
        .resolve(&format!("{SECRET}:password::"));
    assert_eq!(secret.as_deref(), Ok("from upstream"));

    let weights = |zero: &str, all: &str| {
        let pairs = [(zero, "0"), (all, "100")];
        BTreeMap::from(pairs.map(|(name, weight)| (name.to_owned(), weight.to_owned())))
    };
    let stack = world.stage.stack().clone();
    world
        .until("the weights have been carried over", async || {
            let rest = rest.lock().unwrap();
            rest.weights(&stack.production_listener_arn()) == Some(weights("demo-a", "demo-b"))
                && rest.weights(&stack.test_listener_arn()) == Some(weights("demo-a", "demo-b"))
        })
        .await;
    assert_eq!(balancer.weights(Listener::Production).len(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_on_other_ports_are_refused_with_what_to_do() {
    let InFront { world, rest } = in_front().await;
    rest.lock().unwrap().ports = [80, 8080];
    world
        .ecs
        .create_cluster()
        .cluster_name("demo")
        .send()
        .await
        .unwrap();
    let first = world.register(&[("MESSAGE", "blue")]).await;
    let error = world.service_request(&first, 1).send().await.unwrap_err();
    let error = error.message().unwrap_or_default();
    assert!(
        error.contains("listens on 80, 8080")
            && error.contains("give the stage --port and Terraform `ports` the same"),
        "{error}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_upstream_and_objects_are_here() {
    let InFront { world, rest } = in_front().await;
    world
        .s3
        .create_bucket()
        .bucket("bucket")
        .send()
        .await
        .unwrap();
    let body = aws_sdk_s3::primitives::ByteStream::from_static(b"hello");
    let put = world.s3.put_object().bucket("bucket").key("a/b").body(body);
    put.send().await.unwrap();
    let object = world
        .s3
        .get_object()
        .bucket("bucket")
        .key("a/b")
        .send()
        .await
        .unwrap();
    assert_eq!(object.body.collect().await.unwrap().to_vec(), b"hello");
    let listed = world
        .s3
        .list_objects_v2()
        .bucket("bucket")
        .send()
        .await
        .unwrap();
    assert_eq!(listed.contents().len(), 1);
    assert!(world.stage.dir().join("s3/bucket/a/b").is_file());
    assert!(rest.lock().unwrap().asked("PUT /bucket"));
    assert!(!rest.lock().unwrap().asked("PUT /bucket/a/b"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_upstream_lacks_is_no_server_error_that_clients_try_again() {
    let InFront { world, rest } = in_front().await;
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http();
    let ask = async |target: &str| {
        let request = Request::post(world.stage.endpoint_url())
            .header("x-amz-target", target)
            .body(Full::new(Bytes::from_static(b"{}")))
            .unwrap();
        client.request(request).await.unwrap().status().as_u16()
    };
    assert_eq!(ask("DynamoDB_20120810.ListTables").await, 501);
    assert!(rest.lock().unwrap().asked("DynamoDB_20120810.ListTables"));
    // What the stage serves itself does not go there.
    assert_eq!(ask("CodeDeploy_20141006.Nothing").await, 400);
    assert!(!rest.lock().unwrap().asked("CodeDeploy_20141006.Nothing"));
    world.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let started = stage::Stage::start(Options {
        upstream: Some(format!("http://{address}")),
        ..Options::default()
    });
    let error = started.await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("cannot reach the upstream endpoint {address}")),
        "{error}"
    );
}
