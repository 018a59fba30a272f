//! The edge: a process of its own, as it comes, on the first core.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reelmill_benches::origin::{BUCKET, Origin};
use reelmill_benches::usage::cpu_of_process;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tempfile::TempDir;

use crate::network;

/// It takes less to start.
const START: Duration = Duration::from_secs(20);

/// Ended with this value.
pub struct Edge {
    pub address: SocketAddr,
    pub certificate: CertificateDer<'static>,
    pub certificate_file: PathBuf,
    metrics: String,
    process: Child,
    _folder: TempDir,
}

impl Edge {
    /// Waits until it is ready; meanwhile it asks the origin whether that is there.
    pub async fn start(binaries: &Path, origin: &Origin, flags: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (state, ready) = (folder.path().join("state"), folder.path().join("ready.json"));
        let process = Command::new("taskset")
            .args(["--cpu-list", "0"])
            .arg(binaries.join("reelmill-edge"))
            .args(["--store", &format!("s3://{BUCKET}"), "--listen", &format!("{}:0", network::EDGE)])
            .args(["--admin-listen", "127.0.0.1:0", "--log", "error", "--state-dir"])
            .arg(&state)
            .arg("--ready-file")
            .arg(&ready)
            .args(flags)
            .env("AWS_ENDPOINT", format!("http://{}", origin.address))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_SKIP_SIGNATURE", "true")
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the edge by taskset")?;
        let begun = Instant::now();
        let ready: Value = loop {
            let text = fs::read(&ready).unwrap_or_default();
            match serde_json::from_slice(&text) {
                Ok(ready) => break ready,
                Err(_) if begun.elapsed() < START => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(_) => bail!("the edge does not start"),
            }
        };
        let text = |name: &str| ready[name].as_str().with_context(|| format!("no {name} in the ready file"));
        let certificate_file = state.join("edge-certificate.pem");
        Ok(Self {
            address: text("listen")?.parse()?,
            metrics: format!("http://{}/metrics", text("admin")?),
            certificate: CertificateDer::from_pem_file(&certificate_file)?,
            certificate_file,
            process,
            _folder: folder,
        })
    }

    /// The sum of a metric over all its labels.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = reqwest::get(&self.metrics).await?.text().await?;
        let lines = text.lines().filter_map(|line| line.strip_prefix("reelmill_edge_")?.strip_prefix(name));
        let values = lines.filter(|rest| rest.starts_with(['{', ' ']));
        let values = values.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.fold(0.0, |sum, value| sum + value))
    }

    /// Time on a processor so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of_process(self.process.id())
    }

    /// Anonymous memory now, and the most that there was in all, in MiB.
    pub fn memory(&self) -> anyhow::Result<(f64, f64)> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = |name: &str| -> anyhow::Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).context("not in status")?;
            Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
        };
        Ok((line("RssAnon:")?, line("VmHWM:")?))
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
