//! The process from start to end: boot and drain as checklists.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::SignedDuration;
use prometheus::Registry;
use reelmill_platform::admin::{self, Readiness};
use reelmill_platform::bus::Bus;
use reelmill_platform::ready_file;
use reelmill_platform::store::Store;
use reelmill_platform::topology::BucketName;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, Api, Keyring};
use crate::beginnings::Beginnings;
use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::flags::Flags;
use crate::garbage::Collector;
use crate::jobs;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::pulls::{Opener, PullLimits, Puller};
use crate::quotas::{self, Quotas};
use crate::schedule::feeder;
use crate::settings;
use crate::sweep;
use crate::uploads::{self, Writers};
use crate::webhooks::{self, Teller};

/// Name under which NATS knows the process.
const NAME: &str = "reelmill-coordinator";
/// Uploads in one request have so long to end when the process drains.
const UPLOAD_GRACE: Duration = Duration::from_secs(10);
/// Then everything else has so long.
const DRAIN_GRACE: Duration = Duration::from_secs(15);
/// How often it is asked whether NATS and the store answer.
const HEALTH_EVERY: Duration = Duration::from_secs(5);

/// What the ready file says.
#[derive(Debug, Serialize)]
struct Addresses {
    listen: SocketAddr,
    admin: SocketAddr,
}

/// Runs until `drain` is cancelled and everything in hand is done.
pub async fn run(flags: Flags, drain: CancellationToken) -> anyhow::Result<()> {
    // What is ours to check comes before what takes time.
    let keyring = Keyring::read(&flags.keys_file)?;
    let store = Store::open(&flags.common.store)?;
    let listener = listen(flags.listen).await?;
    let admin_listener = listen(flags.common.admin_listen).await?;
    let addresses = Addresses { listen: listener.local_addr()?, admin: admin_listener.local_addr()? };

    let registry = Registry::new();
    let metrics = Metrics::new(&registry)?;
    let readiness = Readiness::default();
    // The admin port is the last to go: it is asked while everything else drains.
    let admin_stop = CancellationToken::new();
    let admin = TaskTracker::new();
    admin.spawn(admin::serve(admin_listener, registry, readiness.clone(), admin_stop.clone()));

    let engine = connect(&flags, &keyring, store, metrics, drain.clone()).await?;
    let catalog = Catalog::new(engine.metrics.clone(), quotas::weights(keyring.limits()));
    keep_running(&flags, &keyring, &engine, &catalog, &readiness).await?;
    let places = engine.bus.bucket(BucketName::Places).await?;
    let places = Places::new(&places, quotas::uploads_at_once(keyring.limits()));
    // Uploads keep their places while all drains.
    admin.spawn(places.clone().run(admin_stop.clone()));
    let quotas = limit(&flags, &keyring, &engine, places).await?;
    let puller = pull(&flags, &engine, quotas.clone())?;
    engine.background.spawn(puller.clone().run(catalog.clone()));
    jobs::start(&engine, &engine.background);

    let api = Api {
        profiles: engine.bus.bucket(BucketName::Profiles).await?,
        tombstones: engine.bus.bucket(BucketName::Tombstones).await?,
        engine: engine.clone(),
        catalog,
        keyring: Arc::new(keyring),
        operator: flags.operator,
        readiness: readiness.clone(),
        max_backlog: Duration::from_secs(flags.max_backlog_s.into()),
        quotas,
        edge_url: flags.edge_url.map(Arc::from),
        writers: Writers::default(),
        puller,
        tasks: TaskTracker::new(),
        last_call: CancellationToken::new(),
    };
    let (taking, last_call) = (api.tasks.clone(), api.last_call.clone());
    let server = TaskTracker::new();
    server.spawn(api::serve(listener, api.router(), drain.clone()));

    readiness.set(true);
    if let Some(path) = &flags.common.ready_file {
        ready_file::write(path, &addresses).with_context(|| format!("cannot write {}", path.display()))?;
    }
    tracing::info!(listen = %addresses.listen, admin = %addresses.admin, "ready");

    drain.cancelled().await;

    readiness.set(false);
    finish([&taking, &server, &engine.background], &last_call).await;
    engine.bus.flush().await?;
    admin_stop.cancel();
    tracing::info!("drained");
    Ok(())
}

