//! What to run: the part of a task definition's container that a container engine needs to know.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::Image;

/// A container to start, made by [`ContainerSpec::new`] and then adjusted.
///
/// The optional fields override the image's configuration as a container definition of ECS does.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// A name for messages, log and host name: the container's name in the task definition.
    pub name: String,
    /// The image, from the [`ImageStore`](super::ImageStore).
    pub image: Image,
    /// Replaces the image's `ENTRYPOINT`; the image's `CMD` is then ignored, as Docker does.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's `CMD`.
    pub command: Option<Vec<String>>,
    /// Added to the image's `ENV`; a later value for the same name wins. Values may be secrets:
    /// they are never written anywhere and not shown by `Debug`.
    pub env: Env,
    /// Replaces the image's `USER`: `uid`, `uid:gid`, `user` or `user:group`.
    pub user: Option<String>,
    /// Replaces the image's `WORKDIR`.
    pub working_directory: Option<String>,
    /// `readonlyRootFilesystem`. If false, the container writes to a layer of its own in memory
    /// that ends with it.
    pub readonly_root: bool,
    /// The most memory it may use, in bytes; more ends it by SIGKILL.
    pub memory: Option<u64>,
    /// The most processes and threads it may have; `None` is 4096.
    pub pids: Option<u32>,
    /// Its own address; `None` lets the runtime choose one in 10.0.0.0/16.
    pub address: Option<Ipv4Addr>,
    /// The file that its output is appended to.
    pub log: PathBuf,
    /// Whether each line of the log starts with the real time, as RFC 3339 with milliseconds.
    pub log_timestamps: bool,
    /// Loopback services of this machine that it may reach, at the same addresses.
    pub reach: Vec<SocketAddr>,
}

/// Environment variables whose values are not shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Env(pub Vec<(String, String)>);

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Env {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(pairs: T) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(n, v)| (n.into(), v.into()))
                .collect(),
        )
    }
}

impl ContainerSpec {
    /// The image as it is: its own command, user and environment, a read-only root, no limits.
    pub fn new(name: impl Into<String>, image: Image, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            image,
            entrypoint: None,
            command: None,
            env: Env::default(),
            user: None,
            working_directory: None,
            readonly_root: true,
            memory: None,
            pids: None,
            address: None,
            log: log.into(),
            log_timestamps: false,
            reach: Vec::new(),
        }
    }
}
