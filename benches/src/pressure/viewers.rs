//! Viewers who ask for a segment now and then, and how long each waits for all of it.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::try_join_all;
use reelmill_benches::http3::Connection;
use tokio::time::{MissedTickBehavior, interval_at, sleep};

use crate::client::{STREAM_WINDOW, connect};
use crate::edge::Edge;
use crate::network;

/// How many there are, each at an address of its own.
const VIEWERS: usize = 100;
/// How often each asks.
const EVERY: Duration = Duration::from_millis(500);

/// All of them, connected.
pub struct Viewers(Vec<Connection>);

/// How long answers took, in milliseconds.
#[derive(Default)]
pub struct Waits(Vec<f64>);

impl Waits {
    pub fn add(&mut self, more: Waits) {
        self.0.extend(more.0);
    }

    /// The wait that such a share of all does not exceed.
    pub fn quantile(&mut self, share: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let place = (self.0.len() as f64 * share) as usize;
        self.0.get(place.min(self.0.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

impl Viewers {
    pub async fn connect(edge: &Edge) -> anyhow::Result<Self> {
        let mut clients = Vec::new();
        for number in 0..VIEWERS {
            let from = network::viewer(number);
            clients.push(connect(from, edge.address, &edge.certificate, STREAM_WINDOW).await?);
        }
        Ok(Self(clients))
    }

    /// They watch for so long. A request that is late does not put off the next one's beginning in time, so that no wait is
    /// left out.
    pub async fn watch(&self, path: &str, bytes: usize, time: Duration) -> anyhow::Result<Waits> {
        let watching = self.0.iter().enumerate().map(|(number, client)| async move {
            let (begun, mut waits) = (Instant::now(), Vec::new());
            sleep(EVERY * number as u32 / VIEWERS as u32).await;
            let mut tick = interval_at(tokio::time::Instant::now(), EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while begun.elapsed() < time {
                let due = tick.tick().await;
                let body = client.fetch(path).await?;
                ensure!(body.len() == bytes, "{} bytes", body.len());
                waits.push(due.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(waits)
        });
        Ok(Waits(try_join_all(watching).await?.concat()))
    }
}
