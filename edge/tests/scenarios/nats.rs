//! A real nats-server of a test's own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reelmill_platform::bus::Bus;
use reelmill_platform::config;
use tempfile::TempDir;

/// Who may do what: a file, and the variables in it that stand for passwords. Each password is its variable's name.
#[derive(Clone, Copy)]
pub struct Users {
    pub file: &'static str,
    pub variables: &'static [&'static str],
}

pub struct Nats {
    folder: TempDir,
    users: Option<Users>,
    process: Process,
    pub url: String,
}

impl Nats {
    pub fn start() -> Nats {
        Self::with(None)
    }

    /// One that is not open to all.
    pub fn guarded(users: Users) -> Nats {
        Self::with(Some(users))
    }

    fn with(users: Option<Users>) -> Nats {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("ports")).unwrap();
        let (process, url) = launch(folder.path(), "-1", users);
        Nats { folder, users, process, url }
    }

    /// The address for a user: `name:password`.
    pub fn url_of(&self, user: &str) -> String {
        self.url.replace("nats://", &format!("nats://{user}@"))
    }

    /// A connection that has brought everything into being, as a coordinator does.
    pub async fn bus(&self) -> Bus {
        connect(self.url.clone()).await
    }

    /// The same as a user: `name:password`.
    pub async fn bus_of(&self, user: &str) -> Bus {
        connect(self.url_of(user)).await
    }

    /// A connection as an edge has it.
    pub async fn observer(&self) -> Bus {
        Bus::observe(&self.url, "edge").await.unwrap()
    }

    pub fn kill(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// Starts again, at the same address, and all that was stored is lost.
    pub fn lose(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.folder.path().join("data")).unwrap();
        self.restart();
    }

    /// Starts again, at the same address, with what was stored.
    pub fn restart(&mut self) {
        let port = self.url.rsplit(':').next().unwrap().to_owned();
        (self.process, self.url) = launch(self.folder.path(), &port, self.users);
    }
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn connect(nats: String) -> Bus {
    Bus::connect(&config::Nats { nats, nats_replicas: 1 }, "test").await.unwrap()
}

fn launch(folder: &Path, port: &str, users: Option<Users>) -> (Process, String) {
    let ports = folder.join("ports");
    for left in std::fs::read_dir(&ports).unwrap() {
        std::fs::remove_file(left.unwrap().path()).unwrap();
    }
    let mut config = format!(
        "listen: \"127.0.0.1:{port}\"\nports_file_dir: {ports:?}\njetstream {{ store_dir: {:?} }}\n",
        folder.join("data")
    );
    if let Some(users) = users {
        std::fs::copy(users.file, folder.join("users.conf")).unwrap();
        config.push_str("include \"users.conf\"\n");
    }
    std::fs::write(folder.join("nats.conf"), config).unwrap();
    let process = Process(
        Command::new(program())
            .arg("-c")
            .arg(folder.join("nats.conf"))
            .envs(users.into_iter().flat_map(|users| users.variables).map(|name| (name, name)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let begun = Instant::now();
    loop {
        let file = std::fs::read_dir(&ports).unwrap().next().map(|entry| entry.unwrap().path());
        let text = file.and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
        if let Ok(ports) = serde_json::from_slice::<serde_json::Value>(&text) {
            return (process, ports["nats"][0].as_str().unwrap().to_owned());
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the nats-server does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The program: named by the environment, fetched beside the repository, or on the path.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("NATS_SERVER_BIN") {
        return path.into();
    }
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/nats-server");
    if fetched.exists() { fetched } else { "nats-server".into() }
}
