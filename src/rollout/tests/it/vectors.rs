//! The test vectors: every number of every case within its tolerance.
//!
//! The vectors are data (`tests/vectors/canary`, format in its README); this reads the
//! directory, so a case that is added is a case that is tested.

#[path = "../../examples/judge-vectors/vectors.rs"]
mod runner;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/canary")
}

/// How far a number may be off.
#[derive(Clone, Copy)]
struct Allowed {
    abs: f64,
    rel: f64,
}

/// The tolerance of the number at this path.
fn allowed(tolerance: &Value, path: &str) -> Allowed {
    let number = |name: &str| tolerance[name].as_f64();
    // Simulations name their own allowances.
    if let Some(p_rollback) = number("p_rollback_abs") {
        let abs = |abs| Allowed { abs, rel: 0.0 };
        return match path {
            "/p_rollback" => abs(p_rollback),
            "/t_full_s" | "/t_done_s" => abs(1e-9),
            "/excess_mean" | "/failures/mean" | "/detection_s/mean" => Allowed {
                abs: 0.0,
                rel: number("mean_rel").expect("named"),
            },
            _ if path.starts_with("/failures/q") => Allowed {
                abs: number("quantile_abs").expect("named"),
                rel: number("quantile_rel").expect("named"),
            },
            _ if path.starts_with("/detection_s/q") => {
                abs(number("detection_quantile_abs_s").expect("named"))
            }
            _ => panic!("no allowance for {path}"),
        };
    }
    // Others are for the whole case, or for one field of it; the rest must match exactly.
    let field = path.split('/').nth(1).unwrap_or_default();
    let of = |value: &Value| {
        let part = |name: &str| value[name].as_f64();
        part("abs")
            .zip(part("rel"))
            .map(|(abs, rel)| Allowed { abs, rel })
    };
    of(tolerance)
        .or_else(|| of(&tolerance[field]))
        .unwrap_or(Allowed { abs: 0.0, rel: 0.0 })
}

/// Compares, collects what differs, and counts the numbers.
fn compare(
    (got, want): (&Value, &Value),
    path: &str,
    tolerance: &Value,
    wrong: &mut Vec<String>,
) -> usize {
    match (got, want) {
        (Value::Object(got), Value::Object(want)) => {
            let keys = |map: &Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
            let (mut ours, mut theirs) = (keys(got), keys(want));
            ours.sort();
            theirs.sort();
            if ours != theirs {
                wrong.push(format!("{path}: fields {ours:?} instead of {theirs:?}"));
                return 0;
            }
            want.iter()
                .map(|(key, want)| {
                    compare(
                        (&got[key], want),
                        &format!("{path}/{key}"),
                        tolerance,
                        wrong,
                    )
                })
                .sum()
        }
        (Value::Array(got), Value::Array(want)) if got.len() == want.len() => got
            .iter()
            .zip(want)
            .enumerate()
            .map(|(i, pair)| compare(pair, &format!("{path}/{i}"), tolerance, wrong))
            .sum(),
        (Value::Number(got), Value::Number(want)) => {
            let (got, want) = (
                got.as_f64().expect("finite"),
                want.as_f64().expect("finite"),
            );
            let Allowed { abs, rel } = allowed(tolerance, path);
            let within = (got - want).abs() <= abs + rel * want.abs();
            if !within {
                wrong.push(format!("{path}: {got} instead of {want}"));
            }
            1
        }
        _ => {
            if got != want {
                wrong.push(format!("{path}: {got} instead of {want}"));
            }
            0
        }
    }
}

#[test]
fn every_number_of_every_vector() {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let (mut numbers, mut wrong) = (0, Vec::new());
    for file in runner::files(&directory()).expect("the vectors are there") {
        let vector = runner::read(&file).expect("a vector");
        let got = runner::run(&vector, &file).expect("runs");
        let id = vector["id"].as_str().expect("a name");
        assert_eq!(file.file_stem().and_then(|stem| stem.to_str()), Some(id));
        let mut differences = Vec::new();
        numbers += compare(
            (&got, &vector["expected"]),
            "",
            &vector["tolerance"],
            &mut differences,
        );
        wrong.extend(
            differences
                .into_iter()
                .map(|difference| format!("{id}{difference}")),
        );
        *kinds
            .entry(vector["kind"].as_str().expect("a kind").to_owned())
            .or_default() += 1;
    }
    assert!(
        wrong.is_empty(),
        "{} numbers are off:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let known = [
        "alarm-exact",
        "counters",
        "interval",
        "judge",
        "simulate",
        "smoke",
        "smoke-exact",
        "strategy",
    ];
    assert_eq!(kinds.keys().map(String::as_str).collect::<Vec<_>>(), known);
    assert!(numbers > 1700, "only {numbers} numbers were compared");
}

/// A change anywhere in a vector is refused, with the file's name.
#[test]
fn unknown_fields_are_errors_that_name_the_file() {
    let file = Path::new("some/vector.json");
    let refused = |name: &str, change: &dyn Fn(&mut Value)| {
        let vector = runner::read(&directory().join(name)).expect("a vector");
        let mut vector = Value::Object(vector);
        change(&mut vector);
        let vector = vector.as_object().expect("an object").clone();
        let error = runner::run(&vector, file).expect_err("refused").to_string();
        assert!(error.starts_with("some/vector.json: "), "{error}");
        error
    };
    let judge = "p01-clean-pass.json";
    let unknown = "unknown field `more`";
    let message = refused(judge, &|v| v["more"] = json!(1));
    assert!(message.contains(unknown), "{message}");
    let message = refused(judge, &|v| v["config"]["more"] = json!(1));
    assert!(message.contains(unknown), "{message}");
    let message = refused(judge, &|v| v["config"]["alpha"]["more"] = json!(1));
    assert!(message.contains(unknown), "{message}");
    let message = refused(judge, &|v| v["batches"][0]["candidate"]["more"] = json!(1));
    assert!(message.contains(unknown), "{message}");
    for name in [
        "p29-counter-resets.json",
        "p30-smoke-good.json",
        "p35-smoke-exact.json",
    ] {
        let message = refused(name, &|v| v["config"]["more"] = json!(1));
        assert!(message.contains(unknown), "{message}");
    }
    let message = refused("p36-intervals.json", &|v| v["cases"][0]["more"] = json!(1));
    assert!(message.contains(unknown), "{message}");
    for field in ["strategy", "alarm"] {
        let message = refused("p38-alarm-strategies.json", &|v| {
            v["scenarios"][0][field]["more"] = json!(1);
        });
        assert!(message.contains(unknown), "{message}");
    }
    let message = refused("p42-simulate-both.json", &|v| {
        v["scenario"]["judge"]["config"]["more"] = json!(1);
    });
    assert!(message.contains(unknown), "{message}");
    refused(judge, &|v| v["schema"] = json!(2));
    refused(judge, &|v| v["kind"] = json!("oracle"));
    refused(judge, &|v| v["config"]["objective"] = json!(1));
}
