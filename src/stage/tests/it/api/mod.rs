//! What the APIs refuse and how they answer, asked with the SDKs and with raw requests.

mod cloudwatch;
mod codedeploy;
mod ecs;
mod groups;
mod tasks;
mod wire;

use crate::world::World;

/// A raw request without a signature: status, headers and body.
async fn raw(world: &World, target: &str, body: &str) -> (u16, http::HeaderMap, serde_json::Value) {
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http();
    let request = http::Request::post(world.stage.endpoint_url())
        .header("x-amz-target", target)
        .body(http_body_util::Full::new(bytes::Bytes::from(
            body.to_owned(),
        )))
        .unwrap();
    let response = client.request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = http_body_util::BodyExt::collect(body)
        .await
        .unwrap()
        .to_bytes();
    (
        parts.status.as_u16(),
        parts.headers,
        serde_json::from_slice(&body).unwrap(),
    )
}

/// A raw request with the signature of the stage's user.
fn signed(world: &World, target: &str, body: &str) -> (u16, http::HeaderMap, serde_json::Value) {
    use sha2::Digest as _;
    let host = world.stage.registry();
    let now = jiff::Timestamp::now()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    let service = if target.starts_with("AmazonEC2") {
        "ecs"
    } else {
        "codedeploy"
    };
    let names = "content-type;host;x-amz-date;x-amz-target";
    let canonical = format!(
        "POST\n/\n\ncontent-type:application/x-amz-json-1.1\nhost:{host}\nx-amz-date:{now}\n\
         x-amz-target:{target}\n\n{names}\n{}",
        hex::encode(sha2::Sha256::digest(body))
    );
    let scope = format!("{}/eu-west-1/{service}/aws4_request", &now[..8]);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{now}\n{scope}\n{}",
        hex::encode(sha2::Sha256::digest(&canonical))
    );
    let mut key = b"AWS4stage".to_vec();
    for part in scope.split('/').chain([to_sign.as_str()]) {
        use hmac::{KeyInit as _, Mac as _};
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
        mac.update(part.as_bytes());
        key = mac.finalize().into_bytes().to_vec();
    }
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=stage/{scope}, SignedHeaders={names}, Signature={}",
        hex::encode(key)
    );
    let request = http::Request::post(world.stage.endpoint_url())
        .header("content-type", "application/x-amz-json-1.1")
        .header("host", &host)
        .header("x-amz-date", &now)
        .header("x-amz-target", target)
        .header("authorization", authorization)
        .body(http_body_util::Full::new(bytes::Bytes::from(
            body.to_owned(),
        )))
        .unwrap();
    tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(async {
            let client =
                hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
                    .build_http();
            let response = client.request(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = http_body_util::BodyExt::collect(body)
                .await
                .unwrap()
                .to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            (parts.status.as_u16(), parts.headers, body)
        })
    })
}
