//! The words of Reelmill and the arithmetic between them: no I/O, no clock, no C.
//!
//! A video's way, readable from the types: [`source::Source`] → [`index::SourceIndex`] → [`ladder::Ladder`] →
//! [`plan::Plan`] → [`task::Task`] → [`task::TaskReport`] → [`presentation::Presentation`] → [`hls`].

pub mod captions;
pub mod codec;
pub mod gathered;
pub mod hls;
pub mod ids;
pub mod image;
pub mod index;
pub mod keys;
pub mod ladder;
pub mod plan;
pub mod presentation;
pub mod profile;
pub mod segment;
pub mod source;
pub mod task;
pub mod time;
pub mod timeline;
