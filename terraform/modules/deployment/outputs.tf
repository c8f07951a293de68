output "application" {
  description = "The CodeDeploy application."
  value       = aws_codedeploy_app.this.name
}

output "group" {
  description = "The deployment group, which is there."
  value       = aws_codedeploy_deployment_group.this.deployment_group_name
}

output "configs" {
  description = "Deployment configurations by strategy."
  value       = local.configs
}

output "alarms" {
  description = "Names of the group's alarms."
  value       = local.alarm_names
}

output "hooks" {
  description = "ARNs of hook functions, by the names that release.toml has for them."
  value       = { for function in aws_lambda_function.hook : "smoke" => function.arn }
}

output "release_role" {
  description = "The role of the GitHub workflow, or null."
  value       = one(aws_iam_role.release[*].arn)
}

output "release_policy" {
  description = "The policy of those who release."
  value       = aws_iam_policy.release.arn
}
