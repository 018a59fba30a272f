//! The edge: serves verified blobs and playlists over HTTP/3, HTTP/2 and HTTP/1.1.
//!
//! A request's way: [`listener`] (QUIC, TLS, plain TCP) → [`route`] (what is asked for) → [`holds`] (at once, or when it has
//! changed) → [`access`] (by whom) → [`cache`] or [`playlists`] (the bytes, and where they were found) → [`serve`]
//! (conditions, ranges, fields) → [`body`] (handed over by reference). The edge knows nothing of media: blobs are bytes that
//! match their hash, playlists are small texts.

mod access;
mod access_log;
mod bells;
pub mod body;
mod bucket;
pub mod cache;
pub mod certificate;
pub mod changeable;
pub mod clients;
pub mod cmcd;
pub mod conditional;
pub mod config;
mod first_coordinator;
mod head;
mod holds;
mod limits;
mod listener;
pub mod metrics;
mod multipart;
mod outage;
mod pace;
pub mod player;
pub mod playlists;
pub mod pop;
mod prefetch;
mod private_file;
mod problem;
pub mod process;
pub mod push;
pub mod range;
mod receipts;
mod representation;
pub mod route;
pub mod running;
pub mod serve;
mod sessions;
mod shortage;
mod sockets;
pub mod systemd;
pub mod takedown;
pub mod traces;
pub mod upgrade;
