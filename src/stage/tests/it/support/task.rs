//! A small HTTP server that misbehaves on request: the program of the tests' image.
//!
//! It uses nothing but std, and `support::test_image` builds it with `rustc` in a second, linked
//! statically so that the image needs no other file. It is not part of any test binary.
//!
//! `task serve` listens on `HOST` (0.0.0.0) and `PORT` (8080) and answers, one request a connection:
//!
//! | path | answer |
//! | --- | --- |
//! | `/` | 200 and the value of `MESSAGE` |
//! | `/healthz/ready` | 200, or 503 with `NEVER_HEALTHY=1` |
//! | `/env` | the environment, a variable a line |
//! | `/self` | facts about the process, a line each: `pid`, `uid`, `gid`, `groups`, … |
//! | `/status/N` | status N |
//! | `/slow/MS` | 200 after MS milliseconds |
//! | `/connect/ADDR` | what became of a connection to ADDR |
//! | `/read/PATH`, `/write/PATH`, `/list/PATH` | what became of it |
//! | `/allocate/MIB` | 200 after touching so much memory |
//! | `/spawn/N` | how many of N threads could be started |
//! | `/exit/CODE` | none: the process ends |
//!
//! On SIGTERM it answers what it has begun and exits 0 after printing `stopped`; with
//! `IGNORE_SIGTERM=1` it goes on. `EXIT_AT_ONCE=N` ends it with code N before it listens.
//!
//! `task print WORDS…` prints its arguments; `task exit N`, `task sleep` and `task fork-sleep` do as they
//! say; `task query ADDR` connects and prints what it is sent.

use std::{
    env, fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

static STOP: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn signal(signal: i32, handler: usize) -> usize;
    fn fork() -> i32;
}

extern "C" fn on_sigterm(_: i32) {
    STOP.store(true, Ordering::SeqCst);
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["serve"] => serve(),
        ["print", rest @ ..] => println!("{}", rest.join(" ")),
        ["lines", n] => (0..n.parse().unwrap()).for_each(|n: u32| println!("line {n}")),
        ["exit", code] => process::exit(code.parse().unwrap()),
        ["abort"] => process::abort(),
        ["sleep"] => rest(),
        ["fork-sleep"] => {
            unsafe { fork() };
            println!("forked");
            rest();
        }
        ["self"] => print!("{}", about_self()),
        ["env"] => print!("{}", environment()),
        ["read", path] => println!("{}", outcome(fs::read(path).map(|b| b.len()))),
        ["query", address] => {
            let mut text = String::new();
            let address: SocketAddr = address.parse().unwrap();
            let got = TcpStream::connect(address).and_then(|mut s| s.read_to_string(&mut text));
            match got {
                Ok(_) => println!("{text}"),
                Err(error) => {
                    println!("{:?}", error.kind());
                    process::exit(1);
                }
            }
        }
        other => {
            eprintln!("what is {other:?}?");
            process::exit(2);
        }
    }
}

fn rest() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn flag(name: &str) -> bool {
    env::var(name).is_ok_and(|value| value == "1")
}

fn serve() {
    if let Ok(code) = env::var("EXIT_AT_ONCE") {
        eprintln!("exiting at once, as told");
        process::exit(code.parse().unwrap());
    }
    if !flag("IGNORE_SIGTERM") {
        let handler: extern "C" fn(i32) = on_sigterm;
        unsafe { signal(15, handler as usize) };
    }
    let host = env::var("HOST").unwrap_or_else(|_| "0.0.0.0".into());
    let port = env::var("PORT").unwrap_or_else(|_| "8080".into());
    let listener = TcpListener::bind(format!("{host}:{port}")).unwrap();
    listener.set_nonblocking(true).unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    let mut busy = Vec::new();
    while !STOP.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                busy.push(thread::spawn(move || answer(stream)));
            }
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
        busy.retain(|thread| !thread.is_finished());
    }
    for thread in busy {
        let _ = thread.join();
    }
    println!("stopped");
}

fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => request.extend_from_slice(&buffer[..n]),
        }
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.split(' ').nth(1).unwrap_or("/").to_owned();
    let (status, body) = respond(&path);
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn respond(path: &str) -> (u16, String) {
    let parts: Vec<&str> = path.splitn(3, '/').skip(1).collect();
    let ok = |body: String| (200, body);
    match parts.as_slice() {
        ["env"] => ok(environment()),
        ["self"] => ok(about_self()),
        ["healthz", _] if flag("NEVER_HEALTHY") => (503, "never".into()),
        ["healthz", _] => ok("ok".into()),
        ["status", code] => (code.parse().unwrap_or(400), String::new()),
        ["slow", ms] => {
            thread::sleep(Duration::from_millis(ms.parse().unwrap_or(0)));
            ok("slow".into())
        }
        ["connect", address] => {
            let limit = Duration::from_secs(2);
            let address: SocketAddr = address.parse().unwrap();
            ok(outcome(TcpStream::connect_timeout(&address, limit).map(|_| "connected")))
        }
        ["read", path] => ok(outcome(fs::read(format!("/{path}")).map(|bytes| bytes.len()))),
        ["write", path] => ok(outcome(fs::write(format!("/{path}"), "x").map(|()| "written"))),
        ["list", path] => ok(outcome(fs::read_dir(format!("/{path}")).map(|entries| {
            let mut names: Vec<String> = entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names.join(" ")
        }))),
        ["allocate", mib] => {
            let bytes = mib.parse::<usize>().unwrap_or(0) << 20;
            let memory = vec![1_u8; bytes];
            ok(format!("{}", std::hint::black_box(&memory).len()))
        }
        ["spawn", n] => {
            let wanted: usize = n.parse().unwrap_or(0);
            let started = (0..wanted)
                .map_while(|_| thread::Builder::new().stack_size(16 << 10).spawn(rest).ok())
                .count();
            ok(started.to_string())
        }
        ["exit", code] => process::exit(code.parse().unwrap_or(1)),
        _ => ok(env::var("MESSAGE").unwrap_or_else(|_| "hello".into())),
    }
}

fn outcome<T: std::fmt::Display>(result: std::io::Result<T>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

fn environment() -> String {
    let mut lines: Vec<String> = env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
    lines.sort();
    lines.concat()
}

fn about_self() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kept = ["Uid", "Gid", "Groups", "NoNewPrivs", "CapEff", "CapPrm", "CapBnd", "CapAmb", "SigIgn", "SigBlk"];
    let mut text = format!("pid {}\n", process::id());
    for line in status.lines() {
        if let Some((name, value)) = line.split_once(':') {
            if kept.contains(&name) {
                let words: Vec<&str> = value.split_whitespace().collect();
                text += &format!("{name} {}\n", words.join(" "));
            }
        }
    }
    let mut fds: Vec<String> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            format!("{}={}", entry.file_name().to_string_lossy(), target.display())
        })
        .collect();
    fds.sort();
    text += &format!("fds {}\n", fds.join(" "));
    text += &format!("cwd {}\n", env::current_dir().unwrap_or_default().display());
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    text += &format!("hostname {}\n", host.trim());
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    for line in limits.lines().filter(|line| line.starts_with("Max open files")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        text += &format!("nofile {}\n", words[3]);
    }
    let processes = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .count();
    text += &format!("processes {processes}\n");
    text
}
