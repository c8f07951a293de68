//! Metrics and counters, read from outside.

use std::time::Duration;

use aws_sdk_cloudwatch::{primitives::DateTime, types as cw};
use rollout::Timestamp;
use stage::elb::{COUNTERS_PATH, Counters, Listener, meters::metric};

use crate::world::{World, code, sdk_config};

fn query(id: &str, name: &str, stat: &str, period: i32) -> cw::MetricDataQuery {
    let dimension = cw::Dimension::builder()
        .name("LoadBalancer")
        .value("app/demo/1")
        .build();
    let metric = cw::Metric::builder()
        .namespace("AWS/ApplicationELB")
        .metric_name(name)
        .dimensions(dimension)
        .build();
    let stat = cw::MetricStat::builder()
        .metric(metric)
        .period(period)
        .stat(stat)
        .build();
    cw::MetricDataQuery::builder()
        .id(id)
        .metric_stat(stat)
        .build()
}

fn time(at: Timestamp) -> DateTime {
    DateTime::from_millis(i64::try_from(at.as_millis()).unwrap())
}

/// The SDK speaks CBOR to CloudWatch. A minute is seen after the metric delay and not before, and a
/// minute without a value is missing.
#[tokio::test(flavor = "multi_thread")]
async fn get_metric_data_shows_what_was_published() {
    let world = World::empty(600.0).await;
    let client = aws_sdk_cloudwatch::Client::new(&sdk_config(&world.stage, "stage", "stage").await);
    let minute = Duration::from_mins(1);
    let clock = *world.stage.clock();
    let begun = Timestamp::from_millis(clock.now().as_millis() / 60_000 * 60_000);
    for (at, value) in [
        (begun, 2.0),
        (begun + minute * 2, 5.0),
        (begun + minute * 2, 1.0),
    ] {
        let metric = metric("RequestCount", "app/demo/1", None);
        world.stage.metrics().record(&metric, at, value);
    }
    let read = async || {
        client
            .get_metric_data()
            .metric_data_queries(query("sum", "RequestCount", "Sum", 60))
            .metric_data_queries(query("most", "RequestCount", "Maximum", 180))
            .metric_data_queries(query("none", "HTTPCode_Target_5XX_Count", "Sum", 60))
            .start_time(time(begun))
            .end_time(time(begun + minute * 60))
            .scan_by(cw::ScanBy::TimestampAscending)
            .send()
            .await
            .unwrap()
    };
    world
        .until("the minutes are published", async || {
            let answer = read().await;
            let values = |place: usize| answer.metric_data_results()[place].values();
            values(0).len() == 2 && values(1).contains(&5.0)
        })
        .await;
    let delay = world.stage.stack().metric_delay;
    assert!(
        clock.now() >= begun + minute * 3 + delay,
        "they are seen too early"
    );
    let answer = read().await;
    let [sum, most, none] = answer.metric_data_results() else {
        panic!("{answer:?}");
    };
    assert_eq!(sum.values(), [2.0, 6.0]);
    assert_eq!(sum.timestamps(), [time(begun), time(begun + minute * 2)]);
    assert_eq!(sum.label(), Some("RequestCount"));
    assert!(most.values().len() <= 2, "{most:?}");
    assert!(none.values().is_empty(), "{none:?}");
    world.stop().await;
}

