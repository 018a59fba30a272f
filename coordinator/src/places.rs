//! Places for uploads of tenants that may have few at once. They hold over all coordinators, which share one record per
//! tenant and change it by compare-and-set only. A place is its upload's: whoever goes on with the upload, at whichever
//! coordinator, takes over its place, also from a coordinator that has died. A dead one's other places run out, by the clock of
//! whoever has not heard of it for so long: clocks of different machines are never compared.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reelmill_media::ids::TenantId;
use reelmill_platform::bus::BusError;
use reelmill_platform::kv::{Bucket, Written};
use reelmill_platform::topology::PLACE_TTL;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::assets::backoff;
use crate::quotas::OverQuota;

/// Three tries before a place has run out.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// Rounds of writing and reading again before an upload is refused.
const MAX_CONFLICTS: u32 = 20;

/// A tenant's places that are taken, by what takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    places: BTreeMap<String, Holder>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// A number of the process's own.
    process: u64,
    /// Another one each time that the process writes: it lives.
    said: u64,
}

impl Taken {
    /// What one process holds, said anew. What others hold stays while they live, also what they took over from it.
    fn renewed<'a>(
        mut self,
        holder: Holder,
        held: impl Iterator<Item = &'a String>,
        lives: impl Fn(u64) -> bool,
    ) -> Taken {
        self.places.retain(|_, other| other.process != holder.process && lives(other.process));
        for name in held {
            self.places.entry(name.clone()).or_insert(holder);
        }
        self
    }

    /// One more, if there are not `limit` others.
    fn with(mut self, holder: Holder, name: &str, limit: u32) -> Result<Taken, OverQuota> {
        self.places.insert(name.to_owned(), holder);
        if self.places.len() > limit as usize { Err(OverQuota::TooManyAtOnce { limit }) } else { Ok(self) }
    }
}

/// What each process said last, and when this one read it first.
#[derive(Debug, Default)]
struct Heard(BTreeMap<u64, (u64, Instant)>);

impl Heard {
    /// Takes note of a record, read now.
    fn listen(&mut self, taken: &Taken, now: Instant) {
        let said: BTreeMap<u64, u64> = taken.places.values().map(|h| (h.process, h.said)).collect();
        let since = |process, said| match self.0.get(&process) {
            Some((known, since)) if *known == said => *since,
            Some(_) | None => now,
        };
        self.0 = said.into_iter().map(|(process, said)| (process, (said, since(process, said)))).collect();
    }

    /// Whether it has said something lately.
    fn lives(&self, process: u64, now: Instant) -> bool {
        self.0.get(&process).is_some_and(|(_, since)| now.duration_since(*since) < PLACE_TTL)
    }
}

/// The places of all tenants that are limited; of others, there is no end. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Places {
    tenants: Arc<HashMap<TenantId, Arc<Tenant>>>,
    left: Arc<Notify>,
}

#[derive(Debug)]
struct Tenant {
    id: TenantId,
    limit: u32,
    bucket: Bucket<Taken>,
    process: u64,
    /// How often this process has written.
    said: AtomicU64,
    /// Of the others.
    heard: Mutex<Heard>,
    /// What this process holds, by a number of each time that it was taken.
    held: Mutex<BTreeMap<String, u64>>,
    /// The record says more than that.
    unsaid: AtomicBool,
    left: Arc<Notify>,
    /// This process writes one thing after the other.
    turn: tokio::sync::Mutex<()>,
}

/// A place that is held until it is dropped.
#[derive(Debug)]
pub struct Place {
    tenant: Arc<Tenant>,
    name: String,
    number: u64,
}

impl Places {
    /// So many for each tenant.
    pub fn new(bucket: &Bucket<Taken>, limits: impl Iterator<Item = (TenantId, NonZeroU32)>) -> Places {
        let (process, left) = (rand::random(), Arc::new(Notify::new()));
        let tenants = limits.map(|(id, limit)| {
            let tenant = Tenant {
                id: id.clone(),
                limit: limit.get(),
                bucket: bucket.clone(),
                process,
                said: AtomicU64::new(0),
                heard: Mutex::default(),
                held: Mutex::default(),
                unsaid: AtomicBool::new(false),
                left: left.clone(),
                turn: tokio::sync::Mutex::default(),
            };
            (id, Arc::new(tenant))
        });
        Places { tenants: Arc::new(tenants.collect()), left }
    }

    /// A place for what is called so; none is needed where there is no limit.
    pub async fn take(&self, tenant: &TenantId, name: String) -> Result<Option<Place>, OverQuota> {
        match self.tenants.get(tenant) {
            Some(tenant) => tenant.take(name).await.map(Some),
            None => Ok(None),
        }
    }

    /// Keeps what is held, and says what was left, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEW_EVERY) => {}
                () = self.left.notified() => {}
                () = stop.cancelled() => return,
            }
            for tenant in self.tenants.values() {
                if tenant.unsaid.load(Ordering::Relaxed) || !tenant.held().is_empty() {
                    tenant.say().await;
                }
            }
        }
    }
}