/// NATS and the store, once both answer.
async fn connect(
    flags: &Flags,
    keyring: &Keyring,
    store: Store,
    metrics: Metrics,
    drain: CancellationToken,
) -> anyhow::Result<Engine> {
    let bus = Bus::connect(&flags.nats, NAME).await?;
    store.check().await.context("the object store does not answer")?;
    let retry_after = SignedDuration::from_millis(flags.retry_after_ms.into());
    let told = webhooks::tenants(keyring.webhooks());
    Ok(Engine::open(bus, store, retry_after, told, metrics, TaskTracker::new(), drain).await?)
}

/// Starts what runs beside requests and messages until all drains.
async fn keep_running(
    flags: &Flags,
    keyring: &Keyring,
    engine: &Engine,
    catalog: &Catalog,
    readiness: &Readiness,
) -> anyhow::Result<()> {
    let Engine { bus, store, metrics, background, drain, .. } = engine;
    let (fleet, quarantine) = (engine.fleet.clone(), engine.quarantine.clone());
    background.spawn(fleet.listen(bus.clone(), quarantine, metrics.clone(), drain.clone()));
    background.spawn(catalog.clone().watch(bus.clone(), engine.assets.clone(), drain.clone()));
    let leases = bus.bucket(BucketName::Leases).await?;
    let turn = watch::Sender::new(false);
    if flags.garbage_grace_s > 0 {
        let grace = SignedDuration::from_secs(flags.garbage_grace_s.into());
        let collector = Collector::new(bus.clone(), store.clone(), grace, metrics.clone());
        background.spawn(collector.run(turn.subscribe(), drain.clone()));
    }
    background.spawn(settings::keep(bus.clone(), store.clone(), turn.subscribe(), drain.clone()));
    background.spawn(feeder::run(engine.clone(), catalog.clone(), leases, turn));
    background.spawn(sweep::run(engine.clone(), catalog.clone()));
    background.spawn(sweep::retry(engine.clone(), catalog.clone()));
    background.spawn(uploads::expiry::run(engine.uploads.clone(), drain.clone()));
    background.spawn(watch_health(bus.clone(), store.clone(), readiness.clone(), drain.clone()));
    let endpoints = Arc::new(keyring.webhooks().clone());
    let teller = Teller::new(engine.clone(), endpoints, flags.webhooks_allow_private)
        .context("cannot make an HTTP client")?;
    background.spawn(teller.run(catalog.clone()));
    Ok(())
}

/// Who may upload how much.
async fn limit(flags: &Flags, keyring: &Keyring, engine: &Engine, places: Places) -> anyhow::Result<Quotas> {
    let limits = keyring.limits();
    let beginnings = engine.bus.bucket(BucketName::Beginnings).await?;
    let beginnings = Beginnings::new(&beginnings, quotas::uploads_per_minute(limits));
    Ok(Quotas::new(flags.max_upload_bytes, flags.max_uploads, limits.clone(), places, beginnings))
}

/// What fetches uploads.
fn pull(flags: &Flags, engine: &Engine, quotas: Quotas) -> anyhow::Result<Puller> {
    let imports = flags.import_store.as_deref().map(Store::open).transpose()?;
    let opener = Opener::new(flags.pull_allow.clone(), imports).context("cannot make an HTTP client")?;
    let limits = PullLimits {
        deadline: SignedDuration::from_secs(flags.pull_deadline_s.into()),
        least_bytes_per_second: flags.pull_least_rate.into(),
        at_once: flags.max_pulls,
    };
    Ok(Puller::new(engine.clone(), opener, quotas, limits))
}

/// Lets what is in hand come to its end; uploads are the first of it.
async fn finish(all: [&TaskTracker; 3], last_call: &CancellationToken) {
    let [uploads, ..] = all;
    for tasks in all {
        tasks.close();
    }
    // Resumable uploads store what they have at once; those in one request may still come to their end.
    if tokio::time::timeout(UPLOAD_GRACE, uploads.wait()).await.is_err() {
        last_call.cancel();
    }
    let drained = async {
        for tasks in all {
            tasks.wait().await;
        }
    };
    if tokio::time::timeout(DRAIN_GRACE, drained).await.is_err() {
        tracing::warn!("not everything in hand was done in time; others will go on with it");
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

async fn watch_health(bus: Bus, store: Store, readiness: Readiness, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(HEALTH_EVERY) => {}
            () = stop.cancelled() => return,
        }
        let store_answers = match store.check().await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the object store does not answer");
                false
            }
        };
        let ready = bus.is_connected() && store_answers;
        if !stop.is_cancelled() {
            readiness.set(ready);
        }
    }
}