/// A trimmed count: the values between two bounds, the upper one included.
#[tokio::test(flavor = "multi_thread")]
async fn get_metric_data_counts_between_bounds() {
    let world = World::empty(600.0).await;
    let client = aws_sdk_cloudwatch::Client::new(&sdk_config(&world.stage, "stage", "stage").await);
    let begun = Timestamp::from_millis(world.stage.clock().now().as_millis() / 60_000 * 60_000);
    let times = metric("TargetResponseTime", "app/demo/1", None);
    for seconds in [0.001, 0.005, 0.0051, 0.2] {
        world
            .stage
            .metrics()
            .distribution(&times)
            .add(begun, seconds);
    }
    let counts = async || -> Vec<Vec<f64>> {
        let ranges = ["TC(:0.005)", "TC(0.005:0.1)", "TC(0.1:)"];
        let queries = ranges
            .iter()
            .enumerate()
            .map(|(place, range)| query(&format!("t{place}"), "TargetResponseTime", range, 60));
        let answer = client
            .get_metric_data()
            .set_metric_data_queries(Some(queries.collect()))
            .start_time(time(begun))
            .end_time(time(begun + Duration::from_mins(1)))
            .send()
            .await
            .unwrap();
        let results = answer.metric_data_results().iter();
        results.map(|result| result.values().to_vec()).collect()
    };
    world
        .until("the minute is published", async || {
            !counts().await[0].is_empty()
        })
        .await;
    assert_eq!(counts().await, [[2.0], [1.0], [1.0]]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_get_metric_data_refuses() {
    let world = World::empty(10.0).await;
    let config = sdk_config(&world.stage, "stage", "stage").await;
    let client = aws_sdk_cloudwatch::Client::new(&config);
    let now = world.stage.clock().now();
    let ask = |query, end: Timestamp| {
        client
            .get_metric_data()
            .metric_data_queries(query)
            .start_time(time(now))
            .end_time(time(end))
            .send()
    };
    let later = now + Duration::from_mins(1);
    let error = ask(query("a", "RequestCount", "Sum", 60), now)
        .await
        .unwrap_err();
    assert_eq!(code(&error), "InvalidParameterValue");
    let error = ask(query("a", "RequestCount", "Sum", 61), later)
        .await
        .unwrap_err();
    assert_eq!(code(&error), "InvalidParameterValue");
    for stat in ["p99", "TM(1:2)", "TC(2:1)", "TC(a:b)", "Median"] {
        let error = ask(query("a", "RequestCount", stat, 60), later)
            .await
            .unwrap_err();
        assert_eq!(code(&error), "InvalidParameterValue", "{stat}");
    }
    let expression = cw::MetricDataQuery::builder()
        .id("e")
        .expression("a + b")
        .build();
    let error = ask(expression, later).await.unwrap_err();
    assert!(format!("{error:?}").contains("evaluates no expressions"));
    // A signature is verified here as everywhere.
    let stranger = sdk_config(&world.stage, "stage", "wrong").await;
    let error = aws_sdk_cloudwatch::Client::new(&stranger)
        .get_metric_data()
        .metric_data_queries(query("a", "RequestCount", "Sum", 60))
        .start_time(time(now))
        .end_time(time(later))
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "InvalidSignatureException");
    world.stop().await;
}

/// The load balancer's own counters, over HTTP: what is over, and since when the weights hold.
#[tokio::test(flavor = "multi_thread")]
async fn counters_say_how_things_stand() {
    let world = World::empty(10.0).await;
    let balancer = world.stage.load_balancer();
    let http = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<http_body_util::Empty<bytes::Bytes>>();
    let url = format!("{}{COUNTERS_PATH}", world.stage.endpoint_url());
    let read = async || -> Counters {
        let answer = http.get(url.parse().unwrap()).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/json");
        let body = http_body_util::BodyExt::collect(answer.into_body()).await;
        serde_json::from_slice(&body.unwrap().to_bytes()).unwrap()
    };
    let [blue, green] = world.stage.stack().target_groups.clone();
    let before = world.stage.clock().now();
    let weights = [(blue.clone(), 90), (green.clone(), 10)];
    balancer
        .set_weights(Listener::Production, &weights)
        .unwrap();
    let first = read().await;
    assert_eq!(first.weights, weights.into_iter().collect());
    assert!(
        (before..=first.at).contains(&first.weights_since),
        "{first:?}"
    );

    // Nobody is behind the load balancer: it answers 503 itself, and that is a lost request.
    balancer
        .set_weights(Listener::Production, &[(green.clone(), 1)])
        .unwrap();
    for _ in 0..5 {
        let url = format!("{}/", world.stage.production_url());
        let answer = http.get(url.parse().unwrap()).await.unwrap();
        assert_eq!(answer.status(), 503);
    }
    let second = read().await;
    assert!(second.weights_since > first.weights_since);
    let counts = &second.target_groups[&green];
    assert_eq!((counts.answered, counts.failed), (5, 5));
    assert_eq!(counts.response_times.iter().sum::<u64>(), 0);
    assert_eq!(second.target_groups[&blue].answered, 0);
    world.stop().await;
}
