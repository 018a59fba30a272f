//! A nats-server of our own, on a folder that goes with it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use reelmill_platform::bus::Bus;
use reelmill_platform::config;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::usage::{cpu_of_process, wait_of_process};

/// It runs as long as this lives.
#[derive(Debug)]
pub struct Server {
    /// Its address.
    pub url: String,
    /// Where its data, and those of others, lie.
    pub folder: TempDir,
    process: Child,
}

impl Server {
    /// Starts one that leaves syncing to the system: what is measured is not the disk.
    pub async fn start(program: &Path) -> anyhow::Result<Server> {
        let folder = tempfile::tempdir()?;
        let ports = folder.path().join("ports");
        std::fs::create_dir(&ports)?;
        let config = format!(
            "listen: \"127.0.0.1:-1\"\nports_file_dir: {ports:?}\njetstream {{ store_dir: {:?} }}\n",
            folder.path().join("nats")
        );
        let file = folder.path().join("nats.conf");
        std::fs::write(&file, config)?;
        let process = Command::new(program)
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let url = loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let Some(file) = std::fs::read_dir(&ports)?.next() else { continue };
            let Ok(said) = serde_json::from_slice::<serde_json::Value>(&std::fs::read(file?.path())?) else {
                continue;
            };
            break said["nats"][0].as_str().context("no address in the ports file")?.to_owned();
        };
        Ok(Server { url, folder, process })
    }

    /// A new connection, as coordinators have it.
    pub async fn connect(&self) -> anyhow::Result<Bus> {
        let nats = config::Nats { nats: self.url.clone(), nats_replicas: 1 };
        Ok(Bus::connect(&nats, "bench").await?)
    }

    /// A new connection, as workers have it.
    pub async fn join(&self) -> anyhow::Result<Bus> {
        Ok(Bus::join(&self.url, "bench").await?)
    }

    /// Time on a processor so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of_process(self.process.id().context("nats-server has ended")?)
    }

    /// Time that it waited for a processor so far.
    pub fn waited(&self) -> anyhow::Result<Duration> {
        wait_of_process(self.process.id().context("nats-server has ended")?)
    }

    /// Memory that it takes now, in bytes.
    pub fn memory(&self) -> anyhow::Result<u64> {
        memory(self.process.id().context("nats-server has ended")?)
    }
}

/// Memory that a process takes now, in bytes.
pub fn memory(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? << 10)
}
