//! Runs a whole Reelmill on one machine: the same programs as in a fleet, as children, on one data folder.

pub mod nats;
pub mod process;
pub mod state;

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use console::style;
use serde::Deserialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use url::Url;

use self::process::{Process, Recipe};
use self::state::{Layout, State};

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Folder in which everything is kept
    #[arg(long, env = "REELMILL_DATA", default_value = "data", value_name = "FOLDER")]
    pub data: PathBuf,
    /// Port of the API; another one if it is taken
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    pub api_port: u16,
    /// Port of the edge, for QUIC and TCP; another one if it is taken
    #[arg(long, default_value_t = 8443, value_name = "PORT")]
    pub edge_port: u16,
    /// Tasks that the worker does at once; by default one per core
    #[arg(long, value_name = "N")]
    pub slots: Option<u32>,
}

/// Whose everything on this machine is; operates it as well.
const TENANT: &str = "demo";

/// So many ports are tried where each is taken at the moment of the start.
const PORTS_TRIED: u32 = 3;

/// What a coordinator or worker writes into its ready file.
#[derive(Debug, Deserialize)]
struct Ready {
    #[serde(default)]
    listen: Option<SocketAddr>,
    admin: String,
}

/// What an edge writes into its ready file.
#[derive(Debug, Deserialize)]
struct EdgeReady {
    listen: SocketAddr,
    plain_listen: SocketAddr,
    admin: String,
    spki_sha256: String,
}

/// A running Reelmill.
#[derive(Debug)]
pub struct Running {
    /// Where it is.
    pub state: State,
    layout: Layout,
    nats: Process,
    /// In the order in which they stop.
    processes: Vec<Process>,
    interrupt: Signal,
    terminate: Signal,
    /// Held for as long as this lives.
    _lock: File,
}

/// Runs until told to stop.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let running = Running::start(&options).await?;
    print_addresses(&running.state);
    print_next(&options);
    running.until_told().await
}

/// What to type next.
pub fn print_next(options: &Options) {
    let upload = command(options, "upload clip.mp4");
    println!("  {} {upload}", style("Next      ").bold());
    println!("             Ctrl-C stops everything; the next start finds it all again\n");
}

/// A command of this program for the Reelmill on `options.data`, as it is typed.
pub fn command(options: &Options, words: &str) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "reelmill".to_owned());
    if options.data == Path::new("data") {
        format!("{program} {words}")
    } else {
        format!("{program} {words} --data {}", options.data.display())
    }
}

/// The lines that everybody needs.
pub fn print_addresses(state: &State) {
    let label = |text: &str| style(format!("{text:<10}")).dim().to_string();
    println!("\n  {}", style("Reelmill is up").bold());
    println!("  {} {}", label("API"), state.api);
    println!("  {} {}", label("API key"), state.api_key);
    println!("  {} {}  (HTTP/3, HTTP/2; self-made certificate)", label("Edge"), state.edge);
    println!("  {} {}  (no TLS, this machine only)", label(""), state.edge_plain);
    for (name, address) in &state.admin {
        println!("  {} http://{address}/metrics  ({name})", label("Metrics"));
    }
    println!();
}

impl Running {
    /// Starts everything and waits until it is ready.
    pub async fn start(options: &Options) -> anyhow::Result<Running> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let layout = Layout::create(&options.data)?;
        let lock = lock(&layout)?;
        let api_key = api_key(&layout)?;

        let (nats, nats_address) = nats::start(nats::find()?, &layout).await?;
        let store = Url::from_directory_path(layout.store())
            .map_err(|()| anyhow::anyhow!("the data folder is not absolute"))?;
        let store = store.as_str().trim_end_matches('/').to_owned();

