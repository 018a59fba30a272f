//! What an edge costs that hands out what it has in memory over HTTP/3, and how soon a crowd has what it has not, beside the
//! servers that people would take instead.
//!
//! What counts is CPU time of the server, at packets of 1,452 bytes. Runs are interleaved.

mod cell;
mod client;
mod cpu;
mod crowd;
mod memory;
mod server;

use std::path::PathBuf;

use clap::Parser;
use reelmill_benches::noise::noise;

use crate::cell::{Amounts, Cell, Work};
use crate::server::Server;

/// Sizes of objects, in bytes.
const SIZES: [usize; 3] = [64 << 10, 1 << 20, 4 << 20];
/// Size of the object that counts as a small request, in bytes; it comes after the others.
const SMALL_BYTES: usize = 1 << 10;
/// Connections at once.
const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// Measures what an edge costs.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds over all cells; the first one is not counted
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Bytes per cell and round, in MiB
    #[arg(long, default_value_t = 128)]
    mebibytes: u64,
    /// Small requests per cell and round
    #[arg(long, default_value_t = 10_000)]
    requests: u64,
    /// Handshakes per cell and round
    #[arg(long, default_value_t = 300)]
    handshakes: u64,
    /// Connections whose memory is measured
    #[arg(long, default_value_t = 500)]
    memory: usize,
    /// Connections that ask at once for a cold object
    #[arg(long, default_value_t = 200)]
    crowd: usize,
    /// How long the crowd's origin takes before the first byte, in milliseconds
    #[arg(long, default_value_t = 1000)]
    origin_ms: u64,
    /// Leave the peers out
    #[arg(long)]
    alone: bool,
    /// Folder with the release binaries
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
    /// Folder with the peers' programs, Caddy aside, as scripts/http3-tools.sh makes it
    #[arg(long, default_value = ".tools/http3/bin")]
    tools: PathBuf,
}

impl Options {
    /// What the servers are made to do with files.
    fn work(&self) -> Vec<Work> {
        let mut work = Vec::new();
        if self.mebibytes > 0 {
            for size in 0..SIZES.len() {
                work.extend(CONNECTIONS.map(|connections| Work::Bytes { size, connections }));
            }
        }
        if self.requests > 0 {
            work.extend(CONNECTIONS.map(|connections| Work::Requests { connections }));
        }
        if self.handshakes > 0 {
            work.push(Work::Handshakes);
        }
        work
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    cpu::pin_to(1)?;
    println!("one core each for server and client");
    let work = options.work();
    if !work.is_empty() || options.memory > 0 {
        let contents: Vec<_> = SIZES.iter().chain([&SMALL_BYTES]).map(|size| noise(*size, 1)).collect();
        let mut servers = server::all(&options.binaries, &options.tools, &contents)?;
        if options.alone {
            servers.truncate(1);
        }
        let names: Vec<&str> = servers.iter().map(|server| server.name).collect();
        println!("servers of what they have: {}", names.join(", "));
        if !work.is_empty() {
            cost_table(&options, &servers, &work).await?;
        }
        if options.memory > 0 {
            memory_table(&servers, options.memory).await;
        }
    }
    if options.crowd > 0 {
        crowd::table(&options).await?;
    }
    Ok(())
}

async fn cost_table(options: &Options, servers: &[Server], work: &[Work]) -> anyhow::Result<()> {
    let mut cells: Vec<Cell> =
        work.iter().flat_map(|work| (0..servers.len()).map(|server| Cell::new(*work, server))).collect();
    let amounts = Amounts {
        bytes: options.mebibytes << 20,
        requests: options.requests,
        handshakes: options.handshakes,
    };
    let mut datagram_bytes = vec![0.0f64; servers.len()];
    for round in 0..=options.rounds {
        for cell in &mut cells {
            let mean = cell.run(&servers[cell.server], &amounts, round > 0).await?;
            datagram_bytes[cell.server] = datagram_bytes[cell.server].max(mean);
        }
        eprintln!("round {round} of {}", options.rounds);
    }
    println!(
        "\n{:<42} {:<11} {:>9} {:^19} {:>6} {:>8}",
        "CPU of the server", "", "middle", "all", "/ ours", "rate"
    );
    for cell in &cells {
        // Ours comes first of each kind of work.
        let ours = cells.iter().find(|other| other.work == cell.work).unwrap_or(cell);
        println!("{}", cell.line(servers[cell.server].name, ours));
    }
    println!("\nlargest mean UDP payload of a connection, in bytes:");
    for (server, mean) in servers.iter().zip(datagram_bytes) {
        println!("{:<11} {mean:.0}", server.name);
    }
    Ok(())
}

async fn memory_table(servers: &[Server], connections: usize) {
    println!("\nmemory per connection, in KiB: idle, and with 4 MiB unread");
    for server in servers {
        let (small, large) = (&server.objects[SIZES.len()], &server.objects[SIZES.len() - 1]);
        match memory::per_connection(server, small, large, connections).await {
            Ok((idle, streaming)) => println!("{:<11} {idle:>7.1} {streaming:>7.1}", server.name),
            Err(error) => println!("{:<11} {error}", server.name),
        }
    }
}
