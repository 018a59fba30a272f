//! Typed buckets whose values change only by compare-and-set.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::time::Duration;

use async_nats::jetstream::kv;
use async_nats::jetstream::stream::Info;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::bus::BusError;
use crate::connections::Connections;

/// Between two values that the server has at hand.
const ENTRY_WITHIN: Duration = Duration::from_secs(30);

/// Which bucket of a name it is: where NATS was lost, another one is made, and its revisions begin at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    created_ns: i128,
}

impl Origin {
    fn of(info: &Info) -> Origin {
        Origin { created_ns: info.created.unix_timestamp_nanos() }
    }
}

/// Which version of a value was seen; fences writes. Says nothing about a bucket of another [`Origin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// How a compare-and-set ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// The value is stored under this revision.
    Stored(Revision),
    /// Somebody else wrote first (or the server could not yet tell, or has heard this very write before its connection was
    /// lost): read again, decide again.
    Conflict,
}

/// A value that changed.
#[derive(Debug, Clone)]
pub struct Change<T> {
    /// Its key.
    pub key: String,
    /// Its revision.
    pub revision: Revision,
    /// The new value; `None` when it was removed.
    pub value: Option<T>,
}

/// A bucket of JSON values of one type. Cheap to clone.
#[derive(Debug)]
pub struct Bucket<T> {
    store: kv::Store,
    connections: Connections,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Bucket<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), connections: self.connections.clone(), kind: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> Bucket<T> {
    pub(crate) fn new(store: kv::Store, connections: Connections) -> Self {
        Self { store, connections, kind: PhantomData }
    }

    /// Asks the server, over the next connection where one is lost: whatever is asked, it may hear twice.
    async fn ask<A, E, F>(&self, key: &str, question: impl Fn() -> F) -> Result<Result<A, E>, BusError>
    where
        F: Future<Output = Result<A, E>>,
    {
        self.connections.ask(question).await.map_err(|lost| BusError::kv(key, &lost))
    }

    async fn info(&self) -> Result<Info, BusError> {
        self.ask(">", || self.store.stream.get_info()).await?.map_err(|e| BusError::kv(">", &e))
    }

    /// Which bucket it is now.
    pub async fn origin(&self) -> Result<Origin, BusError> {
        Ok(Origin::of(&self.info().await?))
    }

    /// The value and its revision; `None` when there is none. May be stale: decide only by the outcome of a write.
    pub async fn get(&self, key: &str) -> Result<Option<(T, Revision)>, BusError> {
        let entry = self.ask(key, || self.store.entry(key)).await?.map_err(|e| BusError::kv(key, &e))?;
        match entry {
            Some(entry) if entry.operation == kv::Operation::Put => {
                Ok(Some((decode(key, &entry.value)?, Revision(entry.revision))))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Stores a value where there is none.
    pub async fn create(&self, key: &str, value: &T) -> Result<Written, BusError> {
        let text = encode(key, value)?;
        match self.ask(key, || self.store.create(key, text.clone())).await? {
            Ok(revision) => Ok(Written::Stored(Revision(revision))),
            Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => Ok(Written::Conflict),
            Err(error) if is_conflict(&error) => Ok(Written::Conflict),
            Err(error) => Err(BusError::kv(key, &error)),
        }
    }

    /// Replaces the value that `seen` names.
    pub async fn update(&self, key: &str, value: &T, seen: Revision) -> Result<Written, BusError> {
        let text = encode(key, value)?;
        match self.ask(key, || self.store.update(key, text.clone(), seen.0)).await? {
            Ok(revision) => Ok(Written::Stored(Revision(revision))),
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => Ok(Written::Conflict),
            Err(error) if is_conflict(&error) => Ok(Written::Conflict),
            Err(error) => Err(BusError::kv(key, &error)),
        }
    }

    /// Stores a value without asking what was there: for facts that their owner alone writes (a heartbeat, say).
    pub async fn put(&self, key: &str, value: &T) -> Result<Revision, BusError> {
        let text = encode(key, value)?;
        let put = self.ask(key, || self.store.put(key, text.clone())).await?;
        Ok(Revision(put.map_err(|e| BusError::kv(key, &e))?))
    }

    /// Removes a value and its history.
    pub async fn remove(&self, key: &str) -> Result<(), BusError> {
        self.ask(key, || self.store.purge(key)).await?.map_err(|e| BusError::kv(key, &e))
    }

    /// Removes all keys that match `pattern` (a NATS subject pattern) at once, without a trace: watches do not see it.
    pub async fn remove_all(&self, pattern: &str) -> Result<(), BusError> {
        let subjects = format!("{}{pattern}", self.store.prefix);
        let purge = || self.store.stream.purge().filter(subjects.clone()).into_future();
        self.ask(pattern, purge).await?.map(drop).map_err(|e| BusError::kv(pattern, &e))
    }

    /// A revision that no value has which is written from now on.
    pub async fn now(&self) -> Result<Revision, BusError> {
        Ok(Revision(self.info().await?.state.last_sequence))
    }

    /// Removes all keys that match `pattern` as they were at the time of `seen`, and none that was written since. Without a
    /// trace, as [`Bucket::remove_all`].
    pub async fn remove_all_seen(&self, pattern: &str, seen: Revision) -> Result<(), BusError> {
        let subjects = format!("{}{pattern}", self.store.prefix);
        // Up to this sequence, not including it.
        let upto = seen.0.saturating_add(1);
        let purge = || self.store.stream.purge().sequence(upto).filter(subjects.clone()).into_future();
        self.ask(pattern, purge).await?.map(drop).map_err(|e| BusError::kv(pattern, &e))
    }

    /// Removes a value as it was `seen`, and none that was written since. Without a trace, as [`Bucket::remove_all`].
    pub async fn remove_seen(&self, key: &str, seen: Revision) -> Result<(), BusError> {
        self.remove_all_seen(key, seen).await
    }

    /// The present values of all keys as they are written, and nothing after the last of them.
    pub async fn texts(
        &self,
    ) -> Result<impl Stream<Item = Result<(String, Bytes), BusError>> + Send + 'static + use<T>, BusError>
    {
        let present = self.info().await?.state.messages;
        let watch = self.ask(">", || self.store.watch_with_history(">")).await?;
        let watch = watch.map_err(|e| BusError::kv(">", &e))?;
        let entries = stream::try_unfold((watch, present > 0), async |(mut watch, more)| {
            if !more {
                return Ok(None);
            }
            let next = tokio::time::timeout(ENTRY_WITHIN, watch.next()).await;
            let silent = || BusError::Kv { key: ">".to_owned(), reason: "it does not go on".to_owned() };
            let entry = next.ok().flatten().ok_or_else(silent)?.map_err(|e| BusError::kv("watch", &e))?;
            let more = entry.delta > 0;
            Ok(Some((entry, (watch, more))))
        });
        Ok(entries.try_filter_map(async |entry: kv::Entry| {
            let is_there = entry.operation == kv::Operation::Put;
            Ok(is_there.then_some((entry.key, entry.value)))
        }))
    }

    /// All keys, without their values: what is there at the call, and perhaps what comes meanwhile.
    pub async fn keys(
        &self,
    ) -> Result<impl Stream<Item = Result<String, BusError>> + Send + 'static + use<T>, BusError> {
        let keys = self.store.keys().await.map_err(|e| BusError::kv(">", &e))?;
        Ok(keys.map(|key| key.map_err(|e| BusError::kv(">", &e))))
    }

    /// Every change from now on, until the connection is lost for good or the bucket is another one.
    pub async fn changes(
        &self,
    ) -> Result<impl Stream<Item = Result<Change<T>, BusError>> + Send + 'static + use<T>, BusError>
    where
        T: 'static,
    {
        let watch = self.ask(">", || self.store.watch_all()).await?.map_err(|e| BusError::kv(">", &e))?;
        Ok(self.entries(watch).await?.map(|entry| change(entry?)))
    }

    async fn entries(
        &self,
        watch: kv::Watch,
    ) -> Result<BoxStream<'static, Result<kv::Entry, BusError>>, BusError>
    where
        T: 'static,
    {
        let news = self.connections.news();
        let (bucket, origin) = (self.clone(), self.origin().await?);
        // On the heap: a watch is large, and several may be part of one future.
        Ok(stream::try_unfold(Watching { watch, news, bucket, origin }, Watching::next).boxed())
    }

    /// All keys that match `pattern` (a NATS subject pattern), in order; while others write, some may be missing. What does not
    /// match costs nothing.
    pub async fn keys_of(&self, pattern: &str) -> Result<BTreeSet<String>, BusError> {
        let subjects = format!("{}{pattern}", self.store.prefix);
        let mut subjects =
            self.store.stream.info_with_subjects(subjects).await.map_err(|e| BusError::kv(pattern, &e))?;
        let mut keys = BTreeSet::new();
        while let Some(subject) = subjects.next().await {
            let (subject, _) = subject.map_err(|e| BusError::kv(pattern, &e))?;
            // While others write, the server may say one twice.
            keys.insert(subject.strip_prefix(&self.store.prefix).unwrap_or(&subject).to_owned());
        }
        Ok(keys)
    }

    /// The same, with their values. For recovery and lists, not for hot paths: one read per key.
    pub async fn list(&self, pattern: &str) -> Result<Vec<(String, T)>, BusError> {
        let mut found = Vec::new();
        for key in self.keys_of(pattern).await? {
            if let Some((value, _)) = self.get(&key).await? {
                found.push((key, value));
            }
        }
        Ok(found)
    }

    /// The present values of all keys, then every change, as [`Bucket::changes`]; says where the present ends and the future
    /// begins.
    pub async fn follow(
        &self,
    ) -> Result<impl Stream<Item = Result<Followed<T>, BusError>> + Send + 'static + use<T>, BusError>
    where
        T: Send + 'static,
    {
        // Counted before the watch begins: what changes in between replaces a key or adds one.
        let mut present = Some(self.info().await?.state.messages).filter(|count| *count > 0);
        let empty = present.is_none().then_some(Ok(Followed::UpToDate));
        let watch = self.ask(">", || self.store.watch_with_history(">")).await?;
        let watch = watch.map_err(|e| BusError::kv(">", &e))?;
        let changes = self.entries(watch).await?.flat_map(move |entry| {
            let last = entry.as_ref().is_ok_and(|entry| entry.delta == 0);
            let change = entry.and_then(change).map(Followed::Change);
            let left = present.map(|count| if last { 0 } else { count - 1 });
            present = left.filter(|count| *count > 0);
            let up_to_date = (left == Some(0)).then_some(Ok(Followed::UpToDate));
            stream::iter([Some(change), up_to_date].into_iter().flatten())
        });
        Ok(stream::iter(empty).chain(changes))
    }
}

/// What [`Bucket::follow`] has to say.
#[derive(Debug, Clone)]
pub enum Followed<T> {
    /// A value that is there, or changed.
    Change(Change<T>),
    /// All values that were there at the start have been told. Said once.
    UpToDate,
}

/// A watch as long as the bucket is the one that it began with.
struct Watching<T> {
    watch: kv::Watch,
    /// Changes with each connection.
    news: watch::Receiver<()>,
    bucket: Bucket<T>,
    origin: Origin,
}

impl<T: Serialize + DeserializeOwned> Watching<T> {
    async fn next(mut self) -> Result<Option<(kv::Entry, Self)>, BusError> {
        loop {
            tokio::select! {
                biased;
                // The client goes on after the last revision that it has heard: of what a new bucket held before that
                // it would say nothing.
                Ok(()) = self.news.changed() => if self.bucket.origin().await? != self.origin {
                    return Err(BusError::Renewed { bucket: self.bucket.store.name });
                },
                entry = self.watch.next() => {
                    let entry = entry.transpose().map_err(|e| BusError::kv("watch", &e))?;
                    return Ok(entry.map(|entry| (entry, self)));
                }
            }
        }
    }
}

fn change<T: DeserializeOwned>(entry: kv::Entry) -> Result<Change<T>, BusError> {
    let value = match entry.operation {
        kv::Operation::Put => Some(decode(&entry.key, &entry.value)?),
        kv::Operation::Delete | kv::Operation::Purge => None,
    };
    Ok(Change { key: entry.key, revision: Revision(entry.revision), value })
}

/// A server may refuse even the right revision while the key's last write is still being applied (error 10164), so
/// a conflict is no proof of a rival: both codes mean "read again".
fn is_conflict(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if text.contains("wrong last sequence") || text.contains("10071") || text.contains("10164") {
            return true;
        }
        next = error.source();
    }
    false
}

fn encode<T: Serialize>(key: &str, value: &T) -> Result<Bytes, BusError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|e| BusError::codec(key, &e))
}

fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, BusError> {
    serde_json::from_slice(bytes).map_err(|e| BusError::codec(key, &e))
}
