//! Workers of one slot beside that of `reelmill up`, which are killed, and whose encoders are slowed down.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use reelmill_benches::processes::children;
use reelmill_benches::up::Up;
use rustix::process::{Pid, Signal, WaitOptions, kill_process};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// All are ready within this.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Slow encoders run and stand still in turns of this length.
const TURN: Duration = Duration::from_millis(200);

/// The workers. They are killed when dropped.
#[derive(Debug)]
pub struct Crew {
    program: PathBuf,
    arguments: Vec<String>,
    workers: Vec<Child>,
}

impl Drop for Crew {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            // It may have ended by itself.
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

impl Crew {
    /// Starts so many workers for a running Reelmill, and waits until it knows of them.
    pub async fn start(binaries: &Path, up: &Up, workers: usize) -> anyhow::Result<Crew> {
        let program = binaries.canonicalize()?.join("reelmill-worker");
        let arguments = ["--slots", "1", "--nats", &up.nats, "--store", &up.store_url()];
        let arguments = arguments.map(str::to_owned).to_vec();
        let mut crew = Crew { program, arguments, workers: Vec::new() };
        for _ in 0..workers {
            crew.workers.push(crew.another()?);
        }
        let began = Instant::now();
        while up.metric("reelmill_coordinator_live_slots").await? < (workers + 1) as f64 {
            if began.elapsed() > DEADLINE {
                bail!("the workers are not ready");
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(crew)
    }

    fn another(&self) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().context("a worker cannot be run")
    }

    /// Kills the worker at this place, as by kill -9, and starts another.
    pub fn lose(&mut self, place: usize) -> anyhow::Result<()> {
        let worker = self.workers.get_mut(place).context("nobody is there to die")?;
        worker.kill()?;
        worker.wait()?;
        self.workers[place] = self.another()?;
        Ok(())
    }

    /// Lets the first worker's encoders run such a part of the time, as long as the task does.
    pub fn slow_down(&self, part: f64) -> anyhow::Result<JoinHandle<()>> {
        let slow = self.workers.first().context("nobody is there to be slow")?.id();
        Ok(tokio::spawn(async move {
            loop {
                for (signal, part) in [(Signal::STOP, 1.0 - part), (Signal::CONT, part)] {
                    for child in children(slow) {
                        // It may have ended by itself.
                        let _ = kill_process(child, signal);
                    }
                    sleep(TURN.mul_f64(part)).await;
                }
            }
        }))
    }

    /// Stops them, and waits for whatever they have left behind, so that its CPU time is counted.
    pub fn stop(mut self) -> anyhow::Result<()> {
        for worker in &mut self.workers {
            kill_process(Pid::from_child(worker), Signal::TERM)?;
            worker.wait()?;
        }
        Ok(())
    }
}

/// Has encoders whose worker was killed become children of this process, so that their CPU time is counted as well.
pub fn adopt_orphans() -> anyhow::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Waits for all orphans; for when nobody else runs any more.
pub fn bury_orphans() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::empty()) {}
}
