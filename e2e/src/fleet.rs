//! A fleet: a nats-server, coordinators, workers and edges, each a process of its own that may be killed at any time, on one
//! folder as object store, or on S3.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::http::Http;
use crate::judge::{self, Expected};
use crate::published::{Published, from_folder};
use crate::s3::S3;
use crate::system::{Asset, kill, program, until};

/// A process is up within this.
const UP: Duration = Duration::from_secs(60);
/// The one tenant's key.
const KEY: &str = "a key for tests";
/// Lines of each log that are shown when a test fails.
const SHOWN_LINES: usize = 25;

/// A running fleet. All of it is killed when dropped; when the test has failed by then, its logs are shown.
#[derive(Debug)]
pub struct Fleet {
    /// The client with which to speak to it.
    pub http: Http,
    folder: TempDir,
    nats: Option<Child>,
    nats_url: String,
    /// Where the store is, unless in the folder.
    s3: Option<S3>,
    started: u32,
}

/// One process of it. It is killed when dropped.
#[derive(Debug)]
pub struct Member {
    process: Child,
    log: PathBuf,
    /// Where it answers: a coordinator's API, an edge's port without TLS.
    pub api: String,
    /// Address of its metrics.
    pub admin: String,
}

/// What a process writes when it is up.
#[derive(Debug, Default, Deserialize)]
struct Ready {
    #[serde(default)]
    listen: String,
    #[serde(default)]
    plain_listen: Option<String>,
    admin: String,
}

impl Member {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// As by kill -9.
    pub fn kill(mut self) {
        self.process.kill().expect("a process to kill");
        self.process.wait().expect("its end");
    }

    /// Tells it to stop, and waits until it has.
    pub fn stop(&mut self, within: Duration) -> ExitStatus {
        kill(self.id(), Signal::TERM);
        until("a process to stop", within, || self.process.try_wait().expect("a child's state"))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Self::start()
    }
}

impl Fleet {
    /// Starts the nats-server; nobody else is there yet.
    pub fn start() -> Fleet {
        Fleet::around(|_| None)
    }

    /// The same, with its store on S3, whose server makes nothing of conditions: what holds there holds on better ones.
    pub fn on_s3() -> Fleet {
        Fleet::around(|folder| Some(S3::heedless(&folder.join("s3"))))
    }

