# Write-only arguments and ephemeral resources, which keep secrets out of state and plan, came with
# Terraform 1.11 (and OpenTofu 1.11). There is no provider block: whoever calls this module
# configures the provider; where it is applied by itself, the environment does (AWS_REGION, ...).
terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}
