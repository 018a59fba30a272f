//! Simulated workers: all of them say that they live and wait for tasks, while tasks come one by one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reelmill_media::ids::{AssetId, BlobHash, WorkerId};
use reelmill_media::source::SourceRef;
use reelmill_media::task::{Class, Task, TaskNumber, Way, Work};
use reelmill_platform::topology::BucketName;
use reelmill_platform::workers::{SAY_EVERY, WorkerRecord};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::nats::Server;

/// Connections that the workers share, so that the machine's limits on files are not what is measured.
const CONNECTIONS: usize = 64;
/// Tasks that come.
const TASKS: u32 = 2000;
/// Between two of them.
const TASK_EVERY: Duration = Duration::from_millis(10);

/// Prints how long tasks take from being put in their queue to a worker's hands.
pub async fn run(server: &Server, workers: usize) -> anyhow::Result<()> {
    let (taken, mut hands) = mpsc::unbounded_channel();
    let mut all = JoinSet::new();
    let buses = futures_util::future::try_join_all((0..CONNECTIONS).map(|_| server.connect())).await?;
    let began = Instant::now();
    let registered = Arc::new(tokio::sync::Semaphore::new(0));
    for n in 0..workers {
        let bus = buses[n % CONNECTIONS].clone();
        let (taken, registered) = (taken.clone(), registered.clone());
        all.spawn(async move {
            let ended: anyhow::Result<std::convert::Infallible> = async {
                let id = WorkerId::from_parts(n as u64, 1);
                let bucket = bus.bucket::<WorkerRecord>(BucketName::Workers).await?;
                let queue = bus.tasks(Class::Publish).await?;
                let record = WorkerRecord {
                    id,
                    host: "bench".to_owned(),
                    version: "0.1.0".to_owned(),
                    slots: 1,
                    busy: 0,
                    started_at: Timestamp::now(),
                    quarantined: false,
                    encoders: Vec::new(),
                };
                bucket.put(&id.to_string(), &record).await?;
                registered.add_permits(1);
                let mut said = Instant::now();
                loop {
                    if let Some(delivery) = queue.next_within(Duration::from_secs(5)).await? {
                        let _ = taken.send((delivery.message.number, Instant::now()));
                        delivery.lease.done().await?;
                    }
                    if said.elapsed() > SAY_EVERY {
                        bucket.put(&id.to_string(), &record).await?;
                        said = Instant::now();
                    }
                }
            }
            .await;
            let Err(error) = ended;
            eprintln!("a worker ended: {error:#}");
        });
    }
    registered.acquire_many(u32::try_from(workers)?).await?.forget();
    println!("workers: {workers} registered in {:.1} s", began.elapsed().as_secs_f64());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let bus = server.connect().await?;
    let mut published = Vec::new();
    for number in 0..TASKS {
        published.push(Instant::now());
        bus.publish_task(&task(number)?).await?;
        tokio::time::sleep(TASK_EVERY).await;
    }
    let mut waits = Vec::new();
    while waits.len() < TASKS as usize {
        let Some((number, at)) = hands.recv().await else { break };
        waits.push(at.duration_since(published[number.0 as usize]).as_secs_f64() * 1000.0);
    }
    waits.sort_by(f64::total_cmp);
    let at = |percent: usize| waits[(waits.len() * percent / 100).min(waits.len() - 1)];
    println!("task in hand: {:.2} ms median, {:.2} ms at 99 %", at(50), at(99));
    println!("nats-server: {} MB", server.memory()? >> 20);
    Ok(())
}

fn task(number: u32) -> anyhow::Result<Task> {
    Ok(Task {
        asset: AssetId::from_parts(1, 1),
        tenant: "bench".parse()?,
        number: TaskNumber(number),
        epoch: 1,
        class: Class::Publish,
        source: SourceRef { blocks: BlobHash::of(b"bench"), bytes: 1 },
        recipe: None,
        work: Work::Index,
        cost_ms: 50,
        way: Way::default(),
        avoid: Vec::new(),
        race: false,
    })
}
