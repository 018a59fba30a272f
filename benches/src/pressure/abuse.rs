//! What hostile clients do, and what others then wait.
//!
//! Abuse comes from a process of its own that runs only while nobody else wants its core (`chrt --idle`), so that what others wait
//! is the edge's doing.

mod flood;
mod handshakes;
mod readers;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;
use reelmill_benches::origin::Origin;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::edge::Edge;
use crate::viewers::{Viewers, Waits};

/// What viewers watch: one segment, in memory. What abusers ask for: those after it.
const WATCHED: usize = 0;
/// Segments at the origin, and the bytes of one.
const SEGMENTS: usize = 64;
const SEGMENT_BYTES: usize = 256 << 10;

/// Time for abuse to take hold, and for what is left of it to go.
const SETTLES: Duration = Duration::from_secs(2);

/// What is done to the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Abuse {
    /// 500 connections that ask for segments and take next to nothing of them
    SlowReaders,
    /// First packets of handshakes that never go on, and TCP connections that say nothing
    HalfOpen,
    /// Small requests from one address, as fast as they can be sent
    Requests,
    /// Header sections a little below the limit, and above it
    Headers,
    /// Connections that are opened, used once and closed
    Churn,
    /// Requests for many small ranges of a segment
    Ranges,
}

impl Abuse {
    fn name(self) -> &'static str {
        match self {
            Self::SlowReaders => "slow-readers",
            Self::HalfOpen => "half-open",
            Self::Requests => "requests",
            Self::Headers => "headers",
            Self::Churn => "churn",
            Self::Ranges => "ranges",
        }
    }
}

/// Where the edge is, and what there is.
pub struct Target {
    edge: SocketAddr,
    certificate: CertificateDer<'static>,
    paths: Vec<String>,
}

/// Abuses the edge until this process is killed.
pub async fn run(kind: Abuse, edge: SocketAddr, certificate: &Path, paths: &[String]) -> anyhow::Result<()> {
    let certificate = CertificateDer::from_pem_file(certificate)?;
    let target = Target { edge, certificate, paths: paths.to_vec() };
    match kind {
        Abuse::SlowReaders => readers::slow(&target).await,
        Abuse::Ranges => readers::ranges(&target).await,
        Abuse::HalfOpen => handshakes::half_open(&target).await,
        Abuse::Churn => handshakes::churn(&target).await,
        Abuse::Requests => flood::requests(&target).await,
        Abuse::Headers => flood::headers(&target).await,
    }
}

/// A process that abuses the edge until it is dropped.
struct Abuser(Child);

impl Abuser {
    fn start(kind: Abuse, edge: &Edge, origin: &Origin) -> anyhow::Result<Self> {
        let mut command = Command::new("chrt");
        command.args(["--idle", "0"]).arg(std::env::current_exe()?).args(["abuse", kind.name()]);
        command.arg(edge.address.to_string()).arg(&edge.certificate_file).args(&origin.paths[WATCHED + 1..]);
        Ok(Self(command.spawn().context("cannot start the abuser by chrt")?))
    }
}

impl Drop for Abuser {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was seen of one kind of abuse.
struct Row {
    kind: Abuse,
    calm: Waits,
    abused: Waits,
    /// Share of the edge's core, without and with it.
    cpu: (f64, f64),
    /// What the edge refused or ended, per second.
    refused: f64,
}

/// Prints what viewers wait with and without each kind of abuse.
pub async fn table(binaries: &Path, rounds: usize, seconds: u64, only: Option<Abuse>) -> anyhow::Result<()> {
    let kinds = Abuse::value_variants().iter().filter(|kind| only.is_none_or(|only| **kind == only));
    let mut rows: Vec<Row> = kinds
        .map(|kind| Row {
            kind: *kind,
            calm: Waits::default(),
            abused: Waits::default(),
            cpu: (0.0, 0.0),
            refused: 0.0,
        })
        .collect();
    let origin = Origin::start(SEGMENTS, SEGMENT_BYTES, (Duration::ZERO, Duration::ZERO)).await?;
    let edge = Edge::start(binaries, &origin, &[]).await?;
    let viewers = Viewers::connect(&edge).await?;
    let time = Duration::from_secs(seconds);
    let watch = async || -> anyhow::Result<(Waits, f64, f64)> {
        let (cpu, begun) = (edge.cpu()?, Instant::now());
        let refused = async || -> anyhow::Result<f64> {
            Ok(edge.metric("excesses_total").await?
                + edge.metric("refused_connections_total").await?
                + edge.metric("handshake_failures_total").await?)
        };
        let before = refused().await?;
        let waits = viewers.watch(&origin.paths[WATCHED], SEGMENT_BYTES, time).await?;
        let past = begun.elapsed().as_secs_f64();
        Ok((waits, (edge.cpu()? - cpu).as_secs_f64() / past, (refused().await? - before) / past))
    };
    // What is made once, for the first requests.
    watch().await?;
    for round in 1..=rounds {
        for row in &mut rows {
            let (waits, calm_cpu, _) = watch().await?;
            row.calm.add(waits);
            let abuser = Abuser::start(row.kind, &edge, &origin)?;
            tokio::time::sleep(SETTLES).await;
            let (waits, cpu, refused) = watch().await?;
            drop(abuser);
            row.abused.add(waits);
            row.cpu = (row.cpu.0 + calm_cpu / rounds as f64, row.cpu.1 + cpu / rounds as f64);
            row.refused += refused / rounds as f64;
            tokio::time::sleep(SETTLES).await;
        }
        eprintln!("round {round} of {rounds}");
    }
    println!("ms until a viewer has all of {} KiB, of {rounds} x {seconds} s each", SEGMENT_BYTES >> 10);
    println!(
        "{:<14} {:>8} {:>8} {:>12} {:>12} {:>8} {:>14} {:>11}",
        "abuse", "p50", "p99", "p50 abused", "p99 abused", "p99 /", "edge CPU, %", "refused/s"
    );
    for row in &mut rows {
        let [calm, abused] = [&mut row.calm, &mut row.abused].map(|w| (w.quantile(0.5), w.quantile(0.99)));
        println!(
            "{:<14} {:>8.2} {:>8.2} {:>12.2} {:>12.2} {:>8.2} {:>6.0} to {:<4.0} {:>11.0}",
            row.kind.name(),
            calm.0,
            calm.1,
            abused.0,
            abused.1,
            abused.1 / calm.1,
            100.0 * row.cpu.0,
            100.0 * row.cpu.1,
            row.refused,
        );
    }
    Ok(())
}
