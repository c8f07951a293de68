//! The rest of the account, where another endpoint serves it: what Terraform makes is taken over.
//!
//! Terraform makes a whole account around a service, from VPC to key, and a stage that served all of
//! those APIs would be an emulator, and no better than those that exist. So it stands in front of
//! one: CodeDeploy, ECS and the image registry are the stage's, every other request is passed on
//! ([`forward`]), and whatever the two of them need to know they *ask*, as CodeDeploy and ECS do at
//! AWS ([`takeover`]): whose target group is that, which listeners are in front of it, what does this
//! alarm watch, what is this secret. And what CodeDeploy changes elsewhere, the weights of the
//! listeners, it changes there, too, so that Terraform sees after a release what it would see at AWS.
//!
//! The state is the upstream's, the data plane is the stage's: load balancer, database, registry,
//! objects and functions are real here and nowhere else. So their addresses are the stage's in every answer that
//! passes, and what is put into a bucket never leaves.

mod forward;
mod function;
mod takeover;
mod upstream;
mod xml;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::upstream::Upstream;
pub(crate) use self::upstream::UpstreamError;
use crate::{
    clock::Clock,
    cloudwatch::{Alarms, Metrics},
    events::Events,
    front::Front,
    functions::Functions,
    postgres::Postgres,
    secrets::Secrets,
    wire::Credentials,
};

/// The parts of the stage that take something over.
pub(crate) struct Parts {
    pub clock: Clock,
    pub metrics: Metrics,
    pub events: Events,
    pub alarms: Alarms,
    pub front: Front,
    pub secrets: Secrets,
    pub functions: Functions,
    /// Where packages of functions are written until they are unpacked.
    pub dir: PathBuf,
    pub postgres: Postgres,
    /// Where the registry is, as it stands in images' names.
    pub registry: SocketAddr,
    /// The load balancer's, real.
    pub idle_timeout: Duration,
}

/// The rest of the account. Clones are the same.
#[derive(Clone)]
pub(crate) struct Account(Arc<Inner>);

struct Inner {
    upstream: Upstream,
    parts: Parts,
    /// One load balancer is taken over at a time.
    taking_over: tokio::sync::Mutex<()>,
    weights: mpsc::UnboundedSender<Weights>,
}

/// Where a listener shall forward to: target groups' ARNs with weights.
struct Weights {
    listener: String,
    groups: Vec<(String, u32)>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Account")
            .field(self.0.upstream.authority())
            .finish()
    }
}

/// An endpoint that answers, and the account that it is.
#[derive(Debug)]
pub(crate) struct Found {
    upstream: Upstream,
    /// Twelve digits.
    pub account_id: String,
}

impl Found {
    /// Asks the endpoint `http://HOST:PORT` which account it is.
    pub async fn at(url: &str, credentials: Credentials) -> Result<Self, UpstreamError> {
        let upstream = Upstream::new(url, credentials)?;
        let account_id = upstream.account_id().await?;
        Ok(Self {
            upstream,
            account_id,
        })
    }
}

impl Account {
    /// Begins to carry weights over.
    pub fn new(found: Found, parts: Parts) -> Self {
        let (weights, wanted) = mpsc::unbounded_channel();
        tokio::spawn(takeover::write_weights(found.upstream.clone(), wanted));
        Self(Arc::new(Inner {
            upstream: found.upstream,
            parts,
            taking_over: tokio::sync::Mutex::default(),
            weights,
        }))
    }

    /// Makes a listener forward as it does here. Calls are carried out one after the other.
    pub fn set_weights(&self, listener: &str, groups: Vec<(String, u32)>) {
        // An error says that the stage ends.
        let _ = self.0.weights.send(Weights {
            listener: listener.to_owned(),
            groups,
        });
    }

    /// Fetches the secret that a `valueFrom` names, so that the stage's own store has it as it is now.
    /// What cannot be fetched is not in the store, which says so in ECS's words.
    pub async fn fetch_secret(&self, value_from: &str) {
        let arn = value_from
            .splitn(8, ':')
            .take(7)
            .collect::<Vec<_>>()
            .join(":");
        if !arn.contains(":secretsmanager:") {
            return;
        }
        match self.secret(&arn).await {
            Ok(value) if self.0.parts.secrets.resolve(&arn).ok().as_deref() != Some(&*value) => {
                self.0.parts.secrets.put(arn, value);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, arn, "cannot fetch a secret"),
        }
    }

    async fn secret(&self, arn: &str) -> Result<String, UpstreamError> {
        let input = json!({ "SecretId": arn });
        let target = "secretsmanager.GetSecretValue";
        let answer = self
            .0
            .upstream
            .json("secretsmanager", target, &input)
            .await?;
        let value = answer.get("SecretString").and_then(Value::as_str);
        Ok(value.unwrap_or_default().to_owned())
    }
}
