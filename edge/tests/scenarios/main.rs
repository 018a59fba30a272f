//! The edge as viewers meet it: real sockets, real TLS and QUIC, a real folder as object store.

mod collapse;
mod drain;
mod limits;
mod process;
mod protocols;
mod texts;
mod verification;
mod world;
