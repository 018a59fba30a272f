//! The task that drives all connections of an endpoint.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;
use quinn::udp::{self, BATCH_SIZE, RecvMeta};
use quinn_proto::{ConnectionHandle, DatagramEvent, EcnCodepoint, Transmit};
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use super::endpoint::{Inner, Shared};
use super::link::Link;

/// The most that one datagram takes.
const DATAGRAM_BYTES: usize = 65_535;
/// What one call gives the kernel at most, in bytes: a whole packet of IP's has to hold it, with its headers.
const CALL_BYTES: usize = 65_000;
/// So often, at most, packets are fetched before somebody speaks.
const FETCHES: usize = 8;
/// So many connections speak, at most, before packets are fetched.
const SPEAKERS: usize = 32;

/// Drives the connections of one endpoint.
pub(super) struct Driver {
    shared: Arc<Shared>,
    /// Who is to speak next.
    due: VecDeque<ConnectionHandle>,
    /// Room for the agenda.
    listed: Vec<ConnectionHandle>,
    /// When connections have something to do without having heard anything.
    alarms: DelayQueue<ConnectionHandle>,
    /// The alarm of each connection, by its handle. May be too early, since most are put off again and again.
    set: Vec<Option<(Key, Instant)>>,
    incoming: Box<[u8]>,
    outgoing: Vec<u8>,
    /// What stands in `outgoing` and found no room.
    unsent: Option<Transmit>,
    /// Whoever waited for what came in has had the time to act.
    has_yielded: bool,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            due: VecDeque::new(),
            listed: Vec::new(),
            alarms: DelayQueue::new(),
            set: Vec::new(),
            incoming: vec![0; BATCH_SIZE * DATAGRAM_BYTES].into(),
            outgoing: Vec::with_capacity(DATAGRAM_BYTES),
            unsent: None,
            has_yielded: false,
        }
    }

    /// Drives for ever.
    pub(super) async fn run(mut self) -> Infallible {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Infallible> {
        let shared = self.shared.clone();
        // Before the look, so that nobody is missed.
        shared.agenda.register(cx.waker());
        let mut inner = shared.lock();
        let (heard, more_to_hear) = self.hear(cx, &mut inner);
        if heard && !mem::replace(&mut self.has_yielded, true) {
            // Whoever was waiting for this goes first, so that there is one packet for all that is to be said.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_yielded = false;
        while let Poll::Ready(Some(alarm)) = self.alarms.poll_expired(cx) {
            let handle = alarm.into_inner();
            self.set[handle.0] = None;
            if let Some(link) = inner.link(handle) {
                let mut state = link.lock();
                if !mem::replace(&mut state.is_listed, true) {
                    self.due.push_back(handle);
                }
            }
        }
        shared.agenda.take(&mut self.listed);
        self.due.extend(self.listed.drain(..));
        let more_to_say = self.speak(cx, &mut inner);
        if more_to_hear || more_to_say {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Hears what has come in: whether there was anything, and whether there may be more.
    fn hear(&mut self, cx: &mut Context<'_>, inner: &mut Inner) -> (bool, bool) {
        let now = Instant::now();
        let mut heard = false;
        let mut packets = mem::take(&mut self.incoming);
        for _ in 0..FETCHES {
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let received = {
                let mut buffers = packets.chunks_mut(DATAGRAM_BYTES).map(IoSliceMut::new);
                let mut buffers: [_; BATCH_SIZE] =
                    std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
                self.shared.socket.poll_recv(cx, &mut buffers, &mut metas)
            };
            let Poll::Ready(received) = received else {
                self.incoming = packets;
                return (heard, false);
            };
            // An error of a socket is of the moment.
            for (meta, bytes) in metas.iter().zip(packets.chunks(DATAGRAM_BYTES)).take(received.unwrap_or(0))
            {
                heard = true;
                for datagram in bytes[..meta.len].chunks(meta.stride.max(1)) {
                    self.hear_one(now, inner, meta, datagram);
                }
            }
        }
        self.incoming = packets;
        (heard, true)
    }

    fn hear_one(&mut self, now: Instant, inner: &mut Inner, meta: &RecvMeta, datagram: &[u8]) {
        let mut response = Vec::new();
        let ecn = meta.ecn.and_then(|bits| EcnCodepoint::from_bits(bits as u8));
        let data = BytesMut::from(datagram);
        match inner.quic.handle(now, meta.addr, meta.dst_ip, ecn, data, &mut response) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let Some(link) = inner.link(handle) else { return };
                let mut state = link.lock();
                state.quic.handle_event(event);
                link.tell(&mut state);
                if !mem::replace(&mut state.is_listed, true) {
                    self.due.push_back(handle);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.shared.waiting().push_back(incoming);
                self.shared.came.notify_one();
            }
            Some(DatagramEvent::Response(transmit)) => self.shared.respond(&transmit, &response),
            None => {}
        }
    }

    /// Lets those speak who have something to say: whether there may be more.
    fn speak(&mut self, cx: &mut Context<'_>, inner: &mut Inner) -> bool {
        for _ in 0..SPEAKERS {
            if self.poll_send(cx).is_pending() {
                return false;
            }
            let Some(handle) = self.due.pop_front() else { return false };
            let Some(link) = inner.link(handle).cloned() else { continue };
            self.let_speak(inner, handle, &link);
        }
        true
    }

    /// Gives the kernel what had found no room.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let socket = &self.shared.socket;
        while let Some(transmit) = &self.unsent {
            match socket.try_send(&datagrams(transmit, &self.outgoing)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!(socket.poll_room(cx));
                }
                // Other errors are like a packet that was lost.
                Ok(()) | Err(_) => self.unsent = None,
            }
        }
        Poll::Ready(())
    }

    /// One connection's turn: one call's worth of packets.
    fn let_speak(&mut self, inner: &mut Inner, handle: ConnectionHandle, link: &Link) {
        let mut state = link.lock();
        state.is_listed = false;
        let now = Instant::now();
        if state.quic.poll_timeout().is_some_and(|due| due <= now) {
            state.quic.handle_timeout(now);
        }
        let packets = CALL_BYTES / usize::from(state.quic.current_mtu()).max(1);
        let packets = packets.min(self.shared.socket.max_transmit_segments()).max(1);
        self.outgoing.clear();
        if let Some(transmit) = state.quic.poll_transmit(now, packets, &mut self.outgoing) {
            // It may have more to say.
            state.is_listed = true;
            self.due.push_back(handle);
            match self.shared.socket.try_send(&datagrams(&transmit, &self.outgoing)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.unsent = Some(transmit),
                // Other errors are like a packet that was lost.
                Ok(()) | Err(_) => {}
            }
        }
        let mut is_gone = false;
        while let Some(event) = state.quic.poll_endpoint_events() {
            is_gone |= event.is_drained();
            if let Some(reply) = inner.quic.handle_event(handle, event) {
                state.quic.handle_event(reply);
            }
        }
        link.tell(&mut state);
        let next = state.quic.poll_timeout();
        drop(state);
        self.set_alarm(handle, next.filter(|_| !is_gone), is_gone);
        if is_gone {
            inner.links[handle.0] = None;
            if inner.quic.open_connections() == 0 {
                self.shared.emptied.notify_waiters();
            }
        }
    }

    /// Sees to it that a connection is called at this time, or before.
    fn set_alarm(&mut self, handle: ConnectionHandle, at: Option<Instant>, is_gone: bool) {
        if self.set.len() <= handle.0 {
            self.set.resize_with(handle.0 + 1, || None);
        }
        let set = &mut self.set[handle.0];
        match (&set, at) {
            (None, Some(at)) => *set = Some((self.alarms.insert_at(handle, at.into()), at)),
            (Some((key, earlier)), Some(at)) if at < *earlier => {
                self.alarms.reset_at(key, at.into());
                *set = Some((*key, at));
            }
            (Some((key, _)), None) if is_gone => {
                self.alarms.remove(key);
                *set = None;
            }
            (None | Some(_), _) => {}
        }
    }
}

/// As the kernel is to have them: one datagram, or several of equal length and the rest.
pub(super) fn datagrams<'a>(transmit: &Transmit, bytes: &'a [u8]) -> udp::Transmit<'a> {
    udp::Transmit {
        destination: transmit.destination,
        ecn: transmit.ecn.and_then(|bits| udp::EcnCodepoint::from_bits(bits as u8)),
        contents: &bytes[..transmit.size],
        segment_size: transmit.segment_size,
        src_ip: transmit.src_ip,
    }
}
