//! The exit codes, once.
//!
//! A release program is called by pipelines more often than by people, and a pipeline sees one
//! number. The numbers therefore answer the question that decides what happens next: who has the
//! traffic? They never change their meaning; `release help exit-codes` prints this table.

/// Deployed, or nothing to do.
pub const SUCCESS: u8 = 0;
/// Unexpected: I/O, the network, the machine, a bug.
pub const UNEXPECTED: u8 = 1;
/// Wrong usage or configuration: arguments, release.toml, a template, a version that no bundle has.
pub const USAGE: u8 = 2;
/// The new version failed and the old version has all traffic: rolled back, or (a failed
/// migration) never moved.
pub const ROLLED_BACK: u8 = 3;
/// Failed, and traffic is not known to be back on the old version: a person must look.
pub const TRAFFIC_UNKNOWN: u8 = 4;
/// Refused by a gate before anything changed: a damaged bundle, another deployment, a red alarm.
pub const REFUSED: u8 = 5;
/// Gave up waiting: the deployment still runs.
pub const STILL_RUNNING: u8 = 6;
/// Stopped on request, by somebody who called `StopDeployment`.
pub const STOPPED: u8 = 7;
/// `plan --exit-code`: there are changes.
pub const CHANGES: u8 = 10;
/// Interrupted (Ctrl-C): a rehearsal has ended and cleaned up; a deployment to another target goes
/// on, and the command to follow it was printed.
pub const INTERRUPTED: u8 = 130;

/// Every code with its sentence, for `release help exit-codes` and the documentation.
pub const TABLE: &[(u8, &str)] = &[
    (SUCCESS, "deployed, or nothing to do"),
    (UNEXPECTED, "unexpected: I/O, network, the machine, a bug"),
    (
        USAGE,
        "wrong usage or configuration: arguments, release.toml, a template, a version that no bundle has",
    ),
    (
        ROLLED_BACK,
        "the new version failed and was rolled back (or its migration failed before any traffic moved): the old version has all traffic",
    ),
    (
        TRAFFIC_UNKNOWN,
        "failed, and traffic is not known to be back: a person must look",
    ),
    (
        REFUSED,
        "refused by a gate before anything changed: damaged bundle, another deployment running, red alarm",
    ),
    (
        STILL_RUNNING,
        "gave up waiting or watching: the deployment still runs",
    ),
    (STOPPED, "stopped on request"),
    (CHANGES, "plan --exit-code: there are changes"),
    (
        INTERRUPTED,
        "interrupted: a rehearsal was ended and cleaned up; a deployment elsewhere goes on, and the command to follow it was printed",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_and_in_order() {
        let codes: Vec<u8> = TABLE.iter().map(|(code, _)| *code).collect();
        let mut sorted = codes.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(codes, sorted);
        assert_eq!(codes.len(), 10);
    }
}
