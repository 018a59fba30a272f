//! Datagrams for an endpoint that came in elsewhere: at the socket of another one, or over a relay.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quinn::udp::RecvMeta;

use crate::limits::INBOX_DATAGRAMS;

/// What waits for an endpoint.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<VecDeque<(RecvMeta, Box<[u8]>)>>);

impl Inbox {
    /// Puts one datagram in; false when there is no room, and it is lost.
    pub(super) fn put(&self, meta: &RecvMeta, datagram: &[u8]) -> bool {
        let mut waiting = self.lock();
        if waiting.len() == INBOX_DATAGRAMS {
            return false;
        }
        let alone = RecvMeta { len: datagram.len(), stride: datagram.len(), ..*meta };
        waiting.push_back((alone, datagram.into()));
        true
    }

    /// Takes out one for each buffer, while there are any; gives how many. One that does not fit is lost.
    pub(super) fn take(&self, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let (mut waiting, mut taken) = (self.lock(), 0);
        for (buffer, meta) in buffers.iter_mut().zip(metas) {
            let Some((alone, datagram)) = waiting.pop_front() else { break };
            *meta = alone;
            match buffer.get_mut(..datagram.len()) {
                Some(place) => place.copy_from_slice(&datagram),
                None => meta.len = 0,
            }
            taken += 1;
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(RecvMeta, Box<[u8]>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out_in_order_and_what_finds_no_room_is_lost() {
        let (inbox, from) = (Inbox::default(), "192.0.2.1:7".parse().unwrap());
        // As they come in together: cut from one piece.
        let meta = RecvMeta { addr: from, len: 3000, stride: 1000, ..RecvMeta::default() };
        let datagram = |number: usize| [number.to_le_bytes().as_slice(), &[7; 20]].concat();
        for number in 0..INBOX_DATAGRAMS {
            assert!(inbox.put(&meta, &datagram(number)));
        }
        assert!(!inbox.put(&meta, &datagram(INBOX_DATAGRAMS)));
        let (mut space, mut number) = ([[0; 64]; 3], 0);
        loop {
            let mut metas = [RecvMeta::default(); 3];
            let taken = inbox.take(&mut space.each_mut().map(|one| IoSliceMut::new(one)), &mut metas);
            for (meta, bytes) in metas.iter().zip(&space).take(taken) {
                assert_eq!((meta.addr, meta.len, meta.stride), (from, 28, 28));
                assert_eq!(bytes[..28], datagram(number));
                number += 1;
            }
            if taken < metas.len() {
                break;
            }
        }
        assert_eq!(number, INBOX_DATAGRAMS);
        assert!(inbox.put(&meta, &[7; 65]) && inbox.put(&meta, &datagram(1)));
        let mut metas = [RecvMeta::default(); 3];
        assert_eq!(inbox.take(&mut space.each_mut().map(|one| IoSliceMut::new(one)), &mut metas), 2);
        assert_eq!((metas[0].len, metas[1].len), (0, 28), "it does not fit");
    }
}
