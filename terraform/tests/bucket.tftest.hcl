# A private bucket: on its own, for load balancers' logs, and for CloudFront.

provider "aws" {
  region                      = "eu-west-1"
  access_key                  = "testing"
  secret_key                  = "testing"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
}

variables {
  name    = "shop-releases-111122223333-eu-west-1"
  protect = true
}

override_resource {
  target          = aws_s3_bucket.this
  override_during = plan
  values          = { arn = "arn:aws:s3:::shop", id = "shop" }
}

run "private" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls,
      aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls,
      aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "no bucket is public, in none of four ways"
  }

  assert {
    condition     = one(aws_s3_bucket_ownership_controls.this.rule).object_ownership == "BucketOwnerEnforced"
    error_message = "there are no ACLs"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "objects are encrypted"
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.this.versioning_configuration).status == "Enabled"
    error_message = "what is overwritten can be brought back"
  }

  assert {
    condition     = !aws_s3_bucket.this.force_destroy
    error_message = "a protected bucket with objects in it is not destroyed"
  }

  assert {
    condition     = length([for statement in jsondecode(data.aws_iam_policy_document.this.json).Statement : statement if statement.Effect == "Allow"]) == 0
    error_message = "nobody gets in by the bucket's policy"
  }

  assert {
    condition = anytrue([
      for statement in jsondecode(data.aws_iam_policy_document.this.json).Statement :
      statement.Effect == "Deny" && statement.Principal == "*" && statement.Condition.Bool["aws:SecureTransport"] == "false" && toset(statement.Resource) == toset(["arn:aws:s3:::shop", "arn:aws:s3:::shop/*"])
    ])
    error_message = "what comes without TLS is refused"
  }
}

run "for_cloudfront" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  variables {
    cloudfront_reads = true
    cloudfront_arn   = "arn:aws:cloudfront::111122223333:distribution/E1"
  }

  assert {
    condition = [
      for statement in jsondecode(data.aws_iam_policy_document.this.json).Statement :
      "${statement.Action} ${statement.Resource} ${statement.Principal.Service} ${statement.Condition.StringEquals["AWS:SourceArn"]}"
      if statement.Effect == "Allow"
    ] == ["s3:GetObject arn:aws:s3:::shop/static/* cloudfront.amazonaws.com arn:aws:cloudfront::111122223333:distribution/E1"]
    error_message = "one distribution reads what is static, and nobody else anything"
  }
}

run "for_logs" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  variables {
    elb_delivers = true
    expire_days  = 30
    protect      = false
  }

  assert {
    condition = [
      for statement in jsondecode(data.aws_iam_policy_document.this.json).Statement :
      "${statement.Action} ${statement.Resource} ${statement.Principal.Service}"
      if statement.Effect == "Allow"
    ] == ["s3:PutObject arn:aws:s3:::shop/AWSLogs/* logdelivery.elasticloadbalancing.amazonaws.com"]
    error_message = "load balancers put logs, and nobody else anything"
  }

  assert {
    condition     = aws_s3_bucket.this.force_destroy
    error_message = "without protection a bucket goes with what is in it"
  }
}
