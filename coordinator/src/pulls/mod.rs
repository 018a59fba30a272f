//! Uploads that we fetch ourselves. Their bytes become blocks like all others; whoever fetches may die at any byte, and
//! another coordinator goes on where it stopped.

mod origin;

pub use origin::{Opener, Origin, OriginError};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use reelmill_media::ids::{AssetId, TenantId, UploadId};
use reelmill_media::source::BLOCK_BYTES;
use reelmill_media::task::{Failure, FailureCode};
use reelmill_platform::kv::Revision;
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::engine::{Engine, EngineError};
use crate::quotas::{OverQuota, Quotas};
use crate::state::{Arrival, Input};
use crate::uploads::{self, AdvanceError, BlockList, BlockReader, End, Event, FinishError, MAX_BLOCKS};
use crate::uploads::{OnCut, Phase, UploadRecord};

/// Between two looks for pulls that nobody works on: a look reads the copy at hand only.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Whoever pulls says so this often.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// A pull that nobody has spoken of for so long is taken over.
const LOST_AFTER: SignedDuration = SignedDuration::from_secs(10);
/// Of all pulls at once, those of one tenant.
const AT_ONCE_PER_TENANT: usize = 4;
/// An origin that brings less than allowed over so long is given up for this time.
const SLOW_AFTER: Duration = Duration::from_secs(10);
/// Tries in a row that brought less than [`BLOCK_BYTES`].
const MAX_FAILURES: u32 = 5;
/// Half the pause after the first of them; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// A pull, as it stands in its upload's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// From where.
    pub origin: Origin,
    /// Of what the blocks so far come from.
    pub etag: Option<String>,
    /// Failed tries since the last one that brought [`BLOCK_BYTES`].
    pub failures: u32,
}

/// Bounds on pulls.
#[derive(Debug, Clone, Copy)]
pub struct PullLimits {
    /// From its creation to its last byte.
    pub deadline: SignedDuration,
    /// Origins that bring fewer bytes in a second are cut.
    pub least_bytes_per_second: u64,
    /// Pulls at once in this process.
    pub at_once: usize,
}

/// Why a pull ended here.
#[derive(Debug, thiserror::Error)]
enum PullError {
    /// For good.
    #[error("{}", .0.reason)]
    Ended(Failure),
    /// For this time.
    #[error("{0}")]
    Failed(String),
    /// Somebody else works on it, or it was taken away.
    #[error("it is not ours any more")]
    NotOurs,
    /// Its tenant has as many uploads as it may.
    #[error("its tenant has no place for it")]
    NoPlace,
    /// This process drains.
    #[error("this process stops")]
    Draining,
    /// The store or NATS do not answer.
    #[error(transparent)]
    Finish(#[from] FinishError),
    /// The record was not changed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<AdvanceError> for PullError {
    fn from(error: AdvanceError) -> PullError {
        match error {
            AdvanceError::Raced => PullError::NotOurs,
            AdvanceError::Bus(error) => PullError::Finish(error.into()),
        }
    }
}

impl From<OriginError> for PullError {
    fn from(error: OriginError) -> PullError {
        match error {
            OriginError::Refused(reason) => {
                PullError::Ended(Failure { code: FailureCode::Unreachable, reason })
            }
            OriginError::Failed(reason) => PullError::Failed(reason),
        }
    }
}

/// Pulls. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Puller {
    engine: Engine,
    opener: Opener,
    quotas: Quotas,
    limits: PullLimits,
    in_hand: Arc<Mutex<HashMap<AssetId, TenantId>>>,
}

/// A pull in hand: what it says is ours as long as the compare-and-sets say so.
struct Hand<'a> {
    puller: &'a Puller,
    asset: AssetId,
    upload: UploadId,
    record: UploadRecord,
    revision: Revision,
}

impl Puller {
    /// Over open origins.
    pub fn new(engine: Engine, opener: Opener, quotas: Quotas, limits: PullLimits) -> Puller {
        Puller { engine, opener, quotas, limits, in_hand: Arc::default() }
    }

    /// Refuses what can be seen to be of no use before anything is called.
    pub fn check(&self, origin: &Origin) -> Result<(), OriginError> {
        self.opener.check(origin)
    }

