//! The UDP sockets of a port, one for each endpoint, which a process shares with those that it takes over from, and in its turn
//! hands on.
//!
//! The kernel gives all datagrams from one place to one of the sockets, so that connections stay where they began, until
//! their viewer moves or a router forgets it. Then they come in anywhere: the connection ID says whose they are, and who
//! reads them puts them into that endpoint's inbox. Only the newest process reads from the sockets. What is addressed to a
//! connection of an older one it relays there, to the first endpoint, which hands them on in the same way; everybody answers
//! through its own socket, so that a peer sees one address. A client's first packets are addressed to an ID that the client
//! made up: they stay where they came in, but for those that an older process has begun with, which it names when it leaves,
//! over the relay and before anything is read.

use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use quinn::udp::{RecvMeta, Transmit};

use super::connection_id::{Issuer, made_up};
use super::first_packets::FirstPackets;
use super::inbox::Inbox;
use super::relay::{Relay, Relayed};
use super::udp::Udp;
use crate::metrics::QuicMetrics;

/// The sockets of one port.
#[derive(Debug)]
pub(crate) struct SharedPort {
    /// Of this process.
    generation: u8,
    places: Vec<Place>,
    older: Vec<Relay>,
    first_packets: Mutex<FirstPackets>,
    metrics: QuicMetrics,
}

/// Where one endpoint sends and receives.
#[derive(Debug)]
struct Place {
    socket: Udp,
    inbox: Inbox,
    reading: Mutex<Reading>,
    reader: AtomicWaker,
}

/// Where datagrams come from, beside the inbox.
#[derive(Debug)]
enum Reading {
    /// From nowhere: another process reads from the socket, an older or a newer one.
    Nothing,
    /// From the socket.
    Socket,
    /// From the newer process, for all endpoints of this one.
    Relayed(Relayed),
}

/// Who is to have a datagram.
#[derive(Debug, Clone, Copy)]
enum Owner<'a> {
    /// An endpoint of this process.
    Endpoint(u8),
    /// An older process.
    Older(&'a Relay),
}

impl SharedPort {
    /// The sockets of a process of this `generation`, shared with `older` ones: their generations and the newer ends of relays
    /// to them. Nothing is read before [`Self::begin`].
    pub(crate) fn new(
        generation: u8,
        sockets: Vec<std::net::UdpSocket>,
        older: Vec<(u8, OwnedFd)>,
        metrics: QuicMetrics,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            generation,
            places: sockets.into_iter().map(Place::new).collect::<io::Result<_>>()?,
            older: older.into_iter().map(|(generation, relay)| Relay::new(generation, relay)).collect(),
            first_packets: Mutex::default(),
            metrics,
        }))
    }

    /// For each endpoint what its connection IDs say, and its socket.
    pub(crate) fn endpoints(self: &Arc<Self>) -> impl Iterator<Item = (Issuer, EndpointSocket)> {
        (0..).zip(&self.places).map(|(endpoint, _)| {
            let issuer = Issuer { generation: self.generation, endpoint };
            (issuer, EndpointSocket { port: self.clone(), number: endpoint })
        })
    }

    /// Reads from now on.
    pub(crate) fn begin(&self) {
        let mut first_packets = self.first_packets();
        self.older.iter().for_each(|relay| relay.hear(&mut first_packets));
        drop(first_packets);
        self.places.iter().for_each(|place| place.read(Reading::Socket));
    }

    /// Leaves reading to a newer process: what is for this one is relayed from now on.
    pub(crate) fn leave_to(&self, relayed: Relayed) {
        self.places.iter().for_each(|place| place.read(Reading::Nothing));
        // Nobody begins with any more now.
        relayed.say(&self.first_packets());
        if let Some(first) = self.places.first() {
            first.read(Reading::Relayed(relayed));
        }
    }

    /// How many packets the kernel cuts from one piece at most; 1 where a socket or its device cannot.
    pub(crate) fn gso_segments(&self) -> usize {
        self.places.iter().map(|place| place.socket.state().max_gso_segments()).min().unwrap_or(1)
    }

    fn first_packets(&self) -> MutexGuard<'_, FirstPackets> {
        self.first_packets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, number: u8) -> Option<&Place> {
        self.places.get(usize::from(number))
    }

    /// Whose a datagram is that came in at the socket of the endpoint `at`. What is nobody's is that endpoint's to answer.
    fn owner(&self, at: u8, datagram: &[u8]) -> Owner<'_> {
        let generation = match (Issuer::of(datagram), made_up(datagram)) {
            (Some(issuer), _) if issuer.generation == self.generation => {
                return Owner::Endpoint(self.place(issuer.endpoint).map_or(at, |_| issuer.endpoint));
            }
            (Some(issuer), _) => Some(issuer.generation),
            (None, Some(id)) => self.first_packets().for_older(id),
            (None, None) => None,
        };
        let relay = self.older.iter().find(|relay| Some(relay.generation) == generation);
        relay.map_or(Owner::Endpoint(at), Owner::Older)
    }

    /// Puts a datagram into an endpoint's inbox.
    fn hand_over(&self, to: u8, meta: &RecvMeta, datagram: &[u8]) {
        if let Some(place) = self.place(to) {
            self.metrics.handed_over(place.inbox.put(meta, datagram));
            place.reader.wake();
        }
    }

    /// Takes out of what was read from the socket of the endpoint `at` what is for others, and sends it there.
    fn sort_out(&self, at: u8, buffer: &mut [u8], meta: &mut RecvMeta) {
        let (mut from, mut kept) = (0, 0);
        while from < meta.len {
            let end = meta.len.min(from + meta.stride.max(1));
            let datagram = &buffer[from..end];
            let sent_on = match self.owner(at, datagram) {
                Owner::Endpoint(number) if number == at => false,
                Owner::Endpoint(number) => {
                    self.hand_over(number, meta, datagram);
                    true
                }
                Owner::Older(relay) => relay.pass_on(at, meta, datagram),
            };
            if !sent_on {
                buffer.copy_within(from..end, kept);
                kept += end - from;
            }
            from = end;
        }
        meta.len = kept;
    }
}

