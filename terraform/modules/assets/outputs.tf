output "bucket" {
  description = "The bucket."
  value       = module.bucket.id
}

output "bucket_arn" {
  description = "The bucket's ARN."
  value       = module.bucket.arn
}

output "url" {
  description = "Where the assets are served, or null."
  value       = one([for distribution in aws_cloudfront_distribution.this : "https://${distribution.domain_name}"])
}
