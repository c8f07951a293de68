# What rolls a deployment back.
#
# The groups swap their roles at every deployment, so each alarm stands on both of them. A green
# that is dead answers nothing, and is not in the 5xx of targets: the load balancer then makes the
# 502s itself, which no target group's metric shows, and counts a connection error. Metrics that
# are counts exist only when they are not zero, so what is missing is not breaching.

locals {
  per_group = {
    target-5xx = {
      metric      = "HTTPCode_Target_5XX_Count"
      statistic   = "Sum"
      threshold   = var.alarms.target_5xx
      description = "targets answer 5xx"
    }
    connection-errors = {
      metric      = "TargetConnectionErrorCount"
      statistic   = "Sum"
      threshold   = var.alarms.connection_errors
      description = "targets refuse connections"
    }
    latency = {
      metric      = "TargetResponseTime"
      statistic   = var.alarms.latency_statistic
      threshold   = var.alarms.latency
      description = "targets answer slowly"
    }
  }

  group_alarms = merge([for group in var.service.target_groups : {
    for kind, alarm in local.per_group : "${group.name}-${kind}" => merge(alarm, { group = group.arn_suffix })
  }]...)

  alarm_names = sort(concat(
    [for alarm in aws_cloudwatch_metric_alarm.group : alarm.alarm_name],
    [aws_cloudwatch_metric_alarm.load_balancer.alarm_name],
  ))
}

resource "aws_cloudwatch_metric_alarm" "group" {
  for_each          = local.group_alarms
  alarm_name        = each.key
  alarm_description = "${var.name}: ${each.value.description}"

  namespace          = "AWS/ApplicationELB"
  metric_name        = each.value.metric
  statistic          = startswith(each.value.statistic, "p") ? null : each.value.statistic
  extended_statistic = startswith(each.value.statistic, "p") ? each.value.statistic : null
  dimensions = {
    LoadBalancer = var.service.load_balancer.arn_suffix
    TargetGroup  = each.value.group
  }

  period              = 60
  evaluation_periods  = var.alarms.periods
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions
}

# The requests of the test listener are in it as well: without a target to go to they end in 503.
resource "aws_cloudwatch_metric_alarm" "load_balancer" {
  alarm_name        = "${var.name}-elb-5xx"
  alarm_description = "${var.name}: the load balancer finds nobody who answers"

  namespace   = "AWS/ApplicationELB"
  metric_name = "HTTPCode_ELB_5XX_Count"
  statistic   = "Sum"
  dimensions = {
    LoadBalancer = var.service.load_balancer.arn_suffix
  }

  period              = 60
  evaluation_periods  = var.alarms.periods
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarms.elb_5xx
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions
}
