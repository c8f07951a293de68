# The stack of one application, from the outside to the inside:
#
#   users ──▶ load balancer ──▶ target group a │ target group b ──▶ tasks ──▶ database
#                  ▲                     ▲                            ▲
#                  └─────── CodeDeploy moves weights and task sets ───┘
#                                        ▲
#                         alarms ────────┘ roll it back
#
# What CodeDeploy and `release` move (weights, the service's task definition, revisions) is
# ignored where it is declared, with the reason beside it; everything else is Terraform's.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account   = data.aws_caller_identity.this.account_id
  partition = data.aws_partition.this.partition
  region    = data.aws_region.this.name

  # Bucket names are the world's: account and Region make them ours.
  bucket_suffix = "${local.account}-${local.region}"

  ports = {
    production = coalesce(var.ports.production, var.https ? 443 : 80)
    test       = coalesce(var.ports.test, var.https ? 8443 : 8080)
  }
  # The port is left out of a URL where it is the scheme's own.
  scheme = var.https ? "https" : "http"
  host   = coalesce(var.domain, module.service.load_balancer.dns_name)
  urls = { for which, port in local.ports :
    which => "${local.scheme}://${local.host}${port == (var.https ? 443 : 80) ? "" : ":${port}"}"
  }
}

module "network" {
  source = "./modules/network"

  name   = var.name
  vpc    = var.vpc
  cidr   = var.network.cidr
  zones  = var.network.zones
  egress = var.network.egress
}

module "key" {
  source = "./modules/key"

  name    = var.name
  protect = var.protect
}

# AppSpecs, records and manifests of releases.
module "releases" {
  source = "./modules/bucket"

  name    = "${var.name}-releases-${local.bucket_suffix}"
  protect = var.protect
}

# The load balancer's access logs.
module "access_logs" {
  source = "./modules/bucket"

  name         = "${var.name}-logs-${local.bucket_suffix}"
  protect      = var.protect
  expire_days  = var.log_days
  elb_delivers = true
}

module "assets" {
  source = "./modules/assets"

  name    = var.name
  bucket  = "${var.name}-assets-${local.bucket_suffix}"
  protect = var.protect
  cdn     = var.cdn
}

module "data" {
  source = "./modules/data"

  name     = var.name
  database = var.database
  secrets  = var.secrets
  vpc_id   = module.network.vpc_id
  subnets  = module.network.private_subnets
  clients  = module.service.security_groups.tasks
  key_arn  = module.key.arn
  log_days = var.log_days
  protect  = var.protect
}

module "service" {
  source = "./modules/service"

  name               = var.name
  application        = var.application
  environment        = var.environment
  bootstrap_image    = var.bootstrap_image
  one_off_image      = var.one_off_image
  psql               = module.data.psql
  readable_secrets   = module.data.secret_arns
  vpc_id             = module.network.vpc_id
  public_subnets     = module.network.public_subnets
  task_subnets       = module.network.task_subnets
  assign_public_ip   = module.network.assign_public_ip
  subnet_cidrs       = module.network.subnet_cidrs
  ports              = local.ports
  production_cidrs   = var.production_cidrs
  test_cidrs         = concat(var.test_cidrs, var.hook_zip == null ? [] : module.network.nat_cidrs)
  https              = var.https
  certificate_arn    = var.certificate_arn
  domain             = var.domain
  zone_id            = var.zone_id
  access_logs_bucket = module.access_logs.id
  key_arn            = module.key.arn
  log_days           = var.log_days
  container_insights = var.container_insights
  protect            = var.protect
}

module "deployment" {
  source = "./modules/deployment"

  name                     = var.name
  service                  = module.service
  releases_bucket_arn      = module.releases.arn
  assets_bucket_arn        = module.assets.bucket_arn
  strategy                 = var.strategy
  canary                   = var.canary
  linear                   = var.linear
  termination_wait_minutes = var.termination_wait_minutes
  alarms                   = var.alarms
  alarm_actions            = var.alarm_actions
  github                   = var.github
  hook = var.hook_zip == null ? null : {
    zip         = var.hook_zip
    environment = merge({ HOOK_TEST_URL = local.urls.test }, var.hook_environment)
  }
  vpc_id   = module.network.vpc_id
  subnets  = module.network.private_subnets
  key_arn  = module.key.arn
  log_days = var.log_days
}
