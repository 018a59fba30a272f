//! The parent's side of a child process: start it ahead of need, hand it one job after another, answer its reads, bound it.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use reelmill_media::index::SourceIndex;
use reelmill_media::task::{Failure, FailureCode};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::exec::protocol::{
    FromChild, ImageOutput, InitOutput, Job, MAX_READ_BYTES, SegmentOutput, ToChild, decode_message,
    encode_message, message_length,
};
use crate::source_reader::SourceReader;

/// What the worker calls itself with to start a child.
pub const EXEC: &str = "exec";

/// The same for a child that may use devices.
pub const EXEC_WITH_DEVICES: &str = "exec-with-devices";

/// How often a child's memory is looked at.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// What a driver may be told by the environment, which a child is otherwise kept from: where libraries lie, and which device
/// is whose.
const DEVICE_VARIABLES: [&str; 4] =
    ["LD_LIBRARY_PATH", "LIBVA_DRIVERS_PATH", "LIBVA_DRIVER_NAME", "CUDA_VISIBLE_DEVICES"];

/// What the C library's allocator is told, where it is glibc: keep what one job frees for the next one. Not to ask for huge
/// pages: where memory is scarce the kernel takes four times as long to clear those as it does without them.
const MALLOC: &str = "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=8589934592";

/// What a child makes, as it makes it.
#[derive(Debug)]
pub enum Made {
    /// It is so far, in 1/1000.
    Progress(u16),
    /// A rendition's init segment.
    Init(InitOutput),
    /// A finished segment.
    Segment(SegmentOutput),
    /// See [`FromChild::Image`].
    Image(ImageOutput),
    /// The source's index.
    Index(Box<SourceIndex>),
    /// The index of the part of the source that is there.
    Beginning(Box<SourceIndex>),
}

/// How far a child may go.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Wall-clock time for the whole job.
    pub time: Duration,
    /// Resident memory in bytes.
    pub memory: u64,
    /// What it may say in all, in bytes.
    pub output: u64,
}

/// A child process that waits for its job.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Starts children from a program file.
#[derive(Debug, Clone)]
pub struct Nursery {
    program: PathBuf,
}

impl Nursery {
    /// Of the running program.
    pub fn of_this_program() -> std::io::Result<Self> {
        Ok(Self::of(std::env::current_exe()?))
    }

    /// Of a program that takes `exec`.
    pub fn of(program: PathBuf) -> Self {
        Self { program }
    }

    /// Starts a child that waits for a job. It inherits nothing but its pipes and this process's stderr.
    pub fn start(&self) -> std::io::Result<Child> {
        // SVT-AV1 tells its settings on stderr, unless told not to.
        let mut command = Command::new(&self.program);
        command.arg(EXEC).env_clear().env("SVT_LOG", "0").env("GLIBC_TUNABLES", MALLOC);
        Self::spawn(command.stderr(Stdio::inherit()))
    }

    /// Starts a child that waits for a job and may use the machine's encoders. Drivers talk, so it has no stderr.
    pub fn start_with_devices(&self) -> std::io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg(EXEC_WITH_DEVICES).env_clear().envs(device_environment()).stderr(Stdio::null());
        Self::spawn(&mut command)
    }

    fn spawn(command: &mut Command) -> std::io::Result<Child> {
        let mut process = command
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its own group: a Ctrl-C in the terminal is for the worker, which drains.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(std::io::Error::other("the child has no pipes"));
        };
        Ok(Child { process, input, output: BufReader::with_capacity(1 << 20, output) })
    }
}

