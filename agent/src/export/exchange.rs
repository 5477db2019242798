//! Where the HTTP server's thread and the reactor's meet: a scrape is a question that the reactor answers.
//!
//! Neither may wait for the other without an end: the reactor never waits, and a question is given up after a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use hyper::body::Bytes;
use tokio::{sync::oneshot, time::timeout};

/// How long a scrape waits for the reactor. A sample of thousands of threads takes tens of milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there are no metrics before the first sample, and after one that failed.
pub const NOT_READY: &str = "not ready: the probes are not attached, or their records cannot be read";

/// Why there are no metrics: for whoever scrapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable(pub String);

/// What was asked for, or why there is none.
pub type Answer = Result<Bytes, Unavailable>;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The text of `/metrics`.
    Metrics,
    /// The page of loops.
    Page,
    /// The same as JSON.
    Loops,
}

/// A client that waits for its answer. Dropped, it says that the agent ends.
pub struct Question {
    /// What it asks for.
    pub subject: Subject,
    answer: oneshot::Sender<Answer>,
}

impl Question {
    /// Answers.
    ///
    /// # Errors
    /// The client has gone; the answer comes back.
    pub fn send(self, answer: Answer) -> Result<(), Answer> {
        self.answer.send(answer)
    }
}

/// The server's end.
#[derive(Clone)]
pub struct Client {
    questions: mpsc::Sender<Question>,
    ready: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// The reactor's end.
pub struct Exchange {
    questions: mpsc::Receiver<Question>,
    ready: Arc<AtomicBool>,
}

/// Both ends; `wake` tells the reactor that there is a question.
pub fn exchange(wake: impl Fn() + Send + Sync + 'static) -> (Client, Exchange) {
    let (sender, questions) = mpsc::channel();
    let ready = Arc::new(AtomicBool::new(false));
    (
        Client { questions: sender, ready: Arc::clone(&ready), wake: Arc::new(wake) },
        Exchange { questions, ready },
    )
}

impl Client {
    /// Whether the probes are attached and the last sample worked.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Asks the reactor.
    ///
    /// # Errors
    /// It is not ready, it ends, it cannot sample, or it does not answer in time.
    pub async fn ask(&self, subject: Subject) -> Answer {
        let unavailable = |why: &str| Unavailable(why.to_owned());
        if !self.is_ready() {
            return Err(unavailable(NOT_READY));
        }
        let (sender, answer) = oneshot::channel();
        self.questions
            .send(Question { subject, answer: sender })
            .map_err(|_| unavailable("the agent ends"))?;
        (self.wake)();
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unavailable("the agent ends")),
            Err(_) => Err(unavailable("the agent's own loop does not answer")),
        }
    }
}

impl Exchange {
    /// Lets scrapes in, or keeps them out.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Every question that waits now; None where the server has ended.
    pub fn questions(&self) -> Option<Vec<Question>> {
        let mut waiting = Vec::new();
        loop {
            match self.questions.try_recv() {
                Ok(question) => waiting.push(question),
                Err(mpsc::TryRecvError::Empty) => return Some(waiting),
                Err(mpsc::TryRecvError::Disconnected) => return None,
            }
        }
    }
}
