//! `reelmill-edge`: boot, serve, drain.

use std::env;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};

use anyhow::anyhow;
use clap::Parser;
use prometheus::Registry;
use reelmill_edge::config::Config;
use reelmill_edge::process::{self, Addresses, Settings};
use reelmill_edge::systemd;
use reelmill_edge::upgrade::{Inheritance, Item};
use reelmill_platform::admin::{self, Readiness};
use reelmill_platform::bus::Bus;
use reelmill_platform::store::Store;
use reelmill_platform::{ready_file, shutdown, telemetry};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// The ready file.
#[derive(Serialize)]
struct Ready<'a> {
    #[serde(flatten)]
    addresses: &'a Addresses,
    admin: SocketAddr,
    /// Id of the process; another one after SIGUSR2.
    process: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    telemetry::install_crypto_provider();
    match run(Config::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One sentence: every error here names its own cause.
            eprintln!("reelmill-edge: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Config) -> anyhow::Result<()> {
    telemetry::init(flags.common.log_format, &flags.common.log);
    let mut hangups = signal(SignalKind::hangup())?;
    let mut upgrades = signal(SignalKind::user_defined2())?;
    let config = flags.current()?;
    let drain = shutdown::on_signals()?;
    let mut inheritance = if flags.take_over { Inheritance::receive()? } else { Inheritance::none() };

    let store = Store::open(&config.common.store)?;
    let _checking = AbortOnDropHandle::new(tokio::spawn(check(store.clone())));
    let registry = Registry::new();
    let readiness = Readiness::default();
    let admin_listener = match inheritance.take(Item::Admin) {
        Some(handed) => TcpListener::from_std(handed.into())?,
        None => TcpListener::bind(config.common.admin_listen)
            .await
            .map_err(|error| anyhow!("cannot listen on {}: {error}", config.common.admin_listen))?,
    };
    let admin_address = admin_listener.local_addr()?;
    let admin_handed_on = admin_listener.as_fd().try_clone_to_owned()?;
    let admin_stop = CancellationToken::new();
    let admin =
        tokio::spawn(admin::serve(admin_listener, registry.clone(), readiness.clone(), admin_stop.clone()));

    let bus = match &config.nats {
        Some(servers) => Some(Bus::observe(servers, "reelmill-edge").await?),
        None => None,
    };
    let settings = Settings {
        listen: config.listen,
        endpoints: config.endpoints,
        plain_listen: config.plain_listen,
        certificate: config.certificate_source(),
        state_dir: config.state_dir.clone(),
        cache_bytes: config.cache_bytes,
        in_flight_bytes: config.in_flight_bytes,
        memory_bytes: config.memory_bytes,
        disk: config.disk(),
        max_connections: config.max_connections,
        grace: config.grace(),
        bus,
        access_log: config.access_log.clone(),
        geoip: config.geoip.clone(),
        qlog_dir: config.qlog_dir.clone(),
        traces: config.traces,
        name: config.name(),
        pop: config.pop(),
        congestion: config.congestion,
        client: config.client_limits(),
    };
    let running = process::take_over(settings, store, &registry, drain.clone(), &mut inheritance)?;
    if flags.take_over {
        running.settled().await;
        inheritance.relieve().await?;
    }
    running.begin();
    readiness.set(true);
    let addresses = &running.addresses;
    tracing::info!(
        listen = %addresses.listen,
        plain_listen = addresses.plain_listen.map(tracing::field::display),
        admin = %admin_address,
        spki_sha256 = addresses.spki_sha256,
        "ready"
    );
    if let Some(path) = &config.common.ready_file {
        let ready = Ready { addresses, admin: admin_address, process: std::process::id() };
        ready_file::write(path, &ready)
            .map_err(|error| anyhow!("cannot write {}: {error}", path.display()))?;
    }

    if let Err(error) = systemd::notify_ready() {
        tracing::warn!(%error, "cannot tell systemd");
    }

    loop {
        tokio::select! {
            () = drain.cancelled() => break,
            _ = hangups.recv() => match flags.current().and_then(|config| running.change(config.changes())) {
                Ok(()) => tracing::info!("changed as asked"),
                Err(mistakes) => tracing::error!(%mistakes, "nothing is changed"),
            },
            _ = upgrades.recv() => match running.hand_over(&mut newer_process(), &admin_handed_on).await {
                Ok(newer) => {
                    tracing::info!(newer, "a newer process has taken over, draining");
                    // It answers there now.
                    admin_stop.cancel();
                    drain.cancel();
                }
                Err(error) => tracing::error!(%error, "nothing is changed"),
            },
        }
    }
    drop(admin_handed_on);
    readiness.set(false);
    running.finished().await;
    // Last, so that the drain can be watched.
    admin_stop.cancel();
    admin.await??;
    Ok(())
}

/// Says what is wrong with the store, if anything is. Nobody waits for it: the store may come later, and what does not need it
/// works now.
async fn check(store: Store) {
    if let Err(error) = store.check().await {
        tracing::warn!(%error, "the object store cannot be read yet");
    }
}

/// The same program with the same flags, whatever lies under its name by now.
fn newer_process() -> Command {
    const TAKE_OVER: &str = "--take-over";
    let mut arguments = env::args_os();
    let mut command = Command::new(arguments.next().unwrap_or_else(|| "reelmill-edge".into()));
    command.args(arguments.filter(|argument| argument != TAKE_OVER)).arg(TAKE_OVER);
    command
}
