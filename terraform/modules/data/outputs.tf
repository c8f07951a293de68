locals {
  secrets = { for name, secret in aws_secretsmanager_secret.this : replace(name, "-", "_") => secret.arn }
  # RDS keeps user and password in one JSON; `:password::` behind it names a member of that.
  master = aws_db_instance.this.master_user_secret[0].secret_arn
}

output "address" {
  description = "Host name of the database."
  value       = aws_db_instance.this.address
}

output "port" {
  description = "Port of the database."
  value       = aws_db_instance.this.port
}

output "name" {
  description = "Name of the database."
  value       = local.database
}

output "user" {
  description = "The role that owns it."
  value       = local.user
}

output "password" {
  description = "The password, as `valueFrom` of a container definition's secret."
  value       = "${local.master}:password::"
}

output "psql" {
  description = "What psql needs to connect: environment variables, and one that comes from a secret."
  value = {
    environment = {
      PGHOST     = aws_db_instance.this.address
      PGPORT     = tostring(aws_db_instance.this.port)
      PGDATABASE = local.database
      PGUSER     = local.user
      PGSSLMODE  = var.database.sslmode
    }
    secrets = { PGPASSWORD = "${local.master}:password::" }
  }
}

output "secrets" {
  description = "ARNs of the secrets that were made, by name with `_` for `-`."
  value       = local.secrets
}

output "secret_arns" {
  description = "Every secret that tasks may read."
  value       = concat([local.master], values(local.secrets))
}