        // First, so that the coordinator can be told where it is.
        let (edge_process, edge): (_, EdgeReady) = start_at(options.edge_port, async |port| {
            let arguments = [
                ("--store", store.clone()),
                ("--nats", nats_address.clone()),
                ("--listen", format!("127.0.0.1:{port}")),
                ("--plain-listen", "127.0.0.1:0".to_owned()),
                ("--state-dir", layout.edge().display().to_string()),
            ];
            start_ours(&layout, "edge", &arguments).await
        })
        .await?;
        let edge_url = format!("https://localhost:{}", edge.listen.port());
        let (coordinator_process, coordinator): (_, Ready) = start_at(options.api_port, async |port| {
            let arguments = [
                ("--store", store.clone()),
                ("--nats", nats_address.clone()),
                ("--listen", format!("127.0.0.1:{port}")),
                ("--keys-file", layout.keys().display().to_string()),
                ("--operator", TENANT.to_owned()),
                ("--edge-url", edge_url.clone()),
            ];
            start_ours(&layout, "coordinator", &arguments).await
        })
        .await?;
        let (worker_process, worker) = {
            let mut arguments = vec![("--store", store), ("--nats", nats_address.clone())];
            if let Some(slots) = options.slots {
                arguments.push(("--slots", slots.to_string()));
            }
            let (process, ready): (_, Ready) = start_ours(&layout, "worker", &arguments).await?;
            (process, ready)
        };

