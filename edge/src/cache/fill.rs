//! Bringing a blob in from peers, shield or origin, group by group, each proven before anybody sees it.

use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reelmill_media::keys;
use reelmill_platform::hash_tree::{GROUP_BYTES, HashTree};
use reelmill_platform::store::{Store, StoreError};
use reelmill_platform::verified::{VerifiedBytes, VerifiedGroup};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::MissReason;
use super::blob::Blob;
use super::failure::{AttemptError, FillError};
use super::room::{Reservation, Room};
use super::source::{Incoming, Tier};
use crate::limits::{
    FILL_ATTEMPTS, FILL_DEADLINE, FILLS_AT_ONCE, HOLDERS_ASKED, HOLDERS_PATIENCE, ORIGIN_DOWN_FOR,
    ORIGIN_HEAD_DEADLINE, PEER_FILLS_AT_ONCE, PEER_HEAD_DEADLINE,
};
use crate::metrics::{Metrics, OriginRead};
use crate::outage::Outage;
use crate::pop::{Asked, Pop};

/// Where blobs come from, each asked for a bounded number at once.
#[derive(Debug)]
pub(super) struct Sources {
    store: Store,
    pop: Option<Pop>,
    slots: Semaphore,
    peer_slots: Semaphore,
    origin_down: Outage,
    room: Room,
    metrics: Metrics,
}

/// How the bytes of one fill are proven; decided when a source first answers.
enum Proof {
    Undecided,
    /// Each group by its entry in the tree. It has proven itself, so it holds for every source.
    Groups(HashTree),
    /// Only all of it at once: it is small, or has no usable tree.
    Whole,
}

/// One fill on its way through the sources.
struct Way<'a> {
    blob: &'a Blob,
    proof: Proof,
    miss: MissReason,
    /// For what is missing, once it is known how much that is.
    reserved: Option<Reservation>,
}

impl Sources {
    pub(super) fn new(store: Store, pop: Option<Pop>, room: Room, metrics: Metrics) -> Self {
        Self {
            store,
            pop,
            slots: Semaphore::new(FILLS_AT_ONCE),
            peer_slots: Semaphore::new(PEER_FILLS_AT_ONCE),
            origin_down: Outage::default(),
            room,
            metrics,
        }
    }

    /// Fetches what is missing of a blob, for all who wait. A source that breaks off is followed by the next one, from
    /// where it stopped. `miss` says why the blob is not here.
    pub(super) async fn fill(&self, blob: &Blob, asked: Asked, miss: MissReason) -> Result<(), FillError> {
        let mut way = Way { blob, proof: Proof::Undecided, miss, reserved: None };
        let outcome = timeout(FILL_DEADLINE, self.through(&mut way, asked)).await;
        let outcome = outcome.unwrap_or(Err(FillError::Deadline));
        if !matches!(asked, Asked::IfHeld | Asked::Ahead) {
            self.metrics.miss(way.miss);
        }
        self.metrics.filled(outcome);
        outcome
    }

