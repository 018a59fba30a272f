//! A UDP socket that is woken by what arrives, and by nothing else.
//!
//! quinn's own has the kernel tell of room in the send buffer too, which the kernel then does after each packet that has
//! left: every other wake-up. Here it is asked only when there was no room. And whoever has read less than there was space
//! for has read everything, and does not read again to hear so.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::UdpPoller;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::sleep;

/// When to try again where there is no way to hear of room.
const NO_WORD: Duration = Duration::from_millis(1);

/// A UDP socket that speaks of itself as quinn wants to hear.
#[derive(Debug)]
pub(super) struct Udp {
    socket: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    room: Room,
}

impl Udp {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let socket = watched(socket, Interest::READABLE)?;
        Ok(Self { socket, state, room: Room::default() })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    pub(super) fn state(&self) -> &UdpSocketState {
        &self.state
    }

    pub(super) fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.socket.get_ref().into(), transmit);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.room.lacks(self.socket.get_ref());
        }
        sent
    }

    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut readable = ready!(self.socket.poll_read_ready(cx))?;
            match self.state.recv(self.socket.get_ref().into(), buffers, metas) {
                Ok(received) => {
                    if received < buffers.len() {
                        readable.clear_ready();
                    }
                    return Poll::Ready(Ok(received));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    pub(super) fn poller(&self) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Sender { room: self.room.clone(), waiting: None })
    }
}

/// Whether the send buffer has room, as far as is known. Cheap to clone.
#[derive(Debug, Clone, Default)]
struct Room {
    /// There was none, and a task waits until there is.
    lacking: Arc<AtomicBool>,
    found: Arc<Notify>,
}

impl Room {
    /// There is none: has the kernel asked, once for all who wait.
    fn lacks(&self, socket: &impl AsFd) {
        if self.lacking.swap(true, Ordering::AcqRel) {
            return;
        }
        // A descriptor of its own, since the kernel keeps one set of wishes for each.
        let own = socket.as_fd().try_clone_to_owned();
        let asking = own.and_then(|socket| watched(socket, Interest::WRITABLE));
        let room = self.clone();
        tokio::spawn(async move {
            room.await_word(asking).await;
            room.lacking.store(false, Ordering::Release);
            room.found.notify_waiters();
        });
    }

    async fn await_word(&self, asking: io::Result<AsyncFd<OwnedFd>>) {
        match asking {
            // An error is told to whoever sends next.
            Ok(socket) => drop(socket.writable().await),
            Err(error) => {
                tracing::debug!(%error, "cannot wait for room in the send buffer");
                sleep(NO_WORD).await;
            }
        }
    }
}

/// Watches a descriptor.
#[expect(
    deprecated,
    reason = "the constructor in its place is unsafe; types with `AsFd` keep what that asks for"
)]
fn watched<T: AsFd + AsRawFd>(descriptor: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(descriptor, interest)
}

/// One of those who send.
#[derive(Debug)]
struct Sender {
    room: Room,
    waiting: Option<Pin<Box<OwnedNotified>>>,
}

impl UdpPoller for Sender {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.room.lacking.load(Ordering::Acquire) {
            match &mut this.waiting {
                Some(waiting) => {
                    ready!(waiting.as_mut().poll(cx));
                    this.waiting = None;
                }
                // Made before the next look, so that no word is missed.
                None => this.waiting = Some(Box::pin(this.room.found.clone().notified_owned())),
            }
        }
        this.waiting = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// A local socket stands in for the network, since loopback drops what nobody reads: there is always room.
    #[tokio::test]
    async fn all_who_send_hear_of_room() {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let fill = || while near.send(&[0; 1024]).is_ok() {};
        let room = Room::default();
        let mut senders: Vec<Sender> =
            std::iter::repeat_with(|| Sender { room: room.clone(), waiting: None }).take(3).collect();
        for sender in &mut senders {
            poll_fn(|cx| Pin::new(&mut *sender).poll_writable(cx)).await.unwrap();
        }
        for _ in 0..2 {
            fill();
            room.lacks(&near);
            room.lacks(&near);
            for sender in &mut senders {
                let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut *sender).poll_writable(cx))).await;
                assert!(polled.is_pending());
            }
            while far.recv(&mut [0; 1024]).is_ok() {}
            for sender in &mut senders {
                poll_fn(|cx| Pin::new(&mut *sender).poll_writable(cx)).await.unwrap();
            }
        }
    }
}
