//! S3, served by s3s.
