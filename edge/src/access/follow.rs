//! Follows policies and keys, and reads the texts of assets that are not for everyone.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, pending};
use futures_util::{FutureExt, StreamExt, stream};
use reelmill_media::ids::AssetId;
use reelmill_platform::access::{KeyId, Policy, Subject, TokenKey};
use reelmill_platform::bus::{Bus, BusError};
use reelmill_platform::kv::Followed;
use reelmill_platform::named;
use reelmill_platform::topology::BucketName;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Access, Key};
use crate::limits::{NAMING_AT_ONCE, NAMING_SETTLES};
use crate::playlists::{Playlists, TextError};
use crate::push::AGAIN;
use crate::route::MutableObject;

/// Pause before texts are read again that could not be.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// Keeps an [`Access`] up to date.
pub(crate) struct Follower {
    pub(crate) access: Access,
    pub(crate) to_read: mpsc::Receiver<AssetId>,
    pub(crate) playlists: Playlists,
    pub(crate) bus: Bus,
}

impl Follower {
    /// Follows until `end`. What is done twice does no harm, so after any error it begins from the start.
    pub(crate) async fn run(mut self, end: CancellationToken) {
        let following = async {
            loop {
                if let Err(error) = self.follow().await {
                    tracing::warn!(%error, "cannot follow policies and token keys, trying again");
                } else {
                    tracing::warn!("the subscription to policies and token keys ended, trying again");
                }
                sleep(AGAIN).await;
            }
        };
        let _: Option<()> = end.run_until_cancelled(following).await;
    }

    /// Ends when a subscription does.
    async fn follow(&mut self) -> Result<(), BusError> {
        let mut published = std::pin::pin!(self.bus.subscribe_published().await?);
        let policies = self.bus.bucket::<Policy>(BucketName::Policies).await?;
        let mut policies = std::pin::pin!(policies.follow().await?);
        let keys = self.bus.bucket::<TokenKey>(BucketName::TokenKeys).await?;
        let mut keys = std::pin::pin!(keys.follow().await?);
        // How many of the two have told everything that was there.
        let mut replayed = 0;
        let mut unread = BTreeSet::new();
        let mut read_at = Instant::now();
        let mut reading: Option<BoxFuture<'static, BTreeSet<AssetId>>> = None;
        loop {
            if replayed == 2 && unread.is_empty() && reading.is_none() {
                self.know();
            }
            tokio::select! {
                next = policies.next() => match next {
                    Some(Ok(Followed::Change(change))) => unread.extend(self.policy(&change.key, change.value)),
                    Some(Ok(Followed::UpToDate)) => replayed += 1,
                    // Of another version, perhaps. Whatever it says, it is there to limit.
                    Some(Err(BusError::Codec { key, reason })) => {
                        tracing::error!(key, reason, "a policy cannot be read, so that a token is asked for");
                        unread.extend(self.policy(&key, Some(Policy { private: true, ..Policy::default() })));
                    }
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
                next = keys.next() => match next {
                    Some(Ok(Followed::Change(change))) => {
                        let key = change.value.map(|key| (change.revision.0, key));
                        self.key(&change.key, key);
                    }
                    Some(Ok(Followed::UpToDate)) => replayed += 1,
                    Some(Err(BusError::Codec { key, reason })) => {
                        tracing::error!(key, reason, "a token key cannot be read, and proves nothing");
                        self.key(&key, None);
                    }
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
                next = published.next() => match next {
                    Some(asset) if self.is_limited(asset) => {
                        unread.insert(asset);
                    }
                    Some(_) => {}
                    None => return Ok(()),
                },
                Some(asset) = self.to_read.recv() => {
                    unread.insert(asset);
                }
                // A pause, so that what grows by the moment is not read at each step.
                () = sleep_until(read_at), if replayed == 2 && !unread.is_empty() && reading.is_none() => {
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
            }
        }
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
            Subject::Asset(asset) if limited => Some(asset),
            Subject::Asset(_) | Subject::Tenant(_) => None,
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
        }
    }

    /// Whether an asset has a policy of its own that limits it.
    fn is_limited(&self, asset: AssetId) -> bool {
        self.access.rules().of(&Subject::Asset(asset)).is_some_and(|policy| !policy.is_open())
    }
}

/// Reads the texts of assets; gives those that could not be read.
async fn read(access: Access, playlists: Playlists, assets: BTreeSet<AssetId>) -> BTreeSet<AssetId> {
    let (access, playlists) = (&access, &playlists);
    stream::iter(assets)
        .map(|asset| async move { read_one(access, playlists, asset).await.err().map(|_| asset) })
        .buffer_unordered(NAMING_AT_ONCE)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .flatten()
        .collect()
}

async fn read_one(access: &Access, playlists: &Playlists, asset: AssetId) -> Result<(), TextError> {
    let index = read_text(access, playlists, MutableObject::MultivariantPlaylist(asset)).await?;
    for rendition in named::media_playlists(&index) {
        read_text(access, playlists, MutableObject::MediaPlaylist(asset, rendition)).await?;
    }
    read_text(access, playlists, MutableObject::Presentation(asset)).await.map(drop)
}

async fn read_text(
    access: &Access,
    playlists: &Playlists,
    object: MutableObject,
) -> Result<Bytes, TextError> {
    match playlists.get(&object).await.0 {
        Ok(text) => {
            access.0.naming.read(&object, &text, true);
            Ok(text.bytes().clone())
        }
        // Not yet, or not any more: nobody can learn a name from it.
        Err(TextError::Absent | TextError::Purged) => Ok(Bytes::new()),
        Err(error) => {
            tracing::warn!(key = object.key(), %error, "cannot read which blobs are not for everyone");
            Err(error)
        }
    }
}
