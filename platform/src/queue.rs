//! Pulling work: one message at a time, kept alive while it is worked on, acknowledged when its effects are stored.

use std::marker::PhantomData;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::Acker;
use async_nats::jetstream::{AckKind, Context};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use crate::bus::{BusError, decode};

/// A durable consumer whose messages are of one type. Cheap to clone.
#[derive(Debug)]
pub struct Queue<T> {
    name: String,
    consumer: PullConsumer,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), consumer: self.consumer.clone(), kind: PhantomData }
    }
}

/// A message in hand.
pub struct Delivery<T> {
    /// What it says.
    pub message: T,
    /// How often it has been handed out, this time included.
    pub deliveries: i64,
    /// The right to say how it ended.
    pub lease: Lease,
}

/// The right to say how a delivery ended. Dropped in silence, the message comes again after the ack wait.
pub struct Lease {
    acker: Acker,
}

impl Lease {
    /// Done: forget the message. The proof that it is done lies elsewhere; an ack may be lost.
    pub async fn done(&self) -> Result<(), BusError> {
        self.send(AckKind::Ack).await
    }

    /// Still working: wait on.
    pub async fn keep(&self) -> Result<(), BusError> {
        self.send(AckKind::Progress).await
    }

    /// Hand the message to somebody else, after `delay`.
    pub async fn give_back(&self, delay: Duration) -> Result<(), BusError> {
        self.send(AckKind::Nak((delay > Duration::ZERO).then_some(delay))).await
    }

    async fn send(&self, kind: AckKind) -> Result<(), BusError> {
        self.acker
            .ack_with(kind)
            .await
            .map_err(|e| BusError::Publish { subject: "ack".to_owned(), reason: e.to_string() })
    }
}

impl<T: DeserializeOwned> Queue<T> {
    pub(crate) async fn open(context: &Context, stream: &str, consumer: &str) -> Result<Self, BusError> {
        let name = format!("{stream}/{consumer}");
        let consumer = context
            .get_consumer_from_stream(consumer, stream)
            .await
            .map_err(|e| BusError::Topology { what: format!("consumer {name}"), reason: e.to_string() })?;
        Ok(Self { name, consumer, kind: PhantomData })
    }

    /// The next message if there is one now.
    pub async fn try_next(&self) -> Result<Option<Delivery<T>>, BusError> {
        let batch = self.consumer.fetch().max_messages(1).messages().await;
        self.first(batch.map_err(|e| BusError::receive(&self.name, &e))?).await
    }

    /// The next message, waiting for one at most `wait`.
    pub async fn next_within(&self, wait: Duration) -> Result<Option<Delivery<T>>, BusError> {
        let batch = self.consumer.batch().max_messages(1).expires(wait).messages().await;
        self.first(batch.map_err(|e| BusError::receive(&self.name, &e))?).await
    }

    async fn first(
        &self,
        mut batch: async_nats::jetstream::consumer::pull::Batch,
    ) -> Result<Option<Delivery<T>>, BusError> {
        let Some(message) = batch.next().await else { return Ok(None) };
        let message =
            message.map_err(|e| BusError::Receive { queue: self.name.clone(), reason: e.to_string() })?;
        let deliveries = message.info().map(|info| info.delivered).unwrap_or(1);
        let (message, acker) = message.split();
        let lease = Lease { acker };
        match decode(&message.subject, &message.payload) {
            Ok(message) => Ok(Some(Delivery { message, deliveries, lease })),
            Err(error) => {
                // Of another version, or not ours: no retry will make it readable.
                lease.send(AckKind::Term).await?;
                Err(error)
            }
        }
    }
}
