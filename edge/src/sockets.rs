//! The sockets of a process that begins: those that an older one handed on, or new ones.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::cache::{DiskError, DiskFolder, DiskSettings};
use crate::listener::connection_id::Issuer;
use crate::listener::endpoint::{self, Listener, QuicError};
use crate::listener::shared_socket::SharedSocket;
use crate::listener::socket;
use crate::listener::transport::Congestion;
use crate::upgrade::{Estate, Inheritance, Item, Port};

/// The sockets, as they are asked for one by one.
pub(crate) struct Sockets<'a> {
    inheritance: &'a mut Inheritance,
    /// What a newer process would get.
    pub(crate) estate: Estate,
    /// What it would read from.
    pub(crate) shared: Vec<(Port, Arc<SharedSocket>)>,
}

impl<'a> Sockets<'a> {
    pub(crate) fn new(inheritance: &'a mut Inheritance) -> Self {
        Self { estate: Estate::new(inheritance), shared: Vec::new(), inheritance }
    }

    /// TCP for TLS and UDP for viewers, at one address.
    pub(crate) fn pair(&mut self, address: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
        let handed = (self.inheritance.take(Item::Tls), self.inheritance.take(Item::Udp(Port::Viewers)));
        let (tcp, udp) = match handed {
            (Some(tcp), Some(udp)) => (TcpListener::from_std(tcp.into())?, UdpSocket::from(udp)),
            (Some(_) | None, _) => socket::bind_pair(address)?,
        };
        self.estate.note(Item::Tls, &tcp)?;
        self.estate.note(Item::Udp(Port::Viewers), &udp)?;
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

    /// UDP of a port.
    pub(crate) fn udp(&mut self, port: Port, address: SocketAddr) -> io::Result<UdpSocket> {
        let udp = match self.inheritance.take(Item::Udp(port)) {
            Some(handed) => UdpSocket::from(handed),
            None => socket::bind_udp(address)?,
        };
        self.estate.note(Item::Udp(port), &udp)?;
        Ok(udp)
    }

    /// The endpoint of a port, which shares its socket with those of older processes.
    pub(crate) fn endpoint(
        &mut self,
        port: Port,
        socket: UdpSocket,
        tls: rustls::ServerConfig,
        congestion: Congestion,
    ) -> Result<Listener, QuicError> {
        let older = self.inheritance.take_relays(port);
        for (generation, relay) in &older {
            self.estate.note(Item::Relay { generation: *generation, port }, relay)?;
        }
        let socket = Arc::new(SharedSocket::new(socket, older)?);
        self.shared.push((port, socket.clone()));
        let issuer = Issuer { generation: self.inheritance.generation, endpoint: 0 };
        endpoint::listen(socket, tls, congestion, issuer, &self.inheritance.secret)
    }

    /// The disk cache's folder, whose lock goes from process to process like a socket.
    pub(crate) fn disk_folder(&mut self, settings: &DiskSettings) -> Result<DiskFolder, DiskError> {
        let folder = DiskFolder::claim(settings, self.inheritance.take(Item::DiskLock))?;
        let unusable = |source| DiskError::Folder { folder: settings.folder.clone(), source };
        self.estate.note(Item::DiskLock, &folder).map_err(unusable)?;
        Ok(folder)
    }
}