impl Place {
    /// Leaves it, and waits until all coordinators can know.
    pub async fn leave(self) {
        if self.tenant.forget(&self.name, self.number) {
            self.tenant.say().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.tenant.forget(&self.name, self.number) {
            self.tenant.left.notify_one();
        }
    }
}

impl Tenant {
    async fn take(self: &Arc<Self>, name: String) -> Result<Place, OverQuota> {
        let is_full = {
            let held = self.held();
            held.len() >= self.limit as usize && !held.contains_key(&name)
        };
        if is_full {
            return Err(OverQuota::TooManyAtOnce { limit: self.limit });
        }
        let _turn = self.turn.lock().await;
        self.change(|taken, holder| taken.with(holder, &name, self.limit)).await?;
        let number = rand::random();
        self.held().insert(name.clone(), number);
        Ok(Place { tenant: self.clone(), name, number })
    }

    /// Makes the record say what is held.
    async fn say(&self) {
        let _turn = self.turn.lock().await;
        self.unsaid.store(false, Ordering::Relaxed);
        if self.change(|taken, _| Ok(taken)).await.is_err() {
            self.unsaid.store(true, Ordering::Relaxed);
        }
    }

    /// Changes the record, which otherwise says what is held.
    async fn change(
        &self,
        next: impl Fn(Taken, Holder) -> Result<Taken, OverQuota>,
    ) -> Result<(), OverQuota> {
        for attempt in 0..MAX_CONFLICTS {
            match self.try_change(&next).await {
                Ok(Ok(Written::Stored(_))) => return Ok(()),
                Ok(Ok(Written::Conflict)) => tokio::time::sleep(backoff(attempt)).await,
                Ok(Err(over)) => return Err(over),
                Err(error) => {
                    tracing::warn!(tenant = %self.id, %error, "its places for uploads cannot be told");
                    return Err(OverQuota::Unknown);
                }
            }
        }
        Err(OverQuota::Unknown)
    }

    async fn try_change(
        &self,
        next: impl Fn(Taken, Holder) -> Result<Taken, OverQuota>,
    ) -> Result<Result<Written, OverQuota>, BusError> {
        let key = self.id.to_string();
        let (taken, seen) = self.bucket.get(&key).await?.unzip();
        let (taken, now) = (taken.unwrap_or_default(), Instant::now());
        let holder = Holder { process: self.process, said: self.said.fetch_add(1, Ordering::Relaxed) };
        let taken = {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.listen(&taken, now);
            taken.renewed(holder, self.held().keys(), |other| heard.lives(other, now))
        };
        let taken = match next(taken, holder) {
            Ok(taken) => taken,
            Err(over) => return Ok(Err(over)),
        };
        let written = match seen {
            None => self.bucket.create(&key, &taken).await?,
            Some(seen) => self.bucket.update(&key, &taken, seen).await?,
        };
        Ok(Ok(written))
    }

    /// Whether it was still held by this number.
    fn forget(&self, name: &str, number: u64) -> bool {
        let mut held = self.held();
        let is_held = held.get(name) == Some(&number);
        if is_held {
            held.remove(name);
            self.unsaid.store(true, Ordering::Relaxed);
        }
        is_held
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(taken: &Taken) -> Vec<(&str, u64)> {
        taken.places.iter().map(|(name, holder)| (name.as_str(), holder.process)).collect()
    }

    fn by(process: u64, said: u64) -> Holder {
        Holder { process, said }
    }

    #[test]
    fn places_are_counted_over_all_processes() {
        let taken = Taken::default().with(by(1, 0), "a", 2).unwrap().with(by(2, 0), "b", 2).unwrap();
        assert_eq!(taken.clone().with(by(2, 1), "c", 2), Err(OverQuota::TooManyAtOnce { limit: 2 }));
        let over = taken.with(by(2, 1), "a", 2).unwrap();
        assert_eq!(names(&over), [("a", 2), ("b", 2)], "who goes on with an upload takes its place");
        let held = ["a".to_owned()];
        let again = over.clone().renewed(by(1, 1), held.iter(), |_| true);
        assert_eq!(again, over, "what was taken over is not taken back");
        let left = over.renewed(by(2, 2), held.iter(), |_| true);
        assert_eq!(names(&left), [("a", 2)], "what was left is free");
    }

    #[test]
    fn who_says_nothing_for_long_is_gone_whatever_its_clock_says() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let taken =
            |said| Taken::default().with(by(1, said), "a", 2).unwrap().with(by(2, 5), "b", 2).unwrap();
        let mut heard = Heard::default();
        let mut living = |said, seconds| {
            heard.listen(&taken(said), at(seconds));
            [1, 2, 3].map(|process| heard.lives(process, at(seconds)))
        };
        assert_eq!(living(0, 0), [true, true, false], "nobody is gone who was read of just now");
        assert_eq!(living(1, 9), [true, true, false]);
        assert_eq!(living(2, 18), [true, false, false]);
        let none: [String; 0] = [];
        let left = taken(2).renewed(by(3, 0), none.iter(), |process| process == 1);
        assert_eq!(names(&left), [("a", 1)]);
    }
}
