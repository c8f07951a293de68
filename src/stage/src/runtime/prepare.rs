//! From a container's specification and its image to exactly what is executed.

use std::{ffi::CString, path::Path};

use rustix::process::Signal;

use super::{
    ContainerSpec, ImageConfig,
    ids::{self, Identity},
};

/// What Docker and containerd set where an image has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is executed, as the container sees it. It has no `Debug`: the environment holds secrets.
#[derive(Clone)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The paths to try, in order.
    pub programs: Vec<String>,
    /// `NAME=value`, each name once.
    pub env: Vec<String>,
    /// Where it starts.
    pub working_directory: String,
    /// Who it runs as.
    pub identity: Identity,
    /// What asks it to end.
    pub stop_signal: Signal,
}

impl Command {
    /// Puts a specification and its image together, as Docker does.
    ///
    /// `extra` variables are the engine's own; whatever the image or the specification says wins.
    pub fn new(spec: &ContainerSpec, extra: &[(&str, &str)]) -> Result<Self, String> {
        let image = &spec.image.config;
        let argv = argv(spec, image)?;
        let user = spec.user.as_deref().unwrap_or(&image.user);
        let identity = ids::resolve(&spec.image.rootfs, user)?;

        let mut env = Environment::default();
        env.set("PATH", DEFAULT_PATH);
        env.set("HOME", identity.home.as_deref().unwrap_or("/"));
        for (name, value) in extra {
            env.set(name, value);
        }
        for pair in &image.env {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            env.set(name, value);
        }
        for (name, value) in &spec.env.0 {
            if name.is_empty() || name.contains('=') {
                return Err(format!("an environment variable cannot be named {name:?}"));
            }
            env.set(name, value);
        }

        let working_directory = spec
            .working_directory
            .as_deref()
            .unwrap_or(&image.working_dir);
        let working_directory = match working_directory {
            "" => "/".to_owned(),
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            relative => format!("/{relative}"),
        };
        let program = &argv[0];
        let programs = if program.contains('/') {
            vec![program.clone()]
        } else {
            env.get("PATH")
                .split(':')
                .filter(|dir| dir.starts_with('/'))
                .map(|dir| format!("{}/{program}", dir.trim_end_matches('/')))
                .collect()
        };
        Ok(Self {
            programs,
            env: env.into_pairs(),
            working_directory,
            identity,
            stop_signal: stop_signal(&image.stop_signal)?,
            argv,
        })
    }

    /// The same, run from `rootfs` without making it the root.
    pub fn outside(mut self, rootfs: &Path) -> Self {
        let root = rootfs.display().to_string();
        for program in &mut self.programs {
            if program.starts_with('/') {
                program.insert_str(0, &root);
            }
        }
        self.working_directory.insert_str(0, &root);
        self
    }
}

fn argv(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, String> {
    // An overridden entry point makes the image's own arguments meaningless (Docker's rule).
    let (entrypoint, cmd) = match (&spec.entrypoint, &spec.command) {
        (Some(entrypoint), Some(command)) => (entrypoint, command.as_slice()),
        (Some(entrypoint), None) => (entrypoint, [].as_slice()),
        (None, Some(command)) => (&image.entrypoint, command.as_slice()),
        (None, None) => (&image.entrypoint, image.cmd.as_slice()),
    };
    let argv: Vec<String> = entrypoint.iter().chain(cmd).cloned().collect();
    match argv.first() {
        Some(program) if !program.is_empty() => Ok(argv),
        _ => Err(format!(
            "neither the image {} nor the container definition says what to run",
            spec.image.digest
        )),
    }
}

/// Variables in the order of their first mention, each once.
#[derive(Default)]
struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    fn into_pairs(self) -> Vec<String> {
        let pair = |(name, value): (String, String)| format!("{name}={value}");
        self.0.into_iter().map(pair).collect()
    }
}

