//! A whole Reelmill: the real programs, as `reelmill up` runs them, on a folder of their own.

mod asset;
mod process;
mod upload;

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

pub use asset::{Asset, Failure, Rendition};
pub use process::{children, kill, programs_in, until};
pub use rustix::process::Signal;
pub use upload::{AssetId, Tus};

use crate::http::Http;
use crate::judge::{self, Expected};
use crate::published::{self, Published};

/// A system is up within this.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// A system that was told to stop has ended within this.
const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// Lines of each log that are shown when a test fails.
const SHOWN_LINES: usize = 25;

/// One at a time in a test process: two would measure each other.
static ONE: Mutex<()> = Mutex::new(());

/// What `run/state.json` says.
#[derive(Debug, Clone, Deserialize)]
pub struct State {
    /// The coordinator: `http://…`.
    pub api: String,
    /// The tenant's key.
    pub api_key: String,
    /// The edge with TLS: `https://…`.
    pub edge: String,
    /// Its port, for TCP and UDP.
    pub edge_port: u16,
    /// The edge without TLS: `http://…`.
    pub edge_plain: String,
    /// By it Chromium trusts the certificate.
    pub spki_sha256: String,
    /// NATS.
    pub nats: String,
    /// Admin address of each process by name.
    pub admin: Vec<(String, String)>,
}

/// A running system. It is stopped when dropped; when the test has failed by then, its logs are shown.
#[derive(Debug)]
pub struct System {
    /// Addresses and key.
    pub state: State,
    /// The client with which to speak to it.
    pub http: Http,
    child: Child,
    data: Data,
    _one: MutexGuard<'static, ()>,
}

/// The folder that outlives a system: a second one may be started on it.
#[derive(Debug)]
pub struct Data(TempDir);

impl Default for Data {
    fn default() -> Self {
        Self::new()
    }
}

impl Data {
    /// An empty one.
    pub fn new() -> Data {
        Data(tempfile::Builder::new().prefix("reelmill-e2e-").tempdir().expect("a temporary folder"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn state(&self) -> Option<State> {
        serde_json::from_slice(&std::fs::read(self.path().join("run/state.json")).ok()?).ok()
    }

    /// What the system printed.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.path().join("up.txt")).unwrap_or_default()
    }

    fn show_logs(&self) {
        eprintln!("──── reelmill up\n{}", self.printed());
        let logs = std::fs::read_dir(self.path().join("logs")).into_iter().flatten().filter_map(Result::ok);
        for log in logs {
            let text = std::fs::read_to_string(log.path()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("──── {}\n{}", log.file_name().to_string_lossy(), shown.join("\n"));
        }
    }
}

/// One of the real programs, from the same build as this test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let folder = test.ancestors().find(|folder| folder.ends_with("deps")).and_then(Path::parent);
    let path = folder.expect("a build folder").join(name);
    assert!(path.is_file(), "{} is not built: cargo build --workspace --bins", path.display());
    path
}

impl System {
    /// Starts one on an empty folder and waits until it is ready.
    pub fn start() -> System {
        Self::start_on(Data::new())
    }

    /// Starts one on a folder that may have been used before.
    pub fn start_on(data: Data) -> System {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        for name in ["reelmill-coordinator", "reelmill-worker", "reelmill-edge"] {
            program(name);
        }
        let printed = File::create(data.path().join("up.txt")).expect("a file for the output");
        let mut child = Command::new(program("reelmill"))
            .args(["up", "--api-port", "0", "--edge-port", "0", "--data"])
            .arg(data.path())
            .stdin(Stdio::null())
            .stdout(printed.try_clone().expect("a second handle"))
            .stderr(printed)
            .spawn()
            .expect("reelmill starts");
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(state) = data.state() {
                return System { state, http: Http::new(), child, data, _one: one };
            }
            let ended = child.try_wait().expect("a child's state");
            if ended.is_some() || Instant::now() > deadline {
                let _ = child.kill();
                data.show_logs();
                panic!("reelmill up did not come up ({ended:?})");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its folder.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Its object store.
    pub fn store(&self) -> PathBuf {
        self.data().join("store")
    }

    /// Process id of `reelmill up`.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Process id of one of its programs, as long as it runs.
    pub fn id_of(&self, program: &str) -> Option<u32> {
        children(self.id()).into_iter().find(|(_, name)| name == program).map(|(id, _)| id)
    }

    /// Sends a signal to `reelmill up`.
    pub fn signal(&self, signal: Signal) {
        kill(self.id(), signal);
    }

    /// Waits for `reelmill up` to end, and hands back its folder.
    pub fn ended(mut self, within: Duration) -> (ExitStatus, Data) {
        let status = until("reelmill up to end", within, || self.child.try_wait().expect("a child's state"));
        (status, std::mem::take(&mut self.data))
    }

    /// Runs `reelmill` against this system.
    pub fn reelmill<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Output {
        Command::new(program("reelmill"))
            .args(arguments)
            .args(["--api", &self.state.api, "--key", &self.state.api_key, "--data"])
            .arg(self.data())
            .stdin(Stdio::null())
            .output()
            .expect("reelmill starts")
    }

    /// Judges what the edge serves of an asset.
    pub fn must_be_right(&self, asset: &AssetId, expected: &Expected) -> Published {
        let get = published::from_server(&self.http, &self.state.edge);
        judge::must_be_right(&get, &format!("assets/{asset}/index.m3u8"), expected)
    }

    /// What is wrong with what the edge serves of an asset.
    pub fn judge(&self, asset: &AssetId, expected: &Expected) -> Vec<String> {
        let get = published::from_server(&self.http, &self.state.edge);
        judge::judge(&get, &format!("assets/{asset}/index.m3u8"), expected).1
    }

    /// Everything that is published, without judging it.
    pub fn published(&self, asset: &AssetId) -> Published {
        let get = published::from_server(&self.http, &self.state.edge);
        Published::read(&get, &format!("assets/{asset}/index.m3u8")).expect("a published tree")
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.data.show_logs();
        }
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        self.signal(Signal::TERM);
        let deadline = Instant::now() + STOP_DEADLINE;
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                eprintln!("reelmill up does not stop and is killed");
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
