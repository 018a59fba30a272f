//! Answers that are lost with the connection: what was asked is asked again over the next one, and done once.

use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use prometheus::Registry;
use reelmill_coordinator::assets::Assets;
use reelmill_coordinator::metrics::Metrics;
use reelmill_coordinator::state::{Arrival, Asset, Effect, Input, StageName};
use reelmill_media::ids::{AssetId, BlobHash, WorkerId};
use reelmill_media::source::SourceRef;
use reelmill_media::task::{Outcome, TaskNumber, TaskReport};
use reelmill_platform::bus::{Bus, Queued};
use reelmill_platform::kv::{Bucket, Written};
use reelmill_platform::topology::BucketName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::machines::{Machines, until};

/// Between a client and NATS, until it is dropped.
struct Line {
    address: SocketAddr,
    /// Once this word has gone to the server, nothing comes back.
    word: watch::Sender<Option<&'static str>>,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    async fn to(nats_url: &str) -> Line {
        let target = nats_url.rsplit('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (word, words) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&target).await.unwrap();
                connections.spawn(relay(client, server, words.clone()));
            }
        });
        Line { address, word, task }
    }

    async fn bus(&self) -> Bus {
        Bus::join(&format!("nats://{}", self.address), "test").await.unwrap()
    }

    /// Lets nothing come back any more once this word has gone to the server.
    fn goes_silent_after(&self, word: &'static str) {
        self.word.send_replace(Some(word));
    }

    /// Cuts the connection that lets nothing back; the next one is as it should be.
    fn breaks(&self) {
        self.word.send_replace(None);
    }
}

async fn relay(
    mut client: TcpStream,
    mut server: TcpStream,
    mut words: watch::Receiver<Option<&'static str>>,
) {
    let (mut sent, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let (mut said, mut silent) = (Vec::new(), false);
    loop {
        tokio::select! {
            Ok(()) = words.changed() => if silent { return },
            Ok(read @ 1..) = client.read(&mut sent) => {
                said.extend_from_slice(&sent[..read]);
                if let Some(word) = *words.borrow() {
                    silent |= said.windows(word.len()).any(|window| window == word.as_bytes());
                }
                server.write_all(&sent[..read]).await.unwrap();
            }
            Ok(read @ 1..) = server.read(&mut answered) => if !silent {
                client.write_all(&answered[..read]).await.unwrap();
            },
            else => return,
        }
    }
}

#[tokio::test]
async fn a_report_and_a_value_arrive_though_their_answers_were_lost() {
    let machines = Machines::start().await;
    let (direct, line) = (machines.bus().await, Line::to(&machines.nats_url).await);
    let bus = line.bus().await;
    let (there, here): (Bucket<u32>, Bucket<u32>) =
        (direct.bucket(BucketName::Uploads).await.unwrap(), bus.bucket(BucketName::Uploads).await.unwrap());

    line.goes_silent_after("PUB $KV.uploads.");
    let created = tokio::spawn(async move { here.create("key", &1).await.unwrap() });
    until("the value to be there", async || there.get("key").await.unwrap()).await;
    assert!(!created.is_finished());
    line.breaks();
    // Its own write is in its way.
    assert_eq!(created.await.unwrap(), Written::Conflict);

    let outcome = Outcome::Waiting { upto: 1 };
    let (asset, worker) = (AssetId::from_parts(1, 1), WorkerId::from_parts(1, 1));
    let report = TaskReport { asset, number: TaskNumber::INDEX, epoch: 1, worker, outcome };
    line.goes_silent_after("PUB job.");
    let told = tokio::spawn(async move { bus.publish_report(&report).await.unwrap() });
    let reports = direct.reports();
    let heard = until("the report to be there", async || reports.try_next().await.unwrap()).await;
    assert_eq!(heard.message.asset, asset);
    line.breaks();
    assert_eq!(told.await.unwrap(), Queued::Already);
}

#[tokio::test]
async fn what_follows_from_a_write_whose_answer_was_lost_is_done() {
    let machines = Machines::start().await;
    let (direct, line) = (machines.bus().await, Line::to(&machines.nats_url).await);
    let open = async |bus: &Bus| {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        Assets::open(bus, machines.store.clone(), SignedDuration::ZERO, metrics).await.unwrap()
    };
    let (there, here) = (open(&direct).await, open(&line.bus().await).await);
    let id = AssetId::from_parts(1, 1);
    let arrival = Arrival::Whole;
    let asset = Asset::new(id, "demo".parse().unwrap(), None, Some(9), arrival, Timestamp::now());
    there.create(&asset).await.unwrap();
    let source = SourceRef { blocks: BlobHash::of(b"blocks"), bytes: 9 };
    there.apply(id, Input::UploadComplete { source }).await.unwrap();

    line.goes_silent_after("PUB $KV.assets.");
    let handing_out = Input::HandOut { upto: TaskNumber::INDEX };
    let applied = tokio::spawn(async move { here.apply(id, handing_out).await.unwrap() });
    until("the write", async || {
        let (asset, _) = there.get(id).await.unwrap().unwrap();
        (asset.stage.name() == StageName::Indexing).then_some(())
    })
    .await;
    assert!(!applied.is_finished());
    line.breaks();
    let applied = applied.await.unwrap();
    assert_eq!(applied.effects, [Effect::PublishTask { number: TaskNumber::INDEX, epoch: 1 }]);
    assert!(applied.changed);
}
