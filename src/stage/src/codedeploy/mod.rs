//! CodeDeploy: applications, deployment groups, deployment configurations and deployments.
