//! Decisions of the schedule on one core: which task is next, and what the record says afterwards.

use reelmill_benches::usage::cpu_of_this_process;
use reelmill_coordinator::schedule::{Demand, PerClass, Schedule};
use reelmill_media::ids::AssetId;
use reelmill_media::task::TaskNumber;
use reelmill_platform::kv::Revision;

/// Decisions taken.
const DECISIONS: u64 = 1_000_000;
/// Assets of each tenant.
const PER_TENANT: u64 = 20;
/// Tasks of each asset: more than are picked of any.
const TASKS: u32 = 1_000_000;

/// Prints decisions per second of CPU time.
pub fn run(in_flight: u64) -> anyhow::Result<()> {
    let mut schedule = Schedule::default();
    for n in 0..in_flight {
        schedule.see(AssetId::from_parts(n, 1), Revision(1), Some(demand(n, TaskNumber(1))?));
    }
    let before = cpu_of_this_process()?;
    let mut taken = 0;
    while taken < DECISIONS {
        for (asset, upto) in schedule.round(usize::MAX, 32) {
            taken += 1;
            // As the feeder does when the turn is written into the record.
            let next = TaskNumber(upto.0 + 1);
            let written = demand(asset.unix_ms(), next)?;
            schedule.see(asset, Revision(1 + taken), Some(written));
            schedule.settle(asset);
        }
    }
    let spent = (cpu_of_this_process()? - before).as_secs_f64();
    println!("decisions: {:.0} a second of CPU time, {in_flight} assets in flight", taken as f64 / spent);
    Ok(())
}

fn demand(n: u64, next: TaskNumber) -> anyhow::Result<Demand> {
    let each = PerClass { publish: 1000, ladder: 3000 };
    Ok(Demand {
        tenant: format!("tenant-{}", n / PER_TENANT).parse()?,
        next,
        ordinary: TaskNumber(1),
        end: TaskNumber(TASKS),
        room: 1,
        out: PerClass::default(),
        mean_ms: each,
        backlog_ms: each,
    })
}
