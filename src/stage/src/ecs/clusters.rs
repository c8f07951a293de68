//! `CreateCluster`, `DeleteCluster`, `DescribeClusters`, `ListClusters`

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ecs, cluster_name, cluster_not_found, failure, invalid, list_answer, page,
    state::{Cluster, ServiceStatus, State},
    task_definition::Tag,
};
use crate::wire::{ApiError, json::read};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateCluster {
    cluster_name: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    settings: Vec<Value>,
    #[serde(default)]
    capacity_providers: Vec<Value>,
    #[serde(default)]
    default_capacity_provider_strategy: Vec<Value>,
    configuration: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeClusters {
    #[serde(default)]
    clusters: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeleteCluster {
    cluster: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListClusters {
    next_token: Option<String>,
    max_results: Option<usize>,
}

impl Ecs {
    pub(super) fn create_cluster(&self, input: Value) -> Answer {
        let input: CreateCluster = read(input)?;
        let name = input.cluster_name.unwrap_or_else(|| "default".into());
        let valid = !name.is_empty()
            && name.len() <= 255
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !valid {
            return Err(invalid(
                "Identifier is invalid: a cluster's name is up to 255 letters, digits, - and _.",
            ));
        }
        let mut state = self.state();
        // Creating what is there answers with what is there.
        if state.cluster(&name).is_none() {
            state.clusters.insert(
                name.clone(),
                Cluster {
                    name: name.clone(),
                    active: true,
                    settings: if input.settings.is_empty() {
                        vec![json!({ "name": "containerInsights", "value": "disabled" })]
                    } else {
                        input.settings
                    },
                    capacity_providers: input.capacity_providers,
                    default_capacity_provider_strategy: input.default_capacity_provider_strategy,
                    configuration: input.configuration,
                    tags: input.tags,
                },
            );
        }
        Ok(json!({ "cluster": self.show_cluster(&state, &name, true)? }))
    }

    pub(super) fn delete_cluster(&self, input: Value) -> Answer {
        let input: DeleteCluster = read(input)?;
        let name = cluster_name(Some(&input.cluster)).to_owned();
        let mut state = self.state();
        state.cluster(&name).ok_or_else(cluster_not_found)?;
        if state
            .services
            .iter()
            .any(|(key, service)| key.cluster == name && service.status != ServiceStatus::Inactive)
        {
            return Err(ApiError::client(
                "ClusterContainsServicesException",
                "The Cluster cannot be deleted while Services are active.",
            ));
        }
        if state
            .tasks
            .values()
            .any(|task| task.cluster == name && task.last_status != "STOPPED")
        {
            return Err(ApiError::client(
                "ClusterContainsTasksException",
                "The Cluster cannot be deleted while Tasks are active.",
            ));
        }
        if let Some(cluster) = state.clusters.get_mut(&name) {
            cluster.active = false;
        }
        Ok(json!({ "cluster": self.show_cluster(&state, &name, false)? }))
    }

    pub(super) fn describe_clusters(&self, input: Value) -> Answer {
        let input: DescribeClusters = read(input)?;
        if input.clusters.len() > 100 {
            return Err(invalid("Clusters cannot have more than 100 items."));
        }
        let tags = input.include.iter().any(|what| what == "TAGS");
        let wanted = if input.clusters.is_empty() {
            vec!["default".into()]
        } else {
            input.clusters
        };
        let state = self.state();
        let (mut clusters, mut failures) = (Vec::new(), Vec::new());
        for wanted in &wanted {
            let name = cluster_name(Some(wanted));
            if state.clusters.contains_key(name) {
                clusters.push(self.show_cluster(&state, name, tags)?);
            } else {
                failures.push(failure(self.arn(&format!("cluster/{name}"))));
            }
        }
        Ok(json!({ "clusters": clusters, "failures": failures }))
    }

    pub(super) fn list_clusters(&self, input: Value) -> Answer {
        let input: ListClusters = read(input)?;
        let arns = self
            .state()
            .clusters
            .values()
            .filter(|cluster| cluster.active)
            .map(|cluster| self.arn(&format!("cluster/{}", cluster.name)))
            .collect();
        let (arns, next) = page(arns, input.next_token.as_deref(), input.max_results, 100)?;
        Ok(list_answer("clusterArns", &arns, next))
    }

    fn show_cluster(&self, state: &State, name: &str, tags: bool) -> Answer {
        let cluster = state.clusters.get(name).ok_or_else(cluster_not_found)?;
        let (mut running, mut pending) = (0, 0);
        for task in state.tasks.values().filter(|task| task.cluster == name) {
            match task.last_status {
                "RUNNING" => running += 1,
                "PROVISIONING" | "PENDING" | "ACTIVATING" => pending += 1,
                _ => {}
            }
        }
        let services = state
            .services
            .iter()
            .filter(|(key, service)| key.cluster == name && service.status == ServiceStatus::Active)
            .count();
        let mut shown = json!({
            "clusterArn": self.arn(&format!("cluster/{name}")),
            "clusterName": name,
            "status": if cluster.active { "ACTIVE" } else { "INACTIVE" },
            "registeredContainerInstancesCount": 0,
            "runningTasksCount": running,
            "pendingTasksCount": pending,
            "activeServicesCount": services,
            "statistics": [],
            "tags": [],
            "settings": cluster.settings,
            "capacityProviders": cluster.capacity_providers,
            "defaultCapacityProviderStrategy": cluster.default_capacity_provider_strategy,
        });
        if tags {
            shown["tags"] = json!(cluster.tags);
        }
        if let Some(configuration) = &cluster.configuration {
            shown["configuration"] = configuration.clone();
        }
        Ok(shown)
    }
}
