# Load balancer, service, and the roles of tasks.

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

variables {
  name               = "shop"
  application        = { container = "app", port = 8080, health_check = "/healthz/ready", tasks = 2 }
  environment        = { GREETING = "hello" }
  psql               = { environment = { PGHOST = "db" }, secrets = { PGPASSWORD = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:a:password::" } }
  readable_secrets   = ["arn:aws:secretsmanager:eu-west-1:111122223333:secret:a"]
  bootstrap_image    = "busybox:1.37.0"
  one_off_image      = "postgres:17-alpine"
  vpc_id             = "vpc-1"
  public_subnets     = ["subnet-1", "subnet-2"]
  task_subnets       = ["subnet-3", "subnet-4"]
  assign_public_ip   = false
  subnet_cidrs       = ["10.20.0.0/20"]
  ports              = { production = 80, test = 8080 }
  production_cidrs   = ["0.0.0.0/0"]
  test_cidrs         = ["198.51.100.0/24"]
  https              = false
  certificate_arn    = null
  domain             = null
  zone_id            = null
  access_logs_bucket = "logs"
  key_arn            = "arn:aws:kms:eu-west-1:111122223333:key/1"
  log_days           = 30
  container_insights = false
  protect            = true
}

# ARNs that AWS makes, so that policies can be read before there is anything.
override_resource {
  target          = aws_ecr_repository.this
  override_during = plan
  values          = { arn = "arn:aws:ecr:eu-west-1:111122223333:repository/shop", repository_url = "registry/shop" }
}

override_resource {
  target          = aws_cloudwatch_log_group.tasks
  override_during = plan
  values          = { arn = "arn:aws:logs:eu-west-1:111122223333:log-group:/ecs/shop" }
}

override_resource {
  target          = aws_iam_role.execution
  override_during = plan
  values          = { arn = "arn:aws:iam::111122223333:role/shop-execution" }
}

override_resource {
  target          = aws_iam_role.task
  override_during = plan
  values          = { arn = "arn:aws:iam::111122223333:role/shop-task" }
}

override_resource {
  target          = aws_security_group.load_balancer
  override_during = plan
  values          = { id = "sg-lb" }
}

override_resource {
  target          = aws_lb_target_group.this["a"]
  override_during = plan
  values          = { arn = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/shop-a/1" }
}

override_resource {
  target          = aws_lb_target_group.this["b"]
  override_during = plan
  values          = { arn = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/shop-b/2" }
}

run "http" {
  command = plan

  module {
    source = "./modules/service"
  }

  # ---- who gets in ----

  assert {
    condition = {
      for rule in aws_security_group.load_balancer.ingress : "${rule.from_port}-${rule.to_port}" => join(",", rule.cidr_blocks)
    } == { "80-80" = "0.0.0.0/0", "8080-8080" = "198.51.100.0/24" }
    error_message = "users reach the production listener, testers the test listener, and nobody another port"
  }

  assert {
    condition     = alltrue([for rule in aws_security_group.tasks.ingress : length(rule.cidr_blocks) == 0 && rule.security_groups == toset(["sg-lb"]) && rule.from_port == 8080 && rule.to_port == 8080])
    error_message = "tasks are reached from the load balancer only"
  }

  assert {
    condition     = toset([for rule in aws_security_group.tasks.egress : rule.from_port]) == toset([443, 5432])
    error_message = "tasks reach AWS and the database"
  }

  assert {
    condition     = aws_lb.this.drop_invalid_header_fields && aws_lb.this.enable_deletion_protection && one(aws_lb.this.access_logs).enabled
    error_message = "the load balancer drops bad headers, resists deletion and logs"
  }

  # ---- what CodeDeploy needs ----

  assert {
    condition     = one(aws_ecs_service.this.deployment_controller).type == "CODE_DEPLOY"
    error_message = "the service is CodeDeploy's"
  }

  assert {
    condition     = { for group in one(one(aws_lb_listener.production.default_action).forward).target_group : group.arn => group.weight } == { "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/shop-a/1" = 100, "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/shop-b/2" = 0 }
    error_message = "both groups are behind the production listener, so that green is checked before it gets requests"
  }

  assert {
    condition     = alltrue([for group in aws_lb_target_group.this : group.target_type == "ip" && group.slow_start == 0 && tonumber(group.deregistration_delay) == 30])
    error_message = "target groups are as a canary needs them"
  }

  assert {
    condition     = aws_ecs_task_definition.bootstrap.family == "shop-bootstrap"
    error_message = "the family that is released is nobody's but the release program's"
  }

  assert {
    condition = (
      contains(jsondecode(aws_ecs_task_definition.bootstrap.container_definitions)[0].environment, { name = "GREETING", value = "hello" }) &&
      contains(jsondecode(aws_ecs_task_definition.one_off.container_definitions)[0].environment, { name = "GREETING", value = "hello" })
    )
    error_message = "the environment reaches both definitions"
  }

  assert {
    condition     = [for secret in jsondecode(aws_ecs_task_definition.one_off.container_definitions)[0].secrets : secret.name] == ["PGPASSWORD"] && !strcontains(aws_ecs_task_definition.bootstrap.container_definitions, "secretsmanager")
    error_message = "the one-off task gets the password, the bootstrap does not"
  }

  # ---- images and logs ----

  assert {
    condition     = aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE" && one(aws_ecr_repository.this.image_scanning_configuration).scan_on_push && !aws_ecr_repository.this.force_delete
    error_message = "a tag means one image for ever"
  }

  assert {
    condition     = aws_cloudwatch_log_group.tasks.retention_in_days == 30 && aws_cloudwatch_log_group.tasks.kms_key_id != null
    error_message = "logs end, and are encrypted"
  }

  # ---- least privilege ----

  assert {
    condition = {
      for statement in jsondecode(data.aws_iam_policy_document.execution.json).Statement :
      statement.Sid => "${join(" ", flatten([statement.Action]))} on ${join(" ", flatten([statement.Resource]))}"
      } == {
      RegistryLogin = "ecr:GetAuthorizationToken on *"
      Pull          = "ecr:GetDownloadUrlForLayer ecr:BatchGetImage ecr:BatchCheckLayerAvailability on arn:aws:ecr:eu-west-1:111122223333:repository/shop"
      Log           = "logs:PutLogEvents logs:CreateLogStream on arn:aws:logs:eu-west-1:111122223333:log-group:/ecs/shop:*"
      Secrets       = "secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-west-1:111122223333:secret:a"
      SecretsKey    = "kms:Decrypt on arn:aws:kms:eu-west-1:111122223333:key/1"
    }
    error_message = "the execution role starts this application's tasks and does nothing else"
  }

  assert {
    condition     = alltrue([for statement in jsondecode(data.aws_iam_policy_document.tasks.json).Statement : statement.Principal.Service == "ecs-tasks.amazonaws.com" && statement.Condition.StringEquals["aws:SourceAccount"] == "111122223333"])
    error_message = "ECS takes the roles, for this account"
  }
}

run "https" {
  command = plan

  module {
    source = "./modules/service"
  }

  variables {
    https           = true
    certificate_arn = "arn:aws:acm:eu-west-1:111122223333:certificate/1"
    ports           = { production = 443, test = 8443 }
    domain          = "shop.example.org"
    zone_id         = "Z1"
    protect         = false
  }

  assert {
    condition     = alltrue([for listener in [aws_lb_listener.production, aws_lb_listener.test] : listener.protocol == "HTTPS" && listener.ssl_policy == "ELBSecurityPolicy-TLS13-1-2-2021-06" && listener.certificate_arn == "arn:aws:acm:eu-west-1:111122223333:certificate/1"])
    error_message = "both listeners speak TLS 1.2 and 1.3"
  }

  assert {
    condition     = one(one(one(aws_lb_listener.redirect).default_action).redirect).status_code == "HTTP_301" && one(aws_lb_listener.redirect).port == 80
    error_message = "HTTP is redirected"
  }

  assert {
    condition     = { for rule in aws_security_group.load_balancer.ingress : "${rule.from_port}-${rule.to_port}" => join(",", rule.cidr_blocks) } == { "80-80" = "0.0.0.0/0", "443-443" = "0.0.0.0/0", "8443-8443" = "198.51.100.0/24" }
    error_message = "the test listener is closed to the world with HTTPS, too"
  }

  assert {
    condition     = one(aws_route53_record.this).name == "shop.example.org"
    error_message = "the domain leads to the load balancer"
  }

  assert {
    condition     = !aws_lb.this.enable_deletion_protection && aws_ecr_repository.this.force_delete
    error_message = "without protection everything can go"
  }
}
