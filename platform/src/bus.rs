//! The connection to NATS, and what is stored over it. Messages may come twice, late or never: truth is in the buckets.

use std::error::Error;
use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind, KeyValueError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use rand::RngExt;
use reelmill_media::ids::{AssetId, TenantId};
use reelmill_media::task::{Class, Task, TaskNumber, TaskReport};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::config;
use crate::connections::Connections;
use crate::kv::Bucket;
use crate::queue::Queue;
use crate::topology::{self, BucketName};

/// A publish is acknowledged within this, or it is tried again by the caller.
const ACK_DEADLINE: Duration = Duration::from_secs(10);

/// First connection: a server that starts beside us may take this long.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// Why NATS did not do as asked. Every one of these may pass: try again, or let the message come again.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No server there.
    #[error("cannot reach NATS at {servers}: {reason}")]
    Connect {
        /// As configured, without passwords.
        servers: String,
        /// What the client said.
        reason: String,
    },
    /// A stream, consumer or bucket is not as it must be.
    #[error("cannot set up {what} in NATS: {reason}")]
    Topology {
        /// Which one.
        what: String,
        /// What the server said.
        reason: String,
    },
    /// No coordinator has made it yet, or NATS was lost.
    #[error("bucket {bucket} is not there")]
    Absent {
        /// Its name.
        bucket: String,
    },
    /// A message was not taken.
    #[error("NATS did not take a message for {subject}: {reason}")]
    Publish {
        /// Where to.
        subject: String,
        /// What the server said.
        reason: String,
    },
    /// A message was not handed out.
    #[error("NATS handed out nothing from {queue}: {reason}")]
    Receive {
        /// Where from.
        queue: String,
        /// What the server said.
        reason: String,
    },
    /// A bucket was not read or written.
    #[error("NATS did not answer for key {key}: {reason}")]
    Kv {
        /// Which key.
        key: String,
        /// What the server said.
        reason: String,
    },
    /// A bucket was lost and made anew: begin again from its start.
    #[error("bucket {bucket} is another one than before")]
    Renewed {
        /// Its name.
        bucket: String,
    },
    /// A value is not what it should be.
    #[error("{key} holds something that cannot be read: {reason}")]
    Codec {
        /// Which key or subject.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

impl BusError {
    pub(crate) fn kv(key: &str, error: &(impl std::error::Error + ?Sized)) -> Self {
        BusError::Kv { key: key.to_owned(), reason: error.to_string() }
    }

    pub(crate) fn codec(key: &str, error: &(impl std::error::Error + ?Sized)) -> Self {
        BusError::Codec { key: key.to_owned(), reason: error.to_string() }
    }

    pub(crate) fn receive(queue: &str, error: &(impl std::error::Error + ?Sized)) -> Self {
        BusError::Receive { queue: queue.to_owned(), reason: error.to_string() }
    }
}

/// Whether a publish added a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// It is in the queue now.
    New,
    /// The same one was there already, waiting or being worked on.
    Already,
}

/// An open connection with everything in place. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bus {
    pub(crate) client: async_nats::Client,
    jetstream: jetstream::Context,
    connections: Connections,
}

impl Bus {
    /// Connects as `name` and brings streams, consumers and buckets into being where they are missing: for coordinators.
    pub async fn connect(config: &config::Nats, name: &str) -> Result<Bus, BusError> {
        let bus = Bus::join(&config.nats, name).await?;
        topology::ensure(&bus.jetstream, config.nats_replicas).await?;
        Ok(bus)
    }

    /// Connects as `name` to what coordinators have brought into being, or will: asks nothing of the server, so that a
    /// thousand may come at once.
    pub async fn join(servers: &str, name: &str) -> Result<Bus, BusError> {
        let refuse = |reason: String| BusError::Connect { servers: hosts(servers), reason };
        let bus = Bus::observe(servers, name).await?;
        tokio::time::timeout(CONNECT_DEADLINE, bus.client.flush())
            .await
            .map_err(|_| refuse(format!("no answer within {} s", CONNECT_DEADLINE.as_secs())))?
            .map_err(|e| refuse(e.to_string()))?;
        Ok(bus)
    }