    fn around(s3: impl FnOnce(&Path) -> Option<S3>) -> Fleet {
        let folder =
            tempfile::Builder::new().prefix("reelmill-fleet-").tempdir().expect("a temporary folder");
        for name in ["nats", "logs", "store"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let hash = blake3::hash(KEY.as_bytes()).to_hex();
        let keys = serde_json::json!([{ "tenant": "demo", "key_blake3": hash.as_str() }]);
        std::fs::write(folder.path().join("keys.json"), keys.to_string()).expect("a file of keys");
        let (http, nats_url, s3) = (Http::new(), String::new(), s3(folder.path()));
        let mut fleet = Fleet { http, folder, nats: None, nats_url, s3, started: 0 };
        fleet.start_nats("-1");
        fleet
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start_nats(&mut self, port: &str) {
        let ports = self.path("ports");
        let _ = std::fs::remove_dir_all(&ports);
        std::fs::create_dir(&ports).expect("a folder");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\nports_file_dir: {ports:?}\njetstream {{ store_dir: {:?}, sync_interval: always }}\n",
            self.path("nats")
        );
        let config = self.path("nats.conf");
        std::fs::write(&config, text).expect("a configuration");
        let named = std::env::var_os("NATS_SERVER_BIN").map(PathBuf::from);
        let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/nats-server");
        let mut command = Command::new(named.unwrap_or(fetched));
        command.arg("-c").arg(config);
        self.nats = Some(spawn(&mut command, &self.path("logs/nats.log")));
        self.nats_url = until("the nats-server", UP, || {
            let file = std::fs::read_dir(&ports).ok()?.next()?.ok()?.path();
            let said: serde_json::Value = read(&file)?;
            Some(said["nats"][0].as_str()?.to_owned())
        });
    }

    /// Where the nats-server is.
    pub fn nats_url(&self) -> &str {
        &self.nats_url
    }

    /// Kills the nats-server, and an empty one begins at the same address.
    pub fn lose_nats(&mut self) {
        self.kill_nats();
        std::fs::remove_dir_all(self.path("nats")).expect("its data to go");
        std::fs::create_dir(self.path("nats")).expect("a folder");
        self.restart_nats();
    }

    /// Makes NATS anew from the store, as an operator does.
    pub fn rebuild(&self) -> String {
        let mut command = self.program("coordinator");
        command.args(["rebuild", "--nats", &self.nats_url, "--store", &self.store_url()]);
        let output = command.stdin(Stdio::null()).output().expect("a rebuild");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// Where the object store is.
    pub fn store_url(&self) -> String {
        match &self.s3 {
            Some(s3) => s3.url(),
            None => format!("file://{}", self.path("store").display()),
        }
    }

    /// The server of a store on S3.
    pub fn s3(&self) -> &S3 {
        self.s3.as_ref().expect("a store on S3")
    }

    /// The folder in which the store's objects lie.
    fn store(&self) -> PathBuf {
        self.s3.as_ref().map_or_else(|| self.path("store"), S3::folder)
    }

    /// One of our programs, which finds the store by this environment.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(program(&format!("reelmill-{name}")));
        command.envs(self.s3.iter().flat_map(S3::environment));
        command
    }

    fn kill_nats(&mut self) {
        if let Some(mut nats) = self.nats.take() {
            nats.kill().expect("a process to kill");
            nats.wait().expect("its end");
        }
    }

    /// Kills the nats-server and starts it again at the same address.
    pub fn restart_nats(&mut self) {
        self.kill_nats();
        let port = self.nats_url.rsplit(':').next().unwrap_or_default().to_owned();
        self.start_nats(&port);
    }

    /// Starts a coordinator.
    pub fn coordinator(&mut self) -> Member {
        let keys = self.path("keys.json").display().to_string();
        self.member("coordinator", &["--listen", "127.0.0.1:0", "--keys-file", &keys, "--operator", "demo"])
    }

    /// Starts an edge.
    pub fn edge(&mut self) -> Member {
        let state = self.path("edge").display().to_string();
        let listen = ["--listen", "127.0.0.1:0", "--plain-listen", "127.0.0.1:0"];
        self.member("edge", &[&listen[..], &["--state-dir", &state]].concat())
    }

    /// Starts a worker of one slot.
    pub fn worker(&mut self, more: &[&str]) -> Member {
        self.member("worker", &[&["--slots", "1"], more].concat())
    }

    fn member(&mut self, name: &str, arguments: &[&str]) -> Member {
        self.started += 1;
        let log = self.path(&format!("logs/{name}-{}.log", self.started));
        let ready = self.path(&format!("{name}-{}.json", self.started));
        let mut command = self.program(name);
        command.args(arguments).args(["--nats", &self.nats_url, "--store"]);
        command.arg(self.store_url()).arg("--ready-file").arg(&ready);
        let process = spawn(&mut command, &log);
        let mut member = Member { process, log, api: String::new(), admin: String::new() };
        let Ready { listen, plain_listen, admin } = until(name, UP, || {
            let ended = member.process.try_wait().expect("a child's state");
            assert!(ended.is_none(), "{name} has ended: {}", member.said());
            read(&ready)
        });
        (member.api, member.admin) =
            (format!("http://{}", plain_listen.unwrap_or(listen)), format!("http://{admin}"));
        member
    }

    /// All that its processes have said, of one kind.
    pub fn said(&self, name: &str) -> String {
        let logs = std::fs::read_dir(self.path("logs")).into_iter().flatten().filter_map(Result::ok);
        let of_kind = logs.filter(|log| log.file_name().to_string_lossy().starts_with(name));
        of_kind.map(|log| std::fs::read_to_string(log.path()).unwrap_or_default()).collect()
    }

    /// Tasks that workers have done.
    pub fn tasks_done(&self) -> usize {
        self.said("worker").matches(" task done").count()
    }

    /// Uploads a file in one request; gives the asset's id.
    pub fn put(&self, to: &Member, file: &Path) -> String {
        let answer =
            self.http.send_file("PUT", &format!("{}/v1/uploads", to.api), &[("Authorization", &key())], file);
        assert!((200..300).contains(&answer.status), "{}: {}", answer.status, answer.text());
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// The asset as a coordinator shows it; nothing while it cannot.
    pub fn asset(&self, from: &Member, id: &str) -> Option<Asset> {
        let url = format!("{}/v1/assets/{id}", from.api);
        let answer = self.http.try_send("GET", &url, &[("Authorization", &key())], Vec::new()).ok()?;
        (answer.status == 200).then(|| serde_json::from_slice(&answer.body).expect("an asset"))
    }

    /// Waits until an asset is ready; its failure fails the test.
    pub fn ready(&self, from: &Member, id: &str, within: Duration) {
        until(&format!("{id} to be ready"), within, || {
            let asset = self.asset(from, id)?;
            assert_ne!(asset.state, "failed", "{:?}", asset.error);
            (asset.state == "ready").then_some(())
        });
    }

    /// A number among the metrics of a process.
    pub fn metric(&self, of: &Member, name: &str) -> Option<f64> {
        let answer = self.http.try_send("GET", &format!("{}/metrics", of.admin), &[], Vec::new()).ok()?;
        let text = answer.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    /// Everything that is published of an asset.
    pub fn published(&self, id: &str) -> Published {
        Published::read(&from_folder(&self.store()), &format!("assets/{id}/index.m3u8"))
            .expect("a published tree")
    }

    /// Judges what is published of an asset.
    pub fn must_be_right(&self, id: &str, expected: &Expected) -> Published {
        judge::must_be_right(&from_folder(&self.store()), &format!("assets/{id}/index.m3u8"), expected)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(nats) = &mut self.nats {
            let _ = nats.kill();
            let _ = nats.wait();
        }
        if !std::thread::panicking() {
            return;
        }
        for log in std::fs::read_dir(self.path("logs")).into_iter().flatten().filter_map(Result::ok) {
            let text = std::fs::read_to_string(log.path()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("──── {}\n{}", log.file_name().to_string_lossy(), shown.join("\n"));
        }
    }
}

fn key() -> String {
    format!("Bearer {KEY}")
}

fn spawn(command: &mut Command, log: &Path) -> Child {
    let file = File::create(log).expect("a log");
    let output = file.try_clone().expect("a second handle");
    command.stdin(Stdio::null()).stdout(output).stderr(file).spawn().expect("a process")
}

fn read<T: DeserializeOwned>(file: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}
