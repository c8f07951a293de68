//! What extension headers say of the entry that follows: GNU long names and pax records.

use super::{TarError, until_nul};

/// What extension headers say of the next entry.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<u64>,
    pub(super) any: bool,
}

impl Extensions {
    pub(super) fn apply(&mut self, flag: u8, content: &[u8], at: u64) -> Result<(), TarError> {
        let refuse = |reason| Err(TarError::Extension { reason, at });
        let given_twice = match flag {
            b'L' => self.path.replace(until_nul(content).to_vec()).is_some(),
            b'K' => self.link.replace(until_nul(content).to_vec()).is_some(),
            b'g' => {
                // Comments of git and of build tools; what would rename every entry is refused.
                let mut global = Self::default();
                global.records(content, at)?;
                if global.path.is_some() || global.link.is_some() || global.size.is_some() {
                    return refuse("it names or sizes all entries at once");
                }
                return Ok(());
            }
            _ => {
                self.records(content, at)?;
                false
            }
        };
        self.any = true;
        if given_twice {
            refuse("it gives a name that was given before")
        } else {
            Ok(())
        }
    }

    /// Pax records: `length key=value\n` each, where the length counts the whole record.
    fn records(&mut self, mut content: &[u8], at: u64) -> Result<(), TarError> {
        let malformed = || TarError::Extension {
            reason: "it holds something that is no pax record",
            at,
        };
        while !content.is_empty() {
            let space = content
                .iter()
                .take(20)
                .position(|byte| *byte == b' ')
                .ok_or_else(malformed)?;
            let length: usize = text(&content[..space])
                .and_then(|text| text.parse().ok())
                .ok_or_else(malformed)?;
            if length <= space + 1 || length > content.len() || content[length - 1] != b'\n' {
                return Err(malformed());
            }
            let record = &content[space + 1..length - 1];
            content = &content[length..];
            let equals = record
                .iter()
                .position(|byte| *byte == b'=')
                .ok_or_else(malformed)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let integer = || text(value).and_then(|text| text.parse::<u64>().ok());
            let id = || {
                integer()
                    .and_then(|n| u32::try_from(n).ok())
                    .ok_or_else(malformed)
            };
            match key {
                b"path" | b"linkpath" => {
                    if value.is_empty() {
                        return Err(TarError::Extension {
                            reason: "it takes a name away",
                            at,
                        });
                    }
                    let name = if key == b"path" {
                        &mut self.path
                    } else {
                        &mut self.link
                    };
                    if name.replace(value.to_vec()).is_some() {
                        return Err(TarError::Extension {
                            reason: "it gives a name that was given before",
                            at,
                        });
                    }
                }
                b"size" => self.size = Some(integer().ok_or_else(malformed)?),
                b"uid" => self.uid = Some(id()?),
                b"gid" => self.gid = Some(id()?),
                b"mtime" => {
                    // Seconds with an optional fraction; times before the epoch become the epoch.
                    let seconds = value.split(|byte| *byte == b'.').next().unwrap_or_default();
                    self.mtime = Some(
                        text(seconds)
                            .and_then(|text| text.parse().ok())
                            .unwrap_or(0),
                    );
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(TarError::Extension {
                        reason: "sparse files are not supported",
                        at,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
