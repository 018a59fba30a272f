//! `reelmill-worker`: the worker, the children in which its media and its encoders' trials run, and `probe`, which says
//! what this machine can encode with.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser};
use prometheus::Registry;
use reelmill_media::ids::WorkerId;
use reelmill_platform::admin::{self, Readiness};
use reelmill_platform::bus::Bus;
use reelmill_platform::store::Store;
use reelmill_platform::{config, ready_file, shutdown, telemetry};
use reelmill_worker::child::{EXEC, EXEC_WITH_DEVICES, Nursery};
use reelmill_worker::metrics::Metrics;
use reelmill_worker::perform::Kitchen;
use reelmill_worker::probe::ready::Encoders;
use reelmill_worker::probe::{Prober, TRIAL, report, trial};
use reelmill_worker::recipes::Recipes;
use reelmill_worker::slot::{self, Worker};
use reelmill_worker::source_reader::Blocks;
use reelmill_worker::{confine, exec, heartbeat};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Source blocks kept in memory, in bytes: neighbouring chunks share them.
const BLOCK_CACHE_BYTES: u64 = 128 << 20;

/// Turns chunks of a source into CMAF segments.
#[derive(Debug, Parser)]
#[command(version)]
struct Run {
    #[command(flatten)]
    common: config::Common,
    /// NATS servers, comma-separated
    #[arg(long, env = "REELMILL_NATS", default_value = "nats://127.0.0.1:4222", value_name = "URLS")]
    nats: String,

    /// Tasks done at once; by default one per core
    #[arg(long, env = "REELMILL_SLOTS", value_name = "N")]
    slots: Option<u32>,

    /// How long a task may still take once the worker is told to stop, in seconds; longer ones are handed back at once
    #[arg(long, env = "REELMILL_GRACE_S", default_value_t = 2, value_name = "S")]
    grace_s: u64,

    /// Memory that one task may take, in MiB
    #[arg(long, env = "REELMILL_TASK_MEMORY_MIB", default_value_t = 2048, value_name = "MIB")]
    task_memory_mib: u64,
}

/// Try every encoder, and say which ones work on this machine and why the others do not
#[derive(Debug, Parser)]
#[command(name = "probe")]
struct Probe {
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Addresses {
    admin: String,
    id: WorkerId,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    // These are no commands for people, and must not depend on anything that they may set.
    match arguments.next().as_deref() {
        Some(EXEC) => child(confine::confine, exec::run),
        Some(EXEC_WITH_DEVICES) => child(confine::confine_with_devices, exec::run),
        Some(TRIAL) => trial::run(arguments.next()),
        Some(_) | None => command(),
    }
}

/// What people ask for: a worker, unless they name something else.
fn command() -> ExitCode {
    // The parent decodes nothing, but asks encoders for their versions.
    reelmill_av::quiet();
    // It holds blocks of sources.
    reelmill_av::give_big_blocks_back();
    let all = Run::command().subcommand(Probe::command());
    let given = all.subcommand_negates_reqs(true).args_conflicts_with_subcommands(true).get_matches();
    let done = match given.subcommand() {
        Some((_, given)) => Probe::from_arg_matches(given).map(probe),
        None => Run::from_arg_matches(&given).map(parent),
    };
    done.unwrap_or_else(|error| error.exit())
}

fn child(confine: impl FnOnce() -> io::Result<()>, run: impl FnOnce() -> ExitCode) -> ExitCode {
    if let Err(error) = confine() {
        eprintln!("reelmill-worker: a child cannot be confined: {error}");
        return ExitCode::FAILURE;
    }
    run()
}

fn probe(Probe { json }: Probe) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let printed = runtime.and_then(|runtime| {
        let prober = Prober::of_this_program()?;
        runtime.block_on(report::print(&prober, json))
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reelmill-worker probe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parent(run: Run) -> ExitCode {
    telemetry::install_crypto_provider();
    telemetry::init(run.common.log_format, &run.common.log);
    let ended =
        tokio::runtime::Runtime::new().map_err(anyhow::Error::from).and_then(|rt| rt.block_on(work(run)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn work(run: Run) -> anyhow::Result<()> {
    let stop = shutdown::on_signals().context("signals cannot be listened to")?;
    let registry = Registry::new();
    let metrics = Metrics::new(&registry)?;
    let readiness = Readiness::default();
    let listener = TcpListener::bind(run.common.admin_listen)
        .await
        .with_context(|| format!("cannot listen on {}", run.common.admin_listen))?;
    let admin_address = listener.local_addr()?.to_string();
    let tasks = TaskTracker::new();
    // The admin port and the heartbeat outlive the slots, so that a drain can be watched.
    let drained = CancellationToken::new();
    tasks.spawn(admin::serve(listener, registry, readiness.clone(), drained.clone()));

    let store = Store::open(&run.common.store)?;
    store.check().await?;
    let id = WorkerId::from_parts(jiff::Timestamp::now().as_millisecond().unsigned_abs(), rand::random());
    let bus = Bus::join(&run.nats, &format!("worker {id}")).await?;
    let slots = run
        .slots
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32))
        .max(1);
    metrics.slots.set(i64::from(slots));
    let nursery = Nursery::of_this_program()?;
    let encoders = Encoders::new(nursery.clone(), metrics.clone());
    tasks.spawn(encoders.clone().watch(Prober::of_this_program()?, drained.clone()));
    let (decided, quarantined) = watch::channel(false);
    let (metrics_too, encoders_too) = (metrics.clone(), encoders.clone());
    let heart = heartbeat::run(bus.clone(), id, decided, metrics_too, encoders_too, drained.clone());
    let heart = tasks.spawn(heart);

    let worker = Arc::new(Worker {
        id,
        bus: bus.clone(),
        kitchen: Kitchen {
            blocks: Blocks::new(store.clone(), BLOCK_CACHE_BYTES),
            recipes: Recipes::new(store.clone()),
            store,
            memory: run.task_memory_mib << 20,
            encoders: Some(encoders),
        },
        nursery,
        metrics: metrics.clone(),
        grace: Duration::from_secs(run.grace_s),
        quarantined,
    });
    let working = TaskTracker::new();
    for _ in 0..slots {
        working.spawn(slot::run(worker.clone(), stop.clone()));
    }
    working.close();
    readiness.set(true);
    if let Some(path) = &run.common.ready_file {
        ready_file::write(path, &Addresses { admin: admin_address.clone(), id })
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    tracing::info!(%id, slots, admin = admin_address, "worker ready");

    stop.cancelled().await;
    readiness.set(false);
    metrics.slots.set(0);
    working.wait().await;
    drained.cancel();
    tasks.close();
    tasks.wait().await;
    heart.await??;
    bus.flush().await?;
    tracing::info!("worker stopped");
    Ok(())
}
