//! Turns chunks of a source into CMAF segments.
//!
//! The parent ([`slot`]) takes tasks from the bus, hands each to a child process ([`child`]), answers the child's reads
//! ([`source_reader`]), stores what it makes and reports. Media runs only inside the child ([`exec`]).

pub mod child;
pub mod confine;
pub mod engine;
pub mod exec;
pub mod hands;
pub mod heartbeat;
pub mod metrics;
pub mod mp4;
pub mod outage;
pub mod perform;
pub mod probe;
pub mod recipes;
pub mod seat;
pub mod slot;
pub mod source_reader;
