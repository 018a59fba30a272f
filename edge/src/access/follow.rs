//! Follows policies and keys, and has the texts read of assets that are not for everyone.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::{BoxFuture, pending};
use futures_util::{FutureExt, Stream, StreamExt};
use reelmill_media::ids::{AssetId, TenantId};
use reelmill_platform::access::{KeyId, Policy, Subject, TokenKey};
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::kv::{Followed, Origin};
use reelmill_platform::owners::owner_of;
use reelmill_platform::topology::BucketName;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::reading::read;
use super::saved::Saved;
use super::{Access, Key};
use crate::first_coordinator::FirstCoordinator;
use crate::limits::{NAMING_SETTLES, POLICIES_SAVED_AFTER, SAVED_POLICIES_AFTER};
use crate::playlists::Playlists;
use crate::push::AGAIN;

/// Pause before texts are read again that could not be.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// Keeps an [`Access`] up to date.
pub(crate) struct Follower {
    pub(crate) access: Access,
    pub(crate) to_read: mpsc::Receiver<AssetId>,
    pub(crate) playlists: Playlists,
    pub(crate) bus: Bus,
    /// Folder for the last word.
    pub(crate) state_dir: PathBuf,
    pub(crate) first_coordinator: FirstCoordinator,
    /// The buckets of policies and keys that were followed first, by this process or the one whose last word it took up.
    pub(crate) origins: Option<[Origin; 2]>,
}

type Owned = Pin<Box<dyn Stream<Item = Result<Followed<()>, BusError>> + Send>>;

/// Keys in a bucket that have been told since a subscription began, until all that were there have been.
struct Replay(Option<HashSet<String>>);

impl Replay {
    fn begin() -> Self {
        Self(Some(HashSet::new()))
    }

    fn told(&mut self, key: &str) {
        if let Some(told) = &mut self.0 {
            told.insert(key.to_owned());
        }
    }

    /// All have been told: gives those of `held` that were not, and so are gone.
    fn end<K: ToString>(&mut self, held: impl Iterator<Item = K>) -> Vec<String> {
        let told = self.0.take().unwrap_or_default();
        held.map(|key| key.to_string()).filter(|key| !told.contains(key)).collect()
    }

    fn is_over(&self) -> bool {
        self.0.is_none()
    }
}

impl Follower {
    /// Follows until `end`. What is done twice does no harm, so after any error it begins from the start.
    pub(crate) async fn run(mut self, end: CancellationToken) {
        let bus = self.bus.clone();
        let following = async {
            let mut recalled = self.recall();
            loop {
                let outcome = tokio::select! {
                    outcome = self.follow() => Some(outcome),
                    () = silence(&bus), if recalled => None,
                };
                match outcome {
                    Some(Err(BusError::Absent { .. })) if self.origins.is_none() && !recalled => {
                        self.first_coordinator.wait().await;
                        continue;
                    }
                    Some(Err(error)) => {
                        tracing::warn!(%error, "cannot follow policies and token keys, trying again");
                    }
                    Some(Ok(())) => {
                        tracing::warn!("the subscription to policies and token keys ended, trying again");
                    }
                    None => {}
                }
                if std::mem::take(&mut recalled) {
                    self.go_by_last_word().await;
                }
                sleep(AGAIN).await;
            }
        };
        let _: Option<()> = end.run_until_cancelled(following).await;
    }

    /// Takes up what was saved. Says whether there was anything.
    fn recall(&mut self) -> bool {
        let saved = match Saved::load(&self.state_dir) {
            Ok(Some(saved)) => saved,
            Ok(None) => return false,
            Err(error) => {
                tracing::error!(%error, "cannot read what was last said of who may have what");
                return false;
            }
        };
        self.origins = saved.origins;
        for (asset, tenant) in saved.owners {
            self.access.0.owners.note_limited(asset, tenant);
        }
        for (key, policy) in saved.policies {
            self.policy(&key, Some(policy));
        }
        for (kid, key) in saved.keys {
            self.key(&kid, Some(key));
        }
        true
    }

    /// NATS says nothing: what was saved counts until it does.
    async fn go_by_last_word(&self) {
        if *self.access.0.known.borrow() {
            return;
        }
        tracing::warn!("no word of policies, going by what was said last");
        read(self.access.clone(), self.playlists.clone(), self.limited()).await;
        self.know();
    }

