//! In which order answers go on for which there was no room: the first in rank, and of equals the one that has waited longest.
//!
//! QUIC's layer wakes all of them for whatever room there is, last in, first out. The first takes it all and is then the first
//! to find none, so that of three answers the one in the middle would get nothing until another has ended.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Less goes on first: by the rank that QUIC's layer knows, then by when it was last served.
type Turn = (Reverse<i32>, u64);

/// The answers of one connection.
#[derive(Debug, Default)]
pub(super) struct Rota {
    /// Who has been woken and has not gone on yet.
    woken: Mutex<BTreeMap<Turn, Waker>>,
    connection: AtomicWaker,
    /// How often answers were served, so that no two of them were at the same time.
    served: AtomicU64,
}

impl Rota {
    /// Wakes whom QUIC's layer has woken, in their order, for as long as it is polled, which must be before the answers are.
    pub(super) async fn rouse(&self) -> Infallible {
        poll_fn(|cx| {
            // Before the look, so that nobody is missed.
            self.connection.register(cx.waker());
            let woken = mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner));
            woken.into_values().for_each(Waker::wake);
            Poll::Pending
        })
        .await
    }

    fn now(&self) -> u64 {
        self.served.fetch_add(1, Ordering::Relaxed)
    }
}

/// One answer's place among them.
#[derive(Debug)]
pub(super) struct Place {
    rota: Arc<Rota>,
    last_served: AtomicU64,
    /// Who waits, while somebody does.
    waits: Mutex<Option<(Turn, Waker)>>,
}

impl Place {
    pub(super) fn new(rota: Arc<Rota>) -> Arc<Self> {
        Arc::new(Self { last_served: rota.now().into(), rota, waits: Mutex::new(None) })
    }

    /// Tries to `write` as one of this rank; where there is no room for it, it is woken in its turn.
    pub(super) fn poll<T>(
        self: &Arc<Self>,
        rank: i32,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let turn = (Reverse(rank), self.last_served.load(Ordering::Relaxed));
        // Before the try, so that no word of room is missed.
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = Some((turn, cx.waker().clone()));
        let polled = write(&mut Context::from_waker(&self.clone().into()));
        if polled.is_ready() {
            self.last_served.store(self.rota.now(), Ordering::Relaxed);
        }
        polled
    }
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((turn, waker)) = waits {
            self.rota.woken.lock().unwrap_or_else(PoisonError::into_inner).insert(turn, waker);
            self.rota.connection.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use futures_util::stream::{FuturesUnordered, StreamExt};

    use super::*;

    /// As QUIC's layer does it: whoever finds no room waits, and all are woken in the reverse order.
    #[tokio::test]
    async fn the_first_in_rank_and_else_the_longest_unserved_goes_on_first() {
        let rota = Arc::new(Rota::default());
        let (room, blocked) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let served = Mutex::new(Vec::new());
        let ranks = [6, 6, 6, 2, 6];
        let mut answers: FuturesUnordered<_> = (0..)
            .zip(ranks)
            .map(|(number, rank)| {
                let (place, room, blocked, served) = (Place::new(rota.clone()), &room, &blocked, &served);
                async move {
                    for _ in 0..3 {
                        poll_fn(|cx| {
                            place.poll(rank, cx, |cx| match room.swap(0, Ordering::Relaxed) {
                                0 => {
                                    blocked.lock().unwrap().push(cx.waker().clone());
                                    Poll::Pending
                                }
                                _ => {
                                    served.lock().unwrap().push(number);
                                    Poll::Ready(())
                                }
                            })
                        })
                        .await;
                    }
                }
            })
            .collect();
        for _ in 0..=3 * ranks.len() {
            let _ = poll!(answers.next());
            room.store(1, Ordering::Relaxed);
            let mut woken = mem::take(&mut *blocked.lock().unwrap());
            while let Some(waker) = woken.pop() {
                waker.wake();
            }
            assert!(poll!(std::pin::pin!(rota.rouse())).is_pending());
        }
        assert_eq!(*served.lock().unwrap(), [0, 1, 2, 4, 0, 1, 2, 4, 0, 1, 2, 4, 3, 3, 3]);
    }
}
