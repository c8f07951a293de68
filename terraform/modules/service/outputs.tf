output "name" {
  description = "Name of the service, which is there."
  value       = aws_ecs_service.this.name
}

output "arn" {
  description = "ARN of the service."
  value       = aws_ecs_service.this.id
}

output "cluster" {
  description = "The cluster."
  value       = { name = aws_ecs_cluster.this.name, arn = aws_ecs_cluster.this.arn }
}

output "repository" {
  description = "The ECR repository."
  value       = { url = aws_ecr_repository.this.repository_url, arn = aws_ecr_repository.this.arn }
}

output "load_balancer" {
  description = "The load balancer."
  value       = { dns_name = aws_lb.this.dns_name, arn_suffix = aws_lb.this.arn_suffix }
}

output "target_groups" {
  description = "The two target groups, a first."
  value = [for key in ["a", "b"] : {
    name       = aws_lb_target_group.this[key].name
    arn_suffix = aws_lb_target_group.this[key].arn_suffix
  }]
}

output "listeners" {
  description = "ARNs of the two listeners."
  value       = { production = aws_lb_listener.production.arn, test = aws_lb_listener.test.arn }
}

output "ports" {
  description = "Ports of the two listeners."
  value       = var.ports
}

output "roles" {
  description = "ARNs of the two roles of tasks."
  value       = { execution = aws_iam_role.execution.arn, task = aws_iam_role.task.arn }
}

output "security_groups" {
  description = "The security groups."
  value       = { load_balancer = aws_security_group.load_balancer.id, tasks = aws_security_group.tasks.id }
}

output "log_group" {
  description = "The tasks' log group."
  value       = { name = aws_cloudwatch_log_group.tasks.name, arn = aws_cloudwatch_log_group.tasks.arn }
}

output "one_off_family" {
  description = "Family of the one-off tasks."
  value       = aws_ecs_task_definition.one_off.family
}