impl Place {
    fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self {
            socket: Udp::new(socket)?,
            inbox: Inbox::default(),
            reading: Mutex::new(Reading::Nothing),
            reader: AtomicWaker::new(),
        })
    }

    fn read(&self, reading: Reading) {
        *self.reading() = reading;
        self.reader.wake();
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one endpoint has of a port.
#[derive(Debug)]
pub(crate) struct EndpointSocket {
    port: Arc<SharedPort>,
    number: u8,
}

impl EndpointSocket {
    fn place(&self) -> &Place {
        &self.port.places[usize::from(self.number)]
    }

    /// Reads what does not come by the inbox.
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let place = self.place();
        // Held until what was read is sorted out: who changes it knows that nothing more is begun with.
        let mut reading = place.reading();
        match &mut *reading {
            Reading::Nothing => Poll::Pending,
            Reading::Socket => {
                let received = ready!(place.socket.poll_recv(cx, buffers, metas))?;
                for (buffer, meta) in buffers.iter_mut().zip(metas).take(received) {
                    self.port.sort_out(self.number, buffer, meta);
                }
                Poll::Ready(Ok(received))
            }
            Reading::Relayed(relayed) => {
                let ([buffer, ..], [meta, ..]) = (buffers, metas) else { return Poll::Ready(Ok(0)) };
                let Some(at) = ready!(relayed.poll_next(cx, buffer, meta))? else {
                    drop(reading);
                    // The newer process is gone, so this one is the newest again.
                    self.port.places.iter().for_each(|place| place.read(Reading::Socket));
                    return Poll::Pending;
                };
                match self.port.owner(at, &buffer[..meta.len]) {
                    Owner::Endpoint(number) if number != self.number => {
                        self.port.hand_over(number, meta, &buffer[..meta.len]);
                        meta.len = 0;
                    }
                    Owner::Endpoint(_) | Owner::Older(_) => {}
                }
                Poll::Ready(Ok(1))
            }
        }
    }
}

