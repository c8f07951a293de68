# The hook: a function that tests the new version through the test listener, before users get it.
# CodeDeploy's own limited role invokes only functions named CodeDeployHook_*; so does this one.

locals {
  hook      = var.hook == null ? 0 : 1
  hook_name = "CodeDeployHook_${var.name}-smoke"

  # By way of locals: a policy document that refers to a resource waits until that has been made.
  hook_arns          = aws_lambda_function.hook[*].arn
  hook_log_group_arn = one(aws_cloudwatch_log_group.hook[*].arn)
}

resource "aws_cloudwatch_log_group" "hook" {
  #checkov:skip=CKV_AWS_338:how long is the user's to say (log_days)
  count             = local.hook
  name              = "/aws/lambda/${local.hook_name}"
  retention_in_days = var.log_days
  kms_key_id        = var.key_arn
}

# In the VPC, so that the load balancer sees it come from the NAT gateway's address and not from
# anywhere in the world.
resource "aws_security_group" "hook" {
  #checkov:skip=CKV_AWS_382:two ports, and not all of them
  count       = local.hook
  name        = "${var.name}-hook"
  description = "Hook function of ${var.name}: nothing in"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-hook" }
  ingress     = []

  egress {
    description = "the test listener"
    protocol    = "tcp"
    from_port   = var.service.ports.test
    to_port     = var.service.ports.test
    cidr_blocks = ["0.0.0.0/0"]
  }

  dynamic "egress" {
    for_each = var.service.ports.test == 443 ? [] : ["the API of CodeDeploy, to give the answer"]
    content {
      description = egress.value
      protocol    = "tcp"
      from_port   = 443
      to_port     = 443
      cidr_blocks = ["0.0.0.0/0"]
    }
  }
}

resource "aws_lambda_function" "hook" {
  #checkov:skip=CKV_AWS_116:nobody would read a dead letter; a hook that does not answer fails the deployment
  #checkov:skip=CKV_AWS_272:the zip is built from this source tree, to the bit, and its hash is below
  count         = local.hook
  function_name = local.hook_name
  description   = "Tests the next version of ${var.name} through the test listener"
  role          = aws_iam_role.hook[0].arn

  filename         = var.hook.zip
  source_code_hash = filebase64sha256(var.hook.zip)
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = ["x86_64"]
  memory_size      = 256
  # CodeDeploy waits an hour for the answer; a test that takes minutes is no test of the way in.
  timeout                        = 300
  reserved_concurrent_executions = 2
  kms_key_arn                    = var.key_arn

  environment {
    variables = var.hook.environment
  }

  vpc_config {
    subnet_ids         = var.subnets
    security_group_ids = aws_security_group.hook[*].id
  }

  tracing_config {
    mode = "Active"
  }

  depends_on = [aws_cloudwatch_log_group.hook, aws_iam_role_policy.hook]
}

resource "aws_iam_role" "hook" {
  count              = local.hook
  name               = "${var.name}-hook"
  description        = "The hook function of ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.hook_trust.json
}

data "aws_iam_policy_document" "hook_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "hook" {
  count  = local.hook
  name   = "test-and-answer"
  role   = aws_iam_role.hook[0].id
  policy = data.aws_iam_policy_document.hook[0].json
}

data "aws_iam_policy_document" "hook" {
  #checkov:skip=CKV_AWS_356:network interfaces and traces know no resources before they are there
  #checkov:skip=CKV_AWS_111:see CKV_AWS_356
  #checkov:skip=CKV_AWS_109:see CKV_AWS_356
  count = local.hook

  statement {
    sid       = "Answer"
    actions   = ["codedeploy:PutLifecycleEventHookExecutionStatus"]
    resources = ["${local.codedeploy}:deploymentgroup:${var.name}/*"]
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${local.hook_log_group_arn}:*"]
  }

  # Lambda user guide, "Execution role permissions" of functions in a VPC, and of active tracing.
  statement {
    sid = "LambdaItself"
    actions = [
      "ec2:AssignPrivateIpAddresses",
      "ec2:CreateNetworkInterface",
      "ec2:DeleteNetworkInterface",
      "ec2:DescribeNetworkInterfaces",
      "ec2:DescribeSubnets",
      "ec2:UnassignPrivateIpAddresses",
      "xray:PutTelemetryRecords",
      "xray:PutTraceSegments",
    ]
    resources = ["*"]
  }
}
