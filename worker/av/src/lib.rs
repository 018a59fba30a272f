//! The safe fence around libav: the only crate that links it, and the only `unsafe` code of Reelmill.
//!
//! Everything here is for one synchronous thread and for hostile input: containers are named by the caller and
//! never guessed, no protocol can be opened, decoders come from an allow-list, and sizes are capped. What a stream
//! holds decides only *which error* comes back; nothing reachable from input panics.
//!
//! ```text
//! Demuxer ─► Packet ─► VideoDecoder ─► Frame ─► Ladder (filter graph) ─► Frame ─► VideoEncoder ─► EncodedFrame
//!                  └─► AudioDecoder ─► Frame ─► Resampler ─► AacEncoder ─► EncodedPacket
//! ```

#![allow(unsafe_code)] // The one crate whose work it is; each block says why it is sound.

mod aac;
mod codec;
mod context;
mod decode;
mod demux;
mod error;
mod field;
mod frame;
mod graph;
mod log;
mod packet;
mod resample;
mod tone;
mod video_encoder;
mod x264;

pub use aac::{AacEncoder, EncodedPacket, FRAME_SAMPLES};
pub use codec::{AudioCodec, VideoCodec};
pub use decode::{AudioDecoder, DecodeError, Decoded, VideoDecoder};
pub use demux::{Demuxer, Format, Seek, StreamFacts, StreamKind};
pub use error::AvError;
pub use field::{FieldParser, PictureKind};
pub use frame::Frame;
pub use graph::{Deliver, Ladder, RungSize};
pub use log::{LogLine, quiet, take_log};
pub use packet::Packet;
pub use resample::{Resampler, Stereo};
pub use tone::OutputColour;
pub use video_encoder::{EncodedFrame, VideoEncoder, VideoEngine, VideoSettings};
