variable "name" {
  description = "What the parts are named after."
  type        = string
}

variable "application" {
  description = "The application, as in the root module."
  type = object({
    container    = string
    port         = number
    health_check = string
    tasks        = number
  })
}

variable "environment" {
  description = "Environment variables of bootstrap and one-off tasks."
  type        = map(string)
}

variable "psql" {
  description = "What psql needs to connect: environment variables, and one that comes from a secret."
  type = object({
    environment = map(string)
    secrets     = map(string)
  })
}

variable "readable_secrets" {
  description = "ARNs of the secrets that tasks may read."
  type        = list(string)
}

variable "bootstrap_image" {
  description = "Image of the tasks that run until the first release."
  type        = string
}

variable "one_off_image" {
  description = "Image of one-off tasks."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "public_subnets" {
  description = "Subnets of the load balancer."
  type        = list(string)
}

variable "task_subnets" {
  description = "Subnets of tasks."
  type        = list(string)
}

variable "assign_public_ip" {
  description = "Whether tasks get a public address."
  type        = bool
}

variable "subnet_cidrs" {
  description = "Ranges of the subnets of tasks and database."
  type        = list(string)
}

variable "ports" {
  description = "Ports of the two listeners."
  type        = object({ production = number, test = number })
}

variable "production_cidrs" {
  description = "Ranges that may reach the production listener."
  type        = list(string)
}

variable "test_cidrs" {
  description = "Ranges that may reach the test listener."
  type        = list(string)
}

variable "https" {
  description = "Whether the listeners speak HTTPS."
  type        = bool
}

variable "certificate_arn" {
  description = "Certificate of the listeners."
  type        = string
}

variable "domain" {
  description = "Host name of the application, or null."
  type        = string
}

variable "zone_id" {
  description = "Zone in which the host name becomes an alias, or null."
  type        = string
}

variable "access_logs_bucket" {
  description = "Bucket of the access logs."
  type        = string
}

variable "key_arn" {
  description = "KMS key of logs and secrets."
  type        = string
}

variable "log_days" {
  description = "Retention of logs."
  type        = number
}

variable "container_insights" {
  description = "Whether the cluster publishes container insights."
  type        = bool
}

variable "protect" {
  description = "Whether load balancer and images resist deletion."
  type        = bool
}