    /// Assets that are not for everyone.
    fn limited(&self) -> BTreeSet<AssetId> {
        let own = self.access.rules().limited_assets();
        own.into_iter()
            .chain(self.access.0.owners.all_limited().into_iter().map(|(asset, _)| asset))
            .collect()
    }

    fn save(&self, told_by: [Origin; 2]) {
        let saved = {
            let rules = self.access.rules();
            let keys = rules.keys.iter();
            Saved {
                policies: rules
                    .policies
                    .iter()
                    .map(|(subject, policy)| (subject.to_string(), policy.clone()))
                    .collect(),
                keys: keys.map(|(kid, key)| (kid.to_string(), (key.revision, key.record.clone()))).collect(),
                owners: self.access.0.owners.all_limited().into_iter().collect(),
                origins: Some(told_by),
            }
        };
        if let Err(error) = saved.save(&self.state_dir) {
            tracing::error!(%error, "cannot save who may have what");
        }
    }

    /// Ends when a subscription does.
    async fn follow(&mut self) -> Result<(), BusError> {
        let mut published = std::pin::pin!(self.bus.subscribe_published().await?);
        let policies = self.bus.bucket::<Policy>(BucketName::Policies).await?;
        let keys = self.bus.bucket::<TokenKey>(BucketName::TokenKeys).await?;
        let origins = [policies.origin().await?, keys.origin().await?];
        let mut policies = std::pin::pin!(policies.follow().await?);
        let mut keys = std::pin::pin!(keys.follow().await?);
        // A NATS that was made anew is empty first: what it has never heard of was not lifted.
        let mut told_by = *self.origins.get_or_insert(origins);
        let [policies_renewed, keys_renewed] = [0, 1].map(|which| told_by[which] != origins[which]);
        let (mut policies_told, mut keys_told) = (Replay::begin(), Replay::begin());
        // Followed only as long as it limits anybody: there is a key for every asset.
        let mut owned: Option<Owned> = None;
        let mut tenants = BTreeSet::new();
        let mut owned_replayed = true;
        // What was known before, or saved, is no news below.
        let mut unread = self.limited();
        let mut read_at = Instant::now();
        let mut reading: Option<BoxFuture<'static, BTreeSet<AssetId>>> = None;
        let mut save_at = None;
        loop {
            let replayed = policies_told.is_over() && keys_told.is_over() && owned_replayed;
            if replayed && unread.is_empty() && reading.is_none() {
                self.know();
            }
            tokio::select! {
                next = policies.next() => match next {
                    Some(Ok(Followed::Change(change))) => {
                        policies_told.told(&change.key);
                        told_by[0] = origins[0];
                        unread.extend(self.policy(&change.key, change.value));
                        save_at = Some(Instant::now() + POLICIES_SAVED_AFTER);
                    }
                    Some(Ok(Followed::UpToDate)) => {
                        let gone = policies_told.end(self.access.rules().policies.keys());
                        for gone in gone.into_iter().filter(|_| !policies_renewed) {
                            self.policy(&gone, None);
                        }
                    }
                    // Of another version, perhaps. Whatever it says, it is there to limit.
                    Some(Err(BusError::Codec { key, reason })) => {
                        tracing::error!(key, reason, "a policy cannot be read, so that a token is asked for");
                        unread.extend(self.policy(&key, Some(Policy { private: true, ..Policy::default() })));
                        policies_told.told(&key);
                    }
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
                next = keys.next() => match next {
                    Some(Ok(Followed::Change(change))) => {
                        keys_told.told(&change.key);
                        told_by[1] = origins[1];
                        let key = change.value.map(|key| (change.revision.0, key));
                        self.key(&change.key, key);
                        save_at = Some(Instant::now() + POLICIES_SAVED_AFTER);
                    }
                    Some(Ok(Followed::UpToDate)) => {
                        let gone = keys_told.end(self.access.rules().keys.keys());
                        for gone in gone.into_iter().filter(|_| !keys_renewed) {
                            self.key(&gone, None);
                        }
                    }
                    Some(Err(BusError::Codec { key, reason })) => {
                        tracing::error!(key, reason, "a token key cannot be read, and proves nothing");
                        self.key(&key, None);
                    }
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
                next = async { match &mut owned { Some(owned) => owned.next().await, None => pending().await } } => match next {
                    Some(Ok(Followed::Change(change))) => {
                        unread.extend(self.owner(&tenants, &change.key, change.value.is_some()));
                        save_at = save_at.or(Some(Instant::now() + POLICIES_SAVED_AFTER));
                    }
                    Some(Ok(Followed::UpToDate)) => owned_replayed = true,
                    Some(Err(BusError::Codec { key, .. })) => unread.extend(self.owner(&tenants, &key, true)),
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
                next = published.next() => match next {
                    Some(asset) if !self.access.policy(asset).is_open() => {
                        unread.insert(asset);
                    }
                    Some(_) => {}
                    None => return Ok(()),
                },
                Some(asset) = self.to_read.recv() => {
                    unread.insert(asset);
                }
                // A pause, so that what grows by the moment is not read at each step.
                () = sleep_until(read_at), if replayed && !unread.is_empty() && reading.is_none() => {
                    let (access, playlists) = (self.access.clone(), self.playlists.clone());
                    reading = Some(read(access, playlists, std::mem::take(&mut unread)).boxed());
                }
                left = async { match &mut reading { Some(reading) => reading.await, None => pending().await } } => {
                    reading = None;
                    read_at = Instant::now() + if left.is_empty() { NAMING_SETTLES } else { READ_AGAIN };
                    unread.extend(left);
                    // What could not be read does not hold up the rest for ever.
                    self.know();
                }
                () = async { match save_at { Some(at) => sleep_until(at).await, None => pending().await } }, if replayed => {
                    save_at = None;
                    self.save(told_by);
                }
            }
            let limited = self.access.rules().limited_tenants();
            if limited != tenants {
                self.access.0.owners.retain(&limited);
                owned = match limited.is_empty() {
                    true => None,
                    false => Some(Box::pin(self.bus.bucket::<()>(BucketName::Owners).await?.follow().await?)),
                };
                owned_replayed = limited.is_empty();
                tenants = limited;
            }
        }
    }

    /// Takes note of whose an asset is; gives it if it has to be read now.
    fn owner(&self, limited: &BTreeSet<TenantId>, key: &str, there: bool) -> Option<AssetId> {
        let (tenant, asset) = owner_of(key).filter(|(tenant, _)| limited.contains(tenant))?;
        if !there {
            self.access.0.owners.forget(asset);
            return None;
        }
        self.access.0.owners.note_limited(asset, tenant).then_some(asset)
    }

    fn know(&self) {
        self.access.0.known.send_if_modified(|known| !std::mem::replace(known, true));
    }

    /// Takes note of a policy; gives the asset that has to be read now.
    fn policy(&self, key: &str, policy: Option<Policy>) -> Option<AssetId> {
        let subject: Subject = match key.parse() {
            Ok(subject) => subject,
            Err(error) => {
                tracing::warn!(%error, "ignored");
                return None;
            }
        };
        let limited = policy.as_ref().is_some_and(|policy| !policy.is_open());
        tracing::info!(%subject, ?policy, "policy");
        match policy {
            Some(policy) => self.access.rules_mut().policies.insert(subject.clone(), policy),
            None => self.access.rules_mut().policies.remove(&subject),
        };
        self.access.0.naming.read_again();
        match subject {
            Subject::Asset(asset) => {
                self.access.0.bells.ring(asset);
                limited.then_some(asset)
            }
            Subject::Tenant(_) => {
                self.access.0.bells.ring_all();
                None
            }
        }
    }

    fn key(&self, kid: &str, key: Option<(u64, TokenKey)>) {
        let kid: KeyId = match kid.parse() {
            Ok(kid) => kid,
            Err(error) => return tracing::warn!(%error, "ignored"),
        };
        tracing::info!(%kid, withdrawn = key.is_none(), "token key");
        let mut rules = self.access.rules_mut();
        let key = key.map(|(revision, record)| Key { revision, record, streams: CancellationToken::new() });
        let before = match key {
            // Told again after a new start: what its tokens opened goes on.
            Some(key)
                if rules
                    .keys
                    .get(&kid)
                    .is_some_and(|known| known.revision == key.revision && known.record == key.record) =>
            {
                None
            }
            Some(key) => rules.keys.insert(kid, key),
            None => rules.keys.remove(&kid),
        };
        if let Some(before) = before {
            before.streams.cancel();
            drop(rules);
            self.access.0.bells.ring_all();
        }
    }
}

/// Completes when NATS cannot be reached, and could not for a while.
async fn silence(bus: &Bus) {
    loop {
        sleep(SAVED_POLICIES_AFTER).await;
        if !bus.is_connected() {
            return;
        }
    }
}
