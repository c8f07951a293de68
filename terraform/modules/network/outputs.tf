output "vpc_id" {
  description = "The VPC."
  value       = local.made ? aws_vpc.this[0].id : var.vpc.id
}

output "public_subnets" {
  description = "Subnets of the load balancer."
  value       = local.made ? aws_subnet.public[*].id : var.vpc.public_subnets
}

output "private_subnets" {
  description = "Subnets of database and hook."
  value       = local.made ? aws_subnet.private[*].id : var.vpc.private_subnets
}

output "task_subnets" {
  description = "Subnets of tasks."
  value = (
    !local.made ? var.vpc.private_subnets :
    var.egress == "public" ? aws_subnet.public[*].id : aws_subnet.private[*].id
  )
}

output "assign_public_ip" {
  description = "Whether tasks need a public address to reach AWS."
  value       = local.made && var.egress == "public"
}

output "subnet_cidrs" {
  description = "Ranges of all subnets: where targets and database are."
  value = sort(distinct(local.made ?
    concat(aws_subnet.public[*].cidr_block, aws_subnet.private[*].cidr_block) :
  [for subnet in data.aws_subnet.given : subnet.cidr_block]))
}

output "nat_cidrs" {
  description = "Addresses under which the hook reaches the load balancer, as ranges."
  value       = [for address in aws_eip.nat : "${address.public_ip}/32"]
}
