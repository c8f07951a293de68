# The target of `release VERSION --target FILE`: `terraform output -json release > FILE`.
# Its members are those of `Target` in src/release/src/target.rs, and a test compares the two.
output "release" {
  description = "The release program's target: `terraform output -json release > target.json`, then `release VERSION --target target.json`."
  value = {
    name             = var.name
    region           = local.region
    account_id       = local.account
    cluster          = module.service.cluster.name
    service          = module.service.name
    application      = module.deployment.application
    deployment_group = module.deployment.group
    bucket           = module.releases.id
    static_bucket    = module.assets.bucket
    repository       = module.service.repository.url
    task = {
      family             = var.name
      execution_role_arn = module.service.roles.execution
      task_role_arn      = module.service.roles.task
      subnets            = module.network.task_subnets
      security_groups    = [module.service.security_groups.tasks]
      assign_public_ip   = module.network.assign_public_ip
      log_group          = module.service.log_group.name
    }
    database = {
      host       = module.data.address
      port       = module.data.port
      name       = module.data.name
      user       = module.data.user
      sslmode    = var.database.sslmode
      secret_arn = module.data.password
    }
    secrets       = module.data.secrets
    target_groups = [for group in module.service.target_groups : group.name]
    metrics = {
      load_balancer = module.service.load_balancer.arn_suffix
      target_groups = { for group in module.service.target_groups : group.name => group.arn_suffix }
    }
    alarms     = module.deployment.alarms
    hooks      = module.deployment.hooks
    strategies = module.deployment.configs
    urls = {
      production = local.urls.production
      test       = local.urls.test
      assets     = module.assets.url
    }
  }
}

output "load_balancer" {
  description = "Name under which the load balancer is reached, for a DNS record of your own."
  value       = module.service.load_balancer.dns_name
}

output "repository" {
  description = "The ECR repository, `registry/repository`."
  value       = module.service.repository.url
}

output "release_role" {
  description = "ARN of the role that the GitHub workflow takes, or null without `github`."
  value       = module.deployment.release_role
}

output "release_policy" {
  description = "ARN of the policy that allows exactly what `release` does, for people and other CI systems."
  value       = module.deployment.release_policy
}

output "one_off_task" {
  description = "Family of the task definition for one-off tasks in the application's network, such as a look at the database."
  value       = module.service.one_off_family
}
