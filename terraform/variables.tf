# What a user says. Attributes of objects are optional where a default stands in `optional(...)`.
# The tables in README.md are made of this file by ./tables: a description is one line.

# ---- the application -------------------------------------------------------------------------

variable "name" {
  description = "What everything is named after: `application.name` of release/release.toml. 2 to 24 of a-z, 0-9 and `-`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "Write 2 to 24 lower-case letters, digits and single hyphens, beginning with a letter: target groups may have 32 characters, buckets 63, and both carry this name with something after it."
  }

  validation {
    condition     = !startswith(var.name, "internal-") && !startswith(var.name, "xn-") && !startswith(var.name, "sthree-")
    error_message = "Choose a name that does not begin with `internal-` (load balancers may not), `xn-` or `sthree-` (buckets may not)."
  }
}

variable "application" {
  description = "As in release/release.toml: the container that gets the traffic, its port, and the path that the load balancer asks for. `tasks` is how many run at first."
  type = object({
    container    = optional(string, "app")
    port         = optional(number, 8080)
    health_check = optional(string, "/healthz/ready")
    tasks        = optional(number, 2)
  })
  default = {}

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,255}$", var.application.container))
    error_message = "Write application.container with 1 to 255 letters, digits, `_` and `-`."
  }

  validation {
    condition     = var.application.port >= 1 && var.application.port <= 65535 && floor(var.application.port) == var.application.port
    error_message = "Write a port from 1 to 65535 as application.port."
  }

  validation {
    condition     = startswith(var.application.health_check, "/")
    error_message = "Write a path that begins with `/` as application.health_check, such as \"/healthz/ready\"."
  }

  validation {
    condition     = var.application.tasks >= 1 && var.application.tasks <= 100 && floor(var.application.tasks) == var.application.tasks
    error_message = "Write 1 to 100 as application.tasks."
  }
}

variable "environment" {
  description = "Environment variables of the bootstrap and one-off tasks. What is released gets its own from release/templates/."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", name))])
    error_message = "Name variables with letters, digits and `_`, not beginning with a digit."
  }
}

variable "secrets" {
  description = "Names of secrets to make with random values, such as `session-key`. Templates find their ARNs in `target.secrets`, on a stage too where `secrets` of `[stage]` in release.toml names them; the values are in no state and no plan."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for name in var.secrets : can(regex("^[a-z][a-z0-9-]{0,62}$", name))])
    error_message = "Name secrets with lower-case letters, digits and `-`, beginning with a letter, at most 63 characters."
  }
}

variable "bootstrap_image" {
  description = "Image of the tasks that run until the first release, with a `/bin/sh` and BusyBox's `httpd`: they answer the health check. With `egress = \"endpoints\"` it must be one that a task can reach."
  type        = string
  default     = "busybox:1.37.0"

  validation {
    condition     = length(trimspace(var.bootstrap_image)) > 0
    error_message = "Name an image as bootstrap_image, such as \"busybox:1.37.0\"."
  }
}

variable "one_off_image" {
  description = "Image of the one-off task: psql, to look at the database from the tasks' network."
  type        = string
  default     = "postgres:17-alpine"

  validation {
    condition     = length(trimspace(var.one_off_image)) > 0
    error_message = "Name an image as one_off_image, such as \"postgres:17-alpine\"."
  }
}

# ---- who reaches it --------------------------------------------------------------------------

variable "https" {
  description = "Whether the listeners speak HTTPS, and HTTP on port 80 is redirected. It needs `certificate_arn`; `false` is for trying things out."
  type        = bool
  default     = true

  validation {
    condition     = !var.https || var.certificate_arn != null
    error_message = "HTTPS needs a certificate: write the ARN of one in this Region as certificate_arn, or https = false to serve plain HTTP."
  }
}

variable "certificate_arn" {
  description = "ARN of the ACM certificate of both listeners, in the stack's Region."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/", var.certificate_arn))
    error_message = "Write the ARN of an ACM certificate, as in arn:aws:acm:eu-west-1:111122223333:certificate/...."
  }
}

variable "domain" {
  description = "Host name of the application, which the certificate is for. Without it the load balancer's own name is used, and no browser will trust a certificate under that."
  type        = string
  default     = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "Write a host name such as \"shop.example.org\", without https:// and without a path."
  }
}

