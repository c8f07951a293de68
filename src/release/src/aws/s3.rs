//! S3: where CodeDeploy reads the AppSpec from, and where records are kept.

use aws_config::SdkConfig;
use aws_sdk_s3::primitives::ByteStream;

use super::{AwsError, failed};
use crate::target::Target;

/// The target's bucket.
#[derive(Debug, Clone)]
pub struct S3 {
    client: aws_sdk_s3::Client,
    bucket: String,
    static_bucket: String,
}

impl S3 {
    /// The bucket of a target.
    pub fn new(config: &SdkConfig, target: &Target) -> S3 {
        let config = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(target.endpoint_url.is_some())
            .build();
        S3 {
            client: aws_sdk_s3::Client::from_conf(config),
            bucket: target.bucket.clone(),
            static_bucket: target
                .static_bucket
                .clone()
                .unwrap_or_else(|| target.bucket.clone()),
        }
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Whether the bucket is there and may be used.
    pub async fn check(&self) -> Result<(), AwsError> {
        self.client
            .head_bucket()
            .bucket(&self.bucket)
            .send()
            .await
            .map(drop)
            .map_err(|error| {
                let mut error = failed("S3", "HeadBucket")(error);
                // HEAD answers have no body, so the SDK has no message to show.
                if error.message.is_empty() || error.message == "NotFound" || error.is("NotFound") {
                    error.message = format!("there is no bucket {}", self.bucket);
                    error.hint = "; check `bucket` of the target";
                }
                error
            })
    }

    /// The same for static assets, which may have a bucket of their own.
    pub fn assets(&self) -> S3 {
        S3 {
            bucket: self.static_bucket.clone(),
            ..self.clone()
        }
    }

    /// Stores one object.
    ///
    /// `tags` as `Key=Value`; CodeDeploy's limited service role reads only what is tagged
    /// `UseWithCodeDeploy=true` (CodeDeploy user guide, ECS CodeDeploy IAM role).
    pub async fn put(
        &self,
        key: &str,
        content_type: &str,
        tags: Option<&str>,
        body: impl Into<ByteStream>,
    ) -> Result<(), AwsError> {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(content_type)
            .set_tagging(tags.map(str::to_owned))
            .body(body.into())
            .send()
            .await
            .map(drop)
            .map_err(failed("S3", "PutObject"))
    }

    /// Reads one object; `None` where there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, AwsError> {
        let answer = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .send();
        let object = match answer.await {
            Ok(object) => object,
            Err(error) => {
                let error = failed("S3", "GetObject")(error);
                return if error.is("NoSuchKey") {
                    Ok(None)
                } else {
                    Err(error)
                };
            }
        };
        let body = object.body.collect().await;
        body.map(|body| Some(body.to_vec()))
            .map_err(|error| AwsError::answered("S3", "GetObject", error.to_string()))
    }
}
