//! Events on their way from whoever sees them happen to whoever shows or stores them.
//!
//! There is one channel and one audience. The steps of a release and the relay of a stage announce
//! entries; a thread of its own hands each to every reporter in turn, the record among them. So the
//! order is the same for all, a slow terminal never slows a deployment, and the end of the channel
//! is the end of the report.

use std::collections::HashSet;
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rollout::Timestamp;
use rollout::event::{Entry, Event};
use tokio::sync::{mpsc, oneshot};

/// Whatever shows or stores a release. It sees entries, and nothing else.
pub trait Reporter: Send {
    /// Something happened.
    fn entry(&mut self, entry: &Entry);
    /// A fraction of a second passed; for what moves on a terminal.
    fn tick(&mut self) {}
    /// Everything so far must be readable by others now.
    fn flush(&mut self) {}
}

enum Message {
    Entry(Box<Entry>),
    Flush(oneshot::Sender<()>),
}

/// How virtual time follows from real time: `origin + (real − origin) × speed`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StageClock {
    /// Virtual seconds in one real second.
    pub speed: f64,
    /// When virtual and real time were the same.
    pub origin: Timestamp,
}

/// Announces events. Cheap to clone; the audience ends when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Announcer {
    sender: mpsc::UnboundedSender<Message>,
    clock: Arc<RwLock<Option<StageClock>>>,
}

/// The thread that the reporters live on.
#[derive(Debug)]
pub struct Audience {
    thread: Option<JoinHandle<()>>,
}

impl Announcer {
    /// An announcer and its audience.
    pub fn new(reporters: Vec<Box<dyn Reporter>>) -> (Announcer, Audience) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("reporters".to_owned())
            .spawn(move || listen(receiver, reporters))
            .ok();
        let announcer = Announcer {
            sender,
            clock: Arc::default(),
        };
        (announcer, Audience { thread })
    }

    /// From now on time is the stage's.
    pub fn follow_clock(&self, clock: Option<StageClock>) {
        if let Ok(mut slot) = self.clock.write() {
            *slot = clock;
        }
    }

    /// The present: virtual on a stage, real on AWS.
    pub fn now(&self) -> Timestamp {
        let real = real_now();
        let clock = self.clock.read().ok().and_then(|clock| *clock);
        clock.map_or(real, |clock| clock.at(real))
    }

    /// How much faster than here time passes at the target.
    pub fn speed(&self) -> f64 {
        let clock = self.clock.read().ok().and_then(|clock| *clock);
        clock.map_or(1.0, |clock| clock.speed)
    }

    /// How long something of the target's time takes here.
    pub fn real(&self, duration: Duration) -> Duration {
        duration.div_f64(self.speed())
    }

    /// Announces what happens now.
    pub fn event(&self, event: Event) {
        self.entry(Entry::new(self.now(), event));
    }

    /// Announces what happened at a time.
    pub fn entry(&self, entry: Entry) {
        // Without an audience there is nobody to tell.
        let _ = self.sender.send(Message::Entry(Box::new(entry)));
    }

    /// Returns when every reporter has seen and stored all that was announced before.
    pub async fn flushed(&self) {
        let (done, wait) = oneshot::channel();
        if self.sender.send(Message::Flush(done)).is_ok() {
            let _ = wait.await;
        }
    }
}

impl Audience {
    /// Waits until every reporter has seen everything; all announcers must be gone.
    pub fn leave(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Real time, as a timestamp.
pub fn real_now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::EPOCH + since
}

impl StageClock {
    /// The clock that runs at `speed` and shows `virtual_` now.
    pub fn now(speed: f64, virtual_: Timestamp) -> StageClock {
        let real = real_now();
        let ahead = (virtual_ - real).as_secs_f64();
        // virtual = origin + (real − origin) × speed, solved for the origin
        let since = if speed > 1.0 {
            ahead / (speed - 1.0)
        } else {
            0.0
        };
        StageClock {
            speed,
            origin: real - Duration::from_secs_f64(since),
        }
    }

    /// What the stage's clock shows when a clock here shows `real`.
    pub fn at(&self, real: Timestamp) -> Timestamp {
        self.origin + (real - self.origin).mul_f64(self.speed)
    }
}

fn listen(mut receiver: mpsc::UnboundedReceiver<Message>, mut reporters: Vec<Box<dyn Reporter>>) {
    const TICK: Duration = Duration::from_millis(100);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
    else {
        return;
    };
    let mut seen = Seen::default();
    loop {
        let next = runtime.block_on(async { tokio::time::timeout(TICK, receiver.recv()).await });
        match next {
            Err(_) => {
                for reporter in &mut reporters {
                    reporter.tick();
                }
            }
            Ok(None) => break,
            Ok(Some(Message::Entry(entry))) => {
                if seen.is_new(&entry.event) {
                    for reporter in &mut reporters {
                        reporter.entry(&entry);
                    }
                }
            }
            Ok(Some(Message::Flush(done))) => {
                for reporter in &mut reporters {
                    reporter.flush();
                }
                let _ = done.send(());
            }
        }
    }
    for reporter in &mut reporters {
        reporter.flush();
    }
}

/// A task's start and end can be seen twice: by the stage that ran it and by the watch that asked
/// ECS. It is announced once.
#[derive(Debug, Default)]
struct Seen {
    started: HashSet<String>,
    stopped: HashSet<String>,
}

impl Seen {
    fn is_new(&mut self, event: &Event) -> bool {
        let id = |task: &str| task.rsplit('/').next().unwrap_or(task).to_owned();
        match event {
            Event::TaskStarted { task, .. } => self.started.insert(id(task)),
            Event::TaskStopped { task, .. } => self.stopped.insert(id(task)),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::sync::Mutex;

    use super::*;

    struct Collect(Arc<Mutex<Vec<Entry>>>);

    impl Reporter for Collect {
        fn entry(&mut self, entry: &Entry) {
            self.0.lock().unwrap().push(entry.clone());
        }
    }

    #[test]
    fn the_audience_sees_everything_in_order_and_each_task_once() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (announcer, audience) = Announcer::new(vec![Box::new(Collect(seen.clone()))]);
        let stopped = |task: &str| Event::TaskStopped {
            task: task.to_owned(),
            stop_code: "EssentialContainerExited".to_owned(),
            reason: String::new(),
            exit_code: Some(1),
        };
        announcer.event(Event::StepStarted {
            step: "watch".to_owned(),
        });
        announcer.event(stopped("arn:aws:ecs:eu-west-1:000000000000:task/demo/abc"));
        announcer.event(stopped("abc"));
        announcer.event(stopped("def"));
        drop(announcer);
        audience.leave();
        assert_eq!(seen.lock().unwrap().len(), 3);
    }

    #[test]
    fn a_stages_clock_runs_from_its_origin() {
        let clock = StageClock {
            speed: 10.0,
            origin: Timestamp::from_millis(1_000),
        };
        assert_eq!(
            clock.at(Timestamp::from_millis(1_500)),
            Timestamp::from_millis(6_000)
        );
    }
}
