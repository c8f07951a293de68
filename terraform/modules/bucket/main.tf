# A private bucket: no public access, no ACLs, TLS only, encrypted, versioned.

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_145:S3's own key, see below
  #checkov:skip=CKV_AWS_18:a log of who read the access logs would need a log; CloudTrail's data events can be switched on
  #checkov:skip=CKV_AWS_144:one Region, as the application; versioning brings back what was overwritten
  #checkov:skip=CKV2_AWS_62:nobody waits for an event
  bucket        = var.name
  force_destroy = !var.protect
}

# By way of a local, so that the policy is rendered as soon as the ARN is known: a data source that
# refers to a resource waits until that has been made.
locals {
  arn = aws_s3_bucket.this.arn
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    # S3's own key: nothing in here is secret, and the load balancer can deliver logs to no other.
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "tidy"
    status = "Enabled"
    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }

    noncurrent_version_expiration {
      noncurrent_days = 30
    }

    dynamic "expiration" {
      for_each = var.expire_days == null ? [] : [var.expire_days]
      content {
        days = expiration.value
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = data.aws_iam_policy_document.this.json

  depends_on = [aws_s3_bucket_public_access_block.this]
}

data "aws_iam_policy_document" "this" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.arn, "${local.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  dynamic "statement" {
    for_each = var.elb_delivers ? ["ElbDelivers"] : []
    content {
      sid       = statement.value
      actions   = ["s3:PutObject"]
      resources = ["${local.arn}/AWSLogs/*"]

      principals {
        type        = "Service"
        identifiers = ["logdelivery.elasticloadbalancing.amazonaws.com"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.cloudfront_reads ? ["CloudFrontReads"] : []
    content {
      sid       = statement.value
      actions   = ["s3:GetObject"]
      resources = ["${local.arn}/static/*"]

      principals {
        type        = "Service"
        identifiers = ["cloudfront.amazonaws.com"]
      }

      condition {
        test     = "StringEquals"
        variable = "AWS:SourceArn"
        values   = [var.cloudfront_arn]
      }
    }
  }
}
