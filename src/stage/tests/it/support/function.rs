//! A small Lambda function that misbehaves on request: the `bootstrap` of the tests' package.
//!
//! It uses nothing but std, and `support::test_function` builds it with `rustc`. It asks the runtime API
//! for events and prints each; `MODE` says what it does then:
//!
//! | `MODE` | does |
//! | --- | --- |
//! | none | answers with a result |
//! | `error` | answers with an error |
//! | `exit` | exits with code 7 |
//! | `silent` | starts a process that sleeps, and sleeps |
//! | `large` | answers with more than 6 MB, prints the status |
//! | `wrong-id` | answers another event and asks for nonsense, prints the statuses, then answers |
//! | `end-between` | answers, and ends |
//! | `init-error` | says that it cannot start |
//! | `exit-at-once` | exits with code 3 before it asks for an event |
//! | `env` | prints its environment, answers |

use std::{
    env,
    io::{Read, Write},
    net::TcpStream,
    process, thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const BASE: &str = "/2018-06-01/runtime";

fn main() {
    let mode = env::var("MODE").unwrap_or_default();
    match mode.as_str() {
        "exit-at-once" => process::exit(3),
        "init-error" => {
            let error = r#"{"errorMessage": "no luck", "errorType": "Test"}"#;
            ask("POST", "/init/error", error);
            rest();
        }
        "env" => {
            for (name, value) in env::vars() {
                println!("{name}={value}");
            }
        }
        _ => {}
    }
    loop {
        let (_, headers, payload) = ask("GET", "/invocation/next", "");
        let header = |name: &str| {
            let found = headers.lines().find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then(|| value.to_owned())
            });
            found.unwrap_or_default()
        };
        let id = header("lambda-runtime-aws-request-id");
        let deadline: u128 = header("lambda-runtime-deadline-ms").parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        println!("event {payload}");
        println!("pid {}", process::id());
        println!("left {}", deadline.saturating_sub(now.as_millis()));
        println!("arn {}", header("lambda-runtime-invoked-function-arn"));
        println!("trace {}", header("lambda-runtime-trace-id"));
        let good = |id: &str, body: &str| ask("POST", &format!("/invocation/{id}/response"), body).0;
        match mode.as_str() {
            "error" => {
                let error = r#"{"errorMessage": "as told", "errorType": "Test"}"#;
                ask("POST", &format!("/invocation/{id}/error"), error);
            }
            "exit" => process::exit(7),
            "silent" => {
                let child = process::Command::new("sleep").arg("600").spawn().unwrap();
                println!("child {}", child.id());
                rest();
            }
            "large" => println!("status {}", good(&id, &"x".repeat(7 * 1024 * 1024))),
            "wrong-id" => {
                println!("status {}", good("another", "1"));
                println!("status {}", ask("GET", "/nonsense", "").0);
                println!("status {}", good(&id, "1"));
                println!("status {}", good(&id, "2"));
            }
            "end-between" => {
                good(&id, "1");
                process::exit(0);
            }
            _ => {
                good(&id, "\"done\"");
            }
        }
    }
}

fn rest() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Status, headers and body.
fn ask(method: &str, path: &str, body: &str) -> (u16, String, String) {
    let api = env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    let mut stream = TcpStream::connect(&api).unwrap();
    let request = format!(
        "{method} {BASE}{path} HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // A server that has heard enough may not read the rest.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (headers, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or(0), headers.to_owned(), body.to_owned())
}
