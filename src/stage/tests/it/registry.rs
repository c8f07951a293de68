//! The image registry: by skopeo, a second client that shares no code with ours, and by raw requests.

use std::process::Command;

use oci::archive::Archive;

use crate::{support::test_image, world::World};

/// The program's path, or `None` where it is not installed and that may be.
pub fn program(name: &str, variable: &str) -> Option<String> {
    program_that(name, variable, &["--version"])
}

/// The same for a program that must also be able to run with these arguments.
pub fn program_that(name: &str, variable: &str, arguments: &[&str]) -> Option<String> {
    let wanted = std::env::var(variable).unwrap_or_else(|_| name.to_owned());
    let found = Command::new(&wanted)
        .args(arguments)
        .output()
        .is_ok_and(|o| o.status.success());
    if found {
        return Some(wanted);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{wanted} is not installed; ./check installs it"
    );
    eprintln!("skipped: {wanted} is not installed; ./check installs it, or set {variable}");
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_in_and_out_and_the_digest_stays() {
    let Some(skopeo) = program("skopeo", "SKOPEO") else {
        return;
    };
    let world = World::empty(10.0).await;
    let digest = Archive::open(test_image())
        .unwrap()
        .manifest_digest()
        .to_string();
    let dir = tempfile::tempdir().unwrap();
    let inside = format!("docker://{}/by-skopeo/task:v1", world.stage.registry());
    let archive = format!("oci-archive:{}", test_image().display());
    let out = dir.path().join("out.tar");
    let run = |args: &[&str]| {
        let output = Command::new(&skopeo).args(args).output().unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["copy", "--dest-tls-verify=false", &archive, &inside]);
    let inspected = run(&["inspect", "--tls-verify=false", &inside]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Digest"], digest.as_str());
    assert_eq!(inspected["RepoTags"], serde_json::json!(["v1"]));
    run(&[
        "copy",
        "--src-tls-verify=false",
        &inside,
        &format!("oci-archive:{}", out.display()),
    ]);
    let back = Archive::open(&out).unwrap();
    assert_eq!(back.manifest_digest().to_string(), digest);
    world.stop().await;
}

struct Client {
    base: String,
}

impl Client {
    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, http::HeaderMap, Vec<u8>) {
        let client =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
                .build_http();
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = http_body_util::Full::new(bytes::Bytes::copy_from_slice(body));
        let response = client.request(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = http_body_util::BodyExt::collect(body)
            .await
            .unwrap()
            .to_bytes();
        (parts.status.as_u16(), parts.headers, body.to_vec())
    }

    async fn upload(&self, repository: &str) -> String {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let (status, headers, _) = self.send("POST", &path, &[], b"").await;
        assert_eq!(status, 202);
        headers["location"].to_str().unwrap().to_owned()
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)))
}

