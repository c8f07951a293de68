# CodeDeploy, alarms, the hook, and who releases.

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
  name = "shop"
  service = {
    name          = "shop"
    arn           = "arn:aws:ecs:eu-west-1:111122223333:service/shop/shop"
    cluster       = { name = "shop", arn = "arn:aws:ecs:eu-west-1:111122223333:cluster/shop" }
    repository    = { arn = "arn:aws:ecr:eu-west-1:111122223333:repository/shop" }
    load_balancer = { arn_suffix = "app/shop/1" }
    target_groups = [{ name = "shop-a", arn_suffix = "targetgroup/shop-a/1" }, { name = "shop-b", arn_suffix = "targetgroup/shop-b/2" }]
    listeners     = { production = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:listener/app/shop/1/p", test = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:listener/app/shop/1/t" }
    ports         = { production = 80, test = 8080 }
    roles         = { execution = "arn:aws:iam::111122223333:role/shop-execution", task = "arn:aws:iam::111122223333:role/shop-task" }
  }
  releases_bucket_arn      = "arn:aws:s3:::shop-releases"
  assets_bucket_arn        = "arn:aws:s3:::shop-assets"
  strategy                 = "canary"
  canary                   = { percent = 20, minutes = 5 }
  linear                   = { percent = 25, minutes = 2 }
  termination_wait_minutes = 7
  alarms                   = { target_5xx = 10, connection_errors = 5, elb_5xx = 20, latency = 1.5, latency_statistic = "p95", periods = 2 }
  alarm_actions            = []
  hook                     = null
  github                   = { repository = "example/shop", subjects = ["ref:refs/heads/main", "environment:production"] }
  vpc_id                   = "vpc-1"
  subnets                  = ["subnet-1", "subnet-2"]
  key_arn                  = "arn:aws:kms:eu-west-1:111122223333:key/1"
  log_days                 = 30
}

override_resource {
  target          = aws_codedeploy_deployment_config.canary
  override_during = plan
  values          = { id = "shop-canary-20p-5m" }
}

override_resource {
  target          = aws_codedeploy_deployment_config.linear
  override_during = plan
  values          = { id = "shop-linear-25p-2m" }
}

override_resource {
  target          = aws_lambda_function.hook
  override_during = plan
  values          = { arn = "arn:aws:lambda:eu-west-1:111122223333:function:CodeDeployHook_shop-smoke" }
}

override_resource {
  target          = aws_cloudwatch_log_group.hook
  override_during = plan
  values          = { arn = "arn:aws:logs:eu-west-1:111122223333:log-group:/aws/lambda/CodeDeployHook_shop-smoke" }
}

