//! The children of a slot: one that knows an asset, and one that knows nothing yet.
//!
//! A child goes from one task of an asset to the next. It is linked and has its memory, and what it may have been talked
//! into by a hostile source concerns that source alone. No child ever sees a second asset.

use reelmill_media::ids::AssetId;

use crate::child::{Child, Nursery};

/// Tasks that a child does at most: what libraries leak, and the CPU time it is allowed in all, are for the whole of its life.
const MOST_TASKS: u32 = 32;

/// A slot's children.
#[derive(Debug)]
pub struct Seat {
    nursery: Nursery,
    fresh: Option<Child>,
    knowing: Option<(AssetId, Child)>,
    /// Tasks of the child taken last.
    tasks: u32,
}

impl Seat {
    /// Nobody is there yet.
    pub fn new(nursery: Nursery) -> Self {
        Self { nursery, fresh: None, knowing: None, tasks: 0 }
    }

    /// Starts a child ahead of need, so that no task waits for a process to start.
    pub fn prepare(&mut self) {
        if self.fresh.is_none() {
            let started = self.nursery.start();
            self.fresh = started.inspect_err(|error| tracing::error!(%error, "no media process")).ok();
        }
    }

    /// The child for a task of `asset`. One that knows another asset ends; none means that none could be started.
    pub fn take(&mut self, asset: AssetId) -> Option<Child> {
        match self.knowing.take() {
            Some((known, child)) if known == asset => {
                self.tasks += 1;
                Some(child)
            }
            Some(_) | None => {
                self.tasks = 1;
                self.fresh.take()
            }
        }
    }

    /// Keeps what came back of the child that did a task of `asset`.
    pub fn keep(&mut self, asset: AssetId, child: Option<Child>) {
        self.knowing = child.filter(|_| self.tasks < MOST_TASKS).map(|child| (asset, child));
    }

    /// Gives the memory of a child back that has nothing to do.
    pub fn rest(&mut self) {
        self.knowing = None;
    }
}
