//! ECS on Fargate: clusters, task definitions, services with task sets, tasks.