        let Some(api) = coordinator.listen else { bail!("the coordinator does not say where it listens") };
        let state = State {
            api: format!("http://{api}"),
            api_key,
            edge: edge_url,
            edge_port: edge.listen.port(),
            edge_plain: format!("http://{}", edge.plain_listen),
            spki_sha256: edge.spki_sha256,
            nats: nats_address,
            admin: vec![
                ("coordinator".to_owned(), coordinator.admin),
                ("worker".to_owned(), worker.admin),
                ("edge".to_owned(), edge.admin),
            ],
        };
        state.write(&layout)?;
        let processes = vec![worker_process, coordinator_process, edge_process];
        Ok(Running { state, layout, nats, processes, interrupt, terminate, _lock: lock })
    }

    /// Keeps everything running until a signal comes, then stops it.
    pub async fn until_told(mut self) -> anyhow::Result<()> {
        let ended = self.supervise().await;
        self.stop().await;
        ended
    }

    /// Restarts what dies; returns when told to stop, or when something cannot be kept alive.
    async fn supervise(&mut self) -> anyhow::Result<()> {
        loop {
            let [worker, coordinator, edge] = self.processes.as_mut_slice() else {
                bail!("a process is missing")
            };
            let dead = tokio::select! {
                _ = self.interrupt.recv() => return Ok(()),
                _ = self.terminate.recv() => return Ok(()),
                _ = self.nats.died() => &mut self.nats,
                _ = worker.died() => worker,
                _ = coordinator.died() => coordinator,
                _ = edge.died() => edge,
            };
            if dead.name() == "nats-server" {
                bail!("nats-server died; its log is in {}", self.layout.logs().display());
            }
            eprintln!("{} died and is started again", dead.name());
            dead.restart().await?;
        }
    }

    /// Stops all in order, NATS last so that the others can say what they have to; a second signal ends all at once.
    pub async fn stop(mut self) {
        eprintln!("\nstopping");
        let started = Instant::now();
        let in_order = async {
            let [worker, coordinator, edge] = self.processes.as_mut_slice() else { return };
            tokio::join!(worker.stop(), coordinator.stop(), edge.stop());
            self.nats.stop().await;
        };
        let impatient = tokio::select! {
            () = in_order => false,
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => true,
        };
        if impatient {
            for process in self.processes.iter_mut().chain([&mut self.nats]) {
                process.kill().await;
            }
        }
        State::remove(&self.layout);
        if started.elapsed() > Duration::from_secs(1) {
            eprintln!("stopped after {:.1} s", started.elapsed().as_secs_f64());
        }
    }

    /// Resolves when told to stop.
    pub async fn told(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn lock(layout: &Layout) -> anyhow::Result<File> {
    let path = layout.lock();
    let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("a Reelmill runs on this data folder already ({} is held)", path.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// The key of the one tenant: made at the first start, and given to the coordinator only as a hash. A keys file that knows
/// it stays as it is, with whatever its owner has added (a webhook, another tenant).
fn api_key(layout: &Layout) -> anyhow::Result<String> {
    let key = match std::fs::read_to_string(layout.key()) {
        Ok(key) => key.trim().to_owned(),
        Err(_) => {
            let key = format!("rm_{:032x}", rand::random::<u128>());
            std::fs::write(layout.key(), format!("{key}\n"))?;
            key
        }
    };
    let hash = blake3::hash(key.as_bytes()).to_hex();
    let known = std::fs::read_to_string(layout.keys()).is_ok_and(|keys| keys.contains(hash.as_str()));
    if !known {
        let keys = serde_json::json!([{ "tenant": TENANT, "key_blake3": hash.as_str() }]);
        std::fs::write(layout.keys(), serde_json::to_vec_pretty(&keys)?)?;
    }
    Ok(key)
}

/// Starts what listens at `wanted`, or at another port where that is taken, also by somebody who comes between.
async fn start_at<T>(wanted: u16, start: impl AsyncFn(u16) -> anyhow::Result<T>) -> anyhow::Result<T> {
    for _ in 1..PORTS_TRIED {
        let port = free_port(wanted)?;
        match start(port).await {
            Err(_) if hold(port).is_none() => {}
            started => return started,
        }
    }
    start(free_port(wanted)?).await
}

/// `wanted` if it is free, else a free one.
fn free_port(wanted: u16) -> anyhow::Result<u16> {
    let (tcp, _udp) = hold(wanted).or_else(|| hold(0)).context("no port is free")?;
    Ok(tcp.local_addr()?.port())
}

/// Takes a port, for TCP and UDP both, if both have it free; any port for 0.
fn hold(port: u16) -> Option<(TcpListener, UdpSocket)> {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    let port = tcp.local_addr().ok()?.port();
    Some((tcp, UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()?))
}

/// Starts one of our own programs, which lie beside this one, and waits until it says that it is ready.
async fn start_ours<T: serde::de::DeserializeOwned>(
    layout: &Layout,
    name: &'static str,
    arguments: &[(&str, String)],
) -> anyhow::Result<(Process, T)> {
    let beside = std::env::current_exe()?;
    let program = beside.with_file_name(format!("reelmill-{name}"));
    let ready_file = layout.run().join(format!("{name}.json"));
    let _ = std::fs::remove_file(&ready_file);
    let mut list: Vec<OsString> =
        arguments.iter().flat_map(|(flag, value)| [OsString::from(flag), OsString::from(value)]).collect();
    list.extend(["--ready-file".into(), ready_file.clone().into()]);
    let log = layout.logs().join(format!("{name}.log"));
    let mut process = Process::start(Recipe { name, program, arguments: list, log })?;
    let ready = process.until_ready_file(&ready_file).await?;
    Ok((process, ready))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_at_the_last_moment_is_not_insisted_on() {
        let free = free_port(0).unwrap();
        let others = RefCell::new(Vec::new());
        let started = start_at(free, async |port| {
            if others.borrow().is_empty() {
                others.borrow_mut().extend(hold(port));
                bail!("{port} is taken");
            }
            Ok(port)
        });
        assert_ne!(started.await.unwrap(), free);
        // What fails for another reason is not tried again.
        let tries = RefCell::new(0);
        let failed = start_at(0, async |_| -> anyhow::Result<()> {
            *tries.borrow_mut() += 1;
            bail!("its folder is gone")
        });
        assert_eq!(failed.await.unwrap_err().to_string(), "its folder is gone");
        assert_eq!(tries.take(), 1);
    }

    #[test]
    fn another_start_keeps_the_key_and_what_its_owner_added() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let key = api_key(&layout).unwrap();
        let mut keys: serde_json::Value =
            serde_json::from_slice(&std::fs::read(layout.keys()).unwrap()).unwrap();
        keys[0]["webhook"] = serde_json::json!({ "url": "https://example.org/hook", "secret": "whsec_eA==" });
        std::fs::write(layout.keys(), keys.to_string()).unwrap();
        assert_eq!(api_key(&layout).unwrap(), key);
        assert_eq!(std::fs::read_to_string(layout.keys()).unwrap(), keys.to_string());
        // A keys file that does not know the key is of no use.
        std::fs::write(layout.keys(), "[]").unwrap();
        api_key(&layout).unwrap();
        assert!(std::fs::read_to_string(layout.keys()).unwrap().contains("key_blake3"));
    }
}
