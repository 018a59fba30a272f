//! The connections to NATS, one after the other. A server answers over the connection that it was asked by: what is under way when
//! that one is lost is answered to nobody, and would be waited for until its deadline.

use std::pin::pin;
use std::sync::atomic::Ordering;

use async_nats::Client;
use async_nats::connection::State;
use tokio::sync::watch;

/// So many connections may be lost over one question.
const TRIES: u32 = 3;

/// The connection was lost before the answer came; the server may have done what it was asked.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the connection was lost before the answer came")]
pub(crate) struct Lost;

/// The connections of one client. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    client: Client,
    news: watch::Receiver<()>,
}

impl Connections {
    /// Those of a client, each of which changes `news`.
    pub(crate) const fn new(client: Client, news: watch::Receiver<()>) -> Self {
        Self { client, news }
    }

    /// Whether one stands now.
    pub(crate) fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Changes with each from now on.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        let mut news = self.news.clone();
        news.mark_unchanged();
        news
    }

    /// The answer to what is asked now, unless the connection is lost before it comes.
    pub(crate) async fn answer<T>(&self, answer: impl Future<Output = T>) -> Result<T, Lost> {
        let mut news = self.news();
        // What is asked while there is none goes over the next one.
        let by = self.so_far() + u64::from(!self.is_up());
        let mut answer = pin!(answer);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return Ok(answer),
                // The news of a connection may come after what was asked over it.
                Ok(()) = news.changed() => if self.so_far() > by { return Err(Lost) },
            }
        }
    }

    /// The same, asked again over the next connection where one is lost: the server may hear it twice.
    pub(crate) async fn ask<T, F>(&self, question: impl Fn() -> F) -> Result<T, Lost>
    where
        F: Future<Output = T>,
    {
        let mut tries = 1;
        loop {
            // On the heap, since it is part of the futures of everything that is done here.
            match self.answer(Box::pin(question())).await {
                Err(Lost) if tries < TRIES => tries += 1,
                answer => return answer,
            }
        }
    }

    fn so_far(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }
}
