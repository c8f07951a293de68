//! The real program, as Lambda runs it: behind a runtime API, with a CodeDeploy to answer to and a
//! listener to try. All three are small servers of these tests; `src/stage` tests it with real ones.

#![expect(clippy::unwrap_used, reason = "tests")]

mod calls;
mod support;
