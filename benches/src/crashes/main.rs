//! What workers cost that die, or are slow: the same job undisturbed, with a worker killed every ten tasks, and with one worker a tenth as
//! fast as the others. `benches/README.md` says how to read it.

mod crew;
mod source;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reelmill_benches::up::Up;
use reelmill_benches::usage::{Cost, Meter, median};
use reqwest::Method;
use serde_json::Value;
use tokio::time::sleep;

use self::crew::Crew;

/// Tasks done between two deaths.
const TASKS_PER_DEATH: f64 = 10.0;
/// A worker that is slow is as fast as this part of another.
const SLOW: f64 = 0.1;
/// What is not ready within this will not be.
const DEADLINE: Duration = Duration::from_secs(600);
/// How often it is looked at; far below what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Which job, and who does it.
#[derive(Debug, Parser)]
struct Options {
    /// Length of the source, in seconds
    #[arg(long, default_value_t = 960)]
    seconds: u32,
    /// Workers of one slot
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// Rounds, each of which does the job in all three ways
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Chooses who dies
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder with the release binaries
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
}

/// What happens to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Undisturbed,
    OneDiesEveryTenTasks,
    OneIsSlow,
}

/// A job that was done.
#[derive(Debug, Clone, Copy)]
struct Done {
    /// Wall-clock time from the first byte of the upload to the last closed playlist; CPU time of all processes, starts included.
    cost: Cost,
    tasks: f64,
    deaths: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.workers < 2 {
        bail!("one worker stays as it is: there must be another");
    }
    crew::adopt_orphans()?;
    let source = source::made(options.seconds)?;
    let mut rng = StdRng::seed_from_u64(options.seed);
    let (mut dying, mut slow) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let undisturbed = run(&options, &source, Fate::Undisturbed, &mut rng).await?;
        let Done { cost, tasks, .. } = undisturbed;
        println!("undisturbed: {tasks} tasks, wall {:.1} s, CPU {:.1} s", cost.wall, cost.cpu);
        for (fate, told) in [(Fate::OneDiesEveryTenTasks, &mut dying), (Fate::OneIsSlow, &mut slow)] {
            let done = run(&options, &source, fate, &mut rng).await?;
            let (wall, cpu) = (done.cost.wall / cost.wall, done.cost.cpu / cost.cpu);
            println!(
                "{fate:?}: {} deaths, wall {:.1} s, {wall:.2} times, CPU {:.1} s, {cpu:.2} times",
                done.deaths, done.cost.wall, done.cost.cpu
            );
            told.push((wall, cpu));
        }
    }
    for (what, ratios, bar) in
        [("a worker dies every ten tasks", dying, 1.25), ("one is ten times slower", slow, 1.15)]
    {
        println!(
            "{what}: wall {:.2} times the undisturbed (bar {bar}), CPU {:.2} times; median of {}",
            median(ratios.iter().map(|(wall, _)| *wall)),
            median(ratios.iter().map(|(_, cpu)| *cpu)),
            ratios.len()
        );
    }
    Ok(())
}

async fn run(options: &Options, source: &Path, fate: Fate, rng: &mut StdRng) -> anyhow::Result<Done> {
    let meter = Meter::start()?;
    let up = Up::start_with(&options.binaries, &["--slots", "1"]).await?;
    let mut crew = Crew::start(&options.binaries, &up, options.workers - 1).await?;
    let slow = match fate {
        Fate::OneIsSlow => Some(crew.slow_down(SLOW * share_of_a_core(options.workers))?),
        Fate::Undisturbed | Fate::OneDiesEveryTenTasks => None,
    };
    let body = tokio::fs::read(source).await?;
    let began = Instant::now();
    let request = up.request(Method::PUT, "/v1/uploads").body(body);
    let asset: Value = request.send().await?.error_for_status()?.json().await?;
    let id = asset["id"].as_str().context("the answer lacks an id")?;
    let mut deaths = 0;
    while up.asset(id).await?["state"] != "ready" {
        if began.elapsed() > DEADLINE {
            bail!("not ready within {} s", DEADLINE.as_secs());
        }
        let due = TASKS_PER_DEATH * f64::from(deaths + 1);
        if fate == Fate::OneDiesEveryTenTasks && tasks(&up).await? >= due {
            crew.lose(rng.random_range(0..options.workers - 1))?;
            deaths += 1;
        }
        sleep(LOOK_EVERY).await;
    }
    let (wall, tasks) = (began.elapsed().as_secs_f64(), tasks(&up).await?);
    if let Some(slow) = slow {
        slow.abort();
    }
    crew.stop()?;
    up.stop()?;
    crew::bury_orphans();
    Ok(Done { cost: Cost { cpu: meter.cpu()?, wall }, tasks, deaths })
}

async fn tasks(up: &Up) -> anyhow::Result<f64> {
    up.metric("reelmill_coordinator_tasks_done_total").await
}

/// How much of a core each of so many workers gets when all of them work.
fn share_of_a_core(workers: usize) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    f64::min(cores as f64 / workers as f64, 1.0)
}
