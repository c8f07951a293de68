# The load balancer: a production and a test listener, and the two target groups that swap roles.

# Every rule stands here, so that one added by hand shows in a plan.
resource "aws_security_group" "load_balancer" {
  #checkov:skip=CKV_AWS_260:port 80 is for redirects to HTTPS, or for those who said https = false
  name        = "${var.name}-load-balancer"
  description = "Load balancer of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-load-balancer" }

  ingress {
    description = "production listener"
    protocol    = "tcp"
    from_port   = var.ports.production
    to_port     = var.ports.production
    cidr_blocks = var.production_cidrs
  }

  dynamic "ingress" {
    for_each = local.redirects ? ["redirects to HTTPS"] : []
    content {
      description = ingress.value
      protocol    = "tcp"
      from_port   = 80
      to_port     = 80
      cidr_blocks = var.production_cidrs
    }
  }

  ingress {
    description = "test listener: never the world"
    protocol    = "tcp"
    from_port   = var.ports.test
    to_port     = var.ports.test
    cidr_blocks = var.test_cidrs
  }

  egress {
    description = "targets: requests and health checks"
    protocol    = "tcp"
    from_port   = var.application.port
    to_port     = var.application.port
    cidr_blocks = var.subnet_cidrs
  }
}

locals {
  redirects = var.https && var.ports.production != 80 && var.ports.test != 80
}

resource "aws_lb" "this" {
  #checkov:skip=CKV2_AWS_28:a web application firewall costs and needs rules of one's own; attach one by its ARN
  #checkov:skip=CKV2_AWS_20:with https = true port 80 redirects; with https = false the user asked for HTTP
  name                       = var.name
  load_balancer_type         = "application"
  internal                   = false
  security_groups            = [aws_security_group.load_balancer.id]
  subnets                    = var.public_subnets
  drop_invalid_header_fields = true
  enable_deletion_protection = var.protect

  access_logs {
    bucket  = var.access_logs_bucket
    enabled = true
  }
}

resource "aws_lb_target_group" "this" {
  #checkov:skip=CKV_AWS_378:TLS ends at the load balancer; targets are in private subnets behind a security group
  for_each    = toset(["a", "b"])
  name        = "${var.name}-${each.key}"
  vpc_id      = var.vpc_id
  target_type = "ip"
  protocol    = "HTTP"
  port        = var.application.port
  # Long enough for a request, short enough that a release does not wait for nobody.
  deregistration_delay = 30
  # A ramp would distort the canary: its share of the traffic is what it is judged by.
  slow_start = 0

  health_check {
    path                = var.application.health_check
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

locals {
  protocol = var.https ? "HTTPS" : "HTTP"
  policy   = var.https ? "ELBSecurityPolicy-TLS13-1-2-2021-06" : null
}

# Both groups from the beginning, as CodeDeploy leaves them: a group with weight 0 is in use, so the
# health of green is known before the first request goes to it.
resource "aws_lb_listener" "production" {
  #checkov:skip=CKV_AWS_2:HTTPS unless the user said https = false
  #checkov:skip=CKV_AWS_103:TLS 1.2 and 1.3 with HTTPS
  load_balancer_arn = aws_lb.this.arn
  port              = var.ports.production
  protocol          = local.protocol
  ssl_policy        = local.policy
  certificate_arn   = var.https ? var.certificate_arn : null

  default_action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.this["a"].arn
        weight = 100
      }

      target_group {
        arn    = aws_lb_target_group.this["b"].arn
        weight = 0
      }
    }
  }

  lifecycle {
    ignore_changes = [default_action] # the weights are CodeDeploy's
  }
}

resource "aws_lb_listener" "test" {
  #checkov:skip=CKV_AWS_2:as the production listener
  #checkov:skip=CKV_AWS_103:as the production listener
  load_balancer_arn = aws_lb.this.arn
  port              = var.ports.test
  protocol          = local.protocol
  ssl_policy        = local.policy
  certificate_arn   = var.https ? var.certificate_arn : null

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this["a"].arn
  }

  lifecycle {
    ignore_changes = [default_action] # it follows green: CodeDeploy's
  }
}

resource "aws_lb_listener" "redirect" {
  count             = local.redirects ? 1 : 0
  load_balancer_arn = aws_lb.this.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"

    redirect {
      protocol    = "HTTPS"
      port        = tostring(var.ports.production)
      status_code = "HTTP_301"
    }
  }
}

resource "aws_route53_record" "this" {
  count   = var.zone_id == null ? 0 : 1
  zone_id = var.zone_id
  name    = var.domain
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = false
  }
}
