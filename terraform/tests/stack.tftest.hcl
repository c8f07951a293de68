# The stack as a whole: what its parts make of the variables, and what is refused.

provider "aws" {
  region                      = "eu-west-1"
  access_key                  = "testing"
  secret_key                  = "testing"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
}

override_data {
  target = data.aws_caller_identity.this
  values = { account_id = "111122223333" }
}

override_data {
  target = module.key.data.aws_caller_identity.this
  values = { account_id = "111122223333" }
}

override_data {
  target = module.service.data.aws_caller_identity.this
  values = { account_id = "111122223333" }
}

override_data {
  target = module.deployment.data.aws_caller_identity.this
  values = { account_id = "111122223333" }
}

override_data {
  target = module.network.data.aws_availability_zones.here
  values = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
}

override_resource {
  target          = module.service.aws_lb.this
  override_during = plan
  values          = { dns_name = "shop-1.eu-west-1.elb.amazonaws.com", arn_suffix = "app/shop/1", arn = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:loadbalancer/app/shop/1" }
}

override_resource {
  target          = module.service.aws_ecr_repository.this
  override_during = plan
  values          = { arn = "arn:aws:ecr:eu-west-1:111122223333:repository/shop", repository_url = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/shop" }
}

override_resource {
  target          = module.assets.aws_cloudfront_distribution.this
  override_during = plan
  values          = { arn = "arn:aws:cloudfront::111122223333:distribution/E1", domain_name = "d1.cloudfront.net" }
}

override_resource {
  target          = module.data.aws_db_instance.this
  override_during = plan
  values = {
    address            = "shop.eu-west-1.rds.amazonaws.com"
    port               = 5432
    master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:rds!db-1-AbCdEf" }]
  }
}

override_resource {
  target          = module.deployment.aws_codedeploy_deployment_config.canary
  override_during = plan
  values          = { id = "shop-canary-10p-5m" }
}

override_resource {
  target          = module.deployment.aws_codedeploy_deployment_config.linear
  override_during = plan
  values          = { id = "shop-linear-10p-1m" }
}

override_resource {
  target          = module.releases.aws_s3_bucket.this
  override_during = plan
  values          = { id = "shop-releases-111122223333-eu-west-1", arn = "arn:aws:s3:::shop-releases-111122223333-eu-west-1" }
}

override_resource {
  target          = module.assets.module.bucket.aws_s3_bucket.this
  override_during = plan
  values          = { id = "shop-assets-111122223333-eu-west-1", arn = "arn:aws:s3:::shop-assets-111122223333-eu-west-1" }
}

variables {
  name            = "shop"
  certificate_arn = "arn:aws:acm:eu-west-1:111122223333:certificate/1"
  domain          = "shop.example.org"
  test_cidrs      = ["198.51.100.0/24"]
}

# ---- the target of `release` -----------------------------------------------------------------

run "target" {
  command = plan

  assert {
    condition     = output.release.urls == { production = "https://shop.example.org", test = "https://shop.example.org:8443", assets = "https://d1.cloudfront.net" }
    error_message = "URLs have the domain, and the port where it is not the scheme's own"
  }

  assert {
    condition     = output.release.strategies == { canary = "shop-canary-10p-5m", guarded = "shop-canary-10p-5m", linear = "shop-linear-10p-1m", blue-green = "CodeDeployDefault.ECSAllAtOnce" }
    error_message = "each strategy has its configuration"
  }

  assert {
    condition     = length(output.release.alarms) == 7 && join(" ", output.release.target_groups) == "shop-a shop-b"
    error_message = "the target names the group's alarms and target groups"
  }

  assert {
    condition     = output.release.bucket == "shop-releases-111122223333-eu-west-1" && output.release.static_bucket == "shop-assets-111122223333-eu-west-1"
    error_message = "buckets carry account and Region"
  }

  assert {
    condition     = output.release.database.secret_arn == "arn:aws:secretsmanager:eu-west-1:111122223333:secret:rds!db-1-AbCdEf:password::" && output.release.database.sslmode == "require"
    error_message = "the password is a member of RDS's JSON, and the connection is encrypted"
  }

  assert {
    condition     = output.release.task.family == "shop" && output.release.repository == "111122223333.dkr.ecr.eu-west-1.amazonaws.com/shop"
    error_message = "family and repository are the application's"
  }

  assert {
    condition     = output.release_role == null && output.release.hooks == {}
    error_message = "what was not asked for is not there"
  }
}

run "longest_name" {
  command = plan

  variables {
    name = "abcdefghijklmnopqrstuvwx"
  }

  assert {
    condition     = alltrue([for name in output.release.target_groups : length(name) <= 32])
    error_message = "target groups end at 32 characters"
  }

  assert {
    # The longest names of Regions have 14 characters.
    condition     = alltrue([for kind in ["releases", "assets", "logs"] : length("${var.name}-${kind}-111122223333-ap-southeast-1") <= 63])
    error_message = "buckets end at 63 characters"
  }

  assert {
    condition     = length("CodeDeployHook_${var.name}-smoke") <= 64 && length("${var.name}-execution") <= 64
    error_message = "functions and roles end at 64 characters"
  }
}

# ---- bad input -------------------------------------------------------------------------------
# Each variable in turn with each value that its validations are there for.

run "refuses_too_long_and_too_wide" {
  command = plan

  variables {
    name                     = "a-name-that-is-longer-than-24"
    test_cidrs               = ["0.0.0.0/0"]
    canary                   = { percent = 0 }
    linear                   = { percent = 100 }
    log_days                 = 42
    strategy                 = "rolling"
    https                    = true
    certificate_arn          = null
    vpc                      = { id = "vpc-1", public_subnets = ["subnet-1"], private_subnets = ["subnet-2", "subnet-3"] }
    network                  = { cidr = "10.0.0.0/8" }
    database                 = { version = "14" }
    alarms                   = { target_5xx = -1 }
    github                   = { repository = "no-owner" }
    application              = { container = "no spaces" }
    domain                   = "https://shop.example.org/"
    termination_wait_minutes = 2881
    production_cidrs         = []
    environment              = { "not a name" = "x" }
    secrets                  = ["Upper"]
    alarm_actions            = ["ops"]
    bootstrap_image          = " "
    one_off_image            = ""
  }

  expect_failures = [
    var.name,
    var.test_cidrs,
    var.canary,
    var.linear,
    var.log_days,
    var.strategy,
    var.https,
    var.vpc,
    var.network,
    var.database,
    var.alarms,
    var.github,
    var.application,
    var.domain,
    var.termination_wait_minutes,
    var.production_cidrs,
    var.environment,
    var.secrets,
    var.alarm_actions,
    var.bootstrap_image,
    var.one_off_image,
  ]
}

run "refuses_half_the_world_and_halves" {
  command = plan

  variables {
    name                     = "internal-shop"
    test_cidrs               = ["198.51.100.0/24", "128.0.0.0/1"]
    canary                   = { percent = 100 }
    linear                   = { percent = 1, minutes = 30 }
    vpc                      = { id = "vpc-1", public_subnets = ["subnet-1", "subnet-1"], private_subnets = ["subnet-2", "subnet-3"] }
    network                  = { zones = 1 }
    database                 = { instance_class = "t4g.micro" }
    alarms                   = { latency_statistic = "p100" }
    github                   = { repository = "example/shop", subjects = ["*"] }
    application              = { port = 65536 }
    ports                    = { production = 8443 }
    termination_wait_minutes = 1.5
    production_cidrs         = ["everyone"]
  }

  expect_failures = [
    var.name,
    var.test_cidrs,
    var.canary,
    var.linear,
    var.vpc,
    var.network,
    var.database,
    var.alarms,
    var.github,
    var.application,
    var.ports,
    var.termination_wait_minutes,
    var.production_cidrs,
  ]
}

run "refuses_not_even_addresses" {
  command = plan

  variables {
    name        = "Shop"
    test_cidrs  = ["the office"]
    canary      = { minutes = 0 }
    linear      = { percent = 12.5 }
    vpc         = { id = "my-vpc", public_subnets = ["subnet-1", "subnet-2"], private_subnets = ["subnet-3", "subnet-4"] }
    network     = { egress = "vpn" }
    database    = { storage = 10 }
    alarms      = { periods = 0 }
    github      = { repository = "example/shop", subjects = [] }
    application = { health_check = "ready" }
    domain      = null
    ports       = { production = 0 }
    zone_id     = "Z1"
  }

  expect_failures = [
    var.name,
    var.test_cidrs,
    var.canary,
    var.linear,
    var.vpc,
    var.network,
    var.database,
    var.alarms,
    var.github,
    var.application,
    var.ports,
    var.zone_id,
  ]
}

run "refuses_still_not" {
  command = plan

  variables {
    certificate_arn = "my-certificate"
    name            = "a--b"
    test_cidrs      = []
    canary          = { percent = 10.5 }
    database        = { backup_days = 0 }
    application     = { tasks = 0 }
    github          = { repository = "example/shop", subjects = ["pull_request"] }
    hook_zip        = "hook.zip"
    network         = { egress = "endpoints" }
  }

  expect_failures = [
    var.certificate_arn,
    var.name,
    var.test_cidrs,
    var.canary,
    var.database,
    var.application,
    var.github,
    var.hook_zip,
  ]
}

run "refuses_database_user" {
  command = plan

  variables {
    database = { user = "postgres" }
  }

  expect_failures = [
    var.database,
  ]
}

run "refuses_database_sslmode" {
  command = plan

  variables {
    database = { sslmode = "disable" }
  }

  expect_failures = [
    var.database,
  ]
}

