//! As much of PostgreSQL's protocol (version 3, simple query) as it takes to make a role and a
//! database.
//!
//! The stage says a handful of statements to its own server, over a socket in a directory that is
//! nobody else's. A client library for that would be the largest dependency of this crate, and
//! `psql` is in another package than the server on some systems.

use std::{io, path::Path};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// A session of the superuser.
pub struct Session {
    stream: UnixStream,
}

/// Why a statement failed.
#[derive(Debug)]
pub enum SqlError {
    /// The connection failed.
    Io(io::Error),
    /// The server said no: its SQLSTATE and its message.
    Server(String, String),
}

impl From<io::Error> for SqlError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Server(state, message) => write!(f, "{message} (SQLSTATE {state})"),
        }
    }
}

/// No message of this conversation is longer.
const LONGEST: usize = 1 << 20;

impl Session {
    /// Connects to the server at a Unix-domain socket, which must trust us.
    pub async fn connect(socket: &Path, user: &str, database: &str) -> Result<Self, SqlError> {
        let stream = UnixStream::connect(socket).await?;
        let mut session = Self { stream };
        let mut body = Vec::from(196_608_i32.to_be_bytes());
        for word in ["user", user, "database", database, ""] {
            body.extend_from_slice(word.as_bytes());
            body.push(0);
        }
        session.send(None, &body).await?;
        session.until_ready().await?;
        Ok(session)
    }

    /// Runs statements; returns the values of the first column of all rows.
    pub async fn run(&mut self, sql: &str) -> Result<Vec<String>, SqlError> {
        let mut body = Vec::from(sql);
        body.push(0);
        self.send(Some(b'Q'), &body).await?;
        self.until_ready().await
    }

    async fn send(&mut self, kind: Option<u8>, body: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(body.len() + 5);
        message.extend(kind);
        let length = i32::try_from(body.len() + 4).map_err(|_| io::ErrorKind::InvalidInput)?;
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message).await
    }

    async fn until_ready(&mut self) -> Result<Vec<String>, SqlError> {
        let mut values = Vec::new();
        let mut failed = None;
        loop {
            let kind = self.stream.read_u8().await?;
            let length = usize::try_from(self.stream.read_i32().await?).unwrap_or(0);
            if !(4..LONGEST).contains(&length) {
                return Err(io::Error::from(io::ErrorKind::InvalidData).into());
            }
            let mut body = vec![0; length - 4];
            self.stream.read_exact(&mut body).await?;
            match kind {
                b'Z' => return failed.map_or(Ok(values), Err),
                b'D' => values.extend(first_column(&body)),
                b'E' => {
                    let error = server_error(&body);
                    // Without a session there is nothing to get ready.
                    if matches!(&error, SqlError::Server(state, _) if fatal(&body) || state.starts_with("28"))
                    {
                        return Err(error);
                    }
                    failed = Some(error);
                }
                b'R' if body.get(..4) != Some(&[0, 0, 0, 0]) => {
                    let message = "the server wants a password on its private socket";
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, message).into());
                }
                // Parameters, notices, row descriptions, completions.
                _ => {}
            }
        }
    }
}

fn first_column(row: &[u8]) -> Option<String> {
    let length = i32::from_be_bytes(row.get(2..6)?.try_into().ok()?);
    let value = row.get(6..6 + usize::try_from(length).ok()?)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

fn fields(body: &[u8]) -> impl Iterator<Item = (u8, String)> {
    body.split(|&byte| byte == 0).filter_map(|field| {
        let (kind, text) = field.split_first()?;
        Some((*kind, String::from_utf8_lossy(text).into_owned()))
    })
}

fn fatal(body: &[u8]) -> bool {
    fields(body).any(|(kind, text)| kind == b'V' && (text == "FATAL" || text == "PANIC"))
}

fn server_error(body: &[u8]) -> SqlError {
    let field = |wanted| {
        let found = fields(body).find(|(kind, _)| *kind == wanted);
        found.map(|(_, text)| text).unwrap_or_default()
    };
    SqlError::Server(field(b'C'), field(b'M'))
}

/// A name, quoted.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string, quoted. `standard_conforming_strings` is on, so that a backslash is one.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's \\"), "'it''s \\'");
    }

    #[test]
    fn an_error_has_a_state_and_a_message() {
        let body = b"SFATAL\0VFATAL\0C3D000\0Mdatabase \"x\" does not exist\0\0";
        assert!(fatal(body));
        let error = server_error(body).to_string();
        assert_eq!(error, "database \"x\" does not exist (SQLSTATE 3D000)");
    }

    #[test]
    fn a_row_that_is_cut_short_has_no_value() {
        assert_eq!(
            first_column(&[0, 1, 0, 0, 0, 2, b'4', b'2']).as_deref(),
            Some("42")
        );
        assert_eq!(first_column(&[0, 1, 0, 0, 0, 9, b'4']), None);
        assert_eq!(first_column(&[0, 1, 255, 255, 255, 255]), None, "null");
    }
}
