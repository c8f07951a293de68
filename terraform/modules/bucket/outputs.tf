output "id" {
  description = "The bucket's name, once everything that protects it is in place."
  value       = aws_s3_bucket.this.id

  depends_on = [aws_s3_bucket_policy.this, aws_s3_bucket_public_access_block.this]
}

output "arn" {
  description = "The bucket's ARN."
  value       = aws_s3_bucket.this.arn
}

output "domain" {
  description = "Host name under which CloudFront reads it."
  value       = aws_s3_bucket.this.bucket_regional_domain_name
}
