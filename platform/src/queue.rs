//! Pulling work: one message at a time, kept alive while it is worked on, acknowledged when its effects are stored.

use std::marker::PhantomData;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::message::Acker;
use async_nats::jetstream::{AckKind, Context, Message};
use async_nats::{Client, Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bus::{BusError, decode, encode};
use crate::connections::Connections;

/// The server answers a pull within this, beyond the time that the pull itself may wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A durable consumer whose messages are of one type. Cheap to make and to clone: nothing is asked of the server before the
/// first pull, and where nobody has made the consumer yet that fails like any other.
#[derive(Debug)]
pub struct Queue<T> {
    name: String,
    client: Client,
    context: Context,
    connections: Connections,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            client: self.client.clone(),
            context: self.context.clone(),
            connections: self.connections.clone(),
            kind: PhantomData,
        }
    }
}

/// What is asked of the server, by its JSON schema `consumer_getnext_request`.
#[derive(Debug, Serialize)]
struct Pull {
    batch: u8,
    no_wait: bool,
    /// In nanoseconds; 0 is no time at all.
    expires: u64,
}

/// A message in hand.
pub struct Delivery<T> {
    /// What it says.
    pub message: T,
    /// How often it has been handed out, this time included.
    pub deliveries: i64,
    /// Messages that wait behind it.
    pub behind: u64,
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

impl<T> Queue<T> {
    pub(crate) fn new(
        client: Client,
        context: Context,
        connections: Connections,
        stream: &str,
        consumer: &str,
    ) -> Self {
        Self { name: format!("{stream}.{consumer}"), client, context, connections, kind: PhantomData }
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// The next message if there is one now.
    pub async fn try_next(&self) -> Result<Option<Delivery<T>>, BusError> {
        self.pull(Duration::ZERO).await
    }

    /// The next message, waiting for one at most `wait`.
    pub async fn next_within(&self, wait: Duration) -> Result<Option<Delivery<T>>, BusError> {
        self.pull(wait).await
    }

    /// One request with one answer. Not to be dropped half-way: a message on its way to nobody is lost for the ack wait.
    async fn pull(&self, wait: Duration) -> Result<Option<Delivery<T>>, BusError> {
        let fail = |reason: String| BusError::Receive { queue: self.name.clone(), reason };
        // What is asked while the connection is away would be answered when nobody waits for it any more.
        if !self.connections.is_up() {
            return Err(fail("the connection is away".to_owned()));
        }
        let expires = wait.as_nanos().try_into().unwrap_or(u64::MAX);
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}", self.name);
        let payload = encode(&subject, &Pull { batch: 1, no_wait: wait.is_zero(), expires })?;
        // An inbox of its own: a message comes under the subject it was published to, by which the one that all requests
        // share cannot tell whose answer it is.
        let inbox = self.client.new_inbox();
        let request = Request::new().payload(payload).inbox(inbox).timeout(Some(wait + ANSWER_WITHIN));
        let answer = self.connections.answer(self.client.send_request(subject, request)).await;
        let message = match answer.map_err(|lost| fail(lost.to_string()))? {
            Ok(message) => message,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                return Err(fail("it is not there, or nobody leads it".to_owned()));
            }
            Err(error) => return Err(fail(error.to_string())),
        };
        match message.status {
            None => self.delivery(Message { message, context: self.context.clone() }).await.map(Some),
            Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => Ok(None),
            Some(status) => Err(fail(format!("{status} {}", message.description.unwrap_or_default()))),
        }
    }

    async fn delivery(&self, message: Message) -> Result<Delivery<T>, BusError> {
        let (deliveries, behind) = message.info().map_or((1, 0), |info| (info.delivered, info.pending));
        let (message, acker) = message.split();
        let lease = Lease { acker };
        match decode(&message.subject, &message.payload) {
            Ok(message) => Ok(Delivery { message, deliveries, behind, lease }),
            Err(error) => {
                // Of another version, or not ours: no retry will make it readable.
                lease.send(AckKind::Term).await?;
                Err(error)
            }
        }
    }
}
