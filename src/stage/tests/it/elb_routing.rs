//! Which target group and which target a request goes to.

use std::{sync::Arc, time::Duration};

use stage::elb::{ElbError, Listener};

use crate::elb_support::*;

#[tokio::test]
async fn weights_are_chances() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let rig = Rig::new(Config::default());
    rig.add("blue", blue.target()).await;
    rig.add("green", green.target()).await;
    let mut client = Client::connect(rig.production()).await;
    assert_eq!(client.get("/").await.1, "blue");
    // The same connection follows at once.
    rig.set(Listener::Production, &[("blue", 0), ("green", 1)]);
    assert_eq!(client.get("/").await.1, "green");
    rig.set(Listener::Production, &[("blue", 90), ("green", 10)]);
    let (blue_before, green_before) = (blue.requests(), green.requests());
    for _ in 0..2000 {
        client.get("/").await;
    }
    let share = green.requests() - green_before;
    assert_eq!(blue.requests() - blue_before + share, 2000);
    // Mean 200, standard deviation 13.4: seven of them happen once in 10^12 runs.
    assert!((106..=294).contains(&share), "{share} of 2000 at 10 %");
    assert_eq!(
        rig.balancer.weights(Listener::Production),
        weights(&[("blue", 90), ("green", 10)])
    );
}

#[tokio::test]
async fn targets_of_a_group_take_turns() {
    let (first, second) = (Backend::named("1").await, Backend::named("2").await);
    let rig = Rig::new(Config::default());
    rig.add("blue", first.target()).await;
    rig.add("blue", second.target()).await;
    let mut client = Client::connect(rig.production()).await;
    for _ in 0..20 {
        client.get("/").await;
    }
    assert_eq!((first.requests(), second.requests()), (10, 10));
}

#[tokio::test]
async fn weight_changes_under_load_lose_nothing() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let rig = Arc::new(Rig::new(Config::default()));
    rig.add("blue", blue.target()).await;
    rig.add("green", green.target()).await;
    let address = rig.production();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                for _ in 0..200 {
                    assert_eq!(client.get("/").await.0, 200);
                }
            })
        })
        .collect();
    for share in (0..=100)
        .cycle()
        .take_while(|_| clients.iter().any(|client| !client.is_finished()))
    {
        rig.set(
            Listener::Production,
            &[("blue", 100 - share), ("green", share)],
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(blue.requests() + green.requests(), 1600);
    assert!(green.requests() > 0);
}

#[tokio::test]
async fn the_test_listener_has_its_own_weights() {
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let rig = Rig::new(Config::default());
    rig.add("blue", blue.target()).await;
    assert_eq!(get(rig.test(), "/").await.0, 503);
    rig.register("green", green.target());
    rig.set(Listener::Test, &[("green", 1)]);
    assert_eq!(get(rig.test(), "/").await, (200, "green".into()));
    assert_eq!(get(rig.production(), "/").await, (200, "blue".into()));
    let port = rig.test().port().to_string();
    assert_eq!(green.last_headers()["x-forwarded-port"], port.as_str());
}

#[tokio::test]
async fn senseless_weights_are_refused_and_change_nothing() {
    let rig = Rig::new(Config::default());
    let before = rig.balancer.weights(Listener::Production);
    let set = |list: &[(&str, u32)]| {
        rig.balancer
            .set_weights(Listener::Production, &weights(list))
    };
    assert!(matches!(
        set(&[("blue", 1000)]),
        Err(ElbError::Weight { weight: 1000, .. })
    ));
    assert!(matches!(
        set(&[("blue", 1), ("blue", 2)]),
        Err(ElbError::DuplicateGroup { .. })
    ));
    let unknown = set(&[("red", 1)]).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "cannot find target group \"red\" at the load balancer; it has blue, green, spare"
    );
    let many = ["blue", "green", "spare", "a", "b", "c"].map(|name| (name, 1));
    assert!(matches!(set(&many), Err(ElbError::TooManyGroups(6))));
    assert_eq!(rig.balancer.weights(Listener::Production), before);
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    let rig = Rig::new(Config::default());
    let options = stage::elb::Options {
        production_port: rig.production().port(),
        ..Default::default()
    };
    let error =
        stage::elb::LoadBalancer::start(options, rig.clock, &rig.metrics, &rig.events).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot listen on 127.0.0.1:"),
        "{error}"
    );
}
