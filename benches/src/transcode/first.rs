//! What a viewer waits for: the first segment of the lowest rung; and what children cost by themselves.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reelmill_benches::usage::{Cost, Meter, cpu_of_process, cpu_of_this_process, median};
use reelmill_media::task::{Outcome, Task, Work};
use reelmill_worker::child::{Child, Nursery};
use reelmill_worker::perform::Kitchen;
use serde::{Deserialize, Serialize};

use crate::ours::{Ours, store_source};

/// Children whose start and end are measured, and tasks without media.
const STARTS: usize = 15;

/// First segments measured.
const FIRSTS: usize = 5;

/// Far longer than a child takes to start.
const WARM: Duration = Duration::from_millis(500);

/// What is measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct First {
    /// The first segment of the lowest rung, in a child that waits for it: CPU time of child and parent.
    pub segment: Cost,
    /// Start of a child that ends at once: CPU seconds.
    pub start_cpu: f64,
    /// Wall-clock time of a task without media in a child that waits for it, and that ends because the task fails, in
    /// seconds.
    pub failed_task: f64,
    /// The same of such an end, which a child that is kept does without.
    pub end: f64,
}

impl First {
    /// Of a plan's first task.
    pub async fn of(kitchen: &Kitchen, ours: &Ours, nursery: &Nursery, task: &Task) -> anyhow::Result<First> {
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            let meter = Meter::start()?;
            // It hears nothing, and ends.
            Command::new(&ours.worker).arg("exec").stdin(Stdio::null()).stdout(Stdio::null()).status()?;
            starts.push(meter.cpu()?);
        }
        // A text is refused with its first bytes: what is left is what a task costs whatever its media.
        let text = store_source(&kitchen.store, b"Nothing that can be played.".as_slice()).await?;
        let nothing = Task { source: text, recipe: None, work: Work::Index, ..task.clone() };
        let (mut failed, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            let (child, idle) = (ready(nursery).await?, ready(nursery).await?);
            let began = Instant::now();
            let (outcome, _) = kitchen.perform(&nothing, child, |_| {}).await;
            failed.push(began.elapsed().as_secs_f64());
            let Outcome::Failed(_) = outcome else { bail!("a text was indexed") };
            let began = Instant::now();
            idle.end().await;
            ends.push(began.elapsed().as_secs_f64());
        }
        let mut segments = Vec::new();
        for _ in 0..FIRSTS {
            let meter = Meter::start()?;
            let child = ready(nursery).await?;
            let started = cpu_of_process(child.id().context("no child")?)? + cpu_of_this_process()?;
            let began = Instant::now();
            let (Outcome::Made { .. }, Some(child)) = kitchen.perform(task, child, |_| {}).await else {
                bail!("the first segment cannot be made");
            };
            let wall = began.elapsed().as_secs_f64();
            let parent = cpu_of_this_process()?.as_secs_f64();
            child.end().await;
            segments.push(Cost { cpu: meter.cpu()? + parent - started.as_secs_f64(), wall });
        }
        Ok(First {
            segment: Cost {
                cpu: median(segments.iter().map(|cost| cost.cpu)),
                wall: median(segments.iter().map(|cost| cost.wall)),
            },
            start_cpu: median(starts.into_iter()),
            failed_task: median(failed.into_iter()),
            end: median(ends.into_iter()),
        })
    }
}

/// A child that has had time to start.
async fn ready(nursery: &Nursery) -> anyhow::Result<Child> {
    let child = nursery.start()?;
    tokio::time::sleep(WARM).await;
    Ok(child)
}
