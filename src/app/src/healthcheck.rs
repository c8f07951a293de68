//! `app healthcheck`: asks the server of the same container whether it is ready.
//!
//! A container's health check must be a command inside the image, and this image holds no shell and
//! no curl. It runs every few seconds beside the server, so it starts no runtime and ends within
//! seconds, whatever the server does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// For the whole check. Readiness itself may need `DB_TIMEOUT` and a second to find out what is
/// wrong; ECS allows 5 s by default.
const LIMIT: Duration = Duration::from_secs(4);

/// More than any answer has.
const MOST: u64 = 64 * 1024;

/// Why the server is not ready.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error("ask http://{0}/healthz/ready: {1}")]
    NoAnswer(SocketAddr, #[source] std::io::Error),
    /// Another answer than 200.
    #[error("http://{0}/healthz/ready answered {1}")]
    NotReady(SocketAddr, String),
}

/// Asks once. Ready is 200 and nothing else.
pub fn run(address: SocketAddr) -> Result<(), Error> {
    let answer = ask(address).map_err(|error| Error::NoAnswer(address, error))?;
    let status = answer.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Err(Error::NotReady(
        address,
        format!("{status:?}: {}", body.trim()),
    ))
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let end = Instant::now() + LIMIT;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(
        stream,
        "GET /healthz/ready HTTP/1.1\r\nHost: {address}\r\nUser-Agent: app-healthcheck\r\n\
         Connection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || answer.len() as u64 > MOST {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Ok(String::from_utf8_lossy(&answer).into_owned()),
            length => answer.extend_from_slice(&part[..length]),
        }
    }
}
