//! All QUIC connections of a socket, driven by one task, on quinn's state machine (`quinn-proto`).
//!
//! quinn's own driver is a task for the socket and one more for each connection, with channels between them, and gives the kernel
//! ten packets at a time, from a buffer that each connection keeps. Here what has come in is heard for all connections, then
//! whoever waited for it acts, and then all speak who have something to say: acknowledgements travel with answers, and the
//! kernel gets as many packets at a time as it takes.

mod agenda;
mod connection;
mod endpoint;
mod link;
mod recv_stream;
mod send_stream;
mod task;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
mod waiters;

pub(super) use connection::Connection;
pub(super) use endpoint::Endpoint;
pub(super) use recv_stream::{ReadError, RecvStream};
pub(super) use send_stream::{Gone, SendStream};
