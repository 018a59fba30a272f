//! A nats-server, a store folder and coordinators, all in a folder of their own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reelmill_e2e::s3::S3;
use reelmill_platform::bus::Bus;
use reelmill_platform::config;
use reelmill_platform::store::Store;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::s3::store_on;

/// Nothing in these tests takes longer than this, however busy the machine is.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The key of tenant `demo`.
pub const KEY: &str = "a key for tests";
/// The key of tenant `other`.
pub const OTHER_KEY: &str = "another key for tests";

/// Asks again and again until there is an answer.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come about within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub struct Machines {
    pub folder: TempDir,
    pub store: Store,
    pub store_url: String,
    pub nats_url: String,
    nats: Child,
    /// Where the store is, unless in the folder.
    s3: Option<S3>,
}

pub struct Coordinator {
    pub process: Child,
    pub base: String,
    pub admin: String,
}

impl Machines {
    pub async fn start() -> Machines {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().join("store").display());
        let store = Store::open(&url).unwrap();
        Machines::around(folder, store, url, None).await
    }

    /// The same with a store on S3.
    pub async fn on_s3() -> Machines {
        Machines::on(S3::start).await
    }

    /// The same, whose server makes nothing of conditions.
    pub async fn on_heedless_s3() -> Machines {
        Machines::on(S3::heedless).await
    }

    async fn on(start: impl FnOnce(&Path) -> S3) -> Machines {
        let folder = tempfile::tempdir().unwrap();
        let s3 = start(&folder.path().join("s3"));
        Machines::around(folder, store_on(&s3), s3.url(), Some(s3)).await
    }

    /// The server of a store on S3.
    pub fn s3(&self) -> &S3 {
        self.s3.as_ref().unwrap()
    }

    async fn around(folder: TempDir, store: Store, store_url: String, s3: Option<S3>) -> Machines {
        let data = folder.path();
        for name in ["nats", "ports"] {
            std::fs::create_dir(data.join(name)).unwrap();
        }
        let (nats, nats_url) = start_nats(data, "-1").await;
        let keys = serde_json::json!([
            { "tenant": "demo", "key_blake3": blake3::hash(KEY.as_bytes()).to_hex().as_str() },
            { "tenant": "other", "key_blake3": blake3::hash(OTHER_KEY.as_bytes()).to_hex().as_str() },
        ]);
        std::fs::write(data.join("keys.json"), keys.to_string()).unwrap();
        Machines { folder, store, store_url, nats_url, nats, s3 }
    }

    /// Kills the nats-server as by kill -9, and starts it again at the same address.
    pub async fn restart_nats(&mut self) {
        self.nats.kill().await.unwrap();
        let port = self.nats_url.rsplit(':').next().unwrap().to_owned();
        (self.nats, self.nats_url) = start_nats(self.folder.path(), &port).await;
    }

    /// The same, and everything that it knew is lost.
    pub async fn lose_nats(&mut self) {
        self.nats.kill().await.unwrap();
        std::fs::remove_dir_all(self.folder.path().join("nats")).unwrap();
        std::fs::create_dir(self.folder.path().join("nats")).unwrap();
        self.restart_nats().await;
    }

    pub async fn bus(&self) -> Bus {
        let nats = config::Nats { nats: self.nats_url.clone(), nats_replicas: 1 };
        Bus::connect(&nats, "test").await.unwrap()
    }

    /// The file in which an object lies.
    pub fn file(&self, key: &str) -> PathBuf {
        match &self.s3 {
            Some(s3) => s3.folder().join(key),
            None => self.folder.path().join("store").join(key),
        }
    }

    /// The coordinator's program, which finds the store by this environment.
    pub fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelmill-coordinator"));
        command.envs(self.s3.iter().flat_map(S3::environment)).kill_on_drop(true);
        command
    }

    pub async fn coordinator(&self, more: &[&str]) -> Coordinator {
        self.coordinator_in(&[], more).await
    }

    /// The same, with more in its environment.
    pub async fn coordinator_in(&self, environment: &[(&str, &Path)], more: &[&str]) -> Coordinator {
        let ready = self.folder.path().join(format!("ready-{}", rand::random::<u64>()));
        let keys = self.folder.path().join("keys.json");
        let process = self
            .program()
            .args(["--listen", "127.0.0.1:0", "--nats", &self.nats_url, "--store", &self.store_url])
            .args(["--log", "info,reelmill_coordinator=debug"])
            .arg("--keys-file")
            .arg(keys)
            .arg("--ready-file")
            .arg(&ready)
            .args(more)
            .envs(environment.iter().copied())
            .stderr(if std::env::var_os("SHOW_LOGS").is_some() { Stdio::inherit() } else { Stdio::null() })
            .spawn()
            .unwrap();
        let text = until("the coordinator", async || std::fs::read(&ready).ok()).await;
        let addresses: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let url = |name: &str| format!("http://{}", addresses[name].as_str().unwrap());
        Coordinator { process, base: url("listen"), admin: url("admin") }
    }
}

impl Coordinator {
    pub fn address(&self) -> String {
        self.base.trim_start_matches("http://").to_owned()
    }

    /// Waits until the metrics say so.
    pub async fn counts(&self, line: &str) {
        let line = format!("reelmill_coordinator_{line}\n");
        until(&line, async || {
            let metrics =
                reqwest::get(format!("{}/metrics", self.admin)).await.unwrap().text().await.unwrap();
            metrics.contains(&line).then_some(())
        })
        .await;
    }

    /// As by kill -9.
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// As by a service manager; gives the exit code.
    pub async fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_raw(self.process.id().unwrap() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        tokio::time::timeout(DEADLINE, self.process.wait()).await.unwrap().unwrap().code()
    }
}

async fn start_nats(data: &Path, port: &str) -> (Child, String) {
    for left in std::fs::read_dir(data.join("ports")).unwrap() {
        std::fs::remove_file(left.unwrap().path()).unwrap();
    }
    let config = format!(
        "listen: \"127.0.0.1:{port}\"\nports_file_dir: {:?}\njetstream {{ store_dir: {:?}, sync_interval: always }}\n",
        data.join("ports"),
        data.join("nats")
    );
    std::fs::write(data.join("nats.conf"), config).unwrap();
    let nats = Command::new(nats_server())
        .arg("-c")
        .arg(data.join("nats.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let url = until("the nats-server", async || {
        let file = std::fs::read_dir(data.join("ports")).unwrap().next()?.unwrap().path();
        let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).ok()?;
        Some(ports["nats"][0].as_str()?.to_owned())
    });
    (nats, url.await)
}

/// The program: named by the environment, fetched beside the repository, or on the path.
fn nats_server() -> PathBuf {
    if let Some(path) = std::env::var_os("NATS_SERVER_BIN") {
        return path.into();
    }
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/nats-server");
    if fetched.exists() { fetched } else { "nats-server".into() }
}
