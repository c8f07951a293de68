# Who releases: a policy that allows what the release program calls and nothing else, and a role
# for a GitHub workflow. A test compares the policy with the calls in src/release/src/aws.

resource "aws_iam_policy" "release" {
  name        = "${var.name}-release"
  description = "What `release` does with ${var.name}"
  policy      = data.aws_iam_policy_document.release.json
}

data "aws_iam_policy_document" "release" {
  #checkov:skip=CKV_AWS_356:each action on `*` knows no resource (service authorization reference)
  #checkov:skip=CKV_AWS_111:see CKV_AWS_356
  statement {
    sid = "Deploy"
    actions = [
      "codedeploy:CreateDeployment",
      "codedeploy:GetDeployment",
      "codedeploy:GetDeploymentGroup",
      "codedeploy:ListDeployments",
    ]
    resources = [local.group_arn]
  }

  # CreateDeployment asks for both in its caller's name (CodeDeploy user guide, permissions reference).
  statement {
    sid       = "Revisions"
    actions   = ["codedeploy:GetApplicationRevision", "codedeploy:RegisterApplicationRevision"]
    resources = ["${local.codedeploy}:application:${var.name}"]
  }

  statement {
    sid       = "Strategies"
    actions   = ["codedeploy:GetDeploymentConfig"]
    resources = ["${local.codedeploy}:deploymentconfig:*"]
  }

  statement {
    sid = "WithoutResources"
    actions = [
      "cloudwatch:GetMetricData",
      "codedeploy:GetDeploymentTarget",
      "codedeploy:StopDeployment",
      "ecr:GetAuthorizationToken",
      "ecs:DescribeTaskDefinition",
      "ecs:RegisterTaskDefinition",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "Service"
    actions   = ["ecs:DescribeServices"]
    resources = [var.service.arn]
  }

  statement {
    sid       = "Migrate"
    actions   = ["ecs:RunTask"]
    resources = ["arn:${local.partition}:ecs:${local.region}:${local.account}:task-definition/${var.name}:*"]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [var.service.cluster.arn]
    }
  }

  statement {
    sid       = "Tasks"
    actions   = ["ecs:DescribeTasks", "ecs:ListTasks"]
    resources = ["*"]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [var.service.cluster.arn]
    }
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

  statement {
    sid = "Push"
    actions = [
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:CompleteLayerUpload",
      "ecr:GetDownloadUrlForLayer",
      "ecr:InitiateLayerUpload",
      "ecr:PutImage",
      "ecr:UploadLayerPart",
    ]
    resources = [var.service.repository.arn]
  }

  # HeadBucket is s3:ListBucket (S3 API reference).
  statement {
    sid       = "Bucket"
    actions   = ["s3:ListBucket"]
    resources = [var.releases_bucket_arn]
  }

  statement {
    sid     = "Objects"
    actions = ["s3:PutObject", "s3:PutObjectTagging"]
    resources = [
      "${var.releases_bucket_arn}/appspecs/*",
      "${var.releases_bucket_arn}/records/*",
      "${var.releases_bucket_arn}/releases/*",
      "${var.assets_bucket_arn}/static/*",
    ]
  }

  # The judge's state: a release that is resumed judges on.
  statement {
    sid       = "Judge"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${var.releases_bucket_arn}/judge/*"]
  }
}

# ---- GitHub ----------------------------------------------------------------------------------

locals {
  github          = var.github == null ? 0 : 1
  github_host     = "token.actions.githubusercontent.com"
  github_made     = local.github == 1 && try(var.github.provider_arn, null) == null ? 1 : 0
  github_provider = local.github_made == 1 ? one(aws_iam_openid_connect_provider.github[*].arn) : try(var.github.provider_arn, null)
}

# IAM trusts GitHub's certificate by its own authorities: there is no thumbprint to keep.
resource "aws_iam_openid_connect_provider" "github" {
  count          = local.github_made
  url            = "https://${local.github_host}"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "release" {
  count                = local.github
  name                 = "${var.name}-release"
  description          = "Workflows of ${var.github.repository} release ${var.name}"
  assume_role_policy   = data.aws_iam_policy_document.release_trust[0].json
  max_session_duration = 14400 # a canary with its waits can take longer than the usual hour
}

resource "aws_iam_role_policy_attachment" "release" {
  count      = local.github
  role       = aws_iam_role.release[0].name
  policy_arn = aws_iam_policy.release.arn
}

# Without `sub` any repository of GitHub could take the role, without `aud` a token for another use.
data "aws_iam_policy_document" "release_trust" {
  count = local.github

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [local.github_provider]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github_host}:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github_host}:sub"
      values   = [for subject in var.github.subjects : "repo:${var.github.repository}:${subject}"]
    }
  }
}
