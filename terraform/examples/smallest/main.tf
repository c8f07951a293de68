# The smallest stack that releases can be tried on: plain HTTP, one task with a public address, no
# NAT gateway, no CDN, and nothing that resists being destroyed. About 60 USD a month (docs/aws.md).
#
#   terraform init && terraform apply -var 'test_cidrs=["203.0.113.7/32"]'
#   terraform output -json release > target.json

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { application = "serein-demo" }
  }
}

variable "region" {
  description = "Where."
  type        = string
  default     = "eu-west-1"
}

variable "test_cidrs" {
  description = "Who may reach the test listener: your address with /32."
  type        = list(string)
}

module "stack" {
  source = "../.."

  name        = "serein-demo"
  https       = false
  test_cidrs  = var.test_cidrs
  application = { tasks = 1 }
  network     = { egress = "public" }
  cdn         = false
  protect     = false
}

output "release" {
  description = "The release program's target."
  value       = module.stack.release
}
