//! What a live worker says of itself, and what coordinators hold against it.

use jiff::Timestamp;
use reelmill_media::codec::VideoCodec;
use reelmill_media::ids::{AssetId, WorkerId};
use reelmill_media::task::TaskNumber;
use serde::{Deserialize, Serialize};

/// What a worker says to all coordinators every [`SAY_EVERY`], when something of it changes, and when it is asked; who has not
/// heard of it for [`crate::topology::WORKER_TTL`] takes it for gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Who.
    pub id: WorkerId,
    /// On which machine.
    pub host: String,
    /// Version of the program.
    pub version: String,
    /// Tasks it can do at once; 0 while it drains or is in quarantine.
    pub slots: u32,
    /// Tasks it is doing.
    pub busy: u32,
    /// Since when.
    pub started_at: Timestamp,
    /// It takes no tasks until it is released: see [`Conduct`].
    #[serde(default)]
    pub quarantined: bool,
    /// These are its last words.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// Hardware encoders that have proven themselves there.
    #[serde(default)]
    pub encoders: Vec<ReadyEncoder>,
}

/// A hardware encoder that encodes, as far as it was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyEncoder {
    /// libav's name, as in `h264_nvenc`.
    pub encoder: String,
    /// What it encodes.
    pub codec: VideoCodec,
    /// Widths and heights in pixels that it was tried at, the smallest first; it takes what lies between.
    pub sizes: Vec<(u32, u32)>,
    /// Streams it was seen to encode at once.
    pub sessions: u32,
}

/// What is held against a worker, in the bucket [`crate::topology::BucketName::Conduct`]. Coordinators write it by
/// compare-and-set, and tell the worker of it when it says something else of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conduct {
    /// What it lately failed at and others did, the latest last.
    pub blames: Vec<Blame>,
    /// It is to take no tasks, since then.
    pub quarantined_at: Option<Timestamp>,
}

/// A task at which one worker failed and another did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blame {
    /// Of which asset.
    pub asset: AssetId,
    /// Which.
    pub number: TaskNumber,
    /// When the other one did it.
    pub at: Timestamp,
}

/// How often a worker says that it lives.
pub const SAY_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_of_an_older_version_is_counted_too() {
        let older = r#"{"id":"01m7z6c4488r55p09eeqkjcn50","host":"a","version":"0.1.0","slots":2,"busy":1,"started_at":"2026-01-01T00:00:00Z"}"#;
        let record: WorkerRecord = serde_json::from_str(older).unwrap();
        assert_eq!((record.slots, record.encoders), (2, vec![]));
    }
}
