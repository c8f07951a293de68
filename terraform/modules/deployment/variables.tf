variable "name" {
  description = "What the parts are named after."
  type        = string
}

variable "service" {
  description = "The service that is deployed: outputs of the module service."
  type = object({
    name          = string
    arn           = string
    cluster       = object({ name = string, arn = string })
    repository    = object({ arn = string })
    load_balancer = object({ arn_suffix = string })
    target_groups = list(object({ name = string, arn_suffix = string }))
    listeners     = object({ production = string, test = string })
    ports         = object({ production = number, test = number })
    roles         = object({ execution = string, task = string })
  })
}

variable "releases_bucket_arn" {
  description = "Bucket of AppSpecs and records."
  type        = string
}

variable "assets_bucket_arn" {
  description = "Bucket of static assets."
  type        = string
}

variable "strategy" {
  description = "The group's own strategy: `canary`, `linear` or `blue-green`."
  type        = string
}

variable "canary" {
  description = "Percent, and minutes until all."
  type        = object({ percent = number, minutes = number })
}

variable "linear" {
  description = "Percent more, every so many minutes."
  type        = object({ percent = number, minutes = number })
}

variable "termination_wait_minutes" {
  description = "How long the old version stays when all traffic has moved."
  type        = number
}

variable "alarms" {
  description = "Thresholds, as in the root module."
  type = object({
    target_5xx        = number
    connection_errors = number
    elb_5xx           = number
    latency           = number
    latency_statistic = string
    periods           = number
  })
}

variable "alarm_actions" {
  description = "ARNs that alarms notify besides."
  type        = list(string)
}

variable "hook" {
  description = "The hook function's zip and environment, or null."
  type        = object({ zip = string, environment = map(string) })
}

variable "github" {
  description = "The repository whose workflows may release, or null."
  type = object({
    repository   = string
    subjects     = list(string)
    provider_arn = optional(string)
  })
}

variable "vpc_id" {
  description = "VPC of the hook."
  type        = string
}

variable "subnets" {
  description = "Subnets of the hook, with a way out."
  type        = list(string)
}

variable "key_arn" {
  description = "KMS key of the hook's logs and environment."
  type        = string
}

variable "log_days" {
  description = "Retention of the hook's logs."
  type        = number
}
