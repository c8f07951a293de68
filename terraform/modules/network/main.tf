# The VPC: a given one, looked at, or one that is made.
#
#   public subnets   load balancer, NAT gateways, and tasks with `public` egress
#   private subnets  tasks, database, hook
#
# Subnets are sixteenths of the range: 0, 1, 2 public, 8, 9, 10 private, one a zone.

data "aws_region" "this" {}

# Sorted by name: a zone that AWS adds comes last and changes nothing.
data "aws_availability_zones" "here" {
  #checkov:skip=CKV_AWS_394:the first two or three by name are taken, and a new zone has a later name
  count = local.made ? 1 : 0
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  made  = var.vpc == null
  zones = local.made ? slice(data.aws_availability_zones.here[0].names, 0, var.zones) : []
  # How many NAT gateways there are.
  gateways = { public = 0, endpoints = 0, nat = 1, nat-per-zone = var.zones }[var.egress]
  nats     = local.made ? local.gateways : 0
}

# ---- given -----------------------------------------------------------------------------------

data "aws_subnet" "given" {
  for_each = local.made ? toset([]) : toset(concat(var.vpc.public_subnets, var.vpc.private_subnets))
  id       = each.key

  lifecycle {
    postcondition {
      condition     = self.vpc_id == var.vpc.id
      error_message = "Subnet ${each.key} is not in ${var.vpc.id}: write subnets of that VPC."
    }
  }
}

locals {
  given_zones = local.made ? {} : {
    for kind, subnets in { public = var.vpc.public_subnets, private = var.vpc.private_subnets } :
    kind => distinct([for id in subnets : data.aws_subnet.given[id].availability_zone])
  }
}

resource "terraform_data" "two_zones" {
  for_each = local.given_zones

  lifecycle {
    precondition {
      condition     = length(each.value) >= 2
      error_message = "The ${each.key} subnets are all in ${join(", ", each.value)}: a load balancer and a database subnet group need two zones, so write subnets of at least two."
    }
  }
}

# ---- made ------------------------------------------------------------------------------------

resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_11:flow logs cost by the gigabyte; the load balancer's access logs say who asked for what
  count                = local.made ? 1 : 0
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

# The group that everything gets that names none: nothing in, nothing out.
resource "aws_default_security_group" "closed" {
  count  = local.made ? 1 : 0
  vpc_id = aws_vpc.this[0].id
  tags   = { Name = "${var.name}-default-closed" }
}

resource "aws_internet_gateway" "this" {
  count  = local.made ? 1 : 0
  vpc_id = aws_vpc.this[0].id
  tags   = { Name = var.name }
}

resource "aws_subnet" "public" {
  count                   = length(local.zones)
  vpc_id                  = aws_vpc.this[0].id
  cidr_block              = cidrsubnet(var.cidr, 4, count.index)
  availability_zone       = local.zones[count.index]
  map_public_ip_on_launch = false
  tags                    = { Name = "${var.name}-public-${count.index + 1}" }
}

resource "aws_subnet" "private" {
  count                   = length(local.zones)
  vpc_id                  = aws_vpc.this[0].id
  cidr_block              = cidrsubnet(var.cidr, 4, 8 + count.index)
  availability_zone       = local.zones[count.index]
  map_public_ip_on_launch = false
  tags                    = { Name = "${var.name}-private-${count.index + 1}" }
}

resource "aws_route_table" "public" {
  count  = local.made ? 1 : 0
  vpc_id = aws_vpc.this[0].id
  tags   = { Name = "${var.name}-public" }
}

resource "aws_route" "internet" {
  count                  = local.made ? 1 : 0
  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "public" {
  count          = length(local.zones)
  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public[0].id
}

resource "aws_route_table" "private" {
  count  = length(local.zones)
  vpc_id = aws_vpc.this[0].id
  tags   = { Name = "${var.name}-private-${count.index + 1}" }
}

resource "aws_route_table_association" "private" {
  count          = length(local.zones)
  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private[count.index].id
}

resource "aws_eip" "nat" {
  #checkov:skip=CKV2_AWS_19:they belong to the NAT gateways below
  count  = local.nats
  domain = "vpc"
  tags   = { Name = "${var.name}-nat-${count.index + 1}" }
}

resource "aws_nat_gateway" "this" {
  count         = local.nats
  allocation_id = aws_eip.nat[count.index].id
  subnet_id     = aws_subnet.public[count.index].id
  tags          = { Name = "${var.name}-${count.index + 1}" }

  depends_on = [aws_internet_gateway.this]
}

resource "aws_route" "nat" {
  count                  = local.nats > 0 ? length(local.zones) : 0
  route_table_id         = aws_route_table.private[count.index].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[min(count.index, local.nats - 1)].id
}

# Images come from S3 in the end: this one costs nothing, and spares the NAT gateway the bytes.
resource "aws_vpc_endpoint" "s3" {
  count             = local.made ? 1 : 0
  vpc_id            = aws_vpc.this[0].id
  service_name      = "com.amazonaws.${data.aws_region.this.name}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = concat(aws_route_table.public[*].id, aws_route_table.private[*].id)
  tags              = { Name = "${var.name}-s3" }
}

locals {
  # What a task needs: pull an image, write a log, read and decrypt a secret.
  endpoints = local.made && var.egress == "endpoints" ? ["ecr.api", "ecr.dkr", "logs", "secretsmanager", "kms"] : []
}

resource "aws_vpc_endpoint" "interface" {
  for_each            = toset(local.endpoints)
  vpc_id              = aws_vpc.this[0].id
  service_name        = "com.amazonaws.${data.aws_region.this.name}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = aws_subnet.private[*].id
  security_group_ids  = aws_security_group.endpoints[*].id
  tags                = { Name = "${var.name}-${each.key}" }
}

resource "aws_security_group" "endpoints" {
  count       = length(local.endpoints) > 0 ? 1 : 0
  name        = "${var.name}-endpoints"
  description = "AWS endpoints of ${var.name}"
  vpc_id      = aws_vpc.this[0].id
  tags        = { Name = "${var.name}-endpoints" }
  egress      = []

  ingress {
    description = "HTTPS from the VPC"
    protocol    = "tcp"
    from_port   = 443
    to_port     = 443
    cidr_blocks = [var.cidr]
  }
}
