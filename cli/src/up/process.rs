//! One supervised child process: started, restarted when it dies, stopped in order.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// A process is ready within this, or the start has failed.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A process that was told to stop has this long before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// Deaths within [`DEATH_WINDOW`] after which a process is given up.
const MAX_DEATHS: usize = 5;
const DEATH_WINDOW: Duration = Duration::from_secs(60);

/// Lines of a log that are shown when its process cannot be started.
const SHOWN_LINES: usize = 5;

/// How to start a process.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// What people call it.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where it writes what it has to say.
    pub log: PathBuf,
}

/// A process that is meant to run.
#[derive(Debug)]
pub struct Process {
    recipe: Recipe,
    child: Child,
    deaths: Vec<Instant>,
}

impl Process {
    /// Starts it. Each run's log begins anew; that of the run before is kept beside it.
    pub fn start(recipe: Recipe) -> anyhow::Result<Process> {
        let _ = std::fs::rename(&recipe.log, recipe.log.with_extension("log.old"));
        let child = spawn(&recipe)?;
        Ok(Process { recipe, child, deaths: Vec::new() })
    }

    /// What people call it.
    pub fn name(&self) -> &'static str {
        self.recipe.name
    }

    /// Its process id, as long as it lives.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until `ready` yields something, and fails at once when the process dies first.
    pub async fn until<T>(&mut self, mut ready: impl FnMut(&Process) -> Option<T>) -> anyhow::Result<T> {
        let started = Instant::now();
        loop {
            if let Some(found) = ready(self) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at its start ({status}){}", self.name(), self.last_words());
            }
            if started.elapsed() > READY_DEADLINE {
                bail!(
                    "{} was not ready within {} s{}",
                    self.name(),
                    READY_DEADLINE.as_secs(),
                    self.last_words()
                );
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for the ready file that the process writes.
    pub async fn until_ready_file<T: DeserializeOwned>(&mut self, file: &Path) -> anyhow::Result<T> {
        self.until(|_| std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok())).await
    }

    /// Returns when the process has died.
    pub async fn died(&mut self) -> std::io::Result<std::process::ExitStatus> {
        self.child.wait().await
    }

    /// Starts it again, unless it dies again and again.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        self.deaths.retain(|death| now.duration_since(*death) < DEATH_WINDOW);
        self.deaths.push(now);
        if self.deaths.len() > MAX_DEATHS {
            let seconds = DEATH_WINDOW.as_secs();
            bail!("{} died {} times within {seconds} s{}", self.name(), self.deaths.len(), self.last_words());
        }
        self.child = spawn(&self.recipe)?;
        Ok(())
    }

    /// Tells it to stop and waits; kills it when it takes too long.
    pub async fn stop(&mut self) {
        self.signal(Signal::TERM);
        if timeout(STOP_DEADLINE, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }

    /// Ends it at once.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    fn signal(&self, signal: Signal) {
        let pid = self.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.recipe.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        format!("; the end of {}:\n{}", self.recipe.log.display(), shown.join("\n"))
    }
}

fn spawn(recipe: &Recipe) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(&recipe.log);
    let log = log.with_context(|| format!("cannot write {}", recipe.log.display()))?;
    // setpriv makes a child die with us, however we die; without it an orphan may stay after a kill -9.
    let mut command = match crate::open::find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(&recipe.program);
            command
        }
        None => Command::new(&recipe.program),
    };
    command
        .args(&recipe.arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Its own group: a Ctrl-C in the terminal is for us, and we stop them in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| anyhow!("cannot start {} ({}): {error}", recipe.name, recipe.program.display()))
}
