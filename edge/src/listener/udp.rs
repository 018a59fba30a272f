//! A UDP socket that is woken by what arrives, and by nothing else.
//!
//! tokio's own has the kernel tell of room in the send buffer too, which the kernel then does after each packet that has
//! left: every other wake-up. Here it is asked only when there was no room. And whoever has read less than there was space
//! for has read everything, and does not read again to hear so.

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A UDP socket.
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

    #[cfg(test)]
    pub(super) fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    pub(super) fn state(&self) -> &UdpSocketState {
        &self.state
    }

    pub(super) fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.state.send(self.socket.get_ref().into(), transmit)
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

    /// Completes when there may be room in the send buffer, after there was none. By one task.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.room.poll(self.socket.get_ref(), cx)
    }
}

/// Asks the kernel for room in the send buffer, while somebody waits for it.
#[derive(Debug, Default)]
struct Room(Mutex<Option<AsyncFd<OwnedFd>>>);

impl Room {
    fn poll(&self, socket: &impl AsFd, cx: &mut Context<'_>) -> Poll<()> {
        let mut asking = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asking.is_none() {
            // A descriptor of its own, since the kernel keeps one set of wishes for each.
            let own = socket.as_fd().try_clone_to_owned();
            match own.and_then(|socket| watched(socket, Interest::WRITABLE)) {
                Ok(descriptor) => *asking = Some(descriptor),
                Err(error) => {
                    tracing::debug!(%error, "cannot wait for room in the send buffer");
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        if let Some(descriptor) = &*asking {
            // An error is told to whoever sends next.
            drop(ready!(descriptor.poll_write_ready(cx)));
        }
        *asking = None;
        Poll::Ready(())
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// A local socket stands in for the network, since loopback drops what nobody reads: there is always room.
    #[tokio::test]
    async fn who_waits_for_room_hears_of_it() {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let room = Room::default();
        for _ in 0..2 {
            while near.send(&[0; 1024]).is_ok() {}
            let polled = poll_fn(|cx| Poll::Ready(room.poll(&near, cx))).await;
            assert!(polled.is_pending());
            while far.recv(&mut [0; 1024]).is_ok() {}
            poll_fn(|cx| room.poll(&near, cx)).await;
        }
    }
}
