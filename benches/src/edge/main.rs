//! What a byte costs that an edge hands out of memory over HTTP/3, beside Caddy where that is installed.
//!
//! What counts is CPU time of the server per delivered byte, at packets of 1,452 bytes. Runs are interleaved.

mod client;
mod cpu;
mod server;

use std::path::PathBuf;

use clap::Parser;

use crate::client::Load;
use crate::server::Server;

/// Sizes of objects, in bytes.
const SIZES: [usize; 3] = [64 << 10, 1 << 20, 4 << 20];
/// Connections at once.
const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// Measures what a byte costs.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds over all cells; the first one is not counted
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Bytes per cell and round, in MiB
    #[arg(long, default_value_t = 256)]
    mebibytes: u64,
    /// Folder with the release binaries
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
}

/// One size at one number of connections, of one server.
#[derive(Debug)]
struct Cell {
    server: usize,
    size: usize,
    connections: usize,
    /// Of each counted round: CPU nanoseconds per byte, and megabytes per second.
    rounds: Vec<(f64, f64)>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let objects: Vec<Vec<u8>> = SIZES.iter().map(|size| noise(*size)).collect();
    let mut servers = vec![server::edge(&options.binaries, &objects)?];
    servers.extend(server::caddy(&objects)?);
    let names: Vec<&str> = servers.iter().map(|server| server.name).collect();
    println!("servers: {}; one core each for server and client", names.join(", "));
    cpu::pin_to(1)?;

    let mut cells: Vec<Cell> = Vec::new();
    for size in SIZES {
        for connections in CONNECTIONS {
            cells.extend((0..servers.len()).map(|server| Cell { server, size, connections, rounds: vec![] }));
        }
    }
    let mut datagram_bytes = 0.0f64;
    for round in 0..=options.rounds {
        for cell in &mut cells {
            let server = &servers[cell.server];
            let load = load(server, cell, &options);
            let before = cpu::of(server.pid())?;
            let delivered = client::run(&load).await?;
            let cpu = cpu::of(server.pid())?.saturating_sub(before);
            datagram_bytes = datagram_bytes.max(delivered.datagram_bytes);
            if round > 0 {
                let bytes = delivered.bytes as f64;
                cell.rounds.push((cpu.as_nanos() as f64 / bytes, bytes / 1e6 / delivered.seconds));
            }
        }
        eprintln!("round {round} of {}", options.rounds);
    }
    println!("largest mean UDP payload of a connection: {datagram_bytes:.0} bytes");
    println!(
        "{:>8} {:>12} {:>10} {:>14} {:>14} {:>10}",
        "object", "connections", "server", "CPU ns/byte", "lowest–highest", "MB/s"
    );
    for cell in &cells {
        let (low, middle, high) = spread(cell.rounds.iter().map(|(cost, _)| *cost));
        let (_, rate, _) = spread(cell.rounds.iter().map(|(_, rate)| *rate));
        println!(
            "{:>5} KiB {:>12} {:>10} {middle:>14.3} {:>14} {rate:>10.0}",
            cell.size >> 10,
            cell.connections,
            servers[cell.server].name,
            format!("{low:.3}–{high:.3}"),
        );
    }
    Ok(())
}

fn load<'a>(server: &'a Server, cell: &Cell, options: &Options) -> Load<'a> {
    let index = SIZES.iter().position(|size| *size == cell.size).unwrap_or_default();
    Load {
        server,
        path: &server.paths[index],
        hash: server.hashes[index],
        object_bytes: cell.size,
        connections: cell.connections,
        bytes: options.mebibytes << 20,
    }
}

/// Lowest, middle and highest.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1)))
}

/// Bytes that cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = length as u64 | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}
