//! A function that is a program: its calls, one after the other, and its log.
//!
//! Lambda starts a process for the first call and keeps it for the next ones; one that crashed or took
//! too long is not used again. What Lambda writes into a function's log is written here too: `START`,
//! `END` and `REPORT` around each call, and why one failed.

use std::{
    fs::File,
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    Place,
    definition::{Definition, VERSION},
    environment::{Environment, Failure},
    runtime_api::Event,
};
use crate::{runtime::spawn::Spawner, wire::uuid};

/// A function. Dropped, its process is killed.
#[derive(Debug)]
pub(super) struct Program {
    calls: mpsc::UnboundedSender<Value>,
    worker: JoinHandle<()>,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Program {
    pub fn new(definition: Definition, place: Place, spawner: Arc<Spawner>) -> Self {
        let (calls, to_be_made) = mpsc::unbounded_channel();
        let worker = Worker {
            definition: Arc::new(definition),
            place,
            spawner,
            environment: None,
        };
        Self {
            calls,
            worker: tokio::spawn(worker.run(to_be_made)),
        }
    }

    /// Calls it, after the calls before.
    pub fn invoke(&self, payload: Value) {
        // The worker ends with this value only.
        let _ = self.calls.send(payload);
    }

    /// Kills its process. Returns when it is gone.
    pub async fn end(mut self) {
        self.worker.abort();
        let _ = (&mut self.worker).await;
    }
}

struct Worker {
    definition: Arc<Definition>,
    place: Place,
    spawner: Arc<Spawner>,
    /// The process of the call before, if it can be used again.
    environment: Option<Environment>,
}

impl Worker {
    async fn run(mut self, mut calls: mpsc::UnboundedReceiver<Value>) {
        while let Some(payload) = calls.recv().await {
            let request_id = uuid();
            let begun = Instant::now();
            let mut init = None;
            let result = self.call(&request_id, payload, &mut init).await;
            if let Err(failure) = &result {
                let name = &self.definition.name;
                tracing::warn!(%name, %request_id, %failure, "a hook function failed");
                if !failure.leaves_the_environment() {
                    self.environment = None;
                }
            }
            let took = begun.elapsed().saturating_sub(init.unwrap_or_default());
            self.report(&request_id, took, init, result.err().as_ref());
        }
    }

    async fn call(
        &mut self,
        request_id: &str,
        payload: Value,
        init: &mut Option<Duration>,
    ) -> Result<(), Failure> {
        let log = self.log()?;
        let definition = Arc::clone(&self.definition);
        let kept = self.environment.take();
        let environment = if let Some(kept) = kept.filter(|kept| !kept.has_ended()) {
            kept
        } else {
            let begun = Instant::now();
            let start = Environment::start(&definition, &self.place, &self.spawner, &log);
            let started = start.await;
            *init = Some(begun.elapsed());
            started?
        };
        self.note(&format!(
            "START RequestId: {request_id} Version: {VERSION}\n"
        ));
        let event = Event {
            request_id: request_id.to_owned(),
            payload: payload.to_string().into(),
            deadline: SystemTime::now() + definition.timeout,
            function_arn: definition.arn.clone(),
        };
        let environment = self.environment.insert(environment);
        environment.call(event, definition.timeout).await
    }

    fn report(&self, id: &str, took: Duration, init: Option<Duration>, failure: Option<&Failure>) {
        let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let why = match failure {
            None => String::new(),
            Some(failure @ Failure::Timeout(_)) => {
                format!("{:.3} {id} {failure}\n\n", jiff::Timestamp::now())
            }
            Some(failure) => format!("RequestId: {id} Error: {failure}\n{}\n", failure.kind()),
        };
        let init_duration = init.map_or_else(String::new, |init| {
            format!("\tInit Duration: {:.2} ms", millis(init))
        });
        self.note(&format!(
            "{why}END RequestId: {id}\nREPORT RequestId: {id}\tDuration: {:.2} ms\tBilled Duration: {:.0} ms\tMemory Size: {} MB{init_duration}\n",
            millis(took),
            millis(took + init.unwrap_or_default()).ceil(),
            self.definition.memory_mb,
        ));
    }

    /// Adds to the log; a full disk must not end the function.
    fn note(&self, text: &str) {
        if let Ok(mut log) = self.log() {
            let _ = log.write_all(text.as_bytes());
        }
    }

    /// The log, to append to.
    fn log(&self) -> std::io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt as _;
        File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.definition.log)
    }
}
