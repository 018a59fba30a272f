//! What a live worker says of itself.

use jiff::Timestamp;
use reelmill_media::ids::WorkerId;
use serde::{Deserialize, Serialize};

/// A worker's record in the bucket [`crate::topology::BucketName::Workers`], put anew every [`SAY_EVERY`]; it vanishes
/// [`crate::topology::WORKER_TTL`] after the last time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Who.
    pub id: WorkerId,
    /// On which machine.
    pub host: String,
    /// Version of the program.
    pub version: String,
    /// Tasks it can do at once; 0 while it drains.
    pub slots: u32,
    /// Tasks it is doing.
    pub busy: u32,
    /// Since when.
    pub started_at: Timestamp,
}

/// How often a worker says that it lives.
pub const SAY_EVERY: std::time::Duration = std::time::Duration::from_secs(10);