    /// Goes on with pulls that nobody works on, until the process drains.
    pub async fn run(self, catalog: Catalog) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.engine.drain.cancelled() => return,
            }
            let now = Timestamp::now();
            for asset in catalog.unfinished() {
                let Arrival::Pulled { upload } = asset.upload.arrival else { continue };
                let idle = now.duration_since(asset.upload.touched_at);
                if asset.is_receiving() && idle > LOST_AFTER {
                    self.begin(asset.id, upload, &asset.tenant);
                }
            }
        }
    }

    /// Begins a pull if there is room for it; it has its turn later otherwise.
    pub fn begin(&self, asset: AssetId, upload: UploadId, tenant: &TenantId) {
        {
            let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
            let same_tenant = in_hand.values().filter(|other| *other == tenant).count();
            if in_hand.len() >= self.limits.at_once
                || same_tenant >= AT_ONCE_PER_TENANT
                || in_hand.contains_key(&asset)
            {
                return;
            }
            in_hand.insert(asset, tenant.clone());
        }
        let (puller, tenant) = (self.clone(), tenant.clone());
        self.engine.background.spawn(async move {
            match puller.pull_in_place(asset, upload, &tenant).await {
                Ok(()) => {}
                Err(error @ (PullError::NotOurs | PullError::NoPlace | PullError::Draining)) => {
                    tracing::debug!(%asset, %error, "left a pull");
                }
                Err(error) => tracing::warn!(%asset, %error, "a pull goes on later"),
            }
            puller.in_hand.lock().unwrap_or_else(PoisonError::into_inner).remove(&asset);
        });
    }

    /// Counts as an upload of its tenant, like one that is sent.
    async fn pull_in_place(
        &self,
        asset: AssetId,
        upload: UploadId,
        tenant: &TenantId,
    ) -> Result<(), PullError> {
        let Ok(permit) = self.quotas.take_own(tenant, upload).await else { return Err(PullError::NoPlace) };
        permit.during(self.pull(asset, upload)).await
    }

    async fn pull(&self, asset: AssetId, upload: UploadId) -> Result<(), PullError> {
        let found = self.engine.uploads.get(&upload.to_string()).await.map_err(FinishError::from)?;
        let Some((mut record, seen)) = found else { return Err(PullError::NotOurs) };
        // Whoever worked on it before is fenced off.
        record.writer = rand::random();
        let revision = uploads::advance(&self.engine.uploads, upload, &record, seen).await?;
        let mut hand = Hand { puller: self, asset, upload, record, revision };
        let ended = loop {
            match hand.attempt().await {
                Err(PullError::Failed(reason)) => match hand.pause(reason).await {
                    Ok(()) => {}
                    Err(error) => break Err(error),
                },
                ended => break ended,
            }
        };
        match ended {
            Err(PullError::Ended(failure)) => {
                self.engine.feed(asset, Input::UploadFailed(failure)).await?;
                Ok(())
            }
            ended => ended,
        }
    }
}