impl EndpointSocket {
    /// Sends a datagram, or several; there may be no room ([`io::ErrorKind::WouldBlock`]).
    pub(super) fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.place().socket.try_send(transmit)
    }

    /// Completes when there may be room again.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.place().socket.poll_room(cx)
    }

    /// Fills buffers with datagrams, several of one length in each; says how many buffers. By one task.
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let place = self.place();
        // Before the looks, so that nothing is missed.
        place.reader.register(cx.waker());
        // Half of the room at most, or those who address this endpoint at the others would keep out who comes in here.
        let room = metas.len() / 2;
        let handed = place.inbox.take(&mut buffers[..room], &mut metas[..room]);
        match self.poll_read(cx, &mut buffers[handed..], &mut metas[handed..]) {
            Poll::Ready(Ok(read)) => Poll::Ready(Ok(handed + read)),
            // An error of a socket is of the moment.
            Poll::Ready(Err(_)) | Poll::Pending if handed > 0 => Poll::Ready(Ok(handed)),
            read => read,
        }
    }

    /// How many packets the kernel cuts from one piece at most; 1 where it does not.
    pub(super) fn max_transmit_segments(&self) -> usize {
        self.place().socket.state().max_gso_segments()
    }

    /// Whether what is too long may leave in fragments, so that its length says nothing about the path.
    pub(super) fn may_fragment(&self) -> bool {
        self.place().socket.state().may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::{SocketAddr, UdpSocket};

    use prometheus::Registry;
    use quinn::ConnectionIdGenerator;

    use super::*;
    use crate::metrics::Metrics;

    fn bound() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// A packet with a short header that is addressed to an ID of this issuer's.
    fn addressed(mut issuer: Issuer) -> Vec<u8> {
        [&[0x40][..], &issuer.generate_cid(), b"more"].concat()
    }

    type Heard = Vec<(SocketAddr, Vec<u8>)>;

    /// What each endpoint hears, and from whom, when they have heard so many datagrams together.
    async fn hear(sockets: &[EndpointSocket], count: usize) -> Vec<Heard> {
        let mut heard = vec![Heard::new(); sockets.len()];
        poll_fn(|cx| {
            for (socket, heard) in sockets.iter().zip(&mut heard) {
                let mut space = [[0; 2048]; 4];
                let mut metas = [RecvMeta::default(); 4];
                let mut buffers = space.each_mut().map(|one| IoSliceMut::new(one));
                while let Poll::Ready(received) = socket.poll_recv(cx, &mut buffers, &mut metas) {
                    let received = metas.iter().zip(&buffers).take(received.unwrap());
                    let kept = received.filter(|(meta, _)| meta.len > 0);
                    heard.extend(kept.map(|(meta, bytes)| (meta.addr, bytes[..meta.len].to_vec())));
                }
            }
            if heard.iter().map(Vec::len).sum::<usize>() < count { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        heard
    }

    #[tokio::test]
    async fn datagrams_come_to_the_endpoint_that_they_are_addressed_to_wherever_they_come_in() {
        let metrics = Metrics::register(&Registry::new()).unwrap().quic;
        // At ports of their own, so that it is known where they come in.
        let port = SharedPort::new(7, vec![bound(), bound()], vec![], metrics).unwrap();
        let (issuers, sockets): (Vec<_>, Vec<_>) = port.endpoints().unzip();
        let viewer = bound();
        let (from, at) = (viewer.local_addr().unwrap(), sockets[0].place().socket.local_addr().unwrap());
        let (first, second) = (addressed(issuers[0]), addressed(issuers[1]));
        let made_up = [&[0xc0, 0, 0, 0, 1, 8][..], b"a client's own ID"].concat();
        for datagram in [&second, &first, &made_up] {
            viewer.send_to(datagram, at).unwrap();
        }
        assert_eq!(hear(&sockets, 0).await, [vec![], vec![]], "nobody has begun");
        port.begin();
        let heard = hear(&sockets, 3).await;
        assert_eq!(
            heard,
            [vec![(from, first.clone()), (from, made_up.clone())], vec![(from, second.clone())]]
        );

        // A newer process reads now, and had these at its second socket.
        let (relayed, newer) = Relayed::pair().unwrap();
        port.leave_to(relayed);
        let relay = Relay::new(7, newer);
        let meta = RecvMeta { addr: "192.0.2.1:7".parse().unwrap(), ..RecvMeta::default() };
        for datagram in [&second, &first, &made_up] {
            assert!(relay.pass_on(1, &meta, datagram));
        }
        viewer.send_to(&first, at).unwrap();
        let heard = hear(&sockets, 3).await;
        assert_eq!(
            heard,
            [vec![(meta.addr, first.clone())], vec![(meta.addr, second), (meta.addr, made_up)]]
        );
        // It has ended, so that this one is the newest again.
        drop(relay);
        assert_eq!(hear(&sockets, 1).await, [vec![(from, first)], vec![]]);
    }
}
