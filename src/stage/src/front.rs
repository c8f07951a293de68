//! The load balancer as ECS and CodeDeploy know it: by the names and ARNs of its parts.
//!
//! A stage begins with one that its options describe. Where it takes over what Terraform makes
//! ([`crate::account`]), another one takes its place, with other names, when the service is created:
//! so whoever needs it asks for it each time, and keeps nothing of it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    Stack,
    elb::{Listener, LoadBalancer},
};

/// A load balancer with what its parts are called.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "it is called so everywhere")]
pub(crate) struct Balancer {
    /// The load balancer itself.
    pub load_balancer: LoadBalancer,
    /// The two target groups.
    pub groups: [TargetGroup; 2],
    /// ARN of the production listener.
    pub production: String,
    /// ARN of the test listener.
    pub test: String,
}

/// A target group's name and ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetGroup {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
}

impl Balancer {
    /// The one that a stack describes.
    pub fn of(stack: &Stack, load_balancer: LoadBalancer) -> Self {
        Self {
            load_balancer,
            groups: stack.target_groups.each_ref().map(|name| TargetGroup {
                name: name.clone(),
                arn: stack.target_group_arn(name),
            }),
            production: stack.production_listener_arn(),
            test: stack.test_listener_arn(),
        }
    }

    /// The name of the target group with this ARN.
    pub fn group_name(&self, arn: &str) -> Option<&str> {
        let found = self.groups.iter().find(|group| group.arn == arn);
        found.map(|group| group.name.as_str())
    }

    /// The ARN of the target group with this name.
    pub fn group_arn(&self, name: &str) -> Option<&str> {
        let found = self.groups.iter().find(|group| group.name == name);
        found.map(|group| group.arn.as_str())
    }

    /// Which of the two listeners has this ARN.
    pub fn listener(&self, arn: &str) -> Option<Listener> {
        if arn == self.production {
            Some(Listener::Production)
        } else if arn == self.test {
            Some(Listener::Test)
        } else {
            None
        }
    }

    /// The ARN of a listener.
    pub fn listener_arn(&self, listener: Listener) -> &str {
        match listener {
            Listener::Production => &self.production,
            Listener::Test => &self.test,
        }
    }
}

/// The load balancer that is in front now. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Front(Arc<ArcSwap<Balancer>>);

impl Front {
    /// Puts one in front.
    pub fn new(balancer: Balancer) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(balancer)))
    }

    /// The one that is in front now.
    pub fn get(&self) -> Arc<Balancer> {
        self.0.load_full()
    }

    /// Puts another one in front.
    pub fn replace(&self, balancer: Balancer) {
        self.0.store(Arc::new(balancer));
    }
}