variable "zone_id" {
  description = "Route 53 hosted zone in which `domain` becomes an alias of the load balancer. Without it, make that record yourself."
  type        = string
  default     = null

  validation {
    condition     = var.zone_id == null || var.domain != null
    error_message = "A zone_id without a domain makes no record: write the host name as domain, too."
  }
}

variable "ports" {
  description = "Ports of the production listener (default 443, or 80 without HTTPS) and of the test listener (default 8443, or 8080)."
  type = object({
    production = optional(number)
    test       = optional(number)
  })
  default = {}

  validation {
    condition     = alltrue([for port in [var.ports.production, var.ports.test] : port == null ? true : port >= 1 && port <= 65535])
    error_message = "Write ports from 1 to 65535."
  }

  validation {
    condition     = coalesce(var.ports.production, var.https ? 443 : 80) != coalesce(var.ports.test, var.https ? 8443 : 8080)
    error_message = "The production and the test listener need different ports."
  }
}

variable "production_cidrs" {
  description = "IPv4 ranges that may reach the production listener."
  type        = list(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = length(var.production_cidrs) > 0 && alltrue([for cidr in var.production_cidrs : can(cidrnetmask(cidr))])
    error_message = "Write IPv4 ranges such as [\"0.0.0.0/0\"] or [\"198.51.100.0/24\"]."
  }
}

variable "test_cidrs" {
  description = "IPv4 ranges that may reach the test listener, where the next version answers before users see it: your office, your CI. Never the world."
  type        = list(string)

  validation {
    condition     = length(var.test_cidrs) > 0 && alltrue([for cidr in var.test_cidrs : can(cidrnetmask(cidr))])
    error_message = "Write the IPv4 ranges of those who test, such as [\"198.51.100.0/24\"]."
  }

  validation {
    condition     = alltrue([for cidr in var.test_cidrs : try(tonumber(split("/", cidr)[1]), 0) >= 8])
    error_message = "The test listener shows versions that are not released: it is not for the world. Write ranges of /8 or narrower, such as [\"198.51.100.0/24\"]; the address of this machine is one with /32."
  }
}

# ---- where it runs ---------------------------------------------------------------------------

