//! Step 3: static assets under content-hashed names, beside the old ones.
//!
//! Blue and green are live together, so a page of one may ask for an asset of the other: nothing
//! is overwritten and nothing is deleted.

use sha2::{Digest as _, Sha256};

use super::{Done, Release, count};
use crate::error::Error;

pub async fn run(release: &Release<'_>) -> Result<Done<()>, Error> {
    let mut published = 0;
    let bucket = release.clients.s3.assets();
    for (name, path) in release.package.bundle.static_files() {
        let body = tokio::fs::read(&path)
            .await
            .map_err(Error::io("read the asset", &path))?;
        let key = format!("static/{}", hashed_name(name, &body));
        bucket.put(&key, content_type(name), None, body).await?;
        published += 1;
    }
    Done::new(
        (),
        format!("{} under content-hashed names", count(published, "asset")),
    )
}

/// `css/site.css` becomes `css/site.0123456789abcdef.css`.
fn hashed_name(name: &str, body: &[u8]) -> String {
    let hash = hex::encode(&Sha256::digest(body)[..8]);
    let (directory, file) = name.rsplit_once('/').map_or(("", name), |(d, f)| (d, f));
    let separator = if directory.is_empty() { "" } else { "/" };
    match file.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => {
            format!("{directory}{separator}{stem}.{hash}.{extension}")
        }
        _ => format!("{directory}{separator}{file}.{hash}"),
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("html") => "text/html; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_content() {
        let hash = "2cf24dba5fb0a30e";
        assert_eq!(
            hashed_name("css/site.css", b"hello"),
            format!("css/site.{hash}.css")
        );
        assert_eq!(hashed_name("robots", b"hello"), format!("robots.{hash}"));
        assert_eq!(
            hashed_name(".well-known", b"hello"),
            format!(".well-known.{hash}")
        );
        assert_ne!(hashed_name("a.js", b"1"), hashed_name("a.js", b"2"));
    }
}
