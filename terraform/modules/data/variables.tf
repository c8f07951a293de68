variable "name" {
  description = "What the parts are named after."
  type        = string
}

variable "database" {
  description = "The database, as in the root module."
  type = object({
    version        = string
    instance_class = string
    storage        = number
    storage_limit  = number
    multi_az       = bool
    backup_days    = number
    name           = optional(string)
    user           = optional(string)
    sslmode        = string
  })
}

variable "secrets" {
  description = "Names of secrets to make with random values."
  type        = set(string)
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnets" {
  description = "Subnets of the database, of two zones at least."
  type        = list(string)
}

variable "clients" {
  description = "Security group that may connect to the database."
  type        = string
}

variable "key_arn" {
  description = "KMS key of database, secrets and logs."
  type        = string
}

variable "log_days" {
  description = "Retention of the database's logs."
  type        = number
}

variable "protect" {
  description = "Whether database and secrets resist deletion."
  type        = bool
}
