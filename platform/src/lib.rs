//! What every Reelmill process needs, so that each starts, is watched, talks, stores and stops in the same way.

pub mod access;
pub mod admin;
pub mod bus;
pub mod config;
mod connections;
pub mod edges;
pub mod hash_tree;
mod hints;
pub mod jwk;
pub mod kv;
pub mod lingering;
pub mod named;
pub mod owners;
pub mod purge;
pub mod queue;
pub mod ready_file;
pub mod receipt;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod token;
pub mod topology;
pub mod verified;
pub mod workers;
