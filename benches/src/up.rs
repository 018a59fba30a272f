//! `reelmill up` on a fresh folder.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

/// It is up within this.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running one.
#[derive(Debug)]
pub struct Up {
    child: Child,
    data: TempDir,
    client: Client,
    api: String,
    key: String,
    /// The edge without TLS: `http://…`.
    pub edge: String,
    /// Its nats-server.
    pub nats: String,
    metrics: String,
}

impl Up {
    /// Starts one and waits until it is up.
    pub async fn start(binaries: &Path) -> anyhow::Result<Up> {
        Up::start_with(binaries, &[]).await
    }

    /// The same, with more arguments.
    pub async fn start_with(binaries: &Path, more: &[&str]) -> anyhow::Result<Up> {
        let data = tempfile::tempdir()?;
        let child = Command::new(binaries.canonicalize()?.join("reelmill"))
            .args(["up", "--api-port", "0", "--edge-port", "0", "--data"])
            .arg(data.path())
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("reelmill cannot be run; `cargo build --release` makes it")?;
        let started = Instant::now();
        let state: Value = loop {
            let text = std::fs::read(data.path().join("run/state.json")).unwrap_or_default();
            match serde_json::from_slice(&text) {
                Ok(state) => break state,
                Err(_) if started.elapsed() < DEADLINE => tokio::time::sleep(LOOK_EVERY).await,
                Err(_) => bail!("reelmill did not start"),
            }
        };
        let text = |pointer: &str| {
            let text = state.pointer(pointer).and_then(Value::as_str);
            text.map(str::to_owned).ok_or_else(|| anyhow!("the state lacks {pointer}"))
        };
        let (api, key, edge) = (text("/api")?, text("/api_key")?, text("/edge_plain")?);
        // The coordinator comes first.
        let (nats, metrics) = (text("/nats")?, format!("http://{}/metrics", text("/admin/0/1")?));
        Ok(Up { child, data, client: Client::new(), api, key, edge, nats, metrics })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its object store.
    pub fn store_url(&self) -> String {
        format!("file://{}", self.data.path().join("store").display())
    }

    /// A number among the coordinator's metrics.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.client.get(&self.metrics).send().await?.error_for_status()?.text().await?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("the coordinator does not count {name}"))?.parse()?)
    }

    /// A request to the API, with the right to make it.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.api)).bearer_auth(&self.key)
    }

    /// What the API says of an asset; its failure ends the benchmark.
    pub async fn asset(&self, id: &str) -> anyhow::Result<Value> {
        let request = self.request(Method::GET, &format!("/v1/assets/{id}"));
        let asset: Value = request.send().await?.error_for_status()?.json().await?;
        if asset["state"] == "failed" {
            bail!("the asset failed: {}", asset["error"]);
        }
        Ok(asset)
    }

    /// Asks it to stop and waits, so that its CPU time is counted.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        if !told.success() {
            bail!("reelmill had ended before it was told to");
        }
        self.child.wait()?;
        Ok(())
    }
}
