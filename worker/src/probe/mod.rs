//! Which encoders this machine has: each candidate is proven by encoding, in a process of its own.
//!
//! A device's presence proves nothing, and a driver may crash, hang or hand out green pictures. So a child
//! ([`trial`]) encodes with each candidate, under a deadline; what it says, or how it dies, is the [`Verdict`].
//! [`ready::Encoders`] keeps what passed, and has it proven again when devices come and go or an encoder failed in work.

pub(crate) mod devices;
pub mod ready;
mod reason;
pub mod report;
pub mod trial;

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use reelmill_av::{Family, Hardware, VideoEngine};
use reelmill_media::codec::VideoCodec;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::child::device_environment;

/// What the worker calls itself with to try an encoder.
pub const TRIAL: &str = "trial";

/// Time for one candidate, in all sizes and sessions. A driver takes half a second to start, and a device encodes 4K
/// faster than it is played; a machine full of work slows the software decoder that looks at the result.
const DEADLINE: Duration = Duration::from_secs(20);

/// Bytes of a child's answer; it takes hundreds.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// Bytes kept of what a driver writes to stderr.
const STDERR_BYTES: usize = 4 << 10;

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It encodes.
    Ready(Ready),
    /// It does not.
    Refused {
        /// Why, in a sentence without its full stop.
        reason: String,
    },
    /// libav was built without it.
    NotBuilt,
}

/// An encoder that has proven itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The encoder, with the device that it was proven on.
    pub engine: VideoEngine,
    /// Version of the library that does the work, where it is software and tells.
    pub version: Option<String>,
    /// Sizes tried and passed, in pixels, the smallest first.
    pub sizes: Vec<(u32, u32)>,
    /// Encoders of this kind that were open at once, at most [`trial::MOST_SESSIONS`]; `None` for software, which has no
    /// limit.
    pub sessions: Option<u32>,
}

impl Ready {
    /// Whether pictures of this size are no smaller than the smallest proven and no larger than some proven.
    pub fn fits(&self, width: u32, height: u32) -> bool {
        self.sizes.first().is_some_and(|(w, h)| width >= *w && height >= *h)
            && self.sizes.iter().any(|(w, h)| width <= *w && height <= *h)
    }
}

/// A candidate and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// libav's name.
    pub encoder: &'static str,
    /// `software`, or how the device is reached.
    pub family: &'static str,
    /// What it encodes.
    pub codec: VideoCodec,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Finding {
    /// What became of `engine`.
    pub fn of(engine: VideoEngine, verdict: Verdict) -> Self {
        Self { encoder: engine.name(), family: family_name(engine), codec: engine.codec(), verdict }
    }
}

/// `software`, or how the device is reached.
fn family_name(engine: VideoEngine) -> &'static str {
    engine.family().map_or("software", Family::name)
}

/// Tries encoders, each in a child of this program.
#[derive(Debug, Clone)]
pub struct Prober {
    program: PathBuf,
    deadline: Duration,
}

impl Prober {
    /// With children of the running program.
    pub fn of_this_program() -> std::io::Result<Self> {
        Ok(Self::of(std::env::current_exe()?, DEADLINE))
    }

    /// With children of a program that takes [`TRIAL`], each of which ends within `deadline`.
    pub fn of(program: PathBuf, deadline: Duration) -> Self {
        Self { program, deadline }
    }

    /// Tries the software encoder of a codec.
    pub async fn software(&self, codec: VideoCodec) -> Finding {
        let engine = VideoEngine::software(codec);
        Finding::of(engine, self.prove(engine).await)
    }

    /// Tries a hardware encoder, if libav has it.
    pub async fn candidate(&self, hardware: Hardware) -> Finding {
        let engine = VideoEngine::Hardware(hardware);
        let verdict = if hardware.is_built() { self.prove(engine).await } else { Verdict::NotBuilt };
        Finding::of(engine, verdict)
    }

    /// Tries one encoder. Dropping the future kills the child.
    pub async fn prove(&self, engine: VideoEngine) -> Verdict {
        match timeout(self.deadline, self.ask(engine)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => Verdict::Refused { reason: format!("it could not be tried: {error}") },
            Err(_) => {
                let seconds = self.deadline.as_secs();
                Verdict::Refused { reason: format!("it did not finish within {seconds} s and was stopped") }
            }
        }
    }

    async fn ask(&self, engine: VideoEngine) -> std::io::Result<Verdict> {
        let mut child = Command::new(&self.program)
            .arg(TRIAL)
            .arg(serde_json::to_string(&engine)?)
            .env_clear()
            .envs(device_environment())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(std::io::Error::other("the child has no pipes"));
        };
        let mut answer = Vec::new();
        let mut stdout = stdout.take(MAX_ANSWER_BYTES);
        let (read, said) = tokio::join!(stdout.read_to_end(&mut answer), tail(stderr));
        read?;
        let status = child.wait().await?;
        let verdict = status.success().then(|| serde_json::from_slice(&answer).ok()).flatten();
        Ok(verdict.unwrap_or_else(|| Verdict::Refused { reason: death(status, &said) }))
    }
}

/// How a child ended that said nothing.
fn death(status: ExitStatus, said: &str) -> String {
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    let said = last.map(|line| format!("; its last words: {line}")).unwrap_or_default();
    format!("it took its process down ({status}){said}")
}

/// The end of what is written there, all of which is read, or the writer would wait for ever.
async fn tail(mut from: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; STDERR_BYTES];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(&piece[..read]);
        kept.drain(..kept.len().saturating_sub(STDERR_BYTES));
    }
    String::from_utf8_lossy(&kept).chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}