override_resource {
  target          = aws_iam_openid_connect_provider.github
  override_during = plan
  values          = { arn = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com" }
}

run "deployment" {
  command = plan

  module {
    source = "./modules/deployment"
  }

  # ---- the group ----

  assert {
    condition     = one(aws_codedeploy_deployment_group.this.deployment_style).deployment_type == "BLUE_GREEN" && one(aws_codedeploy_deployment_group.this.deployment_style).deployment_option == "WITH_TRAFFIC_CONTROL"
    error_message = "the group deploys blue/green"
  }

  assert {
    condition     = toset(one(one(aws_codedeploy_deployment_group.this.load_balancer_info).target_group_pair_info).target_group[*].name) == toset(["shop-a", "shop-b"])
    error_message = "on the two target groups"
  }

  assert {
    condition = (
      one(one(one(one(aws_codedeploy_deployment_group.this.load_balancer_info).target_group_pair_info).prod_traffic_route).listener_arns) == var.service.listeners.production &&
      one(one(one(one(aws_codedeploy_deployment_group.this.load_balancer_info).target_group_pair_info).test_traffic_route).listener_arns) == var.service.listeners.test
    )
    error_message = "production and test listener are not swapped"
  }

  assert {
    condition     = toset(one(aws_codedeploy_deployment_group.this.auto_rollback_configuration).events) == toset(["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_STOP_ON_REQUEST"])
    error_message = "each of the three endings rolls back"
  }

  assert {
    condition     = one(aws_codedeploy_deployment_group.this.alarm_configuration).enabled && !one(aws_codedeploy_deployment_group.this.alarm_configuration).ignore_poll_alarm_failure
    error_message = "alarms are asked, and a deployment without an answer stops"
  }

  assert {
    condition     = aws_codedeploy_deployment_group.this.deployment_config_name == "shop-canary-20p-5m"
    error_message = "the group's own strategy is the one that was named"
  }

  assert {
    condition     = one(one(aws_codedeploy_deployment_config.canary.traffic_routing_config).time_based_canary).percentage == 20 && one(one(aws_codedeploy_deployment_config.linear.traffic_routing_config).time_based_linear).interval == 2
    error_message = "the configurations are those of the variables"
  }

  # ---- alarms ----

  assert {
    condition = { for name, alarm in aws_cloudwatch_metric_alarm.group : name => alarm.dimensions.TargetGroup } == {
      shop-a-target-5xx        = "targetgroup/shop-a/1"
      shop-a-connection-errors = "targetgroup/shop-a/1"
      shop-a-latency           = "targetgroup/shop-a/1"
      shop-b-target-5xx        = "targetgroup/shop-b/2"
      shop-b-connection-errors = "targetgroup/shop-b/2"
      shop-b-latency           = "targetgroup/shop-b/2"
    }
    error_message = "each alarm stands on both groups"
  }

  assert {
    condition     = toset(one(aws_codedeploy_deployment_group.this.alarm_configuration).alarms) == toset(concat(keys(aws_cloudwatch_metric_alarm.group), ["shop-elb-5xx"])) && length(one(aws_codedeploy_deployment_group.this.alarm_configuration).alarms) <= 10
    error_message = "CodeDeploy asks all of them, and they are not too many"
  }

  assert {
    condition     = alltrue([for alarm in concat(values(aws_cloudwatch_metric_alarm.group), [aws_cloudwatch_metric_alarm.load_balancer]) : alarm.treat_missing_data == "notBreaching" && alarm.period == 60 && alarm.evaluation_periods == 2 && alarm.dimensions.LoadBalancer == "app/shop/1"])
    error_message = "counts that are zero have no data, and that is good"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.group["shop-a-latency"].extended_statistic == "p95" && aws_cloudwatch_metric_alarm.group["shop-a-latency"].threshold == 1.5 && aws_cloudwatch_metric_alarm.group["shop-b-target-5xx"].statistic == "Sum"
    error_message = "latency is a percentile, the others are sums"
  }

  # ---- least privilege ----

  assert {
    condition = alltrue(flatten([for policy in [data.aws_iam_policy_document.release, data.aws_iam_policy_document.codedeploy] : [
      for statement in jsondecode(policy.json).Statement : [for action in flatten([statement.Action]) : !strcontains(action, "*")]
    ]]))
    error_message = "no wildcard in an action"
  }

  assert {
    condition     = toset([for statement in jsondecode(data.aws_iam_policy_document.release.json).Statement : statement.Sid if contains(flatten([statement.Resource]), "*")]) == toset(["WithoutResources", "Tasks"])
    error_message = "the release policy names resources wherever an action knows any"
  }

  assert {
    condition     = [for statement in jsondecode(data.aws_iam_policy_document.release.json).Statement : statement.Condition.ArnEquals["ecs:cluster"] if statement.Sid == "Tasks"] == ["arn:aws:ecs:eu-west-1:111122223333:cluster/shop"]
    error_message = "and the cluster where it does not"
  }

  assert {
    condition     = [for statement in jsondecode(data.aws_iam_policy_document.codedeploy.json).Statement : statement.Sid if contains(flatten([statement.Resource]), "*")] == ["Look"]
    error_message = "CodeDeploy may look at everything and move this stack only"
  }

  assert {
    condition = alltrue([for policy in [data.aws_iam_policy_document.release, data.aws_iam_policy_document.codedeploy] :
      [for statement in jsondecode(policy.json).Statement : "${statement.Condition.StringEquals["iam:PassedToService"]} ${join(" ", sort(flatten([statement.Resource])))}" if contains(flatten([statement.Action]), "iam:PassRole")]
      == ["ecs-tasks.amazonaws.com arn:aws:iam::111122223333:role/shop-execution arn:aws:iam::111122223333:role/shop-task"]
    ])
    error_message = "the two roles of tasks are passed on, to ECS, and no other"
  }

  assert {
    condition = [for statement in jsondecode(data.aws_iam_policy_document.release_trust[0].json).Statement : {
      aud = statement.Condition.StringEquals["token.actions.githubusercontent.com:aud"]
      sub = sort(statement.Condition.StringEquals["token.actions.githubusercontent.com:sub"])
      }] == [{
      aud = "sts.amazonaws.com"
      sub = tolist(["repo:example/shop:environment:production", "repo:example/shop:ref:refs/heads/main"])
    }]
    error_message = "GitHub's tokens need our audience and our subjects"
  }

  assert {
    condition     = length(aws_lambda_function.hook) == 0 && output.hooks == {}
    error_message = "without a zip there is no hook"
  }
}

run "with_a_hook" {
  command = plan

  module {
    source = "./modules/deployment"
  }

  variables {
    # Any file will do: what is in it is the function's business.
    hook     = { zip = "tests/deployment.tftest.hcl", environment = { HOOK_TEST_URL = "http://shop.example.org:8080" } }
    github   = { repository = "example/shop", subjects = ["ref:refs/heads/main"], provider_arn = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com" }
    strategy = "blue-green"
  }

  assert {
    condition     = keys(output.hooks) == ["smoke"] && one(aws_lambda_function.hook).function_name == "CodeDeployHook_shop-smoke"
    error_message = "CodeDeploy's limited role would invoke it, too"
  }

  assert {
    condition     = one(aws_lambda_function.hook).runtime == "provided.al2023" && one(one(aws_lambda_function.hook).environment).variables == tomap({ HOOK_TEST_URL = "http://shop.example.org:8080" })
    error_message = "the function is a static binary that knows the test listener"
  }

  assert {
    condition     = [for statement in jsondecode(data.aws_iam_policy_document.codedeploy.json).Statement : statement.Resource if statement.Sid == "Hook"] == ["arn:aws:lambda:eu-west-1:111122223333:function:CodeDeployHook_shop-smoke"]
    error_message = "CodeDeploy invokes this function and no other"
  }

  assert {
    condition     = [for statement in jsondecode(data.aws_iam_policy_document.hook[0].json).Statement : "${statement.Action} on ${statement.Resource}" if statement.Sid == "Answer"] == ["codedeploy:PutLifecycleEventHookExecutionStatus on arn:aws:codedeploy:eu-west-1:111122223333:deploymentgroup:shop/*"]
    error_message = "the hook answers for this application only"
  }

  assert {
    condition     = length(one(aws_security_group.hook).ingress) == 0
    error_message = "nobody reaches the hook"
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0
    error_message = "an account has one provider for GitHub; a given one is used"
  }

  assert {
    condition     = aws_codedeploy_deployment_group.this.deployment_config_name == "CodeDeployDefault.ECSAllAtOnce"
    error_message = "blue-green is all at once"
  }
}