    /// Connects as `name` to comma-separated `servers`, without bringing anything into being and without waiting for a
    /// server: for those that do their work without NATS as well, only not as promptly. Who it is says the first address, if
    /// one does: `nats://user:password@host`.
    pub async fn observe(servers: &str, name: &str) -> Result<Bus, BusError> {
        let (connected, news) = watch::channel(());
        let mut options = async_nats::ConnectOptions::new()
            .name(name)
            .retry_on_initial_connect()
            .event_callback(move |event| {
                if event == async_nats::Event::Connected {
                    connected.send_replace(());
                }
                std::future::ready(())
            })
            .ping_interval(Duration::from_secs(10))
            .reconnect_delay_callback(reconnect_delay);
        if let Some((user, password)) = credentials(servers) {
            options = options.user_and_password(user, password);
        }
        let list: Vec<&str> = servers.split(',').map(str::trim).collect();
        let refuse = |e: async_nats::ConnectError| BusError::Connect {
            servers: hosts(servers),
            reason: e.to_string(),
        };
        let client = options.connect(list).await.map_err(refuse)?;
        let jetstream = jetstream::ContextBuilder::new().timeout(ACK_DEADLINE).build(client.clone());
        let connections = Connections::new(client.clone(), news);
        Ok(Bus { client, jetstream, connections })
    }

    /// Puts a task in its queue, unless this very attempt is there already, and wakes a slot that waits for one.
    pub async fn publish_task(&self, task: &Task) -> Result<Queued, BusError> {
        let class = topology::class_token(task.class);
        let copy = if task.race { ".race" } else { "" };
        let Task { tenant, asset, number, epoch, .. } = task;
        let subject = format!("task.cpu.{class}.{tenant}.{asset}.{}.{epoch}{copy}", number.0);
        let queued = self.publish_once(subject, task).await?;
        self.say_ready(task.class).await?;
        Ok(queued)
    }

    /// Tells the coordinators how a task ended; on return it is durably stored. One message per subject: doubles are
    /// refused while the first one waits.
    pub async fn publish_report(&self, report: &TaskReport) -> Result<Queued, BusError> {
        let TaskReport { asset, number, epoch, .. } = report;
        self.publish_once(format!("job.{asset}.report.{}.{epoch}", number.0), report).await
    }

    async fn publish_once(&self, subject: String, message: &impl Serialize) -> Result<Queued, BusError> {
        let payload = encode(&subject, message)?;
        let refuse = |reason: String| BusError::Publish { subject: subject.clone(), reason };
        let publish = || async {
            let outgoing = PublishMessage::build().payload(payload.clone());
            self.jetstream.send_publish(subject.clone(), outgoing).await?.await
        };
        match self.connections.ask(publish).await {
            Ok(Ok(_)) => Ok(Queued::New),
            Ok(Err(error)) if is_queued_already(&error) => Ok(Queued::Already),
            Ok(Err(error)) => Err(refuse(error.to_string())),
            Err(lost) => Err(refuse(lost.to_string())),
        }
    }

    /// The queue of a class of tasks.
    pub fn tasks(&self, class: Class) -> Queue<Task> {
        self.queue(topology::TASKS, topology::class_token(class))
    }

    /// The queue of reports.
    pub fn reports(&self) -> Queue<TaskReport> {
        self.queue(topology::JOBS, topology::COORDINATORS)
    }

    /// The server's notes about tasks that were handed out too often without an end.
    pub fn advisories(&self) -> Queue<topology::MaxDeliveries> {
        self.queue(topology::ADVISORIES, topology::COORDINATORS)
    }

    fn queue<T>(&self, stream: &str, consumer: &str) -> Queue<T> {
        Queue::new(self.client.clone(), self.jetstream.clone(), self.connections.clone(), stream, consumer)
    }

    /// A task where it lies in its stream; `None` when it is gone.
    pub async fn task_at(&self, stream_sequence: u64) -> Result<Option<Task>, BusError> {
        let look = || async {
            match self.task_stream().await?.get_raw_message(stream_sequence).await {
                Ok(raw) => decode(topology::TASKS, &raw.payload).map(Some),
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
                Err(error) => Err(no_task(error)),
            }
        };
        self.connections.ask(look).await.map_err(no_task)?
    }

    /// Takes a given-up task out of its stream. That is an error where it is gone already.
    pub async fn remove_task(&self, stream_sequence: u64) -> Result<(), BusError> {
        let removed = self.task_stream().await?.delete_message(stream_sequence).await;
        removed.map(drop).map_err(no_task)
    }

    async fn task_stream(&self) -> Result<Stream, BusError> {
        self.jetstream.get_stream(topology::TASKS).await.map_err(no_task)
    }

