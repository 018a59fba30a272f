//! Workers that fail at what others do take no more tasks, until they start anew, somebody releases them, or a day has
//! passed.
//!
//! A worker is to blame for a task when another did the same in the same way: nobody is for a source that brings everybody
//! down. As a source may do so now and then only, all blames from one asset count for no more than one worker.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::Stream;
use jiff::{SignedDuration, Timestamp};
use reelmill_media::ids::{AssetId, WorkerId};
use reelmill_media::task::TaskNumber;
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::kv::{Bucket, Followed, Written};
use reelmill_platform::topology::{BucketName, CONDUCT_TTL};
use reelmill_platform::workers::{Blame, Conduct};

use crate::assets::backoff;
use crate::fleet::Fleet;

/// Blames that put a worker into quarantine.
const ENOUGH: usize = 3;
/// They count for so long.
const COUNTS_FOR: SignedDuration = SignedDuration::from_hours(1);
/// At most one worker in so many is in quarantine: where more fail, the fault is not theirs.
const ONE_IN: usize = 3;
/// Rounds of writing and reading again before a blame is let go.
const MAX_CONFLICTS: u32 = 20;

/// What is held against workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Quarantine {
    conduct: Bucket<Conduct>,
    fleet: Fleet,
}

impl Quarantine {
    /// Opens the bucket.
    pub async fn open(bus: &Bus, fleet: Fleet) -> Result<Self, BusError> {
        Ok(Self { conduct: bus.bucket(BucketName::Conduct).await?, fleet })
    }

    /// What is held against whom, and all that changes of it: for [`Inside`].
    pub async fn follow(
        &self,
    ) -> Result<impl Stream<Item = Result<Followed<Conduct>, BusError>> + Send + 'static, BusError> {
        self.conduct.follow().await
    }

    /// Notes that a worker failed at a task that another did. The same note again changes nothing.
    pub async fn blame(&self, worker: WorkerId, asset: AssetId, number: TaskNumber) -> Result<(), BusError> {
        let key = worker.to_string();
        for attempt in 0..MAX_CONFLICTS {
            let now = Timestamp::now();
            let (mut conduct, seen) = match self.conduct.get(&key).await? {
                Some((conduct, revision)) => (conduct, Some(revision)),
                None => (Conduct::default(), None),
            };
            if !note(&mut conduct, Blame { asset, number, at: now }) {
                return Ok(());
            }
            if conduct.quarantined_at.is_none() && conduct.blames.len() >= ENOUGH {
                let fleet = self.fleet.workers().into_iter().map(|worker| worker.id).collect();
                let others =
                    self.all().await?.into_iter().filter(|(id, _)| *id != worker).collect::<Vec<_>>();
                conduct.quarantined_at = deserved(&conduct, &others, &fleet).then_some(now);
            }
            let written = match seen {
                None => self.conduct.create(&key, &conduct).await?,
                Some(revision) => self.conduct.update(&key, &conduct, revision).await?,
            };
            match written {
                Written::Stored(_) => {
                    let quarantined = conduct.quarantined_at.is_some();
                    tracing::warn!(%worker, %asset, task = number.0, quarantined, "it failed at what another did");
                    return Ok(());
                }
                Written::Conflict => tokio::time::sleep(backoff(attempt)).await,
            }
        }
        tracing::warn!(%worker, %asset, task = number.0, "a blame was not noted");
        Ok(())
    }

    /// What is held against whom.
    pub async fn all(&self) -> Result<Vec<(WorkerId, Conduct)>, BusError> {
        let all = self.conduct.list("*").await?.into_iter();
        Ok(all.filter_map(|(key, conduct)| Some((key.parse().ok()?, conduct))).collect())
    }

    /// Forgets what is held against a worker; says whether there was anything.
    pub async fn release(&self, worker: WorkerId) -> Result<bool, BusError> {
        let key = worker.to_string();
        let known = self.conduct.get(&key).await?.is_some();
        if known {
            self.conduct.remove(&key).await?;
        }
        Ok(known)
    }
}

/// Who is in quarantine, as far as it is known here.
#[derive(Debug, Default)]
pub struct Inside {
    since: BTreeMap<WorkerId, Timestamp>,
    /// All that was decided before is known.
    complete: bool,
}

impl Inside {
    /// Takes in what was decided, and says about whom.
    pub fn learn(&mut self, followed: Followed<Conduct>) -> Option<WorkerId> {
        let change = match followed {
            Followed::Change(change) => change,
            Followed::UpToDate => {
                self.complete = true;
                return None;
            }
        };
        let worker = change.key.parse().ok()?;
        match change.value.and_then(|conduct| conduct.quarantined_at) {
            Some(since) => self.since.insert(worker, since),
            None => self.since.remove(&worker),
        };
        Some(worker)
    }

    /// Whether a worker is in quarantine; nothing as long as that is not known. What is a day old has expired in silence.
    pub fn holds(&self, worker: WorkerId, now: Timestamp) -> Option<bool> {
        let day = SignedDuration::from_secs(CONDUCT_TTL.as_secs() as i64);
        self.complete.then(|| self.since.get(&worker).is_some_and(|since| now.duration_since(*since) < day))
    }
}

