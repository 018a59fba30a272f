//! Word to systemd, when it has started this process (sd_notify(3)).

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that this process serves, and that it is the one to watch: it may have taken over from another.
pub fn notify_ready() -> io::Result<()> {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&socket)?,
    };
    let word = format!("MAINPID={}\nREADY=1", std::process::id());
    UnixDatagram::unbound()?.send_to_addr(word.as_bytes(), &address).map(drop)
}
