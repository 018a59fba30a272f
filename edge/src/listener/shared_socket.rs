//! A UDP socket that a process shares with those that it takes over from, and in its turn hands on.
//!
//! Only the newest process reads from the socket. What is addressed to a connection of an older one it relays there, told
//! by the connection ID; everybody answers through the socket itself, so that a peer sees one address. A client's first
//! packets are addressed to an ID that the client made up: those that an older process has begun with it names when it
//! leaves, over the relay and before anything is read. A relayed datagram that finds no room is lost like any other.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair, sockopt,
};
use serde::{Deserialize, Serialize};
use tokio::io::ReadBuf;
use tokio::net::UnixDatagram;

use super::connection_id::{Issuer, made_up};
use super::udp::Udp;
use crate::limits::{BEGUN_LATELY, RELAY_BUFFER_BYTES, RELAYED_BYTES};

/// Datagrams of one client's first flight that others may come between.
const SAME_FLIGHT: usize = 16;

/// The socket of one endpoint.
#[derive(Debug)]
pub(crate) struct SharedSocket {
    socket: Udp,
    /// Relays to older processes, by their generation.
    older: Vec<(u8, OwnedFd)>,
    reading: Mutex<Reading>,
    reader: AtomicWaker,
    first_packets: Mutex<FirstPackets>,
}

/// Whose are datagrams that are addressed to IDs which clients made up.
#[derive(Debug, Default)]
struct FirstPackets {
    /// Those that this process has been sent lately.
    own: VecDeque<Vec<u8>>,
    /// Those that older processes have begun with: their generations.
    older: HashMap<Vec<u8>, u8>,
}

/// Where datagrams come from.
#[derive(Debug)]
enum Reading {
    /// From nowhere: an older process still reads from the socket.
    NotYet,
    /// From the socket.
    Socket,
    /// From the newer process, which alone reads from the socket.
    Relayed(Relayed),
}

/// The end of a relay where datagrams come out.
#[derive(Debug)]
pub(crate) struct Relayed {
    relay: UnixDatagram,
    buffer: Box<[u8]>,
}

/// What stands before a relayed datagram, as a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    from: SocketAddr,
    to: Option<IpAddr>,
    /// The two bits of RFC 3168.
    ecn: u8,
}

impl Relayed {
    /// Makes a relay: this end for the older process, the other for the newer one.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Keeps datagrams apart, and is bounded in bytes.
        let (older, newer) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        sockopt::set_socket_send_buffer_size(&newer, RELAY_BUFFER_BYTES)?;
        // To the standard library all sockets are alike that keep datagrams apart.
        let relay = UnixDatagram::from_std(older.into())?;
        Ok((Self { relay, buffer: vec![0; RELAYED_BYTES].into() }, newer))
    }
}

impl SharedSocket {
    /// Shares `socket` with `older` processes: their generations and the newer ends of relays to them. Nothing is read
    /// before [`Self::begin`].
    pub(crate) fn new(socket: std::net::UdpSocket, older: Vec<(u8, OwnedFd)>) -> io::Result<Self> {
        Ok(Self {
            socket: Udp::new(socket)?,
            older,
            reading: Mutex::new(Reading::NotYet),
            reader: AtomicWaker::new(),
            first_packets: Mutex::default(),
        })
    }

    /// Reads from now on.
    pub(crate) fn begin(&self) {
        let mut first_packets = self.first_packets();
        let mut text = vec![0; RELAYED_BYTES];
        for (generation, relay) in &self.older {
            // Nothing from those that have left before.
            let Ok((length, _)) = recv(relay, &mut text, RecvFlags::empty()) else { continue };
            let begun: Vec<Vec<u8>> = serde_json::from_slice(&text[..length]).unwrap_or_default();
            first_packets.older.extend(begun.into_iter().map(|id| (id, *generation)));
        }
        drop(first_packets);
        self.read(Reading::Socket);
    }

    /// Leaves reading to a newer process: what is for this one is relayed from now on.
    pub(crate) fn leave_to(&self, relayed: Relayed) {
        let mut reading = self.reading();
        // Bytes always serialise. Where it cannot be sent, clients begin again.
        let begun = serde_json::to_vec(&self.first_packets().own).unwrap_or_default();
        let _ = send(&relayed.relay, &begun, SendFlags::NOSIGNAL);
        *reading = Reading::Relayed(relayed);
        drop(reading);
        self.reader.wake();
    }

