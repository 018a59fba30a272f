//! How soon a crowd that asks at once for what a server has yet to fetch from a slow origin gets its first bytes, and how often
//! the origin is asked for it.

mod contender;
mod viewer;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use reelmill_benches::origin::Origin;
use reelmill_benches::usage::median;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::{self, BlobKind};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::contender::{Contender, OURS};
use self::viewer::Protocol;
use crate::Options;
use crate::server::Server;

const SEGMENT_BYTES: usize = 4 << 20;
/// Between two pieces of 64 KiB: 4 MiB in about a second.
const ORIGIN_PAUSE: Duration = Duration::from_millis(15);

/// A crowd that is served takes less.
const DEADLINE: Duration = Duration::from_secs(60);

/// What one crowd saw.
struct Round {
    /// When the first, the middle and the last one had the first bytes, in milliseconds.
    first: f64,
    middle: f64,
    last: f64,
    /// Requests for the segment that the origin got.
    reads: u64,
}

/// Measures, and prints the table.
pub async fn table(options: &Options) -> anyhow::Result<()> {
    let Options { rounds, crowd: size, origin_ms, alone, .. } = *options;
    let pauses = (Duration::from_millis(origin_ms), ORIGIN_PAUSE);
    let origin = Origin::start(rounds + 1, SEGMENT_BYTES, pauses).await?;
    let (address, binaries, tools) = (origin.address, options.binaries.clone(), options.tools.clone());
    // Ours asks the origin, which runs here, before it is ready.
    let mut contenders = spawn_blocking(move || contender::all(address, &binaries, &tools)).await??;
    contenders.retain(|contender| !alone || contender.name == OURS);
    let mut seen: Vec<Vec<Round>> = contenders.iter().map(|_| Vec::new()).collect();
    for (number, path) in origin.paths.iter().enumerate() {
        for (contender, seen) in contenders.iter().zip(&mut seen) {
            let Some(server) = &contender.server else { continue };
            let who = || format!("{} over {}", contender.name, contender.protocol.name());
            let round = timeout(DEADLINE, ask(contender.protocol, server, &origin, path, size)).await;
            let round = round.with_context(who)?.with_context(who)?;
            if number > 0 {
                seen.push(round);
            }
        }
        eprintln!("crowd {number} of {rounds}");
    }
    println!(
        "\nms to the first bytes of a cold segment of {} MiB for {size} connections at once, its origin's after {origin_ms} ms",
        SEGMENT_BYTES >> 20
    );
    println!(
        "{:<11} {:<8} {:>7} {:>7} {:>7} {:>11} {:>16}",
        "", "", "first", "middle", "last", "last/first", "origin requests"
    );
    for (contender, seen) in contenders.iter().zip(&seen) {
        println!("{}", line(contender, seen));
    }
    Ok(())
}

/// All of a crowd ask at once, and one more, who reads all of it, when they have their first bytes.
async fn ask(
    protocol: Protocol,
    server: &Server,
    origin: &Origin,
    path: &str,
    size: usize,
) -> anyhow::Result<Round> {
    let crowd = protocol.viewers(server, size + 1).await?;
    let (late, crowd) = crowd.split_first().context("nobody")?;
    let (reads, begun) = (origin.reads(), Instant::now());
    let asking = crowd.iter().map(async |viewer| {
        let mut answer = viewer.get(path).await?;
        answer.first().await?;
        anyhow::Ok((begun.elapsed().as_secs_f64() * 1e3, answer))
    });
    let (mut times, answers): (Vec<f64>, Vec<_>) = try_join_all(asking).await?.into_iter().unzip();
    let answer = late.get(path).await?;
    drop(answers);
    let hash = BlobHash::of(&answer.rest().await?);
    ensure!(*path == format!("/{}", keys::blob(&hash, BlobKind::Segment)), "wrong bytes");
    times.sort_by(f64::total_cmp);
    Ok(Round {
        first: times[0],
        middle: times[size / 2],
        last: times[size - 1],
        reads: origin.reads() - reads,
    })
}

/// The middle of each figure over the rounds, and the most requests.
fn line(contender: &Contender, rounds: &[Round]) -> String {
    let who = format!("{:<11} {:<8}", contender.name, contender.protocol.name());
    if contender.server.is_none() {
        return format!("{who} not here");
    }
    let middle = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
    format!(
        "{who} {:>7.0} {:>7.0} {:>7.0} {:>11.2} {:>16}",
        middle(|round| round.first),
        middle(|round| round.middle),
        middle(|round| round.last),
        middle(|round| round.last / round.first),
        rounds.iter().map(|round| round.reads).max().unwrap_or_default()
    )
}
