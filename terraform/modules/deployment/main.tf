# How traffic moves: the CodeDeploy application with its group and configurations.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account   = data.aws_caller_identity.this.account_id
  partition = data.aws_partition.this.partition
  region    = data.aws_region.this.name

  codedeploy = "arn:${local.partition}:codedeploy:${local.region}:${local.account}"
  group_arn  = "${local.codedeploy}:deploymentgroup:${var.name}/${var.name}"

  # The strategies of `release --strategy`, and the configuration behind each.
  configs = {
    canary     = aws_codedeploy_deployment_config.canary.id
    guarded    = aws_codedeploy_deployment_config.canary.id
    linear     = aws_codedeploy_deployment_config.linear.id
    blue-green = "CodeDeployDefault.ECSAllAtOnce"
  }
}

resource "aws_codedeploy_app" "this" {
  name             = var.name
  compute_platform = "ECS"
}

# A configuration cannot be changed, and not be deleted while a group uses it: each has its numbers
# in its name, and the new one is there before the old one goes.
resource "aws_codedeploy_deployment_config" "canary" {
  deployment_config_name = "${var.name}-canary-${var.canary.percent}p-${var.canary.minutes}m"
  compute_platform       = "ECS"

  traffic_routing_config {
    type = "TimeBasedCanary"

    time_based_canary {
      percentage = var.canary.percent
      interval   = var.canary.minutes
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_codedeploy_deployment_config" "linear" {
  deployment_config_name = "${var.name}-linear-${var.linear.percent}p-${var.linear.minutes}m"
  compute_platform       = "ECS"

  traffic_routing_config {
    type = "TimeBasedLinear"

    time_based_linear {
      percentage = var.linear.percent
      interval   = var.linear.minutes
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_codedeploy_deployment_group" "this" {
  app_name               = aws_codedeploy_app.this.name
  deployment_group_name  = var.name
  deployment_config_name = local.configs[var.strategy]
  service_role_arn       = aws_iam_role.codedeploy.arn

  ecs_service {
    cluster_name = var.service.cluster.name
    service_name = var.service.name
  }

  deployment_style {
    deployment_type   = "BLUE_GREEN"
    deployment_option = "WITH_TRAFFIC_CONTROL"
  }

  load_balancer_info {
    target_group_pair_info {
      prod_traffic_route {
        listener_arns = [var.service.listeners.production]
      }

      test_traffic_route {
        listener_arns = [var.service.listeners.test]
      }

      dynamic "target_group" {
        for_each = var.service.target_groups[*].name
        content {
          name = target_group.value
        }
      }
    }
  }

  blue_green_deployment_config {
    deployment_ready_option {
      action_on_timeout = "CONTINUE_DEPLOYMENT"
    }

    terminate_blue_instances_on_deployment_success {
      action                           = "TERMINATE"
      termination_wait_time_in_minutes = var.termination_wait_minutes
    }
  }

  # An alarm is a stop and not a failure: each of the three has to be named.
  auto_rollback_configuration {
    enabled = true
    events  = ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_STOP_ON_REQUEST"]
  }

  # Alarms that cannot be asked stop the deployment, too.
  alarm_configuration {
    enabled                   = true
    alarms                    = local.alarm_names
    ignore_poll_alarm_failure = false
  }

  # On the way down the role must outlive the group.
  depends_on = [aws_iam_role_policy.codedeploy]
}

# ---- the role --------------------------------------------------------------------------------

resource "aws_iam_role" "codedeploy" {
  name               = "${var.name}-codedeploy"
  description        = "CodeDeploy moves the traffic of ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.codedeploy_trust.json
}

data "aws_iam_policy_document" "codedeploy_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["codedeploy.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_iam_role_policy" "codedeploy" {
  name   = "move-traffic"
  role   = aws_iam_role.codedeploy.id
  policy = data.aws_iam_policy_document.codedeploy.json
}

# What AWS's managed policy for ECS allows, on this stack instead of on everything.
data "aws_iam_policy_document" "codedeploy" {
  #checkov:skip=CKV_AWS_356:Describe of ELB and CloudWatch knows no resources
  #checkov:skip=CKV_AWS_111:see CKV_AWS_356: it only reads there
  statement {
    sid       = "Look"
    actions   = ["cloudwatch:DescribeAlarms", "elasticloadbalancing:DescribeListeners", "elasticloadbalancing:DescribeRules", "elasticloadbalancing:DescribeTargetGroups"]
    resources = ["*"]
  }

  statement {
    sid     = "TaskSets"
    actions = ["ecs:CreateTaskSet", "ecs:DeleteTaskSet", "ecs:DescribeServices", "ecs:UpdateServicePrimaryTaskSet"]
    resources = [
      var.service.arn,
      "arn:${local.partition}:ecs:${local.region}:${local.account}:task-set/${var.service.cluster.name}/${var.service.name}/*",
    ]
  }

  statement {
    sid     = "Weights"
    actions = ["elasticloadbalancing:ModifyListener", "elasticloadbalancing:ModifyRule"]
    resources = [
      var.service.listeners.production,
      var.service.listeners.test,
      "${replace(var.service.listeners.production, ":listener/", ":listener-rule/")}/*",
      "${replace(var.service.listeners.test, ":listener/", ":listener-rule/")}/*",
    ]
  }

  statement {
    sid       = "AppSpecs"
    actions   = ["s3:GetObject", "s3:GetObjectVersion"]
    resources = ["${var.releases_bucket_arn}/appspecs/*"]
  }

  statement {
    sid       = "PassTaskRoles"
    actions   = ["iam:PassRole"]
    resources = [var.service.roles.execution, var.service.roles.task]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }

  dynamic "statement" {
    for_each = local.hook_arns
    content {
      sid       = "Hook"
      actions   = ["lambda:InvokeFunction"]
      resources = [statement.value]
    }
  }
}