    fn read(&self, reading: Reading) {
        *self.reading() = reading;
        self.reader.wake();
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first_packets(&self) -> MutexGuard<'_, FirstPackets> {
        self.first_packets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which older process a datagram is for, if it is for one.
    fn older_for(&self, datagram: &[u8]) -> Option<&OwnedFd> {
        let generation = match (Issuer::of(datagram), made_up(datagram)) {
            (Some(issuer), _) => issuer.generation,
            (None, Some(id)) => self.first_packets().for_older(id)?,
            (None, None) => return None,
        };
        self.older.iter().find(|(older, _)| *older == generation).map(|(_, relay)| relay)
    }

    /// Takes out what is for older processes, and sends it there.
    fn sort_out(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let (mut at, mut kept) = (0, 0);
        while at < meta.len {
            let end = meta.len.min(at + meta.stride.max(1));
            match self.older_for(&buffer[at..end]) {
                Some(relay) if pass_on(relay, meta, &buffer[at..end]) => {}
                Some(_) | None => {
                    buffer.copy_within(at..end, kept);
                    kept += end - at;
                }
            }
            at = end;
        }
        meta.len = kept;
    }
}

impl FirstPackets {
    /// The generation of the older process that has begun with the ID; where there is none, this one has.
    fn for_older(&mut self, id: &[u8]) -> Option<u8> {
        let older = self.older.get(id).copied();
        if older.is_none() && !self.own.iter().rev().take(SAME_FLIGHT).any(|known| known == id) {
            if self.own.len() == BEGUN_LATELY {
                self.own.pop_front();
            }
            self.own.push_back(id.to_vec());
        }
        older
    }
}

/// Says whether there is still somebody at the other end, not whether the datagram gets there.
fn pass_on(relay: &OwnedFd, meta: &RecvMeta, datagram: &[u8]) -> bool {
    let envelope =
        Envelope { from: meta.addr, to: meta.dst_ip, ecn: meta.ecn.map_or(0, |codepoint| codepoint as u8) };
    // Numbers and addresses always serialise.
    let mut message = serde_json::to_vec(&envelope).unwrap_or_default();
    message.push(b'\n');
    message.extend_from_slice(datagram);
    matches!(send(relay, &message, SendFlags::NOSIGNAL), Ok(_) | Err(Errno::AGAIN))
}

impl Relayed {
    /// The next datagram; `None` when nobody relays any more.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        meta: &mut RecvMeta,
    ) -> Poll<io::Result<Option<()>>> {
        loop {
            let mut space = ReadBuf::new(&mut self.buffer);
            ready!(self.relay.poll_recv(cx, &mut space))?;
            let message = space.filled();
            if message.is_empty() {
                return Poll::Ready(Ok(None));
            }
            let Some(line) = message.iter().position(|byte| *byte == b'\n') else { continue };
            let (envelope, datagram) = (&message[..line], &message[line + 1..]);
            let (Ok(envelope), Some(place)) =
                (serde_json::from_slice::<Envelope>(envelope), buffer.get_mut(..datagram.len()))
            else {
                continue;
            };
            place.copy_from_slice(datagram);
            *meta = RecvMeta {
                addr: envelope.from,
                len: datagram.len(),
                stride: datagram.len(),
                ecn: EcnCodepoint::from_bits(envelope.ecn),
                dst_ip: envelope.to,
            };
            return Poll::Ready(Ok(Some(())));
        }
    }
}

impl AsyncUdpSocket for SharedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.reader.register(cx.waker());
        let mut reading = self.reading();
        match &mut *reading {
            Reading::NotYet => return Poll::Pending,
            Reading::Socket => {}
            Reading::Relayed(relayed) => {
                let ([buffer, ..], [meta, ..]) = (&mut *buffers, &mut *metas) else {
                    return Poll::Ready(Ok(0));
                };
                match ready!(relayed.poll_next(cx, buffer, meta))? {
                    Some(()) => return Poll::Ready(Ok(1)),
                    // The newer process is gone, so this one is the newest again.
                    None => *reading = Reading::Socket,
                }
            }
        }
        drop(reading);
        let received = ready!(self.socket.poll_recv(cx, buffers, metas))?;
        for (buffer, meta) in buffers.iter_mut().zip(metas.iter_mut()).take(received) {
            self.sort_out(buffer, meta);
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.state().max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.state().gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.state().may_fragment()
    }
}
