//! The door: signatures, headers, what is not an operation; and a stage that cannot start.

use super::{raw, signed};
use crate::world::{World, code, sdk_config};

#[tokio::test(flavor = "multi_thread")]
async fn requests_must_be_signed_by_the_stage_s_user() {
    let world = World::empty(10.0).await;
    for (access, secret, expected) in [
        ("stage", "wrong", "InvalidSignatureException"),
        ("nobody", "stage", "UnrecognizedClientException"),
    ] {
        let config = sdk_config(&world.stage, access, secret).await;
        let client = aws_sdk_codedeploy::Client::new(&config);
        let error = client.list_applications().send().await.unwrap_err();
        assert_eq!(code(&error), expected);
        let client = aws_sdk_ecs::Client::new(&config);
        let error = client.list_clusters().send().await.unwrap_err();
        assert_eq!(code(&error), expected);
        let config = aws_sdk_s3::config::Builder::from(&config)
            .force_path_style(true)
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        client.list_buckets().send().await.unwrap_err();
    }
    let (status, _, body) = raw(&world, "CodeDeploy_20141006.ListApplications", "{}").await;
    assert_eq!(status, 400);
    assert_eq!(body["__type"], "MissingAuthenticationTokenException");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_carry_a_request_id_and_the_real_date() {
    // At this speed virtual time is hours ahead within the test.
    let world = World::empty(100_000.0).await;
    let (_, headers, _) = raw(&world, "CodeDeploy_20141006.ListApplications", "{}").await;
    assert_eq!(headers["x-amzn-requestid"].len(), 36);
    assert_eq!(headers["content-type"], "application/x-amz-json-1.1");
    let date = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(headers["date"].to_str().unwrap())
        .unwrap();
    let off = jiff::Timestamp::now().duration_since(date).as_secs().abs();
    assert!(off < 60, "{off} s off");
    // Requests go on being signed with real time: the SDK follows the Date header.
    world.create_application().await;
    world
        .until("virtual time is ahead", async || {
            let real = jiff::Timestamp::now().as_second().unsigned_abs();
            world.stage.clock().now().as_secs() > real + 20 * 60
        })
        .await;
    let answer = world
        .codedeploy
        .get_application()
        .application_name("demo")
        .send()
        .await
        .unwrap();
    assert!(answer.application().unwrap().create_time().is_some());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_an_operation_or_not_json() {
    let world = World::empty(10.0).await;
    for target in [
        "CodeDeploy_20141006.Nothing",
        "Other_20141006.ListApplications",
        "nonsense",
    ] {
        let (status, _, body) = signed(&world, target, "{}");
        assert_eq!(status, 400, "{target}");
        assert_eq!(body["__type"], "UnknownOperationException", "{target}");
    }
    for body in ["[1]", "{", "\"x\""] {
        let (status, _, body) = signed(&world, "CodeDeploy_20141006.ListApplications", body);
        assert_eq!(
            (status, &body["__type"]),
            (400, &"SerializationException".into())
        );
    }
    let (_, _, body) = signed(
        &world,
        "CodeDeploy_20141006.GetApplication",
        r#"{"applicationName": 7}"#,
    );
    assert_eq!(body["__type"], "SerializationException");
    let (_, _, body) = signed(&world, "CodeDeploy_20141006.ListApplications", "");
    assert_eq!(body["applications"], serde_json::json!([]));
    let large = format!(r#"{{"applicationName": "{}"}}"#, "x".repeat(2 << 20));
    let (status, _, _) = signed(&world, "CodeDeploy_20141006.GetApplication", &large);
    assert_eq!(status, 413);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_and_a_server_that_is_not_there() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for ports in [
        stage::Ports {
            api: port,
            ..Default::default()
        },
        stage::Ports {
            production: port,
            ..Default::default()
        },
        stage::Ports {
            test: port,
            ..Default::default()
        },
        stage::Ports {
            postgres: port,
            ..Default::default()
        },
    ] {
        let options = stage::Options {
            ports,
            ..Default::default()
        };
        let error = stage::Stage::start(options).await.unwrap_err().to_string();
        assert!(
            error.contains(&port.to_string()) && error.contains("choose another port"),
            "{error}"
        );
    }
    let options = stage::Options {
        postgres_bin: Some("/nowhere".into()),
        ..Default::default()
    };
    let error = stage::Stage::start(options).await.unwrap_err().to_string();
    assert!(error.contains("apt-get install postgresql"), "{error}");
}
