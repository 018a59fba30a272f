//! Streams, consumers and buckets, declared in one place with every limit said: the server's own defaults stall a
//! fleet (512 waiting pulls, 1000 unacknowledged messages).

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, stream};
use reelmill_media::task::Class;
use serde::Deserialize;

use crate::bus::BusError;

/// Stream of tasks for software encoders.
pub(crate) const TASKS: &str = "TASKS_CPU";
/// Stream of messages to coordinators.
pub(crate) const JOBS: &str = "JOBS";
/// Stream of the server's notes about tasks that were handed out too often.
pub(crate) const ADVISORIES: &str = "ADVISORIES";
/// The consumer that all coordinators share.
pub(crate) const COORDINATORS: &str = "coordinators";

/// A task that is neither acknowledged nor kept alive for so long goes to another worker.
pub const ACK_WAIT: Duration = Duration::from_secs(20);
/// Whoever works on one says so this often.
pub const KEEP_EVERY: Duration = Duration::from_secs(6);
/// The same for coordinators, which are done with a message in moments: what a dead one had in hand holds up its job until then.
/// Two that deal with the same one do no harm.
pub const REPORT_ACK_WAIT: Duration = Duration::from_secs(4);
/// The same for coordinators.
pub const KEEP_REPORT_EVERY: Duration = Duration::from_secs(1);
/// A task that was handed out so often without an end is taken out of the queue and counts as failed.
// More than a task of average luck needs: workers that drain, and those that it is to avoid, hand it back.
const MAX_DELIVERIES: i64 = 8;
/// A worker that has not been heard of for so long is gone.
pub const WORKER_TTL: Duration = Duration::from_secs(30);
/// What is held against a worker is forgotten after so long; also that it is in quarantine.
pub const CONDUCT_TTL: Duration = Duration::from_secs(24 * 3600);
/// Whoever has not renewed its lease for so long has lost it.
pub const LEASE_TTL: Duration = Duration::from_secs(2);
/// Whoever has not renewed a tenant's place for an upload for so long has lost it.
pub const PLACE_TTL: Duration = Duration::from_secs(10);
/// What a tenant has begun is forgotten after so long: longer than it counts, which is a minute.
pub const BEGINNINGS_TTL: Duration = Duration::from_secs(120);
/// An edge that has not been heard of for so long is gone.
pub const EDGE_TTL: Duration = Duration::from_secs(20);
/// Receipts for takedowns are kept for so long.
pub const RECEIPT_TTL: Duration = Duration::from_secs(90 * 24 * 3600);
/// Pulls that wait at the server; those of workers hardly do.
const MAX_WAITING: i64 = 20_000;
/// Busy slots of a fleet each hold one unacknowledged message.
const MAX_ACK_PENDING: i64 = 20_000;
/// Watches and lists of buckets are consumers too.
const MAX_CONSUMERS: i32 = 5_000;
/// No message or value is larger than this, in bytes.
const MAX_MESSAGE_BYTES: i32 = 512 << 10;

/// The buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketName {
    /// Uploads in progress, by upload id.
    Uploads,
    /// Assets with the state of their jobs, by asset id.
    Assets,
    /// The assets that are not over yet, by asset id: what a coordinator reads when it starts.
    Open,
    /// Whose asset is whose: see [`crate::owners::Owners`].
    Owners,
    /// What tasks made, by `<asset>.<task number>`, until the asset is closed.
    Outputs,
    /// What must not be served any more, by [`crate::purge::Mark`].
    Tombstones,
    /// Edges' words that it is not, by [`crate::receipt::Receipt::key`]; kept for [`RECEIPT_TTL`].
    Receipts,
    /// What receipts are judged by, by [`crate::receipt::EdgeKey::key`]; kept for ever.
    EdgeKeys,
    /// Who took down what, by [`crate::purge::Purge::id`]; kept for ever.
    Purges,
    /// Who may watch what, by [`crate::access::Subject`].
    Policies,
    /// Keys that prove tokens, by [`crate::access::KeyId`].
    TokenKeys,
    /// What tenants have made of their uploads, by `<tenant>.<name>`.
    Profiles,
    /// What is held against workers, by worker id; kept for [`CONDUCT_TTL`].
    Conduct,
    /// Who does what only one process should do, by what it is; a record lives for [`LEASE_TTL`].
    Leases,
    /// Uploads that take bytes, of tenants that may have few at once, by tenant; a record lives for [`PLACE_TTL`].
    Places,
    /// How many uploads tenants may still begin, of those that are limited, by tenant; a record lives for [`BEGINNINGS_TTL`].
    Beginnings,
    /// Live edges, by [`crate::edges::EdgeRecord::key`]; a record lives for [`EDGE_TTL`].
    Edges,
}

impl BucketName {
    /// In the order in which they are made: an edge that finds tombstones finds what its receipts need.
    const ALL: [BucketName; 17] = [
        BucketName::Uploads,
        BucketName::Assets,
        BucketName::Open,
        BucketName::Owners,
        BucketName::Outputs,
        BucketName::Receipts,
        BucketName::EdgeKeys,
        BucketName::Tombstones,
        BucketName::Purges,
        BucketName::Policies,
        BucketName::TokenKeys,
        BucketName::Profiles,
        BucketName::Conduct,
        BucketName::Leases,
        BucketName::Places,
        BucketName::Beginnings,
        BucketName::Edges,
    ];

