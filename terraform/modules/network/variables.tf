variable "name" {
  description = "What the parts are named after."
  type        = string
}

variable "vpc" {
  description = "A VPC that is there already, or null to make one."
  type = object({
    id              = string
    public_subnets  = list(string)
    private_subnets = list(string)
  })
}

variable "cidr" {
  description = "Range of the VPC that is made, /16 to /22."
  type        = string
}

variable "zones" {
  description = "Zones of the VPC that is made."
  type        = number
}

variable "egress" {
  description = "How tasks reach AWS from the VPC that is made: `public`, `nat`, `nat-per-zone` or `endpoints`."
  type        = string
}
