//! What the stage asks of the account, and what it makes of the answers: a load balancer like the one
//! that was created, alarms like those that were put. And the one thing it writes: weights.

use std::{collections::BTreeMap, time::Duration};

use rollout::alarm::{Definition, Metric};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Account, Weights, upstream::Upstream, xml::Element};
use crate::{
    elb::{self, ElbError, LoadBalancer},
    front::{Balancer, TargetGroup},
    wire::ApiError,
};

/// Versions of the query APIs, as every client sends them.
const ELB: &str = "2015-12-01";
const CLOUDWATCH: &str = "2010-08-01";

/// How often a port that was just closed is tried again.
const TRIES: u32 = 40;
/// How long between two tries, real.
const PAUSE: Duration = Duration::from_millis(50);

/// Everything of a load balancer that the stage makes its own of.
#[derive(Debug)]
struct Found {
    /// `app/<name>/<id>`
    dimension: String,
    groups: Vec<(TargetGroup, elb::TargetGroupOptions)>,
    production: Listening,
    test: Listening,
}

/// A listener: its ARN, and where it forwards to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listening {
    arn: String,
    port: u16,
    /// ARNs with weights.
    forwards: Vec<(String, u32)>,
}

impl Account {
    /// Takes over the load balancer that a target group belongs to, when a service is created on it.
    ///
    /// Nothing happens to a load balancer that has targets: it stays as it was taken over. A target
    /// group that is nobody's is left to ECS, which refuses it.
    pub async fn take_over(&self, target_group: &str) -> Result<(), ApiError> {
        let _one_at_a_time = self.0.taking_over.lock().await;
        let old = self.0.parts.front.get();
        let busy = old.groups.iter().any(|group| {
            let targets = old.load_balancer.target_health(&group.name);
            targets.is_ok_and(|targets| !targets.is_empty())
        });
        if busy {
            return Ok(());
        }
        let ports = [
            old.load_balancer.production_address().port(),
            old.load_balancer.test_address().port(),
        ];
        let Some(found) = self.look_at(target_group, ports).await? else {
            return Ok(());
        };
        old.load_balancer.stop().await;
        let load_balancer = self.start(&found, ports).await.map_err(|error| {
            ApiError::client(
                "ClientException",
                format!("cannot take over {}: {error}", found.dimension),
            )
        })?;
        tracing::info!(load_balancer = found.dimension, "taken over");
        let groups: Vec<TargetGroup> = found.groups.into_iter().map(|(group, _)| group).collect();
        if let Ok(groups) = <[TargetGroup; 2]>::try_from(groups) {
            self.0.parts.front.replace(Balancer {
                load_balancer,
                groups,
                production: found.production.arn,
                test: found.test.arn,
            });
        }
        Ok(())
    }

    /// What `DescribeTargetGroups`, `DescribeTargetGroupAttributes` and `DescribeListeners` say.
    async fn look_at(
        &self,
        target_group: &str,
        ports: [u16; 2],
    ) -> Result<Option<Found>, ApiError> {
        let refuse = |message: String| ApiError::client("ClientException", message);
        let upstream = &self.0.upstream;
        let ask = async |action: &str, name: &str, value: &str| {
            let parameters = [(name.to_owned(), value.to_owned())];
            let answer = upstream
                .query("elasticloadbalancing", ELB, action, &parameters)
                .await;
            answer.map_err(|error| refuse(error.to_string()))
        };
        let answer = ask(
            "DescribeTargetGroups",
            "TargetGroupArns.member.1",
            target_group,
        )
        .await?;
        let balancer = match answer.list("LoadBalancerArns") {
            [] => return Ok(None),
            [first, ..] => first.text.clone(),
        };
        let dimension = after(&balancer, ":loadbalancer/");
        let answer = ask("DescribeListeners", "LoadBalancerArn", &balancer).await?;
        let listeners: Vec<Listening> = answer.list("Listeners").iter().map(listening).collect();
        let at = |port: u16, which: &str, option: &str| {
            let found = listeners.iter().find(|listener| listener.port == port);
            found.cloned().ok_or_else(|| {
                let there: Vec<String> = listeners.iter().map(|one| one.port.to_string()).collect();
                refuse(format!(
                    "the stage's {which} listener is on port {port}, and {dimension} listens on {}: give the stage {option} and Terraform `ports` the same",
                    there.join(", ")
                ))
            })
        };
        let production = at(ports[0], "production", "--port")?;
        let test = at(ports[1], "test", "--test-port")?;

        let mut arns: Vec<&String> = Vec::new();
        for (arn, _) in production.forwards.iter().chain(&test.forwards) {
            if !arns.contains(&arn) {
                arns.push(arn);
            }
        }
        if arns.len() != 2 {
            return Err(refuse(format!(
                "the two listeners of {dimension} forward to {} target groups: CodeDeploy needs two",
                arns.len()
            )));
        }
        let mut groups = Vec::new();
        for arn in arns {
            let group = ask("DescribeTargetGroups", "TargetGroupArns.member.1", arn).await?;
            let attributes = ask("DescribeTargetGroupAttributes", "TargetGroupArn", arn).await?;
            groups.push(options(arn, &group, &attributes).map_err(refuse)?);
        }
        Ok(Some(Found {
            dimension,
            groups,
            production,
            test,
        }))
    }

