//! Calls of CodeDeploy, good and bad.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{ANOTHER, CERTIFICATE, Function, Said, Server, call, codedeploy, now};

const TIME: Duration = Duration::from_mins(5);

/// The variables of a trial that is soon over.
fn variables<'a>(url: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![
        ("HOOK_TEST_URL", url),
        ("HOOK_RATE", "1000"),
        ("HOOK_CONCURRENCY", "1"),
        ("HOOK_SETTLE", "200ms"),
    ];
    all.extend_from_slice(more);
    all
}

/// One call, tried on a listener; what CodeDeploy was told, and the line in the log.
async fn tried(listener: &Server, more: &[(&str, &str)]) -> (Vec<Value>, Value) {
    let codedeploy = codedeploy(&[]).await;
    let url = format!("http://127.0.0.1:{}", listener.port);
    let variables = variables(&url, more);
    let mut function = Function::start(&codedeploy, &variables, &[(call(), TIME)]).await;
    let said = function.said(1).await;
    let log = function.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(said, [Said::Response(log[0].clone())]);
    (codedeploy.asked("/"), log[0].clone())
}

fn answered(status: &str) -> Vec<Value> {
    vec![json!({
        "deploymentId": "d-1",
        "lifecycleEventHookExecutionId": "e-1",
        "status": status,
    })]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_green_is_passed() {
    let listener = Server::start(|_, _| now(200)).await;
    let paths = [("HOOK_PATHS", "/ /admin"), ("HOOK_CRITICAL_PATHS", "/")];
    let (told, log) = tried(&listener, &paths).await;
    assert_eq!(told, answered("Succeeded"));
    assert_eq!(log["message"], "green passes: 22 probes, none failed");
    assert_eq!(log["deployment_id"], "d-1");
    assert_eq!(log["request_id"], "request-1");
    assert_eq!(log["endpoints"][1]["good"], 11);
    // One to see that somebody is there.
    assert_eq!(listener.count(), 23);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_green_is_refused_after_two_probes() {
    let listener = Server::start(|_, _| now(500)).await;
    let (told, log) = tried(&listener, &[]).await;
    assert_eq!(told, answered("Failed"));
    assert_eq!(log["endpoints"][0]["failures"], json!({"500": 2}));
    assert_eq!(log["reason"], "sprt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_not_there_is_a_failure() {
    let listener = Server::start(|path, _| now(if path == "/" { 200 } else { 404 })).await;
    let (told, log) = tried(&listener, &[("HOOK_PATHS", "/ /wrong")]).await;
    assert_eq!(told, answered("Failed"));
    let message = log["message"].as_str().unwrap();
    assert!(message.contains("/wrong 404"), "{message}");
    assert!(message.contains("no good answer of /wrong"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens() {
    // A port that was free a moment ago.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let codedeploy = codedeploy(&[]).await;
    let mut function = Function::start(&codedeploy, &variables(&url, &[]), &[(call(), TIME)]).await;
    function.said(1).await;
    assert_eq!(codedeploy.asked("/"), answered("Failed"));
    let message = function.log()[0]["message"].to_string();
    assert!(message.contains("refused"), "{message}");
}

/// With the certificate among those that the environment trusts; and without, which is a refusal.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_with_tls() {
    let listener = Server::start_tls(|_, _| now(200)).await;
    let url = format!("https://127.0.0.1:{}", listener.port);
    for (authorities, status) in [(CERTIFICATE, "Succeeded"), (ANOTHER, "Failed")] {
        let codedeploy = codedeploy(&[]).await;
        let more = [("SSL_CERT_FILE", authorities)];
        let variables = variables(&url, &more);
        let mut function = Function::start(&codedeploy, &variables, &[(call(), TIME)]).await;
        function.said(1).await;
        let log = function.log();
        assert_eq!(codedeploy.asked("/"), answered(status), "{log:?}");
    }
}

/// A body that never ends is as bad as no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_green_is_refused() {
    let slow = Duration::from_mins(5);
    let listener = Server::start(move |_, _| (200, String::new(), slow)).await;
    let more = [("HOOK_PROBE_TIMEOUT", "50ms")];
    let (told, log) = tried(&listener, &more).await;
    assert_eq!(told, answered("Failed"));
    let failures = json!({"no answer in time": 2});
    assert_eq!(log["endpoints"][0]["failures"], failures);
}

/// The answer is there well before the function's deadline, whatever the limits of the settings.
#[tokio::test(flavor = "multi_thread")]
async fn time_runs_out() {
    let slow = Duration::from_mins(5);
    let listener = Server::start(move |_, _| (200, String::new(), slow)).await;
    let codedeploy = codedeploy(&[]).await;
    let url = format!("http://127.0.0.1:{}", listener.port);
    let more = [("HOOK_PROBE_TIMEOUT", "1m"), ("HOOK_TIME_LIMIT", "50m")];
    let time = Duration::from_secs(3);
    let begun = Instant::now();
    let events = [(call(), time)];
    let mut function = Function::start(&codedeploy, &variables(&url, &more), &events).await;
    function.said(1).await;
    assert!(begun.elapsed() < time, "{:?}", begun.elapsed());
    assert_eq!(codedeploy.asked("/"), answered("Failed"));
    assert_eq!(function.log()[0]["reason"], "time");
}

/// CodeDeploy would wait an hour for an answer that a setting keeps from being given.
#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_makes_no_sense_is_a_refusal() {
    let codedeploy = codedeploy(&[]).await;
    let variables = [("HOOK_TEST_URL", "http://host"), ("HOOK_RATE", "fast")];
    let mut function = Function::start(&codedeploy, &variables, &[(call(), TIME)]).await;
    function.said(1).await;
    assert_eq!(codedeploy.asked("/"), answered("Failed"));
    let log = function.log();
    assert_eq!(log[0]["reason"], "configuration");
    let message = log[0]["message"].as_str().unwrap();
    assert!(message.contains("HOOK_RATE=\"fast\""), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_is_tried_again() {
    let listener = Server::start(|_, _| now(200)).await;
    let url = format!("http://127.0.0.1:{}", listener.port);
    let refusals = [
        (500, "InternalFailure"),
        (400, "ThrottlingException"),
        (503, "ServiceUnavailable"),
    ];
    let codedeploy = codedeploy(&refusals).await;
    let mut function = Function::start(&codedeploy, &variables(&url, &[]), &[(call(), TIME)]).await;
    let said = function.said(1).await;
    assert!(matches!(said[0], Said::Response(_)), "{said:?}");
    assert_eq!(codedeploy.count(), 4);
}

/// Lambda may call a function twice for one event.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_answered_already() {
    let listener = Server::start(|_, _| now(200)).await;
    let url = format!("http://127.0.0.1:{}", listener.port);
    let codedeploy = codedeploy(&[(400, "LifecycleEventAlreadyCompletedException")]).await;
    let mut function = Function::start(&codedeploy, &variables(&url, &[]), &[(call(), TIME)]).await;
    let said = function.said(1).await;
    assert!(matches!(said[0], Said::Response(_)), "{said:?}");
    assert_eq!(codedeploy.count(), 1);
}

/// An answer that CodeDeploy refuses is an error of the function, and the next call is taken.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_refused() {
    let listener = Server::start(|_, _| now(200)).await;
    let url = format!("http://127.0.0.1:{}", listener.port);
    let refusal = "InvalidLifecycleEventHookExecutionIdException";
    let codedeploy = codedeploy(&[(400, refusal)]).await;
    let events = [(call(), TIME), (call(), TIME)];
    let mut function = Function::start(&codedeploy, &variables(&url, &[]), &events).await;
    let said = function.said(2).await;
    let Said::Error(error) = &said[0] else {
        panic!("{said:?}");
    };
    assert_eq!(error["errorType"], "Hook.NoAnswer");
    let message = error["errorMessage"].as_str().unwrap();
    assert!(message.contains(refusal), "{message}");
    assert!(matches!(said[1], Said::Response(_)), "{said:?}");
    let log = function.log();
    assert_eq!(log.len(), 3);
    assert!(log[1]["message"].as_str().unwrap().contains(refusal));
}

/// There is nobody to answer to.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_not_codedeploys() {
    let codedeploy = codedeploy(&[]).await;
    let variables = [("HOOK_TEST_URL", "http://127.0.0.1:1")];
    let events = [(json!({"DeploymentId": "d-1"}), TIME)];
    let mut function = Function::start(&codedeploy, &variables, &events).await;
    let said = function.said(1).await;
    let Said::Error(error) = &said[0] else {
        panic!("{said:?}");
    };
    let message = error["errorMessage"].as_str().unwrap();
    assert!(
        message.contains("LifecycleEventHookExecutionId"),
        "{message}"
    );
    assert_eq!(codedeploy.count(), 0);
}

#[test]
fn started_by_hand_it_says_what_it_is() {
    let output = Command::new(env!("CARGO_BIN_EXE_hook"))
        .env_remove("AWS_LAMBDA_RUNTIME_API")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("Lambda function"), "{text}");
}