    async fn through(&self, way: &mut Way<'_>, asked: Asked) -> Result<(), FillError> {
        let Some(pop) = &self.pop else { return self.ask_origin(way).await };
        // Held as long as the fill takes: this edge works for a peer.
        let _taken_on = match asked {
            Asked::AsOwner => Some(pop.take_on(way.blob.hash()).ok_or(FillError::Overloaded)?),
            Asked::ByViewer | Asked::Ahead | Asked::AsShield => None,
            Asked::IfHeld => return Err(FillError::NotHeld),
        };
        if matches!(asked, Asked::ByViewer | Asked::Ahead) {
            let owners = pop.owners(way.blob.hash());
            if owners.down {
                way.miss = MissReason::PeerDown;
            }
            for owner in owners.ask {
                match self.ask_peer(way, pop, owner, Tier::Peer, Asked::AsOwner).await {
                    Ok(()) => return Ok(()),
                    // The owner has asked everybody else; the others would hear the same.
                    Err(error @ (FillError::Absent | FillError::Purged | FillError::NoRoom)) => {
                        return Err(error);
                    }
                    Err(_) => {}
                }
            }
        }
        if matches!(asked, Asked::ByViewer | Asked::Ahead | Asked::AsOwner)
            && let Some(shield) = pop.shield()
        {
            match self.ask_peer(way, pop, shield, Tier::Shield, Asked::AsShield).await {
                Ok(()) => return Ok(()),
                Err(error @ (FillError::Absent | FillError::Purged | FillError::NoRoom)) => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        self.ask_origin(way).await
    }

    /// Asks so many others, those next in rank, all at once whether they hold it, and takes it from the first that says so
    /// within `patience` and keeps its word.
    async fn ask_holders(&self, way: &mut Way<'_>, count: usize, patience: Duration) -> bool {
        let Some(pop) = &self.pop else { return false };
        let name = way.blob.name();
        let question = |address| async move {
            timeout(patience, pop.holds(address, name)).await.unwrap_or(false).then_some(address)
        };
        let mut answers: FuturesUnordered<_> =
            pop.others(name.hash()).into_iter().take(count).map(question).collect();
        while let Some(answer) = answers.next().await {
            if let Some(holder) = answer
                && self.ask_peer(way, pop, holder, Tier::Peer, Asked::IfHeld).await.is_ok()
            {
                return true;
            }
        }
        false
    }

    async fn ask_peer(
        &self,
        way: &mut Way<'_>,
        pop: &Pop,
        address: SocketAddr,
        tier: Tier,
        asked: Asked,
    ) -> Result<(), FillError> {
        let _slot = self.peer_slots.acquire().await.map_err(|_| FillError::Ended)?;
        // One that says what it holds waits for nobody.
        way.blob.set_at_peer(asked != Asked::IfHeld);
        let from = (way.blob.proven_groups() * GROUP_BYTES) as u64;
        let attempt = async {
            let opened = pop.open_blob(address, way.blob.name(), from, asked).await?;
            self.take_in(way, tier, Incoming::Peer(Box::new(opened))).await
        };
        let outcome = attempt.await;
        way.blob.set_at_peer(false);
        let Err(error) = outcome else { return Ok(()) };
        let outcome = error.outcome();
        match outcome {
            FillError::Unavailable | FillError::Deadline if error.is_silence() => {
                if asked == Asked::AsOwner {
                    way.miss = MissReason::PeerDown;
                }
            }
            FillError::Overloaded => way.miss = MissReason::Overload,
            FillError::Corrupt => {
                self.metrics.corrupt_blob(tier);
                // A tree vouches for its groups, but only the last of them for its length.
                way.proof = Proof::Undecided;
            }
            FillError::Absent
            | FillError::Unavailable
            | FillError::Deadline
            | FillError::Purged
            | FillError::Ended
            | FillError::Unwanted
            | FillError::NotHeld
            | FillError::NoRoom
            | FillError::Misdirected => {}
        }
        if outcome != FillError::NotHeld {
            tracing::warn!(hash = %way.blob.hash(), %error, "a peer did not give a blob");
        }
        Err(outcome)
    }

    /// What one edge holds is not asked of the origin again: another one owned it until edges came or went, or still has what
    /// this one had no room for. So others are asked first: briefly, and in earnest when the origin fails or has just failed.
    /// An attempt that breaks off is followed by another one.
    async fn ask_origin(&self, way: &mut Way<'_>) -> Result<(), FillError> {
        let held = if self.origin_down.is_on() {
            self.ask_holders(way, usize::MAX, PEER_HEAD_DEADLINE).await
        } else {
            self.ask_holders(way, HOLDERS_ASKED, HOLDERS_PATIENCE).await
        };
        if held {
            return Ok(());
        }
        let _slot = match timeout(ORIGIN_HEAD_DEADLINE, self.slots.acquire()).await {
            Ok(slot) => slot.map_err(|_| FillError::Ended)?,
            Err(_) => return Err(FillError::Deadline),
        };
        let mut attempt = 1;
        loop {
            let Err(error) = self.ask_origin_once(way).await else {
                self.origin_down.end();
                return Ok(());
            };
            let outcome = error.outcome();
            match outcome {
                FillError::Absent | FillError::NoRoom => return Err(outcome),
                FillError::Corrupt => self.metrics.corrupt_blob(Tier::Origin),
                FillError::Unavailable | FillError::Deadline => self.origin_down.begin(ORIGIN_DOWN_FOR),
                FillError::Purged
                | FillError::Ended
                | FillError::Unwanted
                | FillError::NotHeld
                | FillError::Overloaded
                | FillError::Misdirected => {}
            }
            tracing::warn!(hash = %way.blob.hash(), attempt, %error, "fill failed");
            // After each attempt: one that could not be reached may be there again.
            if self.ask_holders(way, usize::MAX, PEER_HEAD_DEADLINE).await {
                return Ok(());
            }
            if attempt == FILL_ATTEMPTS {
                return Err(outcome);
            }
            attempt += 1;
        }
    }

    async fn ask_origin_once(&self, way: &mut Way<'_>) -> Result<(), AttemptError> {
        self.metrics.origin_read(OriginRead::Blob);
        let blob = way.blob;
        let from = (blob.proven_groups() * GROUP_BYTES) as u64;
        let opening = self.store.open_blob(blob.name().kind(), blob.hash(), from);
        let stream = timeout(ORIGIN_HEAD_DEADLINE, opening).await.map_err(|_| AttemptError::Silent)??;
        if matches!(way.proof, Proof::Undecided) {
            way.proof = self.proof(blob, stream.length()).await;
        }
        self.take_in(way, Tier::Origin, Incoming::Origin(stream)).await
    }

    async fn take_in(
        &self,
        way: &mut Way<'_>,
        tier: Tier,
        mut incoming: Incoming,
    ) -> Result<(), AttemptError> {
        if let (Proof::Undecided, Some(tree)) = (&way.proof, incoming.tree()) {
            way.proof = Proof::Groups(tree.clone());
        }
        let proven = (way.blob.proven_groups() * GROUP_BYTES) as u64;
        let missing = incoming.length().saturating_sub(proven);
        let room = self.room.reserve(way.reserved.take(), missing).await?;
        let room = way.reserved.insert(room);
        let mut into = Into { blob: way.blob, tier, room, metrics: &self.metrics };
        match &way.proof {
            Proof::Groups(tree) => by_groups(&mut into, &mut incoming, tree).await,
            Proof::Undecided | Proof::Whole => at_once(&mut into, &mut incoming).await,
        }
    }

    async fn proof(&self, blob: &Blob, length: u64) -> Proof {
        if length <= GROUP_BYTES as u64 {
            return Proof::Whole;
        }
        self.metrics.origin_read(OriginRead::Tree);
        let key = keys::hash_tree(&blob.hash(), blob.name().kind());
        let fetched = timeout(ORIGIN_HEAD_DEADLINE, self.store.get_object(&key, HashTree::MAX_BYTES)).await;
        let encoded = match fetched {
            Ok(Ok(encoded)) => encoded,
            Ok(Err(StoreError::NotFound { .. })) => return Proof::Whole,
            Ok(Err(error)) => {
                tracing::warn!(%error, "no hash tree, the blob has to be complete first");
                return Proof::Whole;
            }
            Err(_) => return Proof::Whole,
        };
        match HashTree::decode(blob.hash(), &encoded) {
            Ok(tree) if tree.length() == length => Proof::Groups(tree),
            Ok(_) => {
                tracing::warn!(hash = %blob.hash(), length, "blob and hash tree differ in length");
                Proof::Whole
            }
            Err(error) => {
                self.metrics.corrupt_tree();
                tracing::warn!(%error, "the blob has to be complete first");
                Proof::Whole
            }
        }
    }
}

/// Where the groups of one attempt go.
struct Into<'a> {
    blob: &'a Blob,
    tier: Tier,
    room: &'a mut Reservation,
    metrics: &'a Metrics,
}

impl Into<'_> {
    fn place(&self, length: u64, group: VerifiedGroup) {
        self.metrics.brought_in(self.tier, group.bytes().len());
        self.blob.set_source(self.tier.lookup());
        self.blob.set_length(length);
        self.blob.place(group);
    }
}

