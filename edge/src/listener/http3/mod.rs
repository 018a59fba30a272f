//! HTTP/3 (RFC 9114) for a server that takes no content and pushes nothing, straight on QUIC's streams.
//!
//! Each connection is one task, which hears the client's own streams and answers all of its requests: most answers are in
//! memory and wait for nothing. Bodies are handed to QUIC by reference, and an answer is over when it is acknowledged, so
//! that a drain loses nothing.

mod client_streams;
pub(super) mod connection;
mod control_stream;
mod exchange;
mod fault;
mod frames;
mod number;
mod priority;
mod qpack;
mod request_head;
mod request_stream;
mod rota;
mod send_half;
mod turns;

pub(super) use fault::Code;
