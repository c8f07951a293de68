//! `release simulate` and `release plan`: what is reckoned, how it is shown, what is refused.

use serde_json::Value;

use crate::support::Room;

/// Exit code, standard output and standard error.
fn simulate(room: &Room, arguments: &[&str]) -> (i32, String, String) {
    let arguments: Vec<&str> = ["simulate", "2.0.0"]
        .iter()
        .chain(arguments)
        .copied()
        .collect();
    let output = room.command(&arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The same where it ends well, with fewer runs than by default.
fn simulated(room: &Room, arguments: &[&str]) -> String {
    let arguments = [&["--runs", "300"], arguments].concat();
    let (code, out, err) = simulate(room, &arguments);
    assert_eq!(code, 0, "{err}");
    out
}

#[test]
fn strategies_side_by_side() {
    let room = Room::new();
    let text = simulated(&room, &["--rate", "20/s", "--error-rate", "0.02"]);
    assert!(
        text.starts_with("a bad 2.0.0 that fails 2 % of its requests, at 20 requests a second"),
        "{text}"
    );
    for word in [
        "blue-green",
        "canary",
        "linear",
        "alarm and judge",
        "at the latest",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    // The same seed, the same numbers.
    assert_eq!(
        simulated(&room, &["--rate", "20/s", "--error-rate", "0.02"]),
        text
    );
}

#[test]
fn programs_read_json() {
    let arguments = [
        "--rate",
        "20/s",
        "--error-rate",
        "0.8",
        "--strategy",
        "canary",
        "--format",
        "json",
    ];
    let out = simulated(&Room::new(), &arguments);
    let answer: Value = serde_json::from_str(&out).unwrap();
    let rows = answer["rows"].as_array().unwrap();
    let mean = |watch: &str| {
        let row = rows.iter().find(|row| row["watch"] == watch).unwrap();
        row["bad"]["failures"]["mean"].as_f64().unwrap()
    };
    assert!(mean("judge") * 4.0 < mean("alarm"), "{rows:?}");
    assert_eq!(answer["strategies"][0]["strategy"], "canary");
    let timeline = &answer["strategies"][0]["timeline"];
    let at = |key: &str| timeline[key].as_u64().unwrap();
    assert_eq!(at("full_at_ms") - at("traffic_at_ms"), 5 * 60 * 1000);
}

#[test]
fn a_record_is_compared_and_drawn() {
    let room = Room::new();
    room.run("r", &["2.0.0", "--speed", "30"]).expect(3);
    let record = room.path("r.jsonl");
    let plots = room.path("plots");
    let [record, directory] = [&record, &plots].map(|path| path.to_str().unwrap());
    let out = simulated(&room, &["--record", record, "--plots", directory]);
    assert!(out.contains("\nmeasured: green failed "), "{out}");
    for name in ["blast-radius", "trade-off", "evidence", "rates"] {
        let picture = std::fs::read_to_string(plots.join(format!("{name}.svg"))).unwrap();
        assert!(
            picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"),
            "{name}"
        );
    }
}

#[test]
fn what_cannot_be_reckoned_is_refused() {
    let room = Room::new();
    for (arguments, says) in [
        (&["--rate", "0"][..], "a rate of 0 requests a second"),
        (&["--rate", "many"], "not a number"),
        (&["--error-rate", "1.5"], "1.5 is not a share of requests"),
        (&["--error-rate", "NaN"], "NaN is not a share of requests"),
        (&["--runs", "0"], "0 runs"),
        (&["--strategy", "canari"], "canary"),
        (&["--record", "nowhere.jsonl"], "cannot read the record"),
    ] {
        let (code, _, err) = simulate(&room, arguments);
        assert!(code == 2 || code == 1, "{arguments:?}: {code}");
        assert!(err.contains(says), "{arguments:?}: {err}");
    }
}

#[test]
fn a_plan_shows_when_traffic_moves_and_what_cannot_work() {
    let room = Room::new();
    let plan = |arguments: &[&str]| {
        let arguments = [&["plan", "2.0.0"], arguments].concat();
        let output = room.command(&arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text)
    };
    let (code, text) = plan(&["--strategy", "linear"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.matches("2.0.0 10 %").count(), 1, "{text}");
    assert!(
        text.contains("2.0.0 100 %") && text.contains("at the latest"),
        "{text}"
    );

    // An alarm that asks for more failures than green has requests.
    let config = room.config(&[("release.toml", "threshold = 10\n", "threshold = 100000\n")]);
    let config = config.to_str().unwrap();
    let (code, text) = plan(&["--config", config]);
    assert_eq!(code, Some(5), "{text}");
    assert!(
        text.contains("error: alarm serein-demo-a-target-5xx cannot"),
        "{text}"
    );
    let (code, text) = plan(&["--config", config, "--format", "json"]);
    assert_eq!(code, Some(5), "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["findings"][0]["finding"], "cannot-fire");
}
