variable "name" {
  description = "What the parts are named after."
  type        = string
}

variable "bucket" {
  description = "Name of the bucket."
  type        = string
}

variable "protect" {
  description = "Whether the bucket resists deletion."
  type        = bool
}

variable "cdn" {
  description = "Whether a distribution serves the bucket."
  type        = bool
}