async fn by_groups(
    into: &mut Into<'_>,
    incoming: &mut Incoming,
    tree: &HashTree,
) -> Result<(), AttemptError> {
    let was = if into.blob.proven_groups() > 0 { into.blob.length() } else { tree.length() };
    for is in [tree.length(), incoming.length()] {
        if is != was {
            return Err(AttemptError::Length { was, is });
        }
    }
    let mut index = into.blob.proven_groups();
    let mut missing = tree.group_length(index);
    let mut group = Vec::new();
    while missing > 0 {
        let Some(mut piece) = incoming.next().await? else { return Err(AttemptError::Short) };
        while !piece.is_empty() && missing > 0 {
            let part = piece.split_to(missing.min(piece.len()));
            // Memory of its own: a part of a piece would keep all that its source has read at once, which nobody counts.
            group.reserve_exact(missing);
            group.extend_from_slice(&part);
            missing -= part.len();
            if missing == 0 {
                let proven = tree.check(index, into.room.hold(mem::take(&mut group).into()))?;
                // Only now: the length is as good as the tree, and that has just matched a piece of the blob.
                into.blob.set_tree(tree);
                into.place(tree.length(), proven);
                index += 1;
                missing = tree.group_length(index);
            }
        }
    }
    Ok(())
}

async fn at_once(into: &mut Into<'_>, incoming: &mut Incoming) -> Result<(), AttemptError> {
    let mut bytes = BytesMut::new();
    let announced = usize::try_from(incoming.length()).unwrap_or(usize::MAX);
    while let Some(piece) = incoming.next().await? {
        if bytes.is_empty() {
            bytes.reserve(announced.max(piece.len()));
        }
        bytes.extend_from_slice(&piece);
        if bytes.len() > announced {
            return Err(AttemptError::Long);
        }
    }
    let proven = VerifiedBytes::check(into.blob.hash(), into.room.hold(bytes.freeze()))?;
    let length = proven.bytes().len() as u64;
    into.blob.set_length(length);
    proven.groups().for_each(|group| into.place(length, group));
    Ok(())
}
