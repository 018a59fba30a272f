//! Simulated workers: all of them say that they live and wait for tasks as real ones do, while tasks come one by one, all at
//! once, and faster than they are done.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use futures_util::StreamExt;
use jiff::Timestamp;
use reelmill_benches::usage::wait_of_process;
use reelmill_media::ids::{AssetId, BlobHash, WorkerId};
use reelmill_media::source::SourceRef;
use reelmill_media::task::{Class, Task, TaskNumber, Way, Work};
use reelmill_platform::bus::Bus;
use reelmill_platform::workers::{SAY_EVERY, WorkerRecord};
use reelmill_worker::hands::Hands;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::sleep;

use reelmill_benches::nats::Server;

/// Connections that the workers share, so that the machine's limits on files are not what is measured.
const CONNECTIONS: usize = 64;
/// Workers that start in one second.
const STARTS_PER_SECOND: f64 = 1000.0;
/// Tasks that come one by one.
const TASKS: u32 = 2000;
/// Between two of them.
const TASK_EVERY: Duration = Duration::from_millis(10);
/// A task that no worker has after this is lost.
const DEADLINE: Duration = Duration::from_secs(60);

/// A task in a worker's hands, and since when its slot was free.
struct Taken {
    number: TaskNumber,
    at: Instant,
    free_since: Instant,
}

#[derive(Default)]
struct Errors {
    count: AtomicU32,
    by_text: std::sync::Mutex<BTreeMap<String, u32>>,
}

impl Errors {
    fn note(&self, error: &impl ToString) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut texts) = self.by_text.lock() {
            *texts.entry(error.to_string()).or_default() += 1;
        }
    }

    fn print(&self) {
        println!("errors: {}", self.count.load(Ordering::Relaxed));
        for (text, count) in self.by_text.lock().iter().flat_map(|texts| texts.iter()) {
            println!("  {count} times: {text}");
        }
    }
}

/// Prints how long tasks take from being put in their queue to a worker's hands.
pub async fn run(server: &Server, workers: usize) -> anyhow::Result<()> {
    let bus = server.connect().await?;
    let mut heard = Box::pin(bus.hear_alive().await?);
    let errors = Arc::new(Errors::default());
    let (taken, mut hands) = mpsc::unbounded_channel();
    let mut all = JoinSet::new();
    let joined = futures_util::future::try_join_all((0..CONNECTIONS).map(|_| server.join())).await?;
    let began = Instant::now();
    for n in 0..workers {
        let (bus, taken, errors) = (joined[n % CONNECTIONS].clone(), taken.clone(), errors.clone());
        all.spawn(async move {
            sleep(Duration::from_secs_f64(n as f64 / STARTS_PER_SECOND)).await;
            let id = WorkerId::from_parts(n as u64, 1);
            tokio::join!(live(&bus, id, &errors), work(&bus, &taken, &errors));
        });
    }
    let mut live = std::collections::BTreeSet::new();
    while live.len() < workers {
        let Ok(Some(record)) = tokio::time::timeout(DEADLINE, heard.next()).await else {
            bail!("only {} of {workers} workers were heard", live.len());
        };
        live.insert(record.id);
    }
    drop(heard);
    println!("workers: {workers} live after {:.1} s", began.elapsed().as_secs_f64());
    sleep(SAY_EVERY).await;
    let idle = server.cpu()?;
    sleep(SAY_EVERY).await;
    let percent = (server.cpu()? - idle).as_secs_f64() / SAY_EVERY.as_secs_f64() * 100.0;
    println!("nats-server: {percent:.0} % of a core while all are idle, {} MB", server.memory()? >> 20);

    let waited = || anyhow::Ok((server.waited()?, wait_of_process(std::process::id())?));
    let before = waited()?;
    let mut published = Vec::new();
    for number in 0..TASKS {
        published.push(Instant::now());
        bus.publish_task(&task(number)?).await?;
        sleep(TASK_EVERY).await;
    }
    let taken = collect(&mut hands, TASKS).await?;
    let waits = taken.iter().map(|task| task.at.duration_since(published[task.number.0 as usize]));
    print("one by one, from the call to a worker's hands", waits);
    let after = waited()?;
    let per_task = |waited: Duration| waited.as_secs_f64() * 1000.0 / f64::from(TASKS);
    println!(
        "  while others had the processors, for each task: nats-server {:.2} ms, workers {:.2} ms",
        per_task(after.0 - before.0),
        per_task(after.1 - before.1)
    );

    let began = Instant::now();
    let burst = u32::try_from(workers)?;
    let calls = (TASKS..TASKS + burst).map(|number| publish(&bus, number));
    futures_util::stream::iter(calls).buffer_unordered(256).for_each(async |_| ()).await;
    let said = began.elapsed();
    let taken = collect(&mut hands, burst).await?;
    let last = taken.iter().map(|task| task.at).max().unwrap_or(began);
    println!(
        "all at once: {burst} tasks in their queue after {:.2} s, in hands after {:.2} s",
        said.as_secs_f64(),
        (last - began).as_secs_f64()
    );
    all.abort_all();
    drop(all);

    // One that is never idle: its slot is free again the moment that it has a task.
    let backlog = (TASKS + burst..2 * TASKS + burst).map(|number| publish(&bus, number));
    futures_util::stream::iter(backlog).buffer_unordered(256).for_each(async |_| ()).await;
    let (taken, mut hands) = mpsc::unbounded_channel();
    let busy = tokio::spawn({
        let (bus, errors) = (joined[0].clone(), errors.clone());
        async move { work(&bus, &taken, &errors).await }
    });
    let taken = collect(&mut hands, TASKS).await?;
    busy.abort();
    print("from a free slot to a task in hand, with a backlog", taken.iter().map(|t| t.at - t.free_since));
    errors.print();
    Ok(())
}

