variable "name" {
  description = "Name of the bucket, unique in the world."
  type        = string
}

variable "protect" {
  description = "Whether a bucket with objects in it resists deletion."
  type        = bool
}

variable "expire_days" {
  description = "After how many days objects are removed; null for never."
  type        = number
  default     = null
}

variable "elb_delivers" {
  description = "Whether load balancers may deliver their access logs."
  type        = bool
  default     = false
}

variable "cloudfront_reads" {
  description = "Whether the distribution `cloudfront_arn` may read `static/`."
  type        = bool
  default     = false
}

variable "cloudfront_arn" {
  description = "The distribution that may read."
  type        = string
  default     = null
}
