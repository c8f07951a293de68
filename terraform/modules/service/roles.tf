# The two roles of a task. Only ECS may take them, and only for this account.

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:ecs:${local.region}:${local.account}:*"]
    }
  }
}

# The application's own: the demo calls nothing of AWS. Attach what yours needs.
resource "aws_iam_role" "task" {
  name               = "${var.name}-task"
  description        = "The application ${var.name} itself"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

# Pulls the image, writes logs, reads secrets; before the application runs, and not for it.
resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  description        = "Starts tasks of ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy" "execution" {
  name   = "start-tasks"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

# By way of locals, so that the policy is rendered as soon as they are known: a data source that
# refers to a resource waits until that has been made.
locals {
  repository_arn = aws_ecr_repository.this.arn
  log_group_arn  = aws_cloudwatch_log_group.tasks.arn
}

data "aws_iam_policy_document" "execution" {
  #checkov:skip=CKV_AWS_356:GetAuthorizationToken knows no resource
  statement {
    sid       = "RegistryLogin"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "Pull"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [local.repository_arn]
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${local.log_group_arn}:*"]
  }

  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = var.readable_secrets
  }

  statement {
    sid       = "SecretsKey"
    actions   = ["kms:Decrypt"]
    resources = [var.key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["secretsmanager.${local.region}.amazonaws.com"]
    }
  }
}