impl Hand<'_> {
    /// Opens the origin once, and takes what it gives.
    async fn attempt(&mut self) -> Result<(), PullError> {
        let Puller { engine, opener, limits, .. } = self.puller;
        let most = self.puller.quotas.upload_bytes(&self.record.tenant);
        if self.record.phase != Phase::Open || self.record.is_full() {
            return self.finish().await;
        }
        let Some(pull) = self.record.pull.clone() else { return Err(PullError::NotOurs) };
        self.beat().await?;
        let durable = self.record.blocks.bytes;
        let open = opener.open(&self.record.tenant, &pull.origin, durable, pull.etag.as_deref(), most);
        let opened = tokio::select! {
            opened = open => opened?,
            () = engine.drain.cancelled() => return Err(PullError::Draining),
        };
        if opened.length.is_some_and(|length| length > most) {
            return Err(self.too_large());
        }
        if opened.starts_at != durable {
            self.record.blocks = BlockList::default();
            // What was made of the others' beginning goes with them.
            engine.feed(self.asset, Input::StartOver).await?;
        }
        self.record.length = opened.length;
        self.record.pull = Some(Pull { etag: opened.etag, ..pull });
        self.store_record().await?;

        let at = self.record.blocks.bytes;
        let room = opened.length.unwrap_or(most).saturating_sub(at);
        let stop = engine.drain.child_token();
        let mut reader =
            BlockReader::new(opened.body, engine.store.clone(), at, room, OnCut::Keep, stop.clone());
        let mut beat = tokio::time::interval(BEAT_EVERY);
        let (mut since, mut before) = (Instant::now(), 0);
        let end = loop {
            tokio::select! {
                event = reader.next() => match event.map_err(FinishError::from)? {
                    Event::Received(_) => {}
                    Event::Stored(block) => {
                        if self.record.blocks.count >= MAX_BLOCKS {
                            return Err(self.too_large());
                        }
                        self.record.blocks.push(block);
                        let brought = self.record.blocks.bytes - at;
                        if let Some(pull) = self.record.pull.as_mut().filter(|_| brought >= BLOCK_BYTES as u64) {
                            pull.failures = 0;
                        }
                        uploads::fold(&engine.store, &mut self.record.blocks).await?;
                        engine.metrics.upload_bytes.inc_by(u64::from(block.bytes));
                        self.store_record().await?;
                        uploads::overlap::grown(engine, self.upload, &self.record).await?;
                    }
                    Event::Ended(end) => break end,
                },
                _ = beat.tick() => {
                    self.beat().await?;
                    if since.elapsed() >= SLOW_AFTER {
                        let least = limits.least_bytes_per_second * SLOW_AFTER.as_secs();
                        if reader.received() - before < least {
                            // What came is kept.
                            stop.cancel();
                        }
                        (since, before) = (Instant::now(), reader.received());
                    }
                }
            }
        };
        match end {
            End::Whole => {}
            End::Cut | End::Idle | End::Wrong => {
                return Err(PullError::Failed("The origin broke off.".to_owned()));
            }
            End::TooLong if self.record.length.is_none() => return Err(self.too_large()),
            End::TooLong => {
                return Err(PullError::Failed("The origin sends more bytes than it said.".to_owned()));
            }
            End::Draining if engine.drain.is_cancelled() => return Err(PullError::Draining),
            End::Draining => {
                let least = limits.least_bytes_per_second;
                return Err(PullError::Failed(format!("The origin sends less than {least} bytes a second.")));
            }
        }
        if self.record.length.is_none() {
            self.record.length = Some(self.record.blocks.bytes);
            self.store_record().await?;
        }
        if !self.record.is_full() {
            return Err(PullError::Failed("The origin sent fewer bytes than it said.".to_owned()));
        }
        self.finish().await
    }

    async fn finish(&self) -> Result<(), PullError> {
        let (record, revision) = (self.record.clone(), self.revision);
        Ok(uploads::finish(&self.puller.engine, self.upload, record, revision).await?)
    }

    async fn store_record(&mut self) -> Result<(), PullError> {
        self.record.touched_at = Timestamp::now();
        let uploads = &self.puller.engine.uploads;
        self.revision = uploads::advance(uploads, self.upload, &self.record, self.revision).await?;
        Ok(())
    }

    /// Says that somebody works on it, and sees whether it is still wanted and in time.
    async fn beat(&self) -> Result<(), PullError> {
        let UploadRecord { blocks, length, created_at, .. } = &self.record;
        if Timestamp::now().duration_since(*created_at) > self.puller.limits.deadline {
            let reason = "The origin did not bring all bytes in time.".to_owned();
            return Err(PullError::Ended(Failure { code: FailureCode::Unreachable, reason }));
        }
        let news = Input::UploadProgress { bytes: blocks.bytes, length: *length };
        let asset = self.puller.engine.feed(self.asset, news).await?;
        if asset.is_receiving() { Ok(()) } else { Err(PullError::NotOurs) }
    }

    /// Waits after a failed try, or ends the pull after too many.
    async fn pause(&mut self, reason: String) -> Result<(), PullError> {
        let Some(pull) = &mut self.record.pull else { return Err(PullError::NotOurs) };
        pull.failures += 1;
        if pull.failures >= MAX_FAILURES {
            return Err(PullError::Ended(Failure { code: FailureCode::Unreachable, reason }));
        }
        let until = Instant::now() + FIRST_PAUSE * (1 << pull.failures);
        tracing::debug!(asset = %self.asset, reason, failures = pull.failures, "a pull is tried again");
        self.store_record().await?;
        while Instant::now() < until {
            self.beat().await?;
            tokio::select! {
                () = tokio::time::sleep(BEAT_EVERY.min(until.saturating_duration_since(Instant::now()))) => {}
                () = self.puller.engine.drain.cancelled() => return Err(PullError::Draining),
            }
        }
        Ok(())
    }

    fn too_large(&self) -> PullError {
        let limit = self.puller.quotas.upload_bytes(&self.record.tenant);
        let reason = OverQuota::TooLarge { limit }.to_string();
        PullError::Ended(Failure { code: FailureCode::TooLarge, reason })
    }
}
