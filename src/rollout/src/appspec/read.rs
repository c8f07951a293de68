//! From a document to an AppSpec: what must be there, what may be, and where it is not so.

use super::node::Node;
use super::{AppSpec, AppSpecError, CapacityProvider, NetworkConfiguration};
use crate::lifecycle::LifecycleEvent;

type Read<T> = Result<T, AppSpecError>;

pub fn appspec(document: &Node) -> Read<AppSpec> {
    let document = At {
        path: String::new(),
        node: document,
    };
    let [version, resources, hooks] = document.members(["version", "Resources", "Hooks"])?;
    check_version(&version.required()?)?;
    let properties = properties(&resources.required()?)?;
    let [
        task_definition,
        load_balancer,
        platform_version,
        network,
        strategy,
    ] = properties.members([
        "TaskDefinition",
        "LoadBalancerInfo",
        "PlatformVersion",
        "NetworkConfiguration",
        "CapacityProviderStrategy",
    ])?;
    let [container_name, container_port] = load_balancer
        .required()?
        .members(["ContainerName", "ContainerPort"])?;
    Ok(AppSpec {
        task_definition: task_definition_arn(&task_definition.required()?)?,
        container_name: container_name.required()?.text()?,
        container_port: port(&container_port.required()?)?,
        platform_version: platform_version
            .optional()
            .map(|at| at.text())
            .transpose()?,
        network_configuration: match network.optional() {
            Some(at) => network_configuration(&at)?,
            None => None,
        },
        capacity_provider_strategy: match strategy.optional() {
            Some(at) => capacity_providers(&at)?,
            None => Vec::new(),
        },
        hooks: match hooks.optional() {
            Some(at) => hook_functions(&at)?,
            None => Vec::new(),
        },
    })
}

fn check_version(at: &At) -> Read<()> {
    match at.node {
        // 0 is how writers of JSON in other languages put 0.0, AWS's own deploy action among
        // them.
        Node::Float(0.0) | Node::Integer(0) => Ok(()),
        Node::Text(text) if text == "0.0" => Ok(()),
        other => at.invalid(format!(
            "it is {}; the only version is 0.0",
            other.describe()
        )),
    }
}

/// The properties of the one resource.
fn properties<'a>(resources: &At<'a>) -> Read<At<'a>> {
    let list = resources.list()?;
    let [resource] = list.as_slice() else {
        return resources.invalid(format!(
            "there are {} resources; an ECS deployment has exactly one",
            list.len()
        ));
    };
    let target = resource
        .only_entry("a target service, as in \"- TargetService: …\"")?
        .1;
    let [kind, properties] = target.members(["Type", "Properties"])?;
    let kind = kind.required()?;
    match kind.text()?.as_str() {
        "AWS::ECS::Service" => properties.required(),
        other => kind.invalid(format!(
            "it is {other:?}; for ECS it is \"AWS::ECS::Service\""
        )),
    }
}

/// `arn:PARTITION:ecs:REGION:ACCOUNT:task-definition/FAMILY:REVISION`
fn task_definition_arn(at: &At) -> Read<String> {
    let text = at.text()?;
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let resource = match parts.as_slice() {
        ["arn", partition, "ecs", region, account, resource]
            if ![partition, region, account]
                .iter()
                .any(|part| part.is_empty()) =>
        {
            resource.strip_prefix("task-definition/")
        }
        _ => None,
    };
    let Some(resource) = resource else {
        return at.invalid(format!(
            "{text:?} is not the ARN of a task definition (arn:aws:ecs:REGION:ACCOUNT:task-definition/FAMILY:REVISION)"
        ));
    };
    let revision = resource.split_once(':').filter(|(family, revision)| {
        !family.is_empty() && revision.parse::<u32>().is_ok_and(|revision| revision > 0)
    });
    match revision {
        Some(_) => Ok(text),
        None => at.invalid(format!(
            "{text:?} names no revision: end it with \":REVISION\""
        )),
    }
}

