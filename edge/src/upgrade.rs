//! A newer process of the edge takes over from an older one without losing a connection.
//!
//! The older one starts the newer one and gives it its sockets over the newer one's standard input. When the newer one is
//! ready to serve, the older one stops reading from them, and only then does the newer one begin: what arrives in between
//! waits in the kernel. From then on the older one drains; datagrams of its connections are relayed to it
//! ([`SharedPort`](crate::listener::shared_port::SharedPort)). A newer process that does not become ready changes nothing.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::limits::{LETTER_BYTES, LETTER_ITEMS, SUCCESSION_DEADLINE};

/// What the newer process says when it could begin, and the older one when it may.
const READY: &[u8] = b"ready";
/// See [`READY`].
const BEGIN: &[u8] = b"begin";

/// What is handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// Listener of HTTP/2 and 1.1 over TLS.
    Tls,
    /// Listener of HTTP/1.1 without TLS.
    Plain,
    /// Listener of the admin port.
    Admin,
    /// UDP socket of an endpoint; where a port has several, they are handed on in their order.
    Udp(Port),
    /// A relay to the endpoints of an older process.
    Relay {
        /// Of the process.
        generation: u8,
        /// Which endpoints.
        port: Port,
    },
    /// The lock of the disk cache's folder.
    DiskLock,
}

/// A QUIC port of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Port {
    /// For viewers.
    Viewers,
    /// For other edges of the PoP.
    Peers,
}

/// Why a newer process does not take over.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The older process gave nothing that could be taken.
    #[error("there is no older process to take over from on the standard input: {0}")]
    Letter(String),
    /// There are no more sockets.
    #[error("cannot make ready for a newer process: {0}")]
    Socket(#[from] io::Error),
    /// The program cannot be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ended.
    #[error("the newer process ended before it was ready")]
    Ended,
    /// It takes too long.
    #[error("the newer process is not ready after {} s", SUCCESSION_DEADLINE.as_secs())]
    Deadline,
}

/// What a process gets from the one before it; nothing for the first.
#[derive(Debug)]
pub struct Inheritance {
    pub(crate) generation: u8,
    /// From which keys follow that all processes of one address share.
    pub(crate) secret: [u8; 32],
    items: Vec<(Item, OwnedFd)>,
    predecessor: Option<UnixDatagram>,
}

/// What stands beside the descriptors.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    /// Of the newer process.
    generation: u8,
    secret: [u8; 32],
    /// What each descriptor is.
    items: Vec<Item>,
}

impl Inheritance {
    /// Of a process that is the first.
    pub fn none() -> Self {
        Self { generation: 0, secret: rand::random(), items: Vec::new(), predecessor: None }
    }

    /// What the older process put on the standard input.
    pub fn receive() -> Result<Self, UpgradeError> {
        let refuse = |reason: &str| UpgradeError::Letter(reason.to_owned());
        let descriptor = io::stdin().as_fd().try_clone_to_owned()?;
        let mut text = vec![0; LETTER_BYTES];
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LETTER_ITEMS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&descriptor, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
                .map_err(|error| UpgradeError::Letter(error.to_string()))?;
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(refuse("it gives more than fits"));
        }
        let letter: Letter = serde_json::from_slice(&text[..received.bytes])
            .map_err(|error| UpgradeError::Letter(error.to_string()))?;
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if descriptors.len() != letter.items.len() {
            return Err(refuse("it does not give what it says"));
        }
        Ok(Self {
            generation: letter.generation,
            secret: letter.secret,
            items: letter.items.into_iter().zip(descriptors).collect(),
            predecessor: Some(control(descriptor)?),
        })
    }

    /// Takes an item, the first of its kind, if it was handed on.
    pub fn take(&mut self, item: Item) -> Option<OwnedFd> {
        let at = self.items.iter().position(|(handed, _)| *handed == item)?;
        Some(self.items.remove(at).1)
    }

    /// Takes the relays to those older processes that still live.
    pub(crate) fn take_relays(&mut self, port: Port) -> Vec<(u8, OwnedFd)> {
        let mut relays = Vec::new();
        for (item, descriptor) in std::mem::take(&mut self.items) {
            match item {
                Item::Relay { generation, port: to } if to == port => {
                    // Nothing ever comes back over a relay, but its end does.
                    if recv(&descriptor, &mut [0; 1], RecvFlags::PEEK) == Err(rustix::io::Errno::AGAIN) {
                        relays.push((generation, descriptor));
                    }
                }
                Item::Relay { .. }
                | Item::Tls
                | Item::Plain
                | Item::Admin
                | Item::Udp(_)
                | Item::DiskLock => self.items.push((item, descriptor)),
            }
        }
        relays
    }

    /// Tells the older process that this one could begin, and waits until it has stopped.
    pub async fn relieve(self) -> Result<(), UpgradeError> {
        let Some(predecessor) = self.predecessor else { return Ok(()) };
        // One that is gone has stopped, too.
        if predecessor.send(READY).await.is_ok() {
            let _: bool = hears(&predecessor, BEGIN).await?;
        }
        Ok(())
    }
}

