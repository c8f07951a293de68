//! What terraform/ and this program must agree on, read off the sources of both: the members of the
//! target, and the calls that the release policy allows.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::target::{MetricNames, Target};

/// Members whose keys are the stack's: they are compared as a whole.
const MAPS: [&str; 3] = ["hooks", "secrets", "strategies"];
/// What only a stage of this machine has.
const STAGE_ONLY: [&str; 2] = ["endpoint_url", "stage"];

fn terraform(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../terraform")
        .join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines between the one that begins a block and the one that ends it.
fn block<'a>(text: &'a str, begin: &str) -> Vec<&'a str> {
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with(begin))
        .skip(1);
    lines.take_while(|line| *line != "}").collect()
}

/// The members of an object in HCL as `terraform fmt` writes it, nested ones with dots.
fn members(lines: &[&str]) -> BTreeSet<String> {
    let mut path: Vec<&str> = Vec::new();
    let mut found = BTreeSet::new();
    for line in lines.iter().map(|line| line.trim()) {
        if line == "}" {
            path.pop();
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let name = name.trim();
        if value.trim() == "{" {
            path.push(name);
        } else if path.first() == Some(&"value") {
            found.insert([&path[1..], &[name]].concat().join("."));
        }
    }
    found
}

#[test]
fn the_output_release_has_the_members_of_a_target() {
    let mut target = Target::example("demo");
    let one = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    target.static_bucket = Some("demo-assets".to_owned());
    target.secrets.clone_from(&one);
    target.hooks.clone_from(&one);
    target.metrics = Some(MetricNames {
        load_balancer: "app/demo/1".to_owned(),
        target_groups: one.clone(),
    });
    target.strategies = one;
    target.urls.assets = Some("https://assets.example.org".to_owned());
    let mut wanted = BTreeSet::new();
    for (name, value) in serde_json::to_value(&target).unwrap().as_object().unwrap() {
        match value.as_object() {
            _ if STAGE_ONLY.contains(&name.as_str()) => {}
            Some(inner) if !MAPS.contains(&name.as_str()) => {
                wanted.extend(inner.keys().map(|member| format!("{name}.{member}")));
            }
            _ => {
                wanted.insert(name.clone());
            }
        }
    }
    let text = terraform("outputs.tf");
    let found = members(&block(&text, "output \"release\" {"));
    assert_eq!(
        found, wanted,
        "left: terraform/outputs.tf, right: src/target.rs"
    );
}

/// `get_deployment_group` is `GetDeploymentGroup`.
fn operation(method: &str) -> String {
    let mut name = String::new();
    for word in method.split('_') {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

/// The operations that a module of src/aws calls on its SDK's client.
fn calls(source: &str) -> BTreeSet<String> {
    let packed: String = source.split_whitespace().collect();
    let mut found = BTreeSet::new();
    for rest in packed.split(".client.").skip(1) {
        let method: String = rest
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
            .collect();
        if method != "clone" && rest[method.len()..].starts_with("()") {
            found.insert(operation(&method));
        }
    }
    found
}

/// The IAM actions of a call, where they are not of its name (S3 API reference; CodeDeploy user
/// guide, "CodeDeploy permissions reference").
fn actions(service: &str, operation: &str) -> Vec<String> {
    let names: &[&str] = match (service, operation) {
        ("s3", "HeadBucket" | "ListObjectsV2") => &["ListBucket"],
        ("s3", "PutObject") => &["PutObject", "PutObjectTagging"],
        ("s3", "HeadObject") => &["GetObject"],
        ("codedeploy", "CreateDeployment") => &[
            "CreateDeployment",
            "GetApplicationRevision",
            "RegisterApplicationRevision",
        ],
        _ => &[operation],
    };
    names
        .iter()
        .map(|name| format!("{service}:{name}"))
        .collect()
}

/// What is not called by an SDK: the push to ECR with its login (ECR user guide, "IAM permissions for
/// pushing an image"), and the roles that a task definition hands on.
const BESIDES: [&str; 9] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:GetAuthorizationToken",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
    "iam:PassRole",
];

#[test]
fn the_release_policy_allows_what_is_called_and_nothing_else() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/aws");
    let mut wanted: BTreeSet<String> = BESIDES.map(str::to_owned).into();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let service = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if service == "mod" {
            continue;
        }
        let operations = calls(&std::fs::read_to_string(&path).unwrap());
        assert!(
            !operations.is_empty(),
            "no calls found in {}",
            path.display()
        );
        wanted.extend(
            operations
                .iter()
                .flat_map(|operation| actions(&service, operation)),
        );
    }
    let text = terraform("modules/deployment/release.tf");
    let mut allowed = BTreeSet::new();
    for line in block(&text, "data \"aws_iam_policy_document\" \"release\" {") {
        let quoted = line.split('"').skip(1).step_by(2);
        allowed.extend(quoted.filter(|text| is_action(text)).map(str::to_owned));
    }
    let extra: Vec<_> = allowed.difference(&wanted).collect();
    let missing: Vec<_> = wanted.difference(&allowed).collect();
    assert!(
        extra.is_empty() && missing.is_empty(),
        "terraform/modules/deployment/release.tf allows without need {extra:?}, and lacks {missing:?}"
    );
}

/// `codedeploy:GetDeployment`, and neither `ecs:cluster` nor an ARN.
fn is_action(text: &str) -> bool {
    text.split_once(':').is_some_and(|(service, name)| {
        service
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|b| b.is_ascii_alphanumeric())
            && name != "PassedToService"
    })
}

#[test]
fn calls_are_found_however_they_are_broken_into_lines() {
    let source = "self.client.get_deployment().send(); self\n    .client\n    .list_tasks()\n; self.client.clone(); self.client.x(1)";
    let found: Vec<String> = calls(source).into_iter().collect();
    assert_eq!(found, ["GetDeployment", "ListTasks"]);
}