    /// Takes an asset's tasks out of the queues, or all attempts at one of them. What is being worked on is not handed out
    /// again, and goes on unless its worker hears of [`Bus::publish_over`].
    pub async fn withdraw_tasks(
        &self,
        tenant: &TenantId,
        asset: AssetId,
        number: Option<TaskNumber>,
    ) -> Result<(), BusError> {
        let subject = match number {
            Some(number) => format!("task.cpu.*.{tenant}.{asset}.{}.>", number.0),
            None => format!("task.cpu.*.{tenant}.{asset}.>"),
        };
        let withdraw = || async {
            let purge = self.task_stream().await?.purge().filter(subject.clone()).await;
            purge.map(drop).map_err(no_task)
        };
        self.connections.ask(withdraw).await.map_err(no_task)?
    }

    /// A bucket of values of type `T`.
    pub async fn bucket<T: Serialize + DeserializeOwned>(
        &self,
        name: BucketName,
    ) -> Result<Bucket<T>, BusError> {
        let fail = |reason| BusError::Topology { what: format!("bucket {}", name.token()), reason };
        let asked = self.connections.ask(|| self.jetstream.get_key_value(name.token())).await;
        match asked.map_err(|lost| fail(lost.to_string()))? {
            Ok(store) => Ok(Bucket::new(store, self.connections.clone())),
            Err(error) if is_absent(&error) => Err(BusError::Absent { bucket: name.token().to_owned() }),
            Err(error) => Err(fail(error.to_string())),
        }
    }

    /// Whether the connection is up at this moment.
    pub fn is_connected(&self) -> bool {
        self.connections.is_up()
    }

    /// Changes with each connection to a server from now on.
    pub fn connections(&self) -> watch::Receiver<()> {
        self.connections.news()
    }

    /// Sends what is still buffered. Call after the last ack, before the process ends.
    pub async fn flush(&self) -> Result<(), BusError> {
        self.client
            .flush()
            .await
            .map_err(|e| BusError::Publish { subject: "flush".into(), reason: e.to_string() })
    }
}

/// User and password, where one of the addresses holds them: the client itself makes nothing of them.
fn credentials(servers: &str) -> Option<(String, String)> {
    servers.split(',').find_map(|server| {
        let address: async_nats::ServerAddr = server.trim().parse().ok()?;
        Some((address.username()?.to_owned(), address.password()?.to_owned()))
    })
}

/// The addresses as they may be shown.
fn hosts(servers: &str) -> String {
    let host = |server: &str| match server.rsplit_once('@') {
        Some((_, host)) => host.to_owned(),
        None => server.trim().to_owned(),
    };
    servers.split(',').map(host).collect::<Vec<_>>().join(",")
}

/// At most 4 s, with jitter, so that a fleet does not come back in step.
fn reconnect_delay(attempts: usize) -> Duration {
    let ceiling = 50u64.saturating_mul(1 << attempts.min(7)).min(4000);
    Duration::from_millis(rand::rng().random_range(ceiling / 2..=ceiling))
}

/// Whether the server knows of no such bucket.
fn is_absent(error: &KeyValueError) -> bool {
    let stream = error.source().and_then(|source| source.downcast_ref::<GetStreamError>());
    matches!(stream.map(GetStreamError::kind), Some(GetStreamErrorKind::JetStream(e)) if e.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn no_task(reason: impl Display) -> BusError {
    BusError::Receive { queue: topology::TASKS.to_owned(), reason: reason.to_string() }
}

/// The stream holds one message per subject and refuses a second one. The server uses one code (10077) for all its
/// limits, so the text decides.
fn is_queued_already(error: &jetstream::context::PublishError) -> bool {
    error.kind() == PublishErrorKind::Other
        && error.to_string().contains("maximum messages per subject exceeded")
}

pub(crate) fn encode(subject: &str, message: &impl Serialize) -> Result<Bytes, BusError> {
    serde_json::to_vec(message).map(Bytes::from).map_err(|e| BusError::codec(subject, &e))
}

pub(crate) fn decode<T: DeserializeOwned>(subject: &str, payload: &[u8]) -> Result<T, BusError> {
    serde_json::from_slice(payload).map_err(|e| BusError::codec(subject, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_it_is_is_said_in_an_address_and_shown_to_nobody() {
        let servers = "nats://edge-1:secret@a:4222, nats://edge-1:secret@b";
        assert_eq!(credentials(servers), Some(("edge-1".to_owned(), "secret".to_owned())));
        assert_eq!(hosts(servers), "a:4222,b");
        assert_eq!(credentials("nats://a,b:4222"), None);
        assert_eq!(hosts("nats://a, b:4222"), "nats://a,b:4222");
    }
}
