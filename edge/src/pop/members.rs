//! Who is in the PoP: those that the configuration names, and those that say so over NATS.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::edges::{EdgeRecord, SAY_EVERY};
use reelmill_platform::kv::Followed;
use reelmill_platform::topology::{BucketName, EDGE_TTL};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::first_coordinator::FirstCoordinator;
use crate::limits::MEMBERS;
use crate::metrics::Metrics;
use crate::push::AGAIN;

/// Taking one's name off the list may take so long when a drain begins.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);

/// An edge of the PoP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: Arc<str>,
    pub(super) address: SocketAddr,
    /// When it last said that it lives; nothing for those that the configuration names.
    heard: Option<Instant>,
}

impl Member {
    pub(super) fn named(name: &str, address: SocketAddr) -> Self {
        Self { name: name.into(), address, heard: None }
    }
}

/// The other edges of the PoP. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Members {
    list: Arc<RwLock<Vec<Member>>>,
    metrics: Metrics,
}

impl Members {
    pub(super) fn new(named: Vec<Member>, metrics: Metrics) -> Self {
        metrics.pop_members(named.len());
        Self { list: Arc::new(RwLock::new(named)), metrics }
    }

    pub(super) fn list(&self) -> Vec<Member> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Member>)) {
        let mut members = self.list.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut members);
        self.metrics.pop_members(members.len());
    }

    fn heard(&self, record: &EdgeRecord) {
        self.change(|members| {
            let (heard, count) = (Some(Instant::now()), members.len());
            match members.iter_mut().find(|member| *member.name == *record.name) {
                Some(member) if member.heard.is_none() => {}
                Some(member) => (member.address, member.heard) = (record.address, heard),
                None if count >= MEMBERS => tracing::warn!(record.name, "too many edges in this PoP"),
                None => {
                    tracing::info!(record.name, address = %record.address, "an edge joins the PoP");
                    let name = record.name.as_str().into();
                    members.push(Member { name, address: record.address, heard });
                }
            }
        });
    }

    fn left(&self, name: &str) {
        tracing::info!(name, "an edge leaves the PoP");
        self.change(|members| members.retain(|member| member.heard.is_none() || *member.name != *name));
    }

    fn forget_silent(&self) {
        self.change(|members| {
            members.retain(|member| {
                let silent = member.heard.is_some_and(|heard| heard.elapsed() > EDGE_TTL);
                if silent {
                    tracing::warn!(name = &*member.name, "nothing heard from an edge of the PoP");
                }
                !silent
            });
        });
    }

    /// Says that `own` lives and hears who else does, until `drain`; then it takes its name off the list, unless a newer
    /// process has `succeeded` this one and goes by the same name.
    pub(super) async fn follow(
        self,
        own: EdgeRecord,
        bus: Bus,
        first_coordinator: FirstCoordinator,
        drain: CancellationToken,
        succeeded: CancellationToken,
    ) {
        let following = async {
            loop {
                match self.follow_once(&own, &bus).await {
                    Err(BusError::Absent { .. }) => {
                        first_coordinator.wait().await;
                        continue;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot follow the edges of the PoP, trying again");
                    }
                    Ok(()) => {}
                }
                sleep(AGAIN).await;
            }
        };
        let _: Option<()> = drain.run_until_cancelled(following).await;
        if !succeeded.is_cancelled() {
            leave(&own, &bus).await;
        }
    }

    /// Until NATS fails. Those heard of stay on the list then: without NATS, no word is no sign of anything.
    async fn follow_once(&self, own: &EdgeRecord, bus: &Bus) -> Result<(), BusError> {
        let bucket = bus.bucket::<EdgeRecord>(BucketName::Edges).await?;
        let mut followed = std::pin::pin!(bucket.follow().await?);
        let mut tick = interval(SAY_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connected_since = Instant::now();
        loop {
            let next = tokio::select! {
                next = followed.next() => next,
                _ = tick.tick() => {
                    if bus.is_connected() {
                        bucket.put(&own.key(), own).await?;
                    } else {
                        connected_since = Instant::now();
                    }
                    if connected_since.elapsed() > EDGE_TTL {
                        self.forget_silent();
                    }
                    continue;
                }
            };
            let change = match next {
                Some(Ok(Followed::Change(change))) => change,
                Some(Ok(Followed::UpToDate)) => continue,
                // Of another version, perhaps.
                Some(Err(error @ BusError::Codec { .. })) => {
                    tracing::warn!(%error, "an edge of the PoP is not understood");
                    continue;
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            };
            let Some((pop, name)) = change.key.split_once('.') else { continue };
            if pop != own.pop || name == own.name {
                continue;
            }
            match &change.value {
                Some(record) => self.heard(record),
                None => self.left(name),
            }
        }
    }
}

async fn leave(own: &EdgeRecord, bus: &Bus) {
    let leaving = async { bus.bucket::<EdgeRecord>(BucketName::Edges).await?.remove(&own.key()).await };
    match timeout(LEAVE_DEADLINE, leaving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot leave the PoP in good order"),
        Err(_) => tracing::warn!("cannot leave the PoP in good order: no answer"),
    }
}
