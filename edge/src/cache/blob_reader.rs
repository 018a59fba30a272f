//! A part of a blob on its way to somebody: each group as soon as it is proven, and of the first one a little until all who waited
//! for it have that much.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use reelmill_platform::hash_tree::GROUP_BYTES;
use tokio_stream::wrappers::WatchStream;

use super::blob::{Blob, Progress};
use super::failure::FillError;
use crate::range::ByteRange;

/// What a reader who has waited gets before all others have as much: with the head of its answer it fits into one packet.
const FIRST_BYTES: usize = 768;

/// A part of a blob, read group by group.
#[derive(Debug)]
pub(crate) struct BlobReader {
    blob: Arc<Blob>,
    at: u64,
    end: u64,
    /// Listens only once there was something to wait for.
    changes: Option<WatchStream<Progress>>,
    turn: Turn,
}

/// Where a reader stands among all who waited for the first group.
#[derive(Debug)]
enum Turn {
    /// Its first bytes are due.
    First,
    /// The others' first bytes are.
    Later(WatchStream<usize>),
    /// There is nobody to wait for.
    Free,
}

impl BlobReader {
    pub(crate) fn new(blob: Arc<Blob>, range: ByteRange) -> Self {
        let turn = if blob.is_whole() { Turn::Free } else { Turn::First };
        Self { at: range.start, end: range.end.min(blob.length()), blob, changes: None, turn }
    }

    /// How many bytes are left.
    pub(crate) fn length(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    pub(crate) fn blob(&self) -> &Arc<Blob> {
        &self.blob
    }

    /// The next bytes, at most a group.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FillError>>> {
        loop {
            if self.length() == 0 {
                return Poll::Ready(None);
            }
            if self.blob.revoked().is_cancelled() {
                return Poll::Ready(Some(Err(FillError::Purged)));
            }
            if let Turn::Later(crowd) = &mut self.turn {
                match ready!(Pin::new(crowd).poll_next(cx)) {
                    Some(1..) => continue,
                    Some(0) | None => self.turn = Turn::Free,
                }
            }
            if let Some(bytes) = self.take_next() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            if let Some(changes) = &mut self.changes {
                match ready!(Pin::new(changes).poll_next(cx)) {
                    Some(Progress::Failed(error)) => return Poll::Ready(Some(Err(error))),
                    Some(Progress::Asked | Progress::AtPeer | Progress::Growing | Progress::Whole) => {}
                    None => return Poll::Ready(Some(Err(FillError::Ended))),
                }
            } else {
                // Begins with the present state, so that nothing that happened just now is missed.
                self.changes = Some(WatchStream::new(self.blob.watch_progress()));
            }
        }
    }

    fn take_next(&mut self) -> Option<Bytes> {
        let index = usize::try_from(self.at).ok()? / GROUP_BYTES;
        let groups = self.blob.groups();
        let group = groups.get(index)?.bytes();
        let begins = (index * GROUP_BYTES) as u64;
        let from = usize::try_from(self.at - begins).ok()?;
        let most = if matches!(self.turn, Turn::First) { FIRST_BYTES } else { GROUP_BYTES };
        let to = usize::try_from(self.end - begins).unwrap_or(usize::MAX).min(group.len()).min(from + most);
        let bytes = (from < to).then(|| group.slice(from..to))?;
        drop(groups);
        if matches!(self.turn, Turn::First) {
            self.turn = Turn::Later(WatchStream::new(self.blob.watch_crowd()));
        }
        self.at += bytes.len() as u64;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::poll;
    use reelmill_media::ids::BlobHash;
    use reelmill_media::keys::BlobKind;
    use reelmill_platform::verified::VerifiedBytes;

    use super::super::live::{Found, Live};
    use super::*;
    use crate::route::PublicBlob;

    #[tokio::test]
    async fn nobody_gets_more_before_all_who_waited_have_something() {
        let content = Bytes::from(vec![7; GROUP_BYTES + 1]);
        let (hash, length) = (BlobHash::of(&content), content.len() as u64);
        let name = PublicBlob::new(hash, BlobKind::Segment).unwrap();
        let (Found::New(blob) | Found::Live(blob)) = Live::default().find(name);
        let [mut first, mut second, mut leaves] = [0; 3].map(|_| Box::pin(blob.ready()));
        for waiting in [&mut first, &mut second, &mut leaves] {
            assert!(poll!(waiting).is_pending());
        }
        blob.set_length(length);
        VerifiedBytes::check(hash, content).unwrap().groups().for_each(|group| blob.place(group));

        let mut readers = Vec::new();
        for waiting in [&mut first, &mut second] {
            waiting.await.unwrap();
            let mut reader = BlobReader::new(blob.clone(), ByteRange { start: 0, end: length });
            let piece = poll_fn(|cx| reader.poll_next(cx)).await.unwrap().unwrap();
            assert_eq!(piece.len(), FIRST_BYTES);
            assert!(poll!(poll_fn(|cx| reader.poll_next(cx))).is_pending(), "others wait");
            readers.push(reader);
        }
        drop(leaves);
        for reader in &mut readers {
            for bytes in [GROUP_BYTES - FIRST_BYTES, 1] {
                assert_eq!(poll_fn(|cx| reader.poll_next(cx)).await.unwrap().unwrap().len(), bytes);
            }
        }
        // Who comes now has nobody to wait for.
        blob.ready().await.unwrap();
        let mut reader =
            BlobReader::new(blob.clone(), ByteRange { start: GROUP_BYTES as u64 - 1, end: length });
        for _ in 0..2 {
            assert_eq!(poll_fn(|cx| reader.poll_next(cx)).await.unwrap().unwrap().len(), 1);
        }
    }
}