variable "vpc" {
  description = "A VPC that is there already: `{ id, public_subnets, private_subnets }`, subnets of at least two zones each. Without it a small one is made, see `network`."
  type = object({
    id              = string
    public_subnets  = list(string)
    private_subnets = list(string)
  })
  default = null

  validation {
    condition     = var.vpc == null ? true : length(distinct(var.vpc.public_subnets)) >= 2 && length(distinct(var.vpc.private_subnets)) >= 2
    error_message = "A load balancer and a database subnet group need two zones: write at least two subnets in vpc.public_subnets and in vpc.private_subnets."
  }

  validation {
    condition     = var.vpc == null ? true : can(regex("^vpc-[0-9a-f]+$", var.vpc.id)) && alltrue([for id in concat(var.vpc.public_subnets, var.vpc.private_subnets) : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "Write ids such as vpc-0123456789abcdef0 and subnet-0123456789abcdef0."
  }
}

variable "network" {
  description = "The VPC that is made: its range, 2 or 3 `zones`, and how tasks reach AWS. `egress` per month (eu-west-1): `public` 4 USD a task (public addresses, no way in but the load balancer's), `nat` 35 USD and 0.05 USD a GB, `nat-per-zone` that a zone, `endpoints` 8 USD an endpoint and zone (5 of them) and no way out but AWS."
  type = object({
    cidr   = optional(string, "10.20.0.0/16")
    zones  = optional(number, 2)
    egress = optional(string, "nat")
  })
  default = {}

  validation {
    condition     = can(cidrnetmask(var.network.cidr)) && try(tonumber(split("/", var.network.cidr)[1]), 0) >= 16 && try(tonumber(split("/", var.network.cidr)[1]), 99) <= 22
    error_message = "Write an IPv4 range of /16 to /22 as network.cidr, such as \"10.20.0.0/16\": it is cut into sixteen, and a load balancer needs a /27 at least."
  }

  validation {
    condition     = contains([2, 3], var.network.zones)
    error_message = "Write 2 or 3 as network.zones: a load balancer and a database subnet group need two."
  }

  validation {
    condition     = contains(["public", "nat", "nat-per-zone", "endpoints"], var.network.egress)
    error_message = "Write \"public\", \"nat\", \"nat-per-zone\" or \"endpoints\" as network.egress."
  }
}

# ---- the database ----------------------------------------------------------------------------

variable "database" {
  description = "The PostgreSQL at RDS. `sslmode` is what the application connects with; `storage_limit` is how far it may grow by itself (GiB), `backup_days` 7 to 35."
  type = object({
    version        = optional(string, "17")
    instance_class = optional(string, "db.t4g.micro")
    storage        = optional(number, 20)
    storage_limit  = optional(number, 100)
    multi_az       = optional(bool, false)
    backup_days    = optional(number, 7)
    name           = optional(string)
    user           = optional(string)
    sslmode        = optional(string, "require")
  })
  default = {}

  validation {
    condition     = can(regex("^(1[5-9]|2[0-9])(\\.[0-9]+)?$", var.database.version))
    error_message = "Write a PostgreSQL version of 15 or newer as database.version, such as \"17\": from 15 on RDS refuses connections without TLS."
  }

  validation {
    condition     = startswith(var.database.instance_class, "db.")
    error_message = "Write an RDS instance class such as \"db.t4g.micro\" as database.instance_class."
  }

  validation {
    condition     = var.database.storage >= 20 && var.database.storage_limit > var.database.storage && var.database.storage_limit <= 65536
    error_message = "Write at least 20 (GiB) as database.storage, and more than that, at most 65536, as database.storage_limit."
  }

  validation {
    condition     = var.database.backup_days >= 7 && var.database.backup_days <= 35
    error_message = "Write 7 to 35 as database.backup_days; RDS keeps at most 35 days, and less than a week is found out too late."
  }

  validation {
    condition     = alltrue([for name in [var.database.name, var.database.user] : name == null ? true : can(regex("^[a-z][a-z0-9_]{0,62}$", name))]) && !contains(["admin", "postgres", "rdsadmin", "user"], coalesce(var.database.user, "-"))
    error_message = "Write database.name and database.user with lower-case letters, digits and `_`, beginning with a letter; `admin`, `postgres`, `rdsadmin` and `user` are taken."
  }

  validation {
    condition     = contains(["prefer", "require", "verify-ca", "verify-full"], var.database.sslmode)
    error_message = "Write \"prefer\", \"require\", \"verify-ca\" or \"verify-full\" as database.sslmode."
  }
}

# ---- how traffic moves -----------------------------------------------------------------------

variable "strategy" {
  description = "How a deployment moves traffic that names no configuration of its own: `canary`, `linear` or `blue-green`. A release names one with --strategy."
  type        = string
  default     = "canary"

  validation {
    condition     = contains(["canary", "linear", "blue-green"], var.strategy)
    error_message = "Write \"canary\", \"linear\" or \"blue-green\" as strategy."
  }
}

variable "canary" {
  description = "The canary: so many percent of the traffic for so many minutes, then all. Alarms need two to four minutes to see a bad version."
  type = object({
    percent = optional(number, 10)
    minutes = optional(number, 5)
  })
  default = {}

  validation {
    condition     = var.canary.percent >= 1 && var.canary.percent <= 99 && floor(var.canary.percent) == var.canary.percent
    error_message = "Write 1 to 99 as canary.percent: with 0 no user would meet the new version, with 100 it is blue-green."
  }

  validation {
    condition     = var.canary.minutes >= 1 && var.canary.minutes <= 2880 && floor(var.canary.minutes) == var.canary.minutes
    error_message = "Write 1 to 2880 (two days) as canary.minutes."
  }
}

variable "linear" {
  description = "The linear strategy: so many percent more every so many minutes."
  type = object({
    percent = optional(number, 10)
    minutes = optional(number, 1)
  })
  default = {}

  validation {
    condition     = var.linear.percent >= 1 && var.linear.percent <= 99 && floor(var.linear.percent) == var.linear.percent
    error_message = "Write 1 to 99 as linear.percent: 100 in one step is blue-green."
  }

  validation {
    condition     = var.linear.minutes >= 1 && floor(var.linear.minutes) == var.linear.minutes && var.linear.minutes * (ceil(100 / max(var.linear.percent, 1)) - 1) <= 2880
    error_message = "Write whole minutes as linear.minutes, so that the last step comes within 2880 minutes (two days) of the first."
  }
}

variable "termination_wait_minutes" {
  description = "How long the old version stays at full scale when all traffic has moved: going back takes seconds as long as it does."
  type        = number
  default     = 5

  validation {
    condition     = var.termination_wait_minutes >= 0 && var.termination_wait_minutes <= 2880 && floor(var.termination_wait_minutes) == var.termination_wait_minutes
    error_message = "Write 0 to 2880 (two days) as termination_wait_minutes."
  }
}

variable "alarms" {
  description = "What rolls a deployment back, within one of `periods` minutes: 5xx answers of targets, connections that targets refuse (both a minute and target group), 5xx that the load balancer makes itself (a minute), and response times (seconds; `latency_statistic` is a percentile or `Average`)."
  type = object({
    target_5xx        = optional(number, 10)
    connection_errors = optional(number, 10)
    elb_5xx           = optional(number, 10)
    latency           = optional(number, 2)
    latency_statistic = optional(string, "p95")
    periods           = optional(number, 1)
  })
  default = {}

  validation {
    condition     = alltrue([for threshold in [var.alarms.target_5xx, var.alarms.connection_errors, var.alarms.elb_5xx] : threshold >= 0]) && var.alarms.latency > 0
    error_message = "Write thresholds of 0 or more, and a latency of more than 0 seconds."
  }

  validation {
    condition     = var.alarms.latency_statistic == "Average" || can(regex("^p([1-9][0-9]?)(\\.[0-9]{1,2})?$", var.alarms.latency_statistic))
    error_message = "Write a percentile such as \"p95\" or \"p99.9\", or \"Average\", as alarms.latency_statistic."
  }

  validation {
    condition     = var.alarms.periods >= 1 && var.alarms.periods <= 10 && floor(var.alarms.periods) == var.alarms.periods
    error_message = "Write 1 to 10 as alarms.periods: with more, the alarm would come after the traffic has moved."
  }
}

variable "alarm_actions" {
  description = "ARNs that alarms notify besides, such as an SNS topic's."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_actions : startswith(arn, "arn:")])
    error_message = "Write ARNs as alarm_actions."
  }
}

