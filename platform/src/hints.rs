//! What is said over core NATS: to whoever listens now. Any of it may be lost, and nothing is lost by that: it says sooner
//! what is found out in any case.

use std::time::Duration;

use async_nats::Request;
use async_nats::client::RequestErrorKind;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reelmill_media::ids::{AssetId, WorkerId};
use reelmill_media::task::{Class, TaskOver, TaskProgress};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bus::{Bus, BusError, decode, encode};
use crate::topology::class_token;
use crate::workers::WorkerRecord;

/// Slots with nothing to do: of all that listen, the server tells one.
const IDLE: &str = "idle";
/// Asks all workers to say that they live.
const WHO_LIVES: &str = "worker.who";
/// That nobody listens the server says at once; who listens does not answer.
const LISTENS_WITHIN: Duration = Duration::from_millis(200);
const READY: &str = "ready.";
const PUBLISHED: &str = "published.";

impl Bus {
    async fn hint(&self, subject: String, payload: Bytes) -> Result<(), BusError> {
        let sent = self.client.publish(subject.clone(), payload).await;
        sent.map_err(|e| BusError::Publish { subject, reason: e.to_string() })
    }

    async fn say(&self, subject: String, message: &impl Serialize) -> Result<(), BusError> {
        let payload = encode(&subject, message)?;
        self.hint(subject, payload).await
    }

    async fn hear<T: DeserializeOwned>(
        &self,
        subject: String,
    ) -> Result<impl Stream<Item = T> + Send + 'static + use<T>, BusError> {
        let subscription = self.client.subscribe(subject.clone()).await;
        let messages = subscription.map_err(|e| BusError::receive(&subject, &e))?;
        Ok(messages.filter_map(|m| async move { decode(&m.subject, &m.payload).ok() }))
    }

    /// Tells one slot that waits for work that a task of this class is there.
    pub async fn say_ready(&self, class: Class) -> Result<(), BusError> {
        self.hint(format!("{READY}{}", class_token(class)), Bytes::new()).await
    }

    /// The classes of tasks that this listener was chosen to look for, from now on.
    pub async fn hear_ready(&self) -> Result<impl Stream<Item = Class> + Send + Unpin + 'static, BusError> {
        let subject = format!("{READY}*");
        let subscription = self.client.queue_subscribe(subject.clone(), IDLE.to_owned()).await;
        let messages = subscription.map_err(|e| BusError::receive(&subject, &e))?;
        Ok(messages.filter_map(|message| {
            let token = message.subject.strip_prefix(READY);
            std::future::ready(token.and_then(|t| Class::ALL.into_iter().find(|c| class_token(*c) == t)))
        }))
    }

    /// Says that a worker lives, or that it goes.
    pub async fn say_alive(&self, worker: &WorkerRecord) -> Result<(), BusError> {
        self.say(format!("worker.alive.{}", worker.id), worker).await
    }

    /// What workers say of themselves, from now on.
    pub async fn hear_alive(&self) -> Result<impl Stream<Item = WorkerRecord> + Send + 'static, BusError> {
        self.hear("worker.alive.*".to_owned()).await
    }

    /// Asks all workers to say soon that they live.
    pub async fn ask_who_lives(&self) -> Result<(), BusError> {
        self.say(WHO_LIVES.to_owned(), &()).await
    }

    /// Whenever somebody asks that, from now on.
    pub async fn hear_who_lives(&self) -> Result<impl Stream<Item = ()> + Send + 'static, BusError> {
        self.hear(WHO_LIVES.to_owned()).await
    }

    /// Tells a worker whether it is in quarantine.
    pub async fn say_quarantined(&self, worker: WorkerId, quarantined: bool) -> Result<(), BusError> {
        self.say(format!("worker.quarantined.{worker}"), &quarantined).await
    }

    /// Whether a worker is in quarantine, from now on.
    pub async fn hear_quarantined(
        &self,
        worker: WorkerId,
    ) -> Result<impl Stream<Item = bool> + Send + 'static, BusError> {
        self.hear(format!("worker.quarantined.{worker}")).await
    }

    /// Whether a worker's connection stands, as far as the server knows: a word without meaning, where nobody else listens.
    pub async fn is_listening(&self, worker: WorkerId) -> bool {
        let request = Request::new().timeout(Some(LISTENS_WITHIN));
        let answer = self.client.send_request(format!("worker.quarantined.{worker}"), request).await;
        !answer.is_err_and(|error| error.kind() == RequestErrorKind::NoResponders)
    }

    /// Tells whoever works on it that a task is over. What it makes is refused in any case.
    pub async fn publish_over(&self, over: &TaskOver) -> Result<(), BusError> {
        self.say(format!("over.{}", over.asset), over).await
    }

    /// Which of an asset's tasks are over, from now on.
    pub async fn subscribe_over(
        &self,
        asset: AssetId,
    ) -> Result<impl Stream<Item = TaskOver> + Send + 'static, BusError> {
        self.hear(format!("over.{asset}")).await
    }

    /// Tells how far a task is.
    pub async fn publish_progress(&self, progress: &TaskProgress) -> Result<(), BusError> {
        self.say(format!("progress.{}", progress.asset), progress).await
    }

    /// All progress from now on.
    pub async fn subscribe_progress(
        &self,
    ) -> Result<impl Stream<Item = TaskProgress> + Send + 'static, BusError> {
        self.hear("progress.>".to_owned()).await
    }

    /// Tells that playlists of an asset were just written.
    pub async fn publish_published(&self, asset: AssetId) -> Result<(), BusError> {
        self.hint(format!("{PUBLISHED}{asset}"), Bytes::new()).await
    }

    /// The assets whose playlists are written from now on.
    pub async fn subscribe_published(
        &self,
    ) -> Result<impl Stream<Item = AssetId> + Send + 'static, BusError> {
        let subject = format!("{PUBLISHED}*");
        let subscription = self.client.subscribe(subject.clone()).await;
        let messages = subscription.map_err(|e| BusError::receive(&subject, &e))?;
        Ok(messages.filter_map(|m| async move {
            m.subject.strip_prefix(PUBLISHED).and_then(|asset| asset.parse().ok())
        }))
    }
}
