# What the application keeps: a PostgreSQL at RDS, and secrets.
#
# No value of a secret is in state or plan: RDS makes and keeps the master password itself, and the
# others are drawn by an ephemeral resource and handed over by a write-only argument.

locals {
  database = coalesce(var.database.name, replace(var.name, "-", "_"))
  user     = coalesce(var.database.user, local.database)
}

resource "aws_db_subnet_group" "this" {
  name        = var.name
  description = "Private subnets of ${var.name}"
  subnet_ids  = var.subnets
}

# Every rule stands here, so that one added by hand shows in a plan.
resource "aws_security_group" "database" {
  name        = "${var.name}-database"
  description = "Database of ${var.name}: tasks only"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-database" }
  egress      = []

  ingress {
    description     = "PostgreSQL from tasks"
    protocol        = "tcp"
    from_port       = 5432
    to_port         = 5432
    security_groups = [var.clients]
  }
}

# RDS would make them by itself, without an end to their retention, and leave them behind.
resource "aws_cloudwatch_log_group" "database" {
  #checkov:skip=CKV_AWS_338:how long is the user's to say (log_days)
  for_each          = toset(["postgresql", "upgrade"])
  name              = "/aws/rds/instance/${var.name}/${each.key}"
  retention_in_days = var.log_days
  kms_key_id        = var.key_arn
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_118:enhanced monitoring is an agent's worth of metrics and costs; CloudWatch's own are there
  #checkov:skip=CKV_AWS_353:Performance Insights is being replaced by Database Insights, which is switched on at the instance
  #checkov:skip=CKV_AWS_161:the application logs in with the secret; IAM tokens last 15 minutes, connection pools longer
  #checkov:skip=CKV_AWS_157:a second instance doubles the cost; database.multi_az says
  #checkov:skip=CKV2_AWS_30:query logging writes what users type into a log
  identifier     = var.name
  engine         = "postgres"
  engine_version = var.database.version
  instance_class = var.database.instance_class

  storage_type          = "gp3"
  allocated_storage     = var.database.storage
  max_allocated_storage = var.database.storage_limit
  storage_encrypted     = true
  kms_key_id            = var.key_arn

  db_name                       = local.database
  username                      = local.user
  manage_master_user_password   = true
  master_user_secret_kms_key_id = var.key_arn

  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.database.id]
  publicly_accessible    = false
  multi_az               = var.database.multi_az

  backup_retention_period   = var.database.backup_days
  copy_tags_to_snapshot     = true
  delete_automated_backups  = !var.protect
  deletion_protection       = var.protect
  skip_final_snapshot       = !var.protect
  final_snapshot_identifier = var.protect ? "${var.name}-final" : null

  auto_minor_version_upgrade      = true
  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]

  depends_on = [aws_cloudwatch_log_group.database]
}

# ---- secrets ---------------------------------------------------------------------------------

resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV2_AWS_57:what a rotation would have to do is the application's to know
  for_each                = var.secrets
  name                    = "${var.name}/${each.key}"
  description             = "${each.key} of ${var.name}, made at random"
  kms_key_id              = var.key_arn
  recovery_window_in_days = var.protect ? 30 : 0
}

ephemeral "aws_secretsmanager_random_password" "this" {
  for_each            = var.secrets
  password_length     = 64
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret_version" "this" {
  for_each                 = var.secrets
  secret_id                = aws_secretsmanager_secret.this[each.key].id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.this[each.key].random_password
  secret_string_wo_version = 1
}
