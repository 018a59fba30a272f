//! What runs inside the child process: one synchronous loop that reads a job, makes it, and waits for the next one.

mod adts;
mod allowance;
mod audio;
mod cut;
pub mod encoder;
mod failure;
mod feed;
mod frames_follow;
pub mod index;
mod magic;
mod matroska;
mod mpeg_audio;
mod parent;
mod progress;
pub mod protocol;
mod stills;
mod tape;
mod video;

use std::io::{self, Read, Write};
use std::process::ExitCode;

pub use cut::NotPlanned;
use reelmill_media::task::Failure;

use parent::Parent;
use protocol::{ChildFailure, FromChild, Job, ToChild};

/// The child's main: speaks over standard input and output.
pub fn run() -> ExitCode {
    let parent = Parent::new(io::stdin(), io::stdout());
    let ended = loop {
        match serve_next(&parent) {
            Ok(true) => {}
            ended => break ended,
        }
    };
    match ended {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            // The parent knows more by the way the pipe broke; this is for a terminal.
            let _ = writeln!(io::stderr(), "reelmill-worker exec: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for one job and makes it. An error means that the parent could not be spoken to; a job that fails is a
/// message. Returns quietly when the parent closes without giving a job.
pub fn serve(from: impl Read + Send + 'static, to: impl Write + Send + 'static) -> io::Result<()> {
    serve_next(&Parent::new(from, to)).map(drop)
}

/// The same over pipes that are kept. False when the parent has closed.
fn serve_next(parent: &Parent) -> io::Result<bool> {
    let job = match parent.hear()? {
        Some(ToChild::Job(job)) => job,
        Some(ToChild::Bytes(_) | ToChild::ReadFailed(_)) => {
            return Err(io::Error::other("the first message is no job"));
        }
        None => return Ok(false),
    };
    reelmill_av::quiet();
    let ended = perform(parent, &job);
    let log = reelmill_av::take_log();
    let last = match ended {
        Ok(()) => FromChild::Done,
        Err(failure) => FromChild::Failed(ChildFailure { failure, log }),
    };
    parent.say(&last).map_err(|failure| io::Error::other(failure.reason))?;
    // A parent that is told of a failure wants no more of this process.
    Ok(matches!(last, FromChild::Done))
}

fn perform(parent: &Parent, job: &Job) -> Result<(), Failure> {
    let ended = match job {
        Job::Index { source_bytes } => index::run(parent, *source_bytes).and_then(|index| {
            parent.came_through()?;
            parent.say(&FromChild::Index(Box::new(index)))
        }),
        Job::IndexBeginning { source_bytes, there } => index::beginning(parent, *source_bytes, *there)
            .and_then(|(index, extent)| {
                parent.came_through()?;
                let index = Box::new(index);
                parent.say(&match extent {
                    index::Extent::Whole => FromChild::Index(index),
                    index::Extent::Beginning => FromChild::Beginning(index),
                })
            }),
        Job::Video(job) => video::run(parent, job),
        Job::Audio(job) => audio::run(parent, job),
    };
    parent.came_through().and(ended)
}
