# Static assets under content-hashed names: a private bucket, and a distribution that reads it.
# Blue and green are live together, so nothing in it is overwritten or expires.

module "bucket" {
  source = "../bucket"

  name             = var.bucket
  protect          = var.protect
  cloudfront_reads = var.cdn
  cloudfront_arn   = one(aws_cloudfront_distribution.this[*].arn)
}

resource "aws_cloudfront_origin_access_control" "this" {
  count                             = var.cdn ? 1 : 0
  name                              = var.bucket
  description                       = "Reads the assets of ${var.name}"
  origin_access_control_origin_type = "s3"
  signing_behavior                  = "always"
  signing_protocol                  = "sigv4"
}

resource "aws_cloudfront_distribution" "this" {
  #checkov:skip=CKV_AWS_68:public files without cookies or queries; there is nothing for a firewall to look at
  #checkov:skip=CKV2_AWS_47:see CKV_AWS_68
  #checkov:skip=CKV_AWS_86:who loads a stylesheet is not worth a bucket of logs
  #checkov:skip=CKV_AWS_174:the minimum version needs a certificate of one's own in us-east-1; viewers are redirected to HTTPS
  #checkov:skip=CKV2_AWS_42:the distribution's own name has CloudFront's certificate
  #checkov:skip=CKV_AWS_305:there is no index: every asset is asked for by its hashed name
  #checkov:skip=CKV_AWS_310:one origin in one Region, as the application
  #checkov:skip=CKV2_AWS_32:it has one, named by its id, which checkov does not see
  #checkov:skip=CKV_AWS_374:the application is not restricted to countries either
  count       = var.cdn ? 1 : 0
  enabled     = true
  comment     = "Static assets of ${var.name}"
  price_class = "PriceClass_100"
  # Nobody waits a quarter of an hour for a change to reach every edge.
  wait_for_deployment = false
  is_ipv6_enabled     = true
  http_version        = "http2and3"

  origin {
    origin_id                = "assets"
    domain_name              = module.bucket.domain
    origin_access_control_id = aws_cloudfront_origin_access_control.this[0].id
  }

  default_cache_behavior {
    target_origin_id       = "assets"
    viewer_protocol_policy = "redirect-to-https"
    allowed_methods        = ["GET", "HEAD"]
    cached_methods         = ["GET", "HEAD"]
    compress               = true
    # AWS's own: Managed-CachingOptimized and Managed-SecurityHeadersPolicy.
    cache_policy_id            = "658327ea-f89d-4fab-a63d-7e88639e58f6"
    response_headers_policy_id = "67f7725c-6f97-4210-82d7-5512b31e9d03"
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  viewer_certificate {
    cloudfront_default_certificate = true
  }
}