/// Whether a worker goes into quarantine, given what is held against it and `others`, of a `fleet` of live workers.
fn deserved(conduct: &Conduct, others: &[(WorkerId, Conduct)], fleet: &BTreeSet<WorkerId>) -> bool {
    let in_quarantine = || others.iter().filter(|(_, other)| other.quarantined_at.is_some());
    let alive = in_quarantine().filter(|(id, _)| fleet.contains(id)).count();
    let of = |conduct: &Conduct| conduct.blames.iter().map(|blame| blame.asset).collect::<BTreeSet<_>>();
    let assets = of(conduct);
    // Of one asset alone, and another worker is there for that one.
    let used_up = assets.len() == 1 && in_quarantine().any(|(_, other)| of(other) == assets);
    conduct.blames.len() >= ENOUGH && !used_up && alive < (fleet.len() / ONE_IN).max(1)
}

/// Adds a blame unless it is known, and forgets those of long ago; says whether it was new.
fn note(conduct: &mut Conduct, blame: Blame) -> bool {
    conduct.blames.retain(|known| blame.at.duration_since(known.at) < COUNTS_FOR);
    let new = !conduct.blames.iter().any(|b| (b.asset, b.number) == (blame.asset, blame.number));
    if new {
        conduct.blames.push(blame);
        let superfluous = conduct.blames.len().saturating_sub(2 * ENOUGH);
        conduct.blames.drain(..superfluous);
    }
    new
}

#[cfg(test)]
mod tests {
    use reelmill_platform::kv::{Change, Revision};

    use super::*;

    fn worker(n: u64) -> WorkerId {
        WorkerId::from_parts(n, 1)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    /// Blamed for the first `tasks` tasks of each of these assets.
    fn blamed(assets: &[u64], tasks: u32) -> Conduct {
        let mut conduct = Conduct::default();
        for asset in assets {
            for n in 0..tasks {
                let blame = Blame { asset: AssetId::from_parts(*asset, 1), number: TaskNumber(n), at: at(0) };
                assert!(note(&mut conduct, blame) && !note(&mut conduct, blame));
            }
        }
        conduct
    }

    fn quarantined(conduct: Conduct) -> Conduct {
        Conduct { quarantined_at: Some(at(1)), ..conduct }
    }

    #[test]
    fn three_chunks_are_enough_and_one_asset_condemns_one_worker() {
        let fleet: BTreeSet<_> = (0..10).map(worker).collect();
        assert!(!deserved(&blamed(&[1, 2], 1), &[], &fleet));
        assert!(deserved(&blamed(&[1], 3), &[], &fleet) && deserved(&blamed(&[1, 2, 3], 1), &[], &fleet));
        let first = [(worker(1), quarantined(blamed(&[1], 3)))];
        assert!(!deserved(&blamed(&[1], 3), &first, &fleet), "the asset may be poison now and then");
        assert!(deserved(&blamed(&[2], 3), &first, &fleet));
        assert!(deserved(&blamed(&[1, 2], 2), &first, &fleet));
    }

    #[test]
    fn at_most_a_third_of_those_that_live_are_in_quarantine_and_always_one_may_be() {
        let inside = |n: u64| (worker(n), quarantined(blamed(&[n + 10], 3)));
        let all = [inside(0), inside(1), inside(2)];
        let fleet: BTreeSet<_> = (0..9).map(worker).collect();
        assert!(deserved(&blamed(&[1], 3), &all[..2], &fleet));
        assert!(!deserved(&blamed(&[1], 3), &all, &fleet));
        let two: BTreeSet<_> = [worker(7), worker(8)].into();
        assert!(deserved(&blamed(&[1], 3), &all, &two), "those in quarantine are gone");
    }

    #[test]
    fn who_is_inside_is_known_when_all_is_read_and_for_a_day() {
        let mut inside = Inside::default();
        let said = |n, value| {
            let key = worker(n).to_string();
            Followed::Change(Change { key, revision: Revision(1), value })
        };
        inside.learn(said(1, Some(quarantined(blamed(&[1], 3)))));
        assert_eq!(inside.holds(worker(1), at(2)), None, "another word may follow");
        inside.learn(Followed::UpToDate);
        inside.learn(said(2, Some(blamed(&[1], 2))));
        let holds = |inside: &Inside, n, second| inside.holds(worker(n), at(second));
        assert_eq!((holds(&inside, 1, 2), holds(&inside, 2, 2)), (Some(true), Some(false)));
        assert_eq!((holds(&inside, 1, 86_400), holds(&inside, 1, 86_401)), (Some(true), Some(false)));
        inside.learn(said(1, None));
        assert_eq!(holds(&inside, 1, 2), Some(false), "released");
    }

    #[test]
    fn blames_of_long_ago_do_not_count_and_the_record_is_bounded() {
        let mut conduct = blamed(&[1], 2);
        let late = Blame { asset: AssetId::from_parts(2, 1), number: TaskNumber(0), at: at(3600) };
        assert!(note(&mut conduct, late));
        assert_eq!(conduct.blames, [late]);
        assert_eq!(blamed(&[1, 2, 3, 4], 5).blames.len(), 2 * ENOUGH);
    }
}
