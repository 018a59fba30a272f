//! One kind of work for one server, and what it cost in each round.

use std::time::Instant;

use reelmill_benches::usage::{cpu_of_process, median};

use crate::client::Client;
use crate::server::Server;
use crate::{SIZES, SMALL_BYTES};

/// What a server is made to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Hands out an object of [`SIZES`] over and over, on so many connections.
    Bytes { size: usize, connections: usize },
    /// Answers requests for a small object, on so many connections.
    Requests { connections: usize },
    /// Opens connections, one after the other.
    Handshakes,
}

/// How much is done in one round.
#[derive(Debug, Clone, Copy)]
pub struct Amounts {
    pub bytes: u64,
    pub requests: u64,
    pub handshakes: u64,
}

/// One kind of work for one server.
#[derive(Debug)]
pub struct Cell {
    pub work: Work,
    /// Its place among the servers.
    pub server: usize,
    rounds: Vec<Round>,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    /// CPU time per unit, in nanoseconds.
    cost: f64,
    /// Units per second of wall-clock time.
    rate: f64,
}

impl Work {
    /// Does a round's amount; gives the units done, and the mean size of datagrams where bytes are counted.
    async fn of(self, server: &Server, amounts: &Amounts) -> anyhow::Result<(f64, f64)> {
        let client = Client::new(server)?;
        let done = match self {
            Self::Bytes { size, connections } => {
                let object = &server.objects[size];
                let times = amounts.bytes.div_ceil(object.bytes as u64);
                let delivered = client.fetch(object, connections, times).await?;
                (delivered.bytes as f64, delivered.datagram_bytes)
            }
            Self::Requests { connections } => {
                let object = &server.objects[SIZES.len()];
                client.fetch(object, connections, amounts.requests).await?;
                (amounts.requests as f64, 0.0)
            }
            Self::Handshakes => {
                client.shake_hands(amounts.handshakes).await?;
                (amounts.handshakes as f64, 0.0)
            }
        };
        client.close().await;
        Ok(done)
    }

    fn name(self) -> String {
        match self {
            Self::Bytes { size, connections } => {
                format!("ns per byte of {} KiB, {connections} connections", SIZES[size] >> 10)
            }
            Self::Requests { connections } => {
                format!("µs per request of {} KiB, {connections} connections", SMALL_BYTES >> 10)
            }
            Self::Handshakes => "µs per handshake".to_owned(),
        }
    }

    /// Nanoseconds in the unit that its costs are told in.
    fn scale(self) -> f64 {
        match self {
            Self::Bytes { .. } => 1.0,
            Self::Requests { .. } | Self::Handshakes => 1e3,
        }
    }

    /// What its rates are divided by to be told.
    fn rate_scale(self) -> (f64, &'static str) {
        match self {
            Self::Bytes { .. } => (1e6, "MB/s"),
            Self::Requests { .. } | Self::Handshakes => (1.0, "/s"),
        }
    }
}

impl Cell {
    pub fn new(work: Work, server: usize) -> Self {
        Self { work, server, rounds: vec![] }
    }

    /// Does a round and, if it counts, notes what it cost. Gives the mean size of datagrams.
    pub async fn run(&mut self, server: &Server, amounts: &Amounts, counts: bool) -> anyhow::Result<f64> {
        let (before, begun) = (cpu_of_process(server.pid())?, Instant::now());
        let (units, datagram_bytes) = self.work.of(server, amounts).await?;
        let cost = cpu_of_process(server.pid())?.saturating_sub(before).as_nanos() as f64 / units;
        if counts {
            self.rounds.push(Round { cost, rate: units / begun.elapsed().as_secs_f64() });
        }
        Ok(datagram_bytes)
    }

    /// A line: the middle cost, the lowest and highest, how many times `ours` that is, and the rate.
    pub fn line(&self, name: &str, ours: &Cell) -> String {
        let scale = self.work.scale();
        let costs = || self.rounds.iter().map(|round| round.cost / scale);
        let (low, high) =
            costs().fold((f64::MAX, 0.0f64), |(low, high), cost| (low.min(cost), high.max(cost)));
        // Round by round, since what else the machine does changes from one to the next.
        let times = median(self.rounds.iter().zip(&ours.rounds).map(|(this, ours)| this.cost / ours.cost));
        let (rate_scale, unit) = self.work.rate_scale();
        let rate = median(self.rounds.iter().map(|round| round.rate)) / rate_scale;
        let (what, cost) = (self.work.name(), median(costs()));
        format!("{what:<42} {name:<11} {cost:>9.3} {low:>9.3}–{high:<9.3} {times:>6.2} {rate:>8.0} {unit}")
    }
}
