//! What a live edge says of itself to the others of its PoP.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// An edge's record in the bucket [`crate::topology::BucketName::Edges`], put anew every [`SAY_EVERY`]; it vanishes
/// [`crate::topology::EDGE_TTL`] after the last time, and at once when the edge drains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRecord {
    /// The place it stands in.
    pub pop: String,
    /// Its name, one of a kind in its PoP.
    pub name: String,
    /// Where peers ask it.
    pub address: SocketAddr,
    /// Version of the program.
    pub version: String,
}

impl EdgeRecord {
    /// Its key in the bucket.
    pub fn key(&self) -> String {
        format!("{}.{}", self.pop, self.name)
    }
}

/// How often an edge says that it lives.
pub const SAY_EVERY: std::time::Duration = std::time::Duration::from_secs(5);