    async fn start(&self, found: &Found, ports: [u16; 2]) -> Result<LoadBalancer, ElbError> {
        let stage = &self.0.parts;
        let named = |forwards: &[(String, u32)]| {
            let name = |arn: &String| {
                let group = found.groups.iter().find(|(group, _)| group.arn == *arn);
                group.map_or_else(String::new, |(group, _)| group.name.clone())
            };
            forwards
                .iter()
                .map(|(arn, weight)| (name(arn), *weight))
                .collect::<Vec<_>>()
        };
        let options = elb::Options {
            dimension: found.dimension.clone(),
            production_port: ports[0],
            test_port: ports[1],
            idle_timeout: stage.idle_timeout,
            groups: found
                .groups
                .iter()
                .map(|(_, options)| options.clone())
                .collect(),
            production: named(&found.production.forwards),
            test: named(&found.test.forwards),
            ..elb::Options::default()
        };
        let mut tries = 0;
        loop {
            let started =
                LoadBalancer::start(options.clone(), stage.clock, &stage.metrics, &stage.events);
            match started {
                Err(ElbError::Bind { .. }) if tries < TRIES => tries += 1,
                started => return started,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes over the definitions of alarms as they are now (`DescribeAlarms`). One that is not there
    /// any more is not here either.
    pub async fn take_over_alarms(&self, names: &[String]) -> Result<(), ApiError> {
        if names.is_empty() {
            return Ok(());
        }
        let refuse = |message: String| ApiError::client("InvalidAlarmConfigException", message);
        let parameters: Vec<(String, String)> = names
            .iter()
            .enumerate()
            .map(|(index, name)| (format!("AlarmNames.member.{}", index + 1), name.clone()))
            .collect();
        let answer = self
            .0
            .upstream
            .query("monitoring", CLOUDWATCH, "DescribeAlarms", &parameters)
            .await
            .map_err(|error| refuse(error.to_string()))?;
        let mut found = Vec::new();
        for alarm in answer.list("MetricAlarms") {
            found.push(definition(alarm).map_err(refuse)?);
        }
        let alarms = &self.0.parts.alarms;
        for name in names {
            match found.iter().find(|alarm| alarm.name == *name) {
                Some(alarm) => {
                    let put = alarms.put(alarm.clone());
                    put.map_err(|error| refuse(format!("alarm {name}: {error}")))?;
                }
                None => {
                    alarms.delete(name);
                }
            }
        }
        Ok(())
    }
}

/// `…:loadbalancer/app/x/1` is `app/x/1`.
fn after(arn: &str, mark: &str) -> String {
    arn.split_once(mark)
        .map_or(arn, |(_, rest)| rest)
        .to_owned()
}

fn listening(listener: &Element) -> Listening {
    let forward = listener
        .list("DefaultActions")
        .iter()
        .find(|action| action.child("Type") == "forward");
    let mut forwards: Vec<(String, u32)> = forward
        .and_then(|action| action.find("ForwardConfig"))
        .map(|config| config.list("TargetGroups"))
        .unwrap_or_default()
        .iter()
        .map(|group| {
            let weight = group.child("Weight").parse().unwrap_or(1);
            (group.child("TargetGroupArn").to_owned(), weight)
        })
        .collect();
    let single = forward.map_or("", |action| action.child("TargetGroupArn"));
    if forwards.is_empty() && !single.is_empty() {
        forwards.push((single.to_owned(), 1));
    }
    Listening {
        arn: listener.child("ListenerArn").to_owned(),
        port: listener.child("Port").parse().unwrap_or_default(),
        forwards,
    }
}

/// A target group of the stage's like the one that was created.
fn options(
    arn: &str,
    group: &Element,
    attributes: &Element,
) -> Result<(TargetGroup, elb::TargetGroupOptions), String> {
    let name = group.text("TargetGroupName").to_owned();
    let defaults = elb::TargetGroupOptions::new(name.clone());
    let check = defaults.health_check;
    let seconds = |name: &str, default: Duration| {
        group
            .text(name)
            .parse()
            .map_or(default, Duration::from_secs)
    };
    let count = |name: &str, default: u32| group.text(name).parse().unwrap_or(default);
    let path = match group.text("HealthCheckPath") {
        "" => check.path,
        path => path.to_owned(),
    };
    let matcher = match group.text("HttpCode") {
        "" => check.matcher,
        codes => codes
            .parse()
            .map_err(|error| format!("health check of target group {name}: {error}"))?,
    };
    let delay = attributes
        .list("Attributes")
        .iter()
        .find(|one| one.child("Key") == "deregistration_delay.timeout_seconds")
        .and_then(|one| one.child("Value").parse().ok())
        .map_or(defaults.deregistration_delay, Duration::from_secs);
    let options = elb::TargetGroupOptions {
        dimension: after(arn, ":targetgroup/")
            .split('/')
            .fold("targetgroup".to_owned(), |all, part| all + "/" + part),
        name: name.clone(),
        health_check: elb::HealthCheck {
            path,
            interval: seconds("HealthCheckIntervalSeconds", check.interval),
            timeout: seconds("HealthCheckTimeoutSeconds", check.timeout),
            healthy_threshold: count("HealthyThresholdCount", check.healthy_threshold),
            unhealthy_threshold: count("UnhealthyThresholdCount", check.unhealthy_threshold),
            matcher,
        },
        deregistration_delay: delay,
    };
    let group = TargetGroup {
        name,
        arn: arn.to_owned(),
    };
    Ok((group, options))
}

/// An alarm as `PutMetricAlarm` defined it.
fn definition(alarm: &Element) -> Result<Definition, String> {
    let name = alarm.child("AlarmName").to_owned();
    let extended = alarm.child("ExtendedStatistic");
    if !extended.is_empty() {
        return Err(format!(
            "alarm {name} is on the percentile {extended}, which this stage cannot evaluate: use Average here"
        ));
    }
    let number = |member: &str| {
        let value: Result<f64, _> = alarm.child(member).parse();
        value.map_err(|_| format!("alarm {name}: {member} is {:?}", alarm.child(member)))
    };
    let count = |member: &str| {
        let value: Result<u32, _> = alarm.child(member).parse();
        value.map_err(|_| format!("alarm {name}: {member} is {:?}", alarm.child(member)))
    };
    let dimensions: BTreeMap<String, String> = alarm
        .list("Dimensions")
        .iter()
        .map(|one| (one.child("Name").to_owned(), one.child("Value").to_owned()))
        .collect();
    let periods = count("EvaluationPeriods")?;
    Ok(Definition {
        metric: Metric {
            namespace: alarm.child("Namespace").to_owned(),
            name: alarm.child("MetricName").to_owned(),
            dimensions,
        },
        statistic: word(alarm, &name, "Statistic")?,
        period: Duration::from_secs(u64::from(count("Period")?)),
        evaluation_periods: periods,
        datapoints_to_alarm: count("DatapointsToAlarm").unwrap_or(periods),
        threshold: number("Threshold")?,
        comparison: word(alarm, &name, "ComparisonOperator")?,
        treat_missing_data: match alarm.child("TreatMissingData") {
            "" => rollout::alarm::MissingData::default(),
            _ => word(alarm, &name, "TreatMissingData")?,
        },
        name,
    })
}

/// A member whose values are words of CloudWatch's, which `rollout` spells the same.
fn word<T: DeserializeOwned>(alarm: &Element, name: &str, member: &str) -> Result<T, String> {
    let text = alarm.child(member);
    serde_json::from_value(Value::from(text))
        .map_err(|_| format!("alarm {name}: this stage does not know the {member} {text:?}"))
}

/// Carries weights over, in their order (`ModifyListener`), until the stage ends.
pub(super) async fn write_weights(
    upstream: Upstream,
    mut wanted: mpsc::UnboundedReceiver<Weights>,
) {
    while let Some(Weights { listener, groups }) = wanted.recv().await {
        let action = "DefaultActions.member.1";
        let mut parameters = vec![
            ("ListenerArn".to_owned(), listener.clone()),
            (format!("{action}.Type"), "forward".to_owned()),
        ];
        for (index, (arn, weight)) in groups.iter().enumerate() {
            let group = format!("{action}.ForwardConfig.TargetGroups.member.{}", index + 1);
            parameters.push((format!("{group}.TargetGroupArn"), arn.clone()));
            parameters.push((format!("{group}.Weight"), weight.to_string()));
        }
        let answer = upstream
            .query("elasticloadbalancing", ELB, "ModifyListener", &parameters)
            .await;
        if let Err(error) = answer {
            tracing::warn!(%error, listener, "cannot carry the weights over");
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn element(text: &str) -> Element {
        Element::parse(text).unwrap()
    }

    #[test]
    fn a_listener_forwards_to_one_group_or_by_weights() {
        let one = listening(&element(
            "<member><ListenerArn>l</ListenerArn><Port>80</Port><DefaultActions><member>\
             <Type>forward</Type><TargetGroupArn>a</TargetGroupArn></member></DefaultActions></member>",
        ));
        assert_eq!((one.arn.as_str(), one.port), ("l", 80));
        assert_eq!(one.forwards, [("a".to_owned(), 1)]);
        let two = listening(&element(
            "<member><Port>81</Port><DefaultActions><member><Type>forward</Type><ForwardConfig>\
             <TargetGroups><member><TargetGroupArn>a</TargetGroupArn><Weight>100</Weight></member>\
             <member><TargetGroupArn>b</TargetGroupArn><Weight>0</Weight></member></TargetGroups>\
             </ForwardConfig></member></DefaultActions></member>",
        ));
        assert_eq!(two.forwards, [("a".to_owned(), 100), ("b".to_owned(), 0)]);
        let redirect = "<member><Port>80</Port><DefaultActions><member><Type>redirect</Type></member></DefaultActions></member>";
        assert_eq!(listening(&element(redirect)).forwards, []);
    }

    #[test]
    fn a_target_group_keeps_its_settings() {
        let group = element(
            "<R><TargetGroups><member><TargetGroupName>shop-a</TargetGroupName>\
             <HealthCheckPath>/up</HealthCheckPath><HealthCheckIntervalSeconds>7</HealthCheckIntervalSeconds>\
             <HealthyThresholdCount>3</HealthyThresholdCount><Matcher><HttpCode>200-204</HttpCode></Matcher>\
             </member></TargetGroups></R>",
        );
        let attributes = element(
            "<R><Attributes><member><Key>deregistration_delay.timeout_seconds</Key><Value>12</Value></member></Attributes></R>",
        );
        let arn = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/shop-a/0123";
        let (group, options) = options(arn, &group, &attributes).unwrap();
        assert_eq!((group.name.as_str(), group.arn.as_str()), ("shop-a", arn));
        assert_eq!(options.dimension, "targetgroup/shop-a/0123");
        assert_eq!(options.deregistration_delay, Duration::from_secs(12));
        let check = options.health_check;
        assert_eq!(
            (check.path.as_str(), check.interval),
            ("/up", Duration::from_secs(7))
        );
        assert_eq!((check.healthy_threshold, check.unhealthy_threshold), (3, 2));
        assert_eq!(check.matcher, "200-204".parse().unwrap());
    }

    const ALARM: &str = "<member><AlarmName>shop-a-5xx</AlarmName><Namespace>AWS/ApplicationELB</Namespace>\
         <MetricName>HTTPCode_Target_5XX_Count</MetricName><Statistic>Sum</Statistic><Period>60</Period>\
         <EvaluationPeriods>2</EvaluationPeriods><Threshold>10.0</Threshold>\
         <ComparisonOperator>GreaterThanThreshold</ComparisonOperator>\
         <TreatMissingData>notBreaching</TreatMissingData><Dimensions><member><Name>LoadBalancer</Name>\
         <Value>app/shop/1</Value></member></Dimensions></member>";

    #[test]
    fn an_alarm_is_the_one_that_was_put() {
        let alarm = definition(&element(ALARM)).unwrap();
        assert_eq!(alarm.metric.dimensions["LoadBalancer"], "app/shop/1");
        assert_eq!(
            (alarm.evaluation_periods, alarm.datapoints_to_alarm),
            (2, 2)
        );
        assert_eq!(alarm.period, Duration::from_mins(1));
        alarm.validate().unwrap();
    }

    #[test]
    fn what_the_stage_cannot_evaluate_is_said_at_once() {
        let percentile = ALARM.replace(
            "<Statistic>Sum</Statistic>",
            "<ExtendedStatistic>p95</ExtendedStatistic>",
        );
        let error = definition(&element(&percentile)).unwrap_err();
        assert!(error.contains("percentile p95"), "{error}");
        let unknown = ALARM.replace("GreaterThanThreshold", "LessThanLowerThreshold");
        let error = definition(&element(&unknown)).unwrap_err();
        assert!(
            error.contains("ComparisonOperator \"LessThanLowerThreshold\""),
            "{error}"
        );
        let broken = ALARM.replace("10.0", "ten");
        assert!(definition(&element(&broken)).is_err());
    }
}