variable "hook_zip" {
  description = "Path of the hook function's zip, `.serein/bundles/hook.zip`: with the strategy `guarded` it tries the new version through the test listener before users get it. Without it there is no hook. It needs `nat` or `nat-per-zone`."
  type        = string
  default     = null

  validation {
    condition     = var.hook_zip == null || var.vpc != null || contains(["nat", "nat-per-zone"], var.network.egress)
    error_message = "The hook reaches the test listener through a NAT gateway: write \"nat\" or \"nat-per-zone\" as network.egress, or leave hook_zip out."
  }
}

variable "hook_environment" {
  description = "Settings of the hook function beside HOOK_TEST_URL, such as `HOOK_PATHS` (docs/hook.md)."
  type        = map(string)
  default     = {}
}

# ---- who releases ----------------------------------------------------------------------------

variable "github" {
  description = "The GitHub repository whose workflows may take the release role, `{ repository = \"owner/name\", subjects = [\"environment:production\"] }`. `provider_arn` is the account's OIDC provider for GitHub, if it has one: there can be only one."
  type = object({
    repository   = string
    subjects     = optional(list(string), ["ref:refs/heads/main"])
    provider_arn = optional(string)
  })
  default = null

  validation {
    condition     = var.github == null ? true : can(regex("^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$", var.github.repository))
    error_message = "Write github.repository as \"owner/name\"."
  }

  validation {
    condition     = var.github == null ? true : length(var.github.subjects) > 0 && alltrue([for subject in var.github.subjects : can(regex("^(ref:refs/(heads|tags)/[^*?]+|environment:[^*?]+)$", subject))])
    error_message = "Write github.subjects as \"ref:refs/heads/main\", \"ref:refs/tags/v1\" or \"environment:production\", without wildcards: pull requests of strangers must not release."
  }
}

# ---- keeping ---------------------------------------------------------------------------------

variable "protect" {
  description = "Whether load balancer, database, buckets, images and secrets resist deletion. To destroy: apply with `false` first."
  type        = bool
  default     = true
}

variable "log_days" {
  description = "How long logs are kept, in days: one of CloudWatch's retentions."
  type        = number
  default     = 90

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_days)
    error_message = "CloudWatch knows retentions of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 and 3653 days: write one of them as log_days."
  }
}

variable "cdn" {
  description = "Whether a CloudFront distribution serves the static assets."
  type        = bool
  default     = true
}

variable "container_insights" {
  description = "Whether ECS publishes metrics a task to CloudWatch, about 3 USD a task and month."
  type        = bool
  default     = false
}
