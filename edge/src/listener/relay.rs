//! The way from the newest process, which alone reads from the sockets, to an older one that still has connections. It is
//! bounded in bytes; a datagram that finds no room is lost like any other.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use quinn::udp::{EcnCodepoint, RecvMeta};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair, sockopt,
};
use serde::{Deserialize, Serialize};
use tokio::io::ReadBuf;
use tokio::net::UnixDatagram;

use super::first_packets::FirstPackets;
use crate::limits::{RELAY_BUFFER_BYTES, RELAYED_BYTES};

/// The end where datagrams come out, in the older process.
#[derive(Debug)]
pub(crate) struct Relayed {
    relay: UnixDatagram,
    buffer: Box<[u8]>,
}

/// The end where they go in, in newer ones.
#[derive(Debug)]
pub(super) struct Relay {
    /// Of the process at the other end.
    pub(super) generation: u8,
    descriptor: OwnedFd,
}

/// What stands before a relayed datagram, as a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    from: SocketAddr,
    to: Option<IpAddr>,
    /// The two bits of RFC 3168.
    ecn: u8,
    /// Number of the endpoint at whose socket it came in.
    #[serde(default)]
    at: u8,
}

impl Relay {
    pub(super) fn new(generation: u8, descriptor: OwnedFd) -> Self {
        Self { generation, descriptor }
    }

    /// Reads what the older process said when it left; nothing of one that has ended.
    pub(super) fn hear(&self, first_packets: &mut FirstPackets) {
        let mut text = vec![0; RELAYED_BYTES];
        if let Ok((length, _)) = recv(&self.descriptor, &mut text, RecvFlags::empty()) {
            first_packets.hear(self.generation, &text[..length]);
        }
    }

    /// Passes a datagram on that came in `at` an endpoint's socket. Says whether there is still somebody at the other end, not
    /// whether it gets there.
    pub(super) fn pass_on(&self, at: u8, meta: &RecvMeta, datagram: &[u8]) -> bool {
        let ecn = meta.ecn.map_or(0, |codepoint| codepoint as u8);
        let envelope = Envelope { from: meta.addr, to: meta.dst_ip, ecn, at };
        // Numbers and addresses always serialise.
        let mut message = serde_json::to_vec(&envelope).unwrap_or_default();
        message.push(b'\n');
        message.extend_from_slice(datagram);
        matches!(send(&self.descriptor, &message, SendFlags::NOSIGNAL), Ok(_) | Err(Errno::AGAIN))
    }
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

    /// Tells the newer process what it has to know before it reads.
    pub(super) fn say(&self, first_packets: &FirstPackets) {
        // An error means that it has ended already.
        let _ = send(&self.relay, &first_packets.say(), SendFlags::NOSIGNAL);
    }

    /// The next datagram, and at which endpoint's socket it came in; `None` when nobody relays any more.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        meta: &mut RecvMeta,
    ) -> Poll<io::Result<Option<u8>>> {
        loop {
            let mut space = ReadBuf::new(&mut self.buffer);
            let message = match ready!(self.relay.poll_recv(cx, &mut space)) {
                Ok(()) => space.filled(),
                // It has ended without reading what was said to it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => &[],
                Err(error) => return Poll::Ready(Err(error)),
            };
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
            return Poll::Ready(Ok(Some(envelope.at)));
        }
    }
}
