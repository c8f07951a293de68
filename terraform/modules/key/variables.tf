variable "name" {
  description = "What the key is named after."
  type        = string
}

variable "protect" {
  description = "Whether deletion takes 30 days instead of 7."
  type        = bool
}