/// What a process could hand on.
#[derive(Debug)]
pub(crate) struct Estate {
    pub(crate) generation: u8,
    secret: [u8; 32],
    items: Vec<(Item, OwnedFd)>,
}

impl Estate {
    pub(crate) fn new(inheritance: &Inheritance) -> Self {
        Self { generation: inheritance.generation, secret: inheritance.secret, items: Vec::new() }
    }

    /// Notes what will be handed on, if ever.
    pub(crate) fn note(&mut self, item: Item, descriptor: impl AsFd) -> io::Result<()> {
        self.items.push((item, descriptor.as_fd().try_clone_to_owned()?));
        Ok(())
    }

    /// Starts a newer process with all that was noted, and `more`, and waits until it is ready.
    pub(crate) async fn offer(
        &self,
        program: &mut Command,
        more: &[(Item, OwnedFd)],
    ) -> Result<Successor, UpgradeError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (own, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(io::Error::from)?;
        let all = || self.items.iter().chain(more);
        let letter = Letter {
            generation: self.generation.wrapping_add(1),
            secret: self.secret,
            items: all().map(|(item, _)| *item).collect(),
        };
        let descriptors: Vec<BorrowedFd<'_>> = all().map(|(_, descriptor)| descriptor.as_fd()).collect();
        // Before there is anybody to read it, so that it is there when somebody does.
        send_letter(&own, &letter, &descriptors)?;
        let started = program.stdin(Stdio::from(theirs)).spawn();
        let name = || program.get_program().to_string_lossy().into_owned();
        let child = started.map_err(|source| UpgradeError::Start { program: name(), source })?;
        // It has the other end alone now, so that its end is heard of.
        program.stdin(Stdio::null());
        let mut successor = Successor { child, control: control(own)? };
        match timeout(SUCCESSION_DEADLINE, hears(&successor.control, READY)).await {
            Ok(Ok(true)) => Ok(successor),
            Ok(Ok(false)) => Err(successor.give_up(UpgradeError::Ended)),
            Ok(Err(error)) => Err(successor.give_up(error.into())),
            Err(_) => Err(successor.give_up(UpgradeError::Deadline)),
        }
    }
}

/// A newer process that is ready.
#[derive(Debug)]
pub(crate) struct Successor {
    child: Child,
    control: UnixDatagram,
}

impl Successor {
    /// Lets it begin. This process has to have stopped before.
    pub(crate) async fn begin(self) -> u32 {
        // One that ended in this very moment is for its keeper to start again.
        let _ = self.control.send(BEGIN).await;
        self.child.id()
    }

    fn give_up(&mut self, why: UpgradeError) -> UpgradeError {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        why
    }
}

fn send_letter(control: &OwnedFd, letter: &Letter, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    // Numbers and names always serialise.
    let text = serde_json::to_vec(letter).unwrap_or_default();
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(descriptors.len()))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if text.len() > LETTER_BYTES
        || descriptors.len() > LETTER_ITEMS
        || !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
    {
        return Err(io::Error::other("older processes have not ended yet, and they are too many"));
    }
    sendmsg(control, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// To the standard library all sockets are alike that keep messages apart.
fn control(descriptor: OwnedFd) -> io::Result<UnixDatagram> {
    UnixDatagram::from_std(descriptor.into())
}

/// Waits for a word; false when the other process is gone.
async fn hears(control: &UnixDatagram, word: &[u8]) -> io::Result<bool> {
    let mut heard = [0; 16];
    loop {
        match control.recv(&mut heard).await {
            Ok(0) => return Ok(false),
            Ok(length) if heard[..length] == *word => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    /// A program that says nothing, or ends at once, does not take over.
    #[tokio::test]
    async fn a_program_that_never_gets_ready_is_given_up() {
        let inheritance = Inheritance::none();
        let mut estate = Estate::new(&inheritance);
        estate.note(Item::Tls, TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        estate.note(Item::Udp(Port::Viewers), UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let ended = estate.offer(&mut Command::new("false"), &[]).await.unwrap_err();
        assert!(matches!(ended, UpgradeError::Ended), "{ended}");
        let missing = estate.offer(&mut Command::new("/no/such/program"), &[]).await.unwrap_err();
        assert!(matches!(missing, UpgradeError::Start { .. }), "{missing}");
    }
}