async fn collect(hands: &mut UnboundedReceiver<Taken>, count: u32) -> anyhow::Result<Vec<Taken>> {
    let mut all = Vec::new();
    while all.len() < count as usize {
        match tokio::time::timeout(DEADLINE, hands.recv()).await {
            Ok(Some(taken)) => all.push(taken),
            Ok(None) | Err(_) => bail!("only {} of {count} tasks were taken", all.len()),
        }
    }
    Ok(all)
}

fn print(what: &str, waits: impl Iterator<Item = Duration>) {
    let mut ms: Vec<f64> = waits.map(|wait| wait.as_secs_f64() * 1000.0).collect();
    ms.sort_by(f64::total_cmp);
    let at = |percent: usize| ms[(ms.len() * percent / 100).min(ms.len() - 1)];
    println!("{what}: {:.2} ms median, {:.2} ms at 99 %", at(50), at(99));
}

async fn live(bus: &Bus, id: WorkerId, errors: &Errors) {
    let record = WorkerRecord {
        id,
        host: "bench".to_owned(),
        version: "0.1.0".to_owned(),
        slots: 1,
        busy: 0,
        started_at: Timestamp::now(),
        quarantined: false,
        gone: false,
        encoders: Vec::new(),
    };
    loop {
        if let Err(error) = bus.say_alive(&record).await {
            errors.note(&error);
        }
        sleep(SAY_EVERY).await;
    }
}

async fn work(bus: &Bus, taken: &UnboundedSender<Taken>, errors: &Errors) {
    let hands = Hands::new(bus.clone());
    let mut free_since = Instant::now();
    loop {
        let found = match hands.look().await {
            Ok(None) => hands.wait(pending()).await,
            looked => looked,
        };
        match found {
            Ok(Some(delivery)) => {
                let number = delivery.message.number;
                let _ = taken.send(Taken { number, at: Instant::now(), free_since });
                if let Err(error) = delivery.lease.done().await {
                    errors.note(&error);
                }
                free_since = Instant::now();
            }
            Ok(None) => return,
            Err(error) => {
                errors.note(&error);
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn publish(bus: &Bus, number: u32) -> anyhow::Result<()> {
    bus.publish_task(&task(number)?).await?;
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