/// The code of an error's body.
fn error(body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    body["errors"][0]["code"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_uploaded_whole_or_in_chunks_and_verified() {
    let world = World::empty(10.0).await;
    let client = Client {
        base: world.stage.endpoint_url(),
    };
    let (status, headers, _) = client.send("GET", "/v2/", &[], b"").await;
    assert_eq!(
        (status, &headers["docker-distribution-api-version"]),
        (200, &"registry/2.0".parse().unwrap())
    );

    // In chunks, the middle one at a wrong place.
    let upload = client.upload("a/b").await;
    let (status, headers, _) = client
        .send("PATCH", &upload, &[("content-range", "0-4")], b"hello")
        .await;
    assert_eq!((status, headers["range"].to_str().unwrap()), (202, "0-4"));
    let (status, _, body) = client
        .send("PATCH", &upload, &[("content-range", "9-10")], b"!!")
        .await;
    assert_eq!(
        (status, error(&body).as_str()),
        (416, "BLOB_UPLOAD_INVALID")
    );
    let (status, headers, _) = client.send("GET", &upload, &[], b"").await;
    assert_eq!((status, headers["range"].to_str().unwrap()), (204, "0-4"));
    let digest = sha256(b"hello world");
    let finish = format!("{upload}?digest={}", digest.replace(':', "%3A"));
    let (status, headers, _) = client.send("PUT", &finish, &[], b" world").await;
    assert_eq!(
        (status, headers["docker-content-digest"].to_str().unwrap()),
        (201, digest.as_str())
    );

    let blob = format!("/v2/a/b/blobs/{digest}");
    let (status, headers, body) = client.send("GET", &blob, &[], b"").await;
    assert_eq!((status, body.as_slice()), (200, b"hello world".as_slice()));
    assert_eq!(headers["content-length"], "11");
    let (status, headers, body) = client.send("HEAD", &blob, &[], b"").await;
    assert_eq!(
        (status, body.len(), &headers["content-length"]),
        (200, 0, &"11".parse().unwrap())
    );
    let (status, _, body) = client
        .send("GET", &blob, &[("range", "bytes=6-")], b"")
        .await;
    assert_eq!((status, body.as_slice()), (206, b"world".as_slice()));
    let (status, _, body) = client
        .send("GET", &blob.replace("a/b", "c"), &[], b"")
        .await;
    assert_eq!((status, error(&body).as_str()), (404, "BLOB_UNKNOWN"));

    // Mounted into another repository.
    let mount = format!("/v2/c/blobs/uploads/?mount={digest}&from=a/b");
    assert_eq!(client.send("POST", &mount, &[], b"").await.0, 201);
    assert_eq!(
        client
            .send("HEAD", &blob.replace("a/b", "c"), &[], b"")
            .await
            .0,
        200
    );

    // Whole, and with a digest that does not agree.
    let other = sha256(b"other");
    let single = format!("/v2/a/b/blobs/uploads/?digest={other}");
    assert_eq!(client.send("POST", &single, &[], b"other").await.0, 201);
    let (status, _, body) = client.send("POST", &single, &[], b"another").await;
    assert_eq!((status, error(&body).as_str()), (400, "DIGEST_INVALID"));
    let upload = client.upload("a/b").await;
    assert_eq!(client.send("DELETE", &upload, &[], b"").await.0, 204);
    let (status, _, body) = client.send("PATCH", &upload, &[], b"x").await;
    assert_eq!(
        (status, error(&body).as_str()),
        (404, "BLOB_UPLOAD_UNKNOWN")
    );
    for bad in [
        "/v2/A/blobs/uploads/",
        "/v2/../x/blobs/uploads/",
        "/v2//blobs/uploads/",
    ] {
        let (status, _, _) = client.send("POST", bad, &[], b"").await;
        assert_eq!(status, 400, "{bad}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_name_only_what_is_there() {
    let world = World::empty(10.0).await;
    let client = Client {
        base: world.stage.endpoint_url(),
    };
    let media = "application/vnd.oci.image.manifest.v1+json";
    let (config, layer) = (b"{}".as_slice(), b"layer".as_slice());
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media,
        "config": { "mediaType": "x", "digest": sha256(config), "size": 2 },
        "layers": [{ "mediaType": "y", "digest": sha256(layer), "size": 5 }],
    })
    .to_string();
    let manifest = manifest.as_bytes();
    let digest = sha256(manifest);
    let types = [("content-type", media)];
    let put = |reference: &str| format!("/v2/app/manifests/{reference}");
    let upload = |blob: &[u8]| format!("/v2/app/blobs/uploads/?digest={}", sha256(blob));
    client.send("POST", &upload(config), &[], config).await;
    let (status, _, body) = client.send("PUT", &put("1"), &types, manifest).await;
    assert_eq!(
        (status, error(&body).as_str()),
        (404, "MANIFEST_BLOB_UNKNOWN")
    );
    client.send("POST", &upload(layer), &[], layer).await;
    for tag in ["1", "2", "3"] {
        let (status, headers, _) = client.send("PUT", &put(tag), &types, manifest).await;
        assert_eq!(
            (status, headers["docker-content-digest"].to_str().unwrap()),
            (201, digest.as_str())
        );
    }
    let (status, _, body) = client
        .send("PUT", &put(&sha256(b"x")), &types, manifest)
        .await;
    assert_eq!((status, error(&body).as_str()), (400, "DIGEST_INVALID"));
    let (status, _, body) = client.send("PUT", &put("1"), &types, b"{").await;
    assert_eq!((status, error(&body).as_str()), (400, "MANIFEST_INVALID"));
    let wrong = [("content-type", "application/vnd.oci.image.index.v1+json")];
    let (status, _, body) = client.send("PUT", &put("1"), &wrong, manifest).await;
    assert_eq!((status, error(&body).as_str()), (400, "MANIFEST_INVALID"));

    for reference in ["1", &digest] {
        let (status, headers, body) = client.send("GET", &put(reference), &[], b"").await;
        assert_eq!((status, body.as_slice()), (200, manifest));
        assert_eq!(headers["content-type"], media);
    }
    let (status, _, body) = client.send("GET", &put("9"), &[], b"").await;
    assert_eq!((status, error(&body).as_str()), (404, "MANIFEST_UNKNOWN"));
    let (_, headers, body) = client.send("GET", "/v2/app/tags/list?n=2", &[], b"").await;
    let list: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        list,
        serde_json::json!({ "name": "app", "tags": ["1", "2"] })
    );
    assert_eq!(
        headers["link"],
        "</v2/app/tags/list?n=2&last=2>; rel=\"next\""
    );
    let (_, _, body) = client
        .send("GET", "/v2/app/tags/list?n=2&last=2", &[], b"")
        .await;
    let list: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(list["tags"], serde_json::json!(["3"]));
    let (status, _, body) = client.send("GET", "/v2/none/tags/list", &[], b"").await;
    assert_eq!((status, error(&body).as_str()), (404, "NAME_UNKNOWN"));
    assert_eq!(client.send("DELETE", &put("1"), &[], b"").await.0, 202);
    assert_eq!(client.send("GET", &put("1"), &[], b"").await.0, 404);
    assert_eq!(client.send("DELETE", &put(&digest), &[], b"").await.0, 202);
    assert_eq!(client.send("GET", &put("2"), &[], b"").await.0, 404);
    world.stop().await;
}