    /// How long a value lives after it was written; zero is for ever.
    const fn max_age(self) -> Duration {
        match self {
            BucketName::Conduct => CONDUCT_TTL,
            BucketName::Leases => LEASE_TTL,
            BucketName::Places => PLACE_TTL,
            BucketName::Beginnings => BEGINNINGS_TTL,
            BucketName::Edges => EDGE_TTL,
            BucketName::Receipts => RECEIPT_TTL,
            BucketName::Uploads
            | BucketName::Assets
            | BucketName::Open
            | BucketName::Owners
            | BucketName::Outputs
            | BucketName::Tombstones
            | BucketName::EdgeKeys
            | BucketName::Purges
            | BucketName::Policies
            | BucketName::TokenKeys
            | BucketName::Profiles => Duration::ZERO,
        }
    }

    /// Its name in NATS.
    pub const fn token(self) -> &'static str {
        match self {
            BucketName::Uploads => "uploads",
            BucketName::Assets => "assets",
            BucketName::Open => "open",
            BucketName::Owners => "owners",
            BucketName::Outputs => "outputs",
            BucketName::Tombstones => "tombstones",
            BucketName::Receipts => "receipts",
            BucketName::EdgeKeys => "edge_keys",
            BucketName::Purges => "purges",
            BucketName::Policies => "policies",
            BucketName::TokenKeys => "token_keys",
            BucketName::Profiles => "profiles",
            BucketName::Conduct => "conduct",
            BucketName::Leases => "leases",
            BucketName::Places => "places",
            BucketName::Beginnings => "beginnings",
            BucketName::Edges => "edges",
        }
    }
}

/// The server's note that a message has used up its deliveries (advisory `io.nats.jetstream.advisory.v1.max_deliver`).
#[derive(Debug, Clone, Deserialize)]
pub struct MaxDeliveries {
    /// Stream the message lies in.
    pub stream: String,
    /// Its place there.
    pub stream_seq: u64,
    /// How often it was handed out.
    pub deliveries: u64,
}

pub(crate) const fn class_token(class: Class) -> &'static str {
    match class {
        Class::Publish => "publish",
        Class::Ladder => "ladder",
    }
}

/// Makes what is missing and adjusts what differs.
pub(crate) async fn ensure(context: &Context, replicas: usize) -> Result<(), BusError> {
    for config in streams(replicas) {
        let what = format!("stream {}", config.name);
        context
            .create_or_update_stream(config)
            .await
            .map_err(|e| BusError::Topology { what, reason: e.to_string() })?;
    }
    for (stream, config) in consumers() {
        let what = format!("consumer {stream}/{}", config.durable_name.as_deref().unwrap_or_default());
        context
            .create_consumer_on_stream(config, stream)
            .await
            .map_err(|e| BusError::Topology { what, reason: e.to_string() })?;
    }
    Ok(())
}

fn streams(num_replicas: usize) -> Vec<stream::Config> {
    let base = Config {
        storage: StorageType::File,
        num_replicas,
        max_consumers: MAX_CONSUMERS,
        max_message_size: MAX_MESSAGE_BYTES,
        ..Config::default()
    };
    // One message per subject, and a second one refused: what is queued or in work cannot be queued twice.
    let work_queue = |name: &str, subject: &str| Config {
        name: name.to_owned(),
        subjects: vec![subject.to_owned()],
        retention: RetentionPolicy::WorkQueue,
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        discard_new_per_subject: true,
        ..base.clone()
    };
    let mut all = vec![
        work_queue(TASKS, "task.cpu.>"),
        work_queue(JOBS, "job.>"),
        Config {
            name: ADVISORIES.to_owned(),
            subjects: vec![format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{TASKS}.*")],
            max_age: Duration::from_secs(24 * 3600),
            ..base.clone()
        },
    ];
    // On disk all of them: a single server forgets streams in memory when it restarts, and nobody would make them anew.
    // Made by hand: the client's own bucket creation hides `max_consumers` and fails on older servers.
    all.extend(BucketName::ALL.map(|bucket| Config {
        name: format!("KV_{}", bucket.token()),
        subjects: vec![format!("$KV.{}.>", bucket.token())],
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        // Reads come from the leader, so that a value just written is seen.
        allow_direct: false,
        max_age: bucket.max_age(),
        ..base.clone()
    }));
    all
}

fn consumers() -> Vec<(&'static str, pull::Config)> {
    let base = |name: &str, filter: String, ack_wait: Duration| pull::Config {
        durable_name: Some(name.to_owned()),
        filter_subject: filter,
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        max_waiting: MAX_WAITING,
        max_ack_pending: MAX_ACK_PENDING,
        ..pull::Config::default()
    };
    let tasks = |class: Class| {
        let token = class_token(class);
        let config = base(token, format!("task.cpu.{token}.>"), ACK_WAIT);
        (TASKS, pull::Config { max_deliver: MAX_DELIVERIES, ..config })
    };
    vec![
        tasks(Class::Publish),
        tasks(Class::Ladder),
        (JOBS, base(COORDINATORS, "job.>".to_owned(), REPORT_ACK_WAIT)),
        (ADVISORIES, base(COORDINATORS, String::new(), REPORT_ACK_WAIT)),
    ]
}
