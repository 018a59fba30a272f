//! One resumable upload, and when what is made of it plays.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use reelmill_benches::up::Up;
use reqwest::{Body, Method};
use tokio::process::Command;

/// How often the playlist is asked for; far below what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What does not play within this will not.
const DEADLINE: Duration = Duration::from_secs(600);

/// One that was created, without a byte yet.
#[derive(Debug)]
pub struct Upload<'a> {
    up: &'a Up,
    path: String,
    /// The id of what it becomes.
    pub asset: String,
}

impl Upload<'_> {
    /// Creates one of so many bytes.
    pub async fn create(up: &Up, length: u64) -> anyhow::Result<Upload<'_>> {
        let create = up.request(Method::POST, "/v1/uploads").header("Tus-Resumable", "1.0.0");
        let created = create.header("Upload-Length", length).send().await?.error_for_status()?;
        let header = |name: &str| -> anyhow::Result<String> {
            let value = created.headers().get(name).ok_or_else(|| anyhow!("the answer lacks {name}"))?;
            Ok(value.to_str()?.to_owned())
        };
        Ok(Upload { up, path: header("location")?, asset: header("reelmill-asset")? })
    }

    /// Sends all of it; gives when its last byte was acknowledged.
    pub async fn send(&self, body: Body) -> anyhow::Result<Instant> {
        let patch = self
            .up
            .request(Method::PATCH, &self.path)
            .header("Tus-Resumable", "1.0.0")
            .header("Upload-Offset", 0)
            .header("Content-Type", "application/offset+octet-stream");
        patch.body(body).send().await?.error_for_status()?;
        Ok(Instant::now())
    }

    /// Waits until the edge has a multivariant playlist.
    pub async fn plays(&self) -> anyhow::Result<()> {
        let client = reqwest::Client::new();
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            if client.get(self.playlist()).send().await?.status().is_success() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        bail!("it does not play within {} s", DEADLINE.as_secs())
    }

    /// Fails unless a player by others gets the first frame of what is published.
    pub async fn first_frame(&self) -> anyhow::Result<()> {
        let played = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-xerror", "-live_start_index", "0", "-i", &self.playlist()])
            .args(["-map", "0:v:0", "-frames:v", "1", "-f", "null", "-"])
            .stdin(Stdio::null())
            .status()
            .await
            .context("ffmpeg cannot be run")?;
        if played.success() { Ok(()) } else { bail!("what is published does not decode ({played})") }
    }

    fn playlist(&self) -> String {
        format!("{}/assets/{}/index.m3u8", self.up.edge, self.asset)
    }
}
