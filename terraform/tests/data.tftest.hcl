# Database and secrets.

provider "aws" {
  region                      = "eu-west-1"
  access_key                  = "testing"
  secret_key                  = "testing"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
}

variables {
  name = "shop-web"
  database = {
    version        = "17"
    instance_class = "db.t4g.micro"
    storage        = 20
    storage_limit  = 100
    multi_az       = false
    backup_days    = 7
    sslmode        = "require"
  }
  secrets  = []
  vpc_id   = "vpc-1"
  subnets  = ["subnet-1", "subnet-2"]
  clients  = "sg-1"
  key_arn  = "arn:aws:kms:eu-west-1:111122223333:key/1"
  log_days = 30
  protect  = true
}

override_resource {
  target          = aws_db_instance.this
  override_during = plan
  values = {
    address            = "shop.eu-west-1.rds.amazonaws.com"
    port               = 5432
    master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:rds!db-1-AbCdEf" }]
  }
}

run "protected" {
  command = plan

  module {
    source = "./modules/data"
  }

  assert {
    condition     = aws_db_instance.this.storage_encrypted && aws_db_instance.this.kms_key_id == "arn:aws:kms:eu-west-1:111122223333:key/1"
    error_message = "the database is encrypted"
  }

  assert {
    condition     = !aws_db_instance.this.publicly_accessible
    error_message = "the database is private"
  }

  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null && aws_db_instance.this.password_wo == null
    error_message = "RDS makes the password: there is none in the plan"
  }

  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.final_snapshot_identifier == "shop-web-final" && !aws_db_instance.this.delete_automated_backups
    error_message = "it resists deletion, and leaves a snapshot"
  }

  assert {
    condition     = alltrue([for rule in aws_security_group.database.ingress : length(rule.cidr_blocks) == 0 && rule.security_groups == toset(["sg-1"]) && rule.from_port == 5432 && rule.to_port == 5432])
    error_message = "only tasks reach it"
  }

  assert {
    condition     = length(aws_security_group.database.egress) == 0
    error_message = "it reaches nobody"
  }

  assert {
    condition     = output.name == "shop_web" && output.user == "shop_web"
    error_message = "a database's name has no hyphens"
  }

  assert {
    condition     = output.password == "arn:aws:secretsmanager:eu-west-1:111122223333:secret:rds!db-1-AbCdEf:password::"
    error_message = "the password is a member of RDS's JSON"
  }

  assert {
    condition     = alltrue([for group in aws_cloudwatch_log_group.database : group.retention_in_days == 30 && group.kms_key_id != null])
    error_message = "its logs end, and are encrypted"
  }
}

run "unprotected" {
  command = plan

  module {
    source = "./modules/data"
  }

  variables {
    protect = false
  }

  assert {
    condition     = !aws_db_instance.this.deletion_protection && aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.delete_automated_backups
    error_message = "nothing is left behind"
  }
}