fn port(at: &At) -> Read<u16> {
    match at.node {
        Node::Integer(number) => match u16::try_from(*number) {
            Ok(port) if port > 0 => Ok(port),
            _ => at.invalid(format!("{number} is not a port; give 1 to 65535")),
        },
        // Whether CodeDeploy takes a number in quotes is undocumented: its template shows
        // quotes, its text says number. Refusing is the side that works on either.
        Node::Text(text) if text.parse::<u16>().is_ok() => at.invalid(format!(
            "it is the text {text:?}; write the port as a number, without quotes"
        )),
        other => at.invalid(format!(
            "it is {}; a port number is wanted",
            other.describe()
        )),
    }
}

fn network_configuration(at: &At) -> Read<Option<NetworkConfiguration>> {
    let [awsvpc] = at.members(["AwsvpcConfiguration"])?;
    let Some(awsvpc) = awsvpc.optional() else {
        return Ok(None);
    };
    let members = awsvpc.members(["Subnets", "SecurityGroups", "AssignPublicIp"])?;
    let [Some(subnets), Some(security_groups), Some(assign_public_ip)] =
        members.each_ref().map(Member::optional)
    else {
        let missing: Vec<&str> = members
            .iter()
            .filter(|member| member.optional().is_none())
            .map(|member| member.name)
            .collect();
        if missing.len() == members.len() {
            return Ok(None);
        }
        return awsvpc.invalid(format!(
            "{} missing: Subnets, SecurityGroups and AssignPublicIp are given all three or not at all",
            match missing.as_slice() {
                [one] => format!("{one} is"),
                more => format!("{} are", more.join(" and ")),
            }
        ));
    };
    Ok(Some(NetworkConfiguration {
        subnets: subnets.texts(16)?,
        security_groups: security_groups.texts(5)?,
        assign_public_ip: match assign_public_ip.text()?.as_str() {
            "ENABLED" => true,
            "DISABLED" => false,
            other => {
                return assign_public_ip
                    .invalid(format!("it is {other:?}; give ENABLED or DISABLED"));
            }
        },
    }))
}

fn capacity_providers(at: &At) -> Read<Vec<CapacityProvider>> {
    let mut strategy: Vec<CapacityProvider> = Vec::new();
    for entry in at.list()? {
        let [base, provider, weight] = entry.members(["Base", "CapacityProvider", "Weight"])?;
        let provider = CapacityProvider {
            capacity_provider: provider.required()?.text()?,
            base: base.optional().map_or(Ok(0), |at| at.number(100_000))?,
            weight: weight.optional().map_or(Ok(0), |at| at.number(1000))?,
        };
        if provider.base > 0 && strategy.iter().any(|other| other.base > 0) {
            return entry.invalid("only one capacity provider can have a Base".to_owned());
        }
        strategy.push(provider);
    }
    if strategy.is_empty() {
        return at.invalid("it is empty: name a capacity provider, or leave it out".to_owned());
    }
    if strategy.len() > 1 && strategy.iter().all(|provider| provider.weight == 0) {
        return at.invalid(
            "of several capacity providers at least one needs a Weight above 0".to_owned(),
        );
    }
    Ok(strategy)
}

fn hook_functions(at: &At) -> Read<Vec<(LifecycleEvent, String)>> {
    let mut hooks: Vec<(LifecycleEvent, String)> = Vec::new();
    for entry in at.list()? {
        let (name, function) = entry.only_entry("one hook, as in \"- BeforeInstall: FUNCTION\"")?;
        let event: LifecycleEvent = match name.parse() {
            Ok(event) => event,
            Err(unknown) => return entry.invalid(format!("{unknown}; {}", hookable())),
        };
        if !event.is_hook() {
            return entry.invalid(format!(
                "no function can be hooked to {event}, CodeDeploy runs it itself; {}",
                hookable()
            ));
        }
        if hooks.iter().any(|(other, _)| *other == event) {
            return entry.invalid(format!("{event} has a function already; one is possible"));
        }
        hooks.push((event, function.text()?));
    }
    Ok(hooks)
}

