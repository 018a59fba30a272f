//! The sockets of a process that begins: those that an older one handed on, or new ones.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::cache::{DiskError, DiskFolder, DiskSettings};
use crate::listener::endpoint::{self, Listener, QuicError};
use crate::listener::shared_port::SharedPort;
use crate::listener::socket;
use crate::listener::transport::Congestion;
use crate::metrics::QuicMetrics;
use crate::upgrade::{Estate, Inheritance, Item, Port};

/// The sockets, as they are asked for one by one.
pub(crate) struct Sockets<'a> {
    inheritance: &'a mut Inheritance,
    /// What a newer process would get.
    pub(crate) estate: Estate,
    /// What it would read from.
    pub(crate) shared: Vec<(Port, Arc<SharedPort>)>,
}

impl<'a> Sockets<'a> {
    pub(crate) fn new(inheritance: &'a mut Inheritance) -> Self {
        Self { estate: Estate::new(inheritance), shared: Vec::new(), inheritance }
    }

    /// TCP for TLS and UDP for viewers, at one address; as many UDP sockets as the older process had, or so many.
    pub(crate) fn pair(
        &mut self,
        address: SocketAddr,
        endpoints: u8,
    ) -> io::Result<(TcpListener, Vec<UdpSocket>)> {
        let handed = (self.inheritance.take(Item::Tls), self.inherited(Port::Viewers));
        let (tcp, udp) = match handed {
            (Some(tcp), Some(udp)) => (TcpListener::from_std(tcp.into())?, udp),
            (Some(_) | None, _) => socket::bind_pair(address, endpoints)?,
        };
        self.estate.note(Item::Tls, &tcp)?;
        self.note(Port::Viewers, &udp)?;
        Ok((tcp, udp))
    }

    /// TCP without TLS.
    pub(crate) fn plain(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        let tcp = match self.inheritance.take(Item::Plain) {
            Some(handed) => TcpListener::from_std(handed.into())?,
            None => socket::bind_tcp(address)?,
        };
        self.estate.note(Item::Plain, &tcp)?;
        Ok(tcp)
    }

    /// UDP for peers, of whom there are few: one socket; and where it is.
    pub(crate) fn peers(&mut self, address: SocketAddr) -> io::Result<(Vec<UdpSocket>, SocketAddr)> {
        let udp = match self.inherited(Port::Peers) {
            Some(handed) => handed,
            None => vec![socket::bind_udp(address)?],
        };
        self.note(Port::Peers, &udp)?;
        let bound = udp[0].local_addr()?;
        Ok((udp, bound))
    }

    fn inherited(&mut self, port: Port) -> Option<Vec<UdpSocket>> {
        let next = || self.inheritance.take(Item::Udp(port)).map(UdpSocket::from);
        let sockets: Vec<UdpSocket> = std::iter::from_fn(next).collect();
        (!sockets.is_empty()).then_some(sockets)
    }

    fn note(&mut self, port: Port, sockets: &[UdpSocket]) -> io::Result<()> {
        sockets.iter().try_for_each(|socket| self.estate.note(Item::Udp(port), socket))
    }

    /// The endpoints of a port, which share its sockets with those of older processes.
    pub(crate) fn endpoints(
        &mut self,
        port: Port,
        sockets: Vec<UdpSocket>,
        tls: rustls::ServerConfig,
        congestion: Congestion,
        metrics: QuicMetrics,
    ) -> Result<Vec<Listener>, QuicError> {
        let older = self.inheritance.take_relays(port);
        for (generation, relay) in &older {
            self.estate.note(Item::Relay { generation: *generation, port }, relay)?;
        }
        let shared = SharedPort::new(self.inheritance.generation, sockets, older, metrics)?;
        self.shared.push((port, shared.clone()));
        endpoint::listen(&shared, tls, congestion, &self.inheritance.secret)
    }

    /// The disk cache's folder, whose lock goes from process to process like a socket.
    pub(crate) fn disk_folder(&mut self, settings: &DiskSettings) -> Result<DiskFolder, DiskError> {
        let folder = DiskFolder::claim(settings, self.inheritance.take(Item::DiskLock))?;
        let unusable = |source| DiskError::Folder { folder: settings.folder.clone(), source };
        self.estate.note(Item::DiskLock, &folder).map_err(unusable)?;
        Ok(folder)
    }
}
