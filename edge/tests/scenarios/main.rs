//! The edge as viewers meet it: real sockets, real TLS and QUIC, a real folder as object store.

#![allow(
    clippy::unwrap_used,
    reason = "all of this is test code, also what stands outside of test functions"
)]

mod access;
mod access_log;
mod clients;
mod closing;
mod collapse;
mod conformance;
mod dark;
mod disk;
mod down;
mod drain;
mod early_data;
mod first_coordinator;
mod holds;
mod last_word;
mod limits;
mod memory;
mod misses;
mod moving;
mod nats;
mod origin;
mod others;
mod permissions;
mod pop;
mod prefetch;
mod priorities;
mod process;
mod protocols;
mod purge;
mod push;
mod ranges;
mod relay;
mod reload;
mod remap;
mod rest;
mod s3;
mod silent;
mod streaming;
mod takedown;
mod texts;
mod traces;
mod transport;
mod upgrade;
mod verification;
mod web;
mod world;