fn hookable() -> String {
    let names: Vec<&str> = LifecycleEvent::ALL
        .into_iter()
        .filter(|event| event.is_hook())
        .map(LifecycleEvent::as_str)
        .collect();
    format!("hooks are {}", names.join(", "))
}

/// A value with its place in the document.
struct At<'a> {
    path: String,
    node: &'a Node,
}

/// A key that may be there or not.
struct Member<'a> {
    name: &'static str,
    path: String,
    node: Option<&'a Node>,
}

impl<'a> Member<'a> {
    /// The value; a key without one (`Hooks:`) is as good as none.
    fn optional(&self) -> Option<At<'a>> {
        let node = self.node.filter(|node| **node != Node::Null)?;
        Some(At {
            path: self.path.clone(),
            node,
        })
    }

    fn required(&self) -> Read<At<'a>> {
        self.optional().ok_or_else(|| AppSpecError::Invalid {
            path: self.path.clone(),
            problem: "it is required and missing".to_owned(),
        })
    }
}

impl<'a> At<'a> {
    fn invalid<T>(&self, problem: String) -> Read<T> {
        let path = if self.path.is_empty() {
            "the top".to_owned()
        } else {
            self.path.clone()
        };
        Err(AppSpecError::Invalid { path, problem })
    }

    fn child(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn map(&self) -> Read<&'a [(String, Node)]> {
        match self.node {
            Node::Map(entries) => Ok(entries),
            other => self.invalid(format!("it is {}; a map is wanted", other.describe())),
        }
    }

    /// The values of these keys, which are all that there may be.
    fn members<const N: usize>(&self, names: [&'static str; N]) -> Read<[Member<'a>; N]> {
        let mut members = names.map(|name| Member {
            name,
            path: self.child(name),
            node: None,
        });
        for (key, node) in self.map()? {
            let member = members
                .iter_mut()
                .find(|member| member.name.eq_ignore_ascii_case(key));
            let Some(member) = member else {
                return self.invalid(format!(
                    "{key:?} is not known here; there can be {}",
                    names.join(", ")
                ));
            };
            if member.node.replace(node).is_some() {
                return self.invalid(format!("{} is given twice", member.name));
            }
        }
        Ok(members)
    }

    /// The only key of a map, and its value.
    fn only_entry(&self, wanted: &str) -> Read<(&'a str, At<'a>)> {
        match self.map()? {
            [(name, node)] => Ok((
                name,
                At {
                    path: self.child(name),
                    node,
                },
            )),
            entries => self.invalid(format!("it has {} keys; it is {wanted}", entries.len())),
        }
    }

    fn list(&self) -> Read<Vec<At<'a>>> {
        match self.node {
            Node::List(items) => Ok(items
                .iter()
                .enumerate()
                .map(|(index, node)| At {
                    path: format!("{}[{index}]", self.path),
                    node,
                })
                .collect()),
            other => self.invalid(format!("it is {}; a list is wanted", other.describe())),
        }
    }

    /// A text that is not empty.
    fn text(&self) -> Read<String> {
        match self.node {
            Node::Text(text) if !text.trim().is_empty() => Ok(text.clone()),
            Node::Text(_) => self.invalid("it is empty".to_owned()),
            other => self.invalid(format!(
                "it is {}; a text is wanted (quotes help)",
                other.describe()
            )),
        }
    }

    /// 1 to `most` texts.
    fn texts(&self, most: usize) -> Read<Vec<String>> {
        let texts = self
            .list()?
            .iter()
            .map(At::text)
            .collect::<Read<Vec<_>>>()?;
        if texts.is_empty() || texts.len() > most {
            return self.invalid(format!("there are {}; give 1 to {most}", texts.len()));
        }
        Ok(texts)
    }

    /// A whole number from 0 to `most`.
    fn number(&self, most: u32) -> Read<u32> {
        let number = match self.node {
            Node::Integer(number) => u32::try_from(*number).ok().filter(|number| *number <= most),
            _ => None,
        };
        number.map_or_else(
            || {
                let what = self.node.describe();
                self.invalid(format!(
                    "it is {what}; a whole number from 0 to {most} is wanted"
                ))
            },
            Ok,
        )
    }
}
