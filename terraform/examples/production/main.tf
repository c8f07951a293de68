# A stack for users: HTTPS under a domain, three zones, a database that survives one, releases by a
# GitHub workflow behind an environment's approval, a hook that tests the next version first.
#
#   terraform init -backend-config=bucket=... -backend-config=key=shop -backend-config=region=...
#   terraform apply
#   terraform output -json release > target.json

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # State holds no secret, but names everything: keep it where few may read it, locked and versioned.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { application = "shop" }
  }
}

variable "region" {
  description = "Where."
  type        = string
  default     = "eu-west-1"
}

variable "domain" {
  description = "Host name of the application, such as shop.example.org."
  type        = string
}

variable "zone" {
  description = "Name of the Route 53 zone that it is in, such as example.org."
  type        = string
}

variable "test_cidrs" {
  description = "Who may reach the test listener: the office, the VPN."
  type        = list(string)
}

variable "repository" {
  description = "The GitHub repository that releases, as owner/name."
  type        = string
}

variable "hook_zip" {
  description = "The hook function, built from this source tree."
  type        = string
}

variable "email" {
  description = "Who hears of alarms."
  type        = string
}

data "aws_route53_zone" "this" {
  name = var.zone
}

resource "aws_acm_certificate" "this" {
  domain_name       = var.domain
  validation_method = "DNS"

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route53_record" "proof" {
  for_each = { for option in aws_acm_certificate.this.domain_validation_options : option.domain_name => option }
  zone_id  = data.aws_route53_zone.this.zone_id
  name     = each.value.resource_record_name
  type     = each.value.resource_record_type
  records  = [each.value.resource_record_value]
  ttl      = 300
}

resource "aws_acm_certificate_validation" "this" {
  certificate_arn         = aws_acm_certificate.this.arn
  validation_record_fqdns = [for record in aws_route53_record.proof : record.fqdn]
}

resource "aws_sns_topic" "alarms" {
  #checkov:skip=CKV_AWS_26:CloudWatch may not use the key aws/sns, and the name of an alarm is no secret
  name = "shop-alarms"
}

resource "aws_sns_topic_subscription" "alarms" {
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.email
}

module "stack" {
  source = "../.."

  name            = "shop"
  certificate_arn = aws_acm_certificate_validation.this.certificate_arn
  domain          = var.domain
  zone_id         = data.aws_route53_zone.this.zone_id
  test_cidrs      = var.test_cidrs

  application = { tasks = 3 }
  network     = { zones = 3, egress = "nat-per-zone" }
  secrets     = ["session-key"]
  database = {
    instance_class = "db.m7g.large"
    storage        = 100
    storage_limit  = 1000
    multi_az       = true
    backup_days    = 35
    sslmode        = "require"
  }

  canary                   = { percent = 10, minutes = 15 }
  termination_wait_minutes = 30
  alarms                   = { target_5xx = 5, latency = 1 }
  alarm_actions            = [aws_sns_topic.alarms.arn]
  hook_zip                 = var.hook_zip
  hook_environment         = { HOOK_PATHS = "/ /admin" }

  github = {
    repository = var.repository
    subjects   = ["environment:production"]
  }

  container_insights = true
  log_days           = 365
}

output "release" {
  description = "The release program's target."
  value       = module.stack.release
}

output "release_role" {
  description = "What the workflow takes: role-to-assume of aws-actions/configure-aws-credentials."
  value       = module.stack.release_role
}