/// The environment of a child with devices.
pub fn device_environment() -> impl Iterator<Item = (&'static str, OsString)> {
    DEVICE_VARIABLES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

fn failed(code: FailureCode, reason: impl Into<String>) -> Failure {
    Failure { code, reason: reason.into() }
}

impl Child {
    /// Runs one job to its end and sends what it makes to `made`. Dropping the future kills the child. A child whose job
    /// went well comes back for another one: of the same source, since one that was taken over would see its bytes.
    pub async fn run(
        mut self,
        job: Job,
        source: &SourceReader,
        bounds: Bounds,
        made: mpsc::Sender<Made>,
    ) -> Result<Child, Failure> {
        let deadline = Instant::now() + bounds.time;
        let pid = self.process.id();
        let ended = tokio::select! {
            ended = timeout_at(deadline, self.converse(job, source, bounds.output, &made)) => ended.unwrap_or_else(|_| {
                let seconds = bounds.time.as_secs();
                Err(failed(FailureCode::Limit, format!("the work was not done within {seconds} s and was stopped")))
            }),
            used = outgrown(pid, bounds.memory) => {
                let (used, limit) = (used >> 20, bounds.memory >> 20);
                Err(failed(FailureCode::Limit, format!("the work took {used} MiB of memory, more than the {limit} MiB allowed")))
            }
        };
        match ended {
            Ok(()) => Ok(self),
            Err(failure) => {
                // Whatever it said, it ends now.
                self.end().await;
                Err(failure)
            }
        }
    }

    /// Ends it, and waits until it has ended.
    pub async fn end(mut self) {
        let _ = self.process.start_kill();
        let _ = self.process.wait().await;
    }

    /// Its process id, until it has ended.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Bytes of memory that it holds, where the system says.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.process.id().and_then(resident_bytes)
    }

    async fn converse(
        &mut self,
        job: Job,
        source: &SourceReader,
        most: u64,
        made: &mpsc::Sender<Made>,
    ) -> Result<(), Failure> {
        self.say(&ToChild::Job(job)).await?;
        let mut left = most;
        loop {
            let Some(message) = self.hear(&mut left).await? else {
                let reason = format!("the work made more than the {} MiB allowed", most >> 20);
                return Err(failed(FailureCode::Limit, reason));
            };
            let result = match message {
                // A child is not believed: a range as long as the source would be held in our memory.
                FromChild::Read { len, .. } if len > MAX_READ_BYTES => {
                    return Err(failed(
                        FailureCode::Internal,
                        "the media process asked for too much at once",
                    ));
                }
                FromChild::Read { offset, len } => {
                    let range = offset..offset.saturating_add(u64::from(len));
                    let answer = match source.read(range).await {
                        Ok(bytes) => ToChild::Bytes(bytes),
                        Err(error) => {
                            tracing::warn!(%error, "source bytes cannot be read");
                            // The child's own word for it would blame the source.
                            return Err(error.failure());
                        }
                    };
                    self.say(&answer).await?;
                    continue;
                }
                FromChild::Progress { permille } => Made::Progress(permille),
                FromChild::Init(init) => Made::Init(init),
                FromChild::Segment(segment) => Made::Segment(segment),
                FromChild::Image(image) => Made::Image(image),
                FromChild::Index(index) => Made::Index(index),
                FromChild::Beginning(index) => Made::Beginning(index),
                FromChild::Done => return Ok(()),
                FromChild::Failed(told) => {
                    for line in &told.log {
                        tracing::debug!(line, "child");
                    }
                    return Err(told.failure);
                }
            };
            if made.send(result).await.is_err() {
                return Err(failed(FailureCode::Internal, "the results could not be stored"));
            }
        }
    }

    async fn say(&mut self, message: &ToChild) -> Result<(), Failure> {
        let written = async { self.input.write_all(&encode_message(message)?).await };
        match written.await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.died(&error).await),
        }
    }

    /// The next message; `None` when it is longer than what is `left`.
    async fn hear(&mut self, left: &mut u64) -> Result<Option<FromChild>, Failure> {
        let read = async {
            let mut prefix = [0u8; 4];
            self.output.read_exact(&mut prefix).await?;
            let length = message_length(prefix)? as u64;
            let Some(rest) = left.checked_sub(prefix.len() as u64 + length) else { return Ok(None) };
            *left = rest;
            // Grows as bytes come, so that a false length costs nothing.
            let mut bytes = Vec::new();
            (&mut self.output).take(length).read_to_end(&mut bytes).await?;
            decode_message(&bytes).map(Some)
        };
        match read.await {
            Ok(message) => Ok(message),
            Err(error) => Err(self.died(&error).await),
        }
    }

    /// The pipe broke: say how the child ended.
    async fn died(&mut self, error: &std::io::Error) -> Failure {
        let _ = self.process.start_kill();
        let reason = match self.process.wait().await {
            Ok(status) if reached_out(status) => {
                tracing::error!("a media process reached for what it must not, and was ended");
                "the media process reached for what it must not, and was ended".to_owned()
            }
            Ok(status) => format!("the media process ended early ({status})"),
            Err(_) => format!("the media process cannot be spoken to: {error}"),
        };
        failed(FailureCode::Internal, reason)
    }
}

/// Whether it died of what [`crate::confine::seal`] forbids.
fn reached_out(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::SYS.as_raw())
}

/// Resolves when the process holds more than `limit` bytes of memory. A limit on address space would be no help:
/// libav hangs on a failed allocation.
async fn outgrown(pid: Option<u32>, limit: u64) -> u64 {
    let mut ticks = interval(WATCH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(used) = pid.and_then(resident_bytes) else { continue };
        if used > limit {
            return used;
        }
    }
}

/// `VmRSS` of a process; `None` where the system does not say (elsewhere than on Linux, or the process is gone).
fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}
