//! One port number for UDP and TCP, so that `Alt-Svc` can name it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use rustix::net::sockopt::set_socket_reuseport;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::limits::{TCP_BACKLOG, UDP_BUFFER_BYTES};

/// Tries to find a port that is free for both, when any will do.
const ATTEMPTS: u32 = 16;

/// Binds TCP and so many UDP sockets to `address`; port 0 means any, but the same for all.
pub(crate) fn bind_pair(address: SocketAddr, endpoints: u8) -> io::Result<(TcpListener, Vec<UdpSocket>)> {
    let mut attempt = 1;
    loop {
        let tcp = bind_tcp(address)?;
        match bind_udp(tcp.local_addr()?).and_then(|udp| several(udp, endpoints)) {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) if address.port() != 0 || attempt == ATTEMPTS => return Err(error),
            Err(_) => attempt += 1,
        }
    }
}

/// Binds a TCP listener that a restart can bind again at once.
pub(crate) fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Binds UDP with large buffers. Alone: no port is shared with others who have it already.
pub(crate) fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp(Domain::for_address(address))?;
    tracing::info!(
        asked_bytes = UDP_BUFFER_BYTES,
        receive_bytes = socket.recv_buffer_size()?,
        send_bytes = socket.send_buffer_size()?,
        "UDP socket buffers"
    );
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Binds others to the address of a socket, so that they are `count` together. The kernel gives what comes from one place to one
/// of them.
fn several(first: UdpSocket, count: u8) -> io::Result<Vec<UdpSocket>> {
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        let another = udp(Domain::for_address(address))?;
        set_socket_reuseport(&sockets[0], true)?;
        set_socket_reuseport(&another, true)?;
        another.bind(&address.into())?;
        sockets.push(another.into());
    }
    Ok(sockets)
}

fn udp(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel grants what net.core.{r,w}mem_max allow and says nothing.
    socket.set_recv_buffer_size(UDP_BUFFER_BYTES)?;
    socket.set_send_buffer_size(UDP_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// An address that clients on this machine can connect to: the unspecified address becomes loopback.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
    } else {
        address
    }
}
