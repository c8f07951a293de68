# The network: made in its four ways, or given.

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
  name   = "shop"
  vpc    = null
  cidr   = "10.20.0.0/16"
  zones  = 2
  egress = "nat"
}

override_data {
  target = data.aws_availability_zones.here
  values = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
}

run "one_gateway" {
  command = plan

  module {
    source = "./modules/network"
  }

  assert {
    condition     = join(" ", concat(aws_subnet.public[*].cidr_block, aws_subnet.private[*].cidr_block)) == "10.20.0.0/20 10.20.16.0/20 10.20.128.0/20 10.20.144.0/20"
    error_message = "subnets are sixteenths of the range"
  }

  assert {
    condition     = distinct(aws_subnet.private[*].availability_zone) == tolist(["eu-west-1a", "eu-west-1b"])
    error_message = "each is in a zone of its own"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route.nat) == 2 && length(aws_vpc_endpoint.interface) == 0
    error_message = "one gateway serves all zones"
  }

  assert {
    condition     = !anytrue(concat(aws_subnet.public[*].map_public_ip_on_launch, aws_subnet.private[*].map_public_ip_on_launch))
    error_message = "nothing gets a public address without asking"
  }

  assert {
    condition     = length(aws_default_security_group.closed) == 1
    error_message = "the default group is closed"
  }

  assert {
    condition     = !output.assign_public_ip
    error_message = "tasks are private"
  }
}

run "a_gateway_a_zone" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    zones  = 3
    egress = "nat-per-zone"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 3 && length(aws_subnet.private) == 3
    error_message = "three zones, three gateways"
  }
}

run "endpoints" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    egress = "endpoints"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 0 && toset(keys(aws_vpc_endpoint.interface)) == toset(["ecr.api", "ecr.dkr", "kms", "logs", "secretsmanager"])
    error_message = "what a task needs is reached without a way out"
  }

  assert {
    condition     = one(one(aws_security_group.endpoints).ingress).cidr_blocks == tolist(["10.20.0.0/16"])
    error_message = "endpoints answer the VPC only"
  }
}

run "public" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    egress = "public"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 0 && length(aws_vpc_endpoint.interface) == 0 && output.assign_public_ip
    error_message = "nothing that costs, and public addresses for tasks"
  }
}

run "given" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    vpc = {
      id              = "vpc-1"
      public_subnets  = ["subnet-1", "subnet-2"]
      private_subnets = ["subnet-3", "subnet-4"]
    }
  }

  override_data {
    target = data.aws_subnet.given["subnet-1"]
    values = { vpc_id = "vpc-1", availability_zone = "a", cidr_block = "10.0.1.0/24" }
  }

  override_data {
    target = data.aws_subnet.given["subnet-2"]
    values = { vpc_id = "vpc-1", availability_zone = "b", cidr_block = "10.0.2.0/24" }
  }

  override_data {
    target = data.aws_subnet.given["subnet-3"]
    values = { vpc_id = "vpc-1", availability_zone = "a", cidr_block = "10.0.3.0/24" }
  }

  override_data {
    target = data.aws_subnet.given["subnet-4"]
    values = { vpc_id = "vpc-1", availability_zone = "b", cidr_block = "10.0.4.0/24" }
  }

  assert {
    condition     = length(aws_vpc.this) == 0 && output.vpc_id == "vpc-1" && output.task_subnets == tolist(["subnet-3", "subnet-4"])
    error_message = "what is given is used and nothing made"
  }

  assert {
    condition     = output.subnet_cidrs == tolist(["10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24", "10.0.4.0/24"])
    error_message = "rules name the ranges of the subnets that were given"
  }
}

run "given_in_one_zone" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    vpc = {
      id              = "vpc-1"
      public_subnets  = ["subnet-1", "subnet-2"]
      private_subnets = ["subnet-1", "subnet-2"]
    }
  }

  override_data {
    target = data.aws_subnet.given["subnet-1"]
    values = { vpc_id = "vpc-1", availability_zone = "a" }
  }

  override_data {
    target = data.aws_subnet.given["subnet-2"]
    values = { vpc_id = "vpc-1", availability_zone = "a" }
  }

  expect_failures = [terraform_data.two_zones]
}

run "given_in_another_vpc" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    vpc = {
      id              = "vpc-1"
      public_subnets  = ["subnet-1", "subnet-2"]
      private_subnets = ["subnet-1", "subnet-2"]
    }
  }

  override_data {
    target = data.aws_subnet.given["subnet-1"]
    values = { vpc_id = "vpc-2", availability_zone = "a" }
  }

  override_data {
    target = data.aws_subnet.given["subnet-2"]
    values = { vpc_id = "vpc-2", availability_zone = "b" }
  }

  expect_failures = [data.aws_subnet.given]
}
