//! Templates: the task definition and the AppSpec, written by the user in AWS's own shapes.
//!
//! A template may not guess. An undefined variable is an error, never an empty string; every error
//! names file and line, shows the line, and says which known variable is nearest. Values are
//! escaped as JSON (in `.json.j2` and `.yaml.j2` alike, JSON being YAML), so `{{ image }}` stands
//! without quotes around it. docs/templates.md lists the variables.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde::Serialize;

use crate::config::Application;
use crate::nearest::did_you_mean;
use crate::target::Target;

/// File name of the task definition's template.
pub const TASK_DEFINITION: &str = "task-definition.json.j2";
/// File name of the AppSpec's template.
pub const APPSPEC: &str = "appspec.yaml.j2";

/// What every template may use.
#[derive(Debug, Clone, Serialize)]
pub struct Variables<'a> {
    /// The version that is released.
    pub version: &'a str,
    /// The image by digest, `registry/repository@sha256:…`.
    pub image: &'a str,
    /// `application` of release.toml.
    pub application: ApplicationVariables<'a>,
    /// The bundle: `digest`, and `revision` of the source.
    pub bundle: BundleVariables<'a>,
    /// The target, as its file has it.
    pub target: &'a Target,
    /// The registered task definition with its revision; in the AppSpec only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_definition_arn: Option<&'a str>,
    /// The strategy's hooks, in the order of their events; in the AppSpec only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Vec<HookVariables<'a>>>,
}

/// One hook as templates see it.
#[derive(Debug, Clone, Serialize)]
pub struct HookVariables<'a> {
    /// The lifecycle event.
    pub event: &'static str,
    /// The function's name or ARN.
    pub function: &'a str,
}

/// `application` as templates see it.
#[derive(Debug, Clone, Serialize)]
pub struct ApplicationVariables<'a> {
    /// Name.
    pub name: &'a str,
    /// The container that receives traffic.
    pub container: &'a str,
    /// The port it listens on.
    pub port: u16,
    /// The load balancer's health check path.
    pub health_check: &'a str,
}

impl<'a> From<&'a Application> for ApplicationVariables<'a> {
    fn from(application: &'a Application) -> Self {
        ApplicationVariables {
            name: &application.name,
            container: &application.container,
            port: application.port,
            health_check: &application.health_check,
        }
    }
}

/// `bundle` as templates see it.
#[derive(Debug, Clone, Serialize)]
pub struct BundleVariables<'a> {
    /// sha256 of bundle.json.
    pub digest: &'a str,
    /// The source's revision.
    pub revision: &'a str,
}

/// Why a template does not render.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file cannot be read.
    #[error("cannot read the template {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The template is wrong at a line.
    #[error("{}:{line}: {message}{snippet}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong, with the nearest known name.
        message: String,
        /// The line with its neighbours, or nothing.
        snippet: String,
    },
}

/// Renders one template file.
pub fn render(path: &Path, variables: &Variables<'_>) -> Result<String, TemplateError> {
    let source = std::fs::read_to_string(path).map_err(|source| TemplateError::Read {
        path: path.to_owned(),
        source,
    })?;
    render_text(path, &source, variables)
}

/// Renders a template's text; `path` is for messages, and its ending chooses the escaping.
fn render_text(
    path: &Path,
    source: &str,
    variables: &Variables<'_>,
) -> Result<String, TemplateError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_debug(true);
    let name = path.display().to_string();
    let context = Value::from(Serde(variables));
    environment
        .add_template(&name, source)
        .map_err(|error| explain(path, source, &error, &context, &[]))?;
    let template = environment
        .get_template(&name)
        .map_err(|error| explain(path, source, &error, &context, &[]))?;
    template.render(&context).map_err(|error| {
        let mut names: Vec<String> = template.undeclared_variables(true).into_iter().collect();
        names.sort();
        explain(path, source, &error, &context, &names)
    })
}

fn explain(
    path: &Path,
    source: &str,
    error: &minijinja::Error,
    context: &Value,
    used: &[String],
) -> TemplateError {
    let line = error.line().unwrap_or(1);
    let text = source
        .lines()
        .nth(line.saturating_sub(1))
        .unwrap_or_default();
    let message = if error.kind() == ErrorKind::UndefinedError {
        used.iter()
            .filter(|name| text.contains(name.as_str()))
            .find_map(|name| missing(context, name))
            .unwrap_or_else(|| what(error))
    } else {
        what(error)
    };
    TemplateError::Wrong {
        path: path.to_owned(),
        line,
        message,
        snippet: snippet(source, line),
    }
}

/// Kind and detail of the engine's error without its own idea of the place.
fn what(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// Says which part of a dotted name the context lacks, and what it has instead.
fn missing(context: &Value, name: &str) -> Option<String> {
    let mut here = context.clone();
    let mut prefix = String::new();
    for part in name.split('.') {
        if here.kind() != ValueKind::Map {
            return None;
        }
        let next = here.get_attr(part).ok()?;
        if next.is_undefined() {
            let mut known: Vec<String> = here
                .try_iter()
                .ok()?
                .filter_map(|key| key.as_str().map(str::to_owned))
                .collect();
            known.sort();
            let place = if prefix.is_empty() {
                "known here".to_owned()
            } else {
                format!("known in `{prefix}`")
            };
            return Some(format!(
                "`{name}` is not defined{} ({place}: {})",
                did_you_mean(part, known.iter().map(String::as_str)),
                known.join(", ")
            ));
        }
        if !prefix.is_empty() {
            prefix.push('.');
        }
        prefix.push_str(part);
        here = next;
    }
    None
}

/// The line with one neighbour before and after.
fn snippet(source: &str, line: usize) -> String {
    let lines: Vec<&str> = source.lines().collect();
    if line == 0 || line > lines.len() {
        return String::new();
    }
    let first = line.saturating_sub(1).max(1);
    let last = (line + 1).min(lines.len());
    let width = last.to_string().len();
    (first..=last).fold(String::new(), |mut out, number| {
        let mark = if number == line { '>' } else { ' ' };
        let _ = write!(out, "\n{mark} {number:width$} | {}", lines[number - 1]);
        out
    })
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
