# What serves: the cluster, the service, its two kinds of tasks that are not released, and the
# repository that released images come from.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account   = data.aws_caller_identity.this.account_id
  partition = data.aws_partition.this.partition
  region    = data.aws_region.this.name
}

# ---- images and logs -------------------------------------------------------------------------

resource "aws_ecr_repository" "this" {
  #checkov:skip=CKV_AWS_136:images hold no secrets; AES-256 is the repository's default
  name                 = var.name
  image_tag_mutability = "IMMUTABLE"
  force_delete         = !var.protect

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "AES256"
  }
}

# What has a tag was released and may be needed to go back; what has none was pushed by accident.
resource "aws_ecr_lifecycle_policy" "this" {
  repository = aws_ecr_repository.this.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "untagged images, after two weeks"
      selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 14 }
      action       = { type = "expire" }
    }]
  })
}

resource "aws_cloudwatch_log_group" "tasks" {
  #checkov:skip=CKV_AWS_338:how long is the user's to say (log_days)
  name              = "/ecs/${var.name}"
  retention_in_days = var.log_days
  kms_key_id        = var.key_arn
}

# ---- tasks -----------------------------------------------------------------------------------

# Everything that tasks of the application may be reached from and may reach. Every rule stands
# here, so that one added by hand shows in a plan.
resource "aws_security_group" "tasks" {
  #checkov:skip=CKV_AWS_382:one port, HTTPS, and not all of them
  name        = "${var.name}-tasks"
  description = "Tasks of ${var.name}: from the load balancer only"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-tasks" }

  ingress {
    description     = "the load balancer: requests and health checks"
    protocol        = "tcp"
    from_port       = var.application.port
    to_port         = var.application.port
    security_groups = [aws_security_group.load_balancer.id]
  }

  egress {
    description = "AWS: images, logs, secrets"
    protocol    = "tcp"
    from_port   = 443
    to_port     = 443
    cidr_blocks = ["0.0.0.0/0"]
  }

  egress {
    description = "the database"
    protocol    = "tcp"
    from_port   = 5432
    to_port     = 5432
    cidr_blocks = var.subnet_cidrs
  }
}

locals {
  log_configuration = { for stream in ["bootstrap", "one-off"] : stream => {
    logDriver = "awslogs"
    options = {
      awslogs-group         = aws_cloudwatch_log_group.tasks.name
      awslogs-region        = local.region
      awslogs-stream-prefix = stream
    }
  } }
  pairs   = { for set, variables in { own = var.environment, all = merge(var.psql.environment, var.environment) } : set => [for name, value in variables : { name = name, value = value }] }
  answers = "mkdir -p /tmp/www$(dirname \"$HEALTH\") && echo 'nothing is released yet' > /tmp/www/index.html && echo ok > /tmp/www$HEALTH && exec httpd -f -p \"$PORT\" -h /tmp/www"
}

# What runs until the first release: it answers the health check, so that the service is steady and
# the first release meets a healthy blue. Released revisions have a family of their own (`name`),
# which Terraform never touches.
resource "aws_ecs_task_definition" "bootstrap" {
  #checkov:skip=CKV_AWS_336:it writes the page that it serves; the released definition has a read-only root
  family                   = "${var.name}-bootstrap"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = "256"
  memory                   = "512"
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn

  runtime_platform {
    cpu_architecture        = "X86_64"
    operating_system_family = "LINUX"
  }

  container_definitions = jsonencode([{
    name         = var.application.container
    image        = var.bootstrap_image
    essential    = true
    command      = ["sh", "-c", local.answers]
    portMappings = [{ containerPort = var.application.port, hostPort = var.application.port, protocol = "tcp" }]
    environment = concat(local.pairs.own, [
      { name = "HEALTH", value = var.application.health_check },
      { name = "PORT", value = tostring(var.application.port) },
    ])
    logConfiguration = local.log_configuration["bootstrap"]
  }])
}

# For a person who must look at the database from where the application is: psql, in the tasks'
# network, with the application's password. `command` is overridden at RunTask.
resource "aws_ecs_task_definition" "one_off" {
  family                   = "${var.name}-one-off"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = "256"
  memory                   = "512"
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn

  runtime_platform {
    cpu_architecture        = "X86_64"
    operating_system_family = "LINUX"
  }

  container_definitions = jsonencode([{
    name                   = "one-off"
    image                  = var.one_off_image
    essential              = true
    readonlyRootFilesystem = true
    command                = ["psql", "--command", "\\conninfo"]
    environment            = local.pairs.all
    secrets                = [for name, arn in var.psql.secrets : { name = name, valueFrom = arn }]
    logConfiguration       = local.log_configuration["one-off"]
  }])
}

# ---- the service -----------------------------------------------------------------------------

resource "aws_ecs_cluster" "this" {
  #checkov:skip=CKV_AWS_65:container insights cost by the task; container_insights says
  name = var.name

  setting {
    name  = "containerInsights"
    value = var.container_insights ? "enabled" : "disabled"
  }
}

resource "aws_ecs_service" "this" {
  #checkov:skip=CKV_AWS_333:a public address only where network.egress is "public", and closed by the security group
  name            = var.name
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.bootstrap.arn
  desired_count   = var.application.tasks
  launch_type     = "FARGATE"
  propagate_tags  = "SERVICE"

  enable_ecs_managed_tags           = true
  health_check_grace_period_seconds = 60

  deployment_controller {
    type = "CODE_DEPLOY"
  }

  network_configuration {
    subnets          = var.task_subnets
    security_groups  = [aws_security_group.tasks.id]
    assign_public_ip = var.assign_public_ip
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this["a"].arn
    container_name   = var.application.container
    container_port   = var.application.port
  }

  lifecycle {
    ignore_changes = [
      task_definition,       # a release brings its own
      load_balancer,         # the groups swap their roles at every deployment
      desired_count,         # set by people and by autoscaling
      network_configuration, # ECS refuses to change these two on a service of CodeDeploy's;
      platform_version,      # a deployment takes them from its AppSpec
    ]
  }

  # A target group must be behind a listener before a service may use it.
  depends_on = [aws_lb_listener.production, aws_lb_listener.test, aws_iam_role_policy.execution]
}