fn stop_signal(name: &str) -> Result<Signal, String> {
    let named = match name.strip_prefix("SIG").unwrap_or(name) {
        "" | "TERM" => Some(Signal::TERM),
        "INT" => Some(Signal::INT),
        "QUIT" => Some(Signal::QUIT),
        "HUP" => Some(Signal::HUP),
        "KILL" => Some(Signal::KILL),
        "USR1" => Some(Signal::USR1),
        "USR2" => Some(Signal::USR2),
        "WINCH" => Some(Signal::WINCH),
        other => other.parse().ok().and_then(Signal::from_named_raw),
    };
    named.ok_or_else(|| format!("the image's stop signal {name:?} is not known"))
}

/// Strings for the kernel.
pub fn c_strings(strings: &[String], what: &str) -> Result<Vec<CString>, String> {
    strings
        .iter()
        .map(|s| {
            // Not the string itself: it may be a secret.
            CString::new(s.as_str()).map_err(|_| format!("{what} must not contain a NUL byte"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::path::PathBuf;

    use super::*;
    use crate::runtime::Image;

    fn spec() -> (tempfile::TempDir, ContainerSpec) {
        let rootfs = tempfile::tempdir().unwrap();
        let image = Image {
            digest: "sha256:0".into(),
            rootfs: rootfs.path().into(),
            config: ImageConfig {
                entrypoint: vec!["/bin/app".into()],
                cmd: vec!["serve".into()],
                env: vec!["A=image".into(), "B=image".into()],
                user: "65532:65532".into(),
                working_dir: "/srv".into(),
                stop_signal: String::new(),
            },
        };
        (rootfs, ContainerSpec::new("app", image, PathBuf::new()))
    }

    #[test]
    fn command_and_entry_point_override_as_docker_does() {
        let words = |words: &str| words.split(' ').map(Into::into).collect::<Vec<String>>();
        for (entrypoint, command, expected) in [
            (None, None, "/bin/app serve"),
            (None, Some("migrate"), "/bin/app migrate"),
            (Some("/bin/sh -c"), None, "/bin/sh -c"),
            (Some("/bin/sh -c"), Some("true"), "/bin/sh -c true"),
        ] {
            let (_dir, mut spec) = spec();
            spec.entrypoint = entrypoint.map(words);
            spec.command = command.map(words);
            let command = Command::new(&spec, &[]).unwrap();
            assert_eq!(command.argv, words(expected));
        }
    }

    #[test]
    fn the_environment_is_that_of_the_image_and_the_definition() {
        let (_dir, mut spec) = spec();
        spec.env = [("B", "definition"), ("C", "a=b"), ("C", "last")]
            .into_iter()
            .collect();
        let command = Command::new(&spec, &[("HOSTNAME", "host")]).unwrap();
        let path = format!("PATH={DEFAULT_PATH}");
        let expected = [
            "HOME=/",
            "HOSTNAME=host",
            "A=image",
            "B=definition",
            "C=last",
        ];
        assert_eq!(command.env[0], path);
        assert_eq!(command.env[1..], expected);
    }

    #[test]
    fn a_bare_program_is_looked_for_in_the_images_path() {
        let (_dir, mut spec) = spec();
        spec.image.config.env = vec!["PATH=/bin:relative:/opt/bin/".into()];
        spec.entrypoint = Some(vec!["tool".into()]);
        let command = Command::new(&spec, &[]).unwrap();
        assert_eq!(command.programs, ["/bin/tool", "/opt/bin/tool"]);
        let outside = command.outside(Path::new("/r"));
        assert_eq!(outside.programs, ["/r/bin/tool", "/r/opt/bin/tool"]);
        assert_eq!(outside.working_directory, "/r/srv");
    }

    #[test]
    fn nothing_to_run_is_said() {
        let (_dir, mut spec) = spec();
        spec.image.config.entrypoint.clear();
        spec.image.config.cmd.clear();
        let error = Command::new(&spec, &[]).err().unwrap();
        assert!(error.contains("what to run"), "{error}");
    }

    #[test]
    fn stop_signals_have_names_and_numbers() {
        for (name, signal) in [
            ("", Signal::TERM),
            ("SIGQUIT", Signal::QUIT),
            ("INT", Signal::INT),
            ("3", Signal::QUIT),
        ] {
            assert_eq!(stop_signal(name), Ok(signal));
        }
        assert!(stop_signal("SIGNAL").is_err());
    }
}
