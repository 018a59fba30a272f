//! The safe fence around libav: the only crate that links it, and the only `unsafe` code of Reelmill.
//!
//! Everything here is for one synchronous thread and for hostile input: containers are named by the caller and
//! never guessed, no protocol can be opened, decoders come from an allow-list, and sizes are capped. What a stream
//! holds decides only *which error* comes back; nothing reachable from input panics.
//!
//! ```text
//! Demuxer ─► Packet ─► VideoDecoder ─► Frame ─► Scaler (filter graph) ─► Frame ─► VideoEncoder ─► EncodedFrame
//!                  └─► AudioDecoder ─► Frame ─► Resampler ─► AudioEncoder ─► EncodedPacket
//! ```

#![allow(unsafe_code)] // The one crate whose work it is; each block says why it is sound.

mod audio_encoder;
mod codec;
mod context;
mod decode;
mod demux;
mod error;
#[cfg(any(test, feature = "faulty-encoder"))]
mod faulty;
mod field;
mod frame;
mod hardware;
mod heap;
mod libraries;
mod log;
mod packet;
mod proof;
mod resample;
mod scaler;
mod still;
mod svt_av1;
mod tone;
mod video_encoder;
mod x264;
mod x265;

pub use audio_encoder::{AudioEncoder, EncodedPacket};
pub use codec::{SourceAudioCodec, SourceVideoCodec};
pub use decode::{AudioDecoder, DecodeError, Decoded, VideoDecoder};
pub use demux::{Demuxer, Format, Look, MOST_LOOK_BYTES, Seek, StreamFacts, StreamKind};
pub use error::AvError;
#[cfg(any(test, feature = "faulty-encoder"))]
pub use faulty::Fault;
pub use field::{FieldParser, PictureKind};
pub use frame::Frame;
pub use hardware::{Family, Hardware};
pub use heap::give_big_blocks_back;
pub use libraries::{encoder_version, libraries};
pub use log::{LogLine, quiet, take_log};
pub use packet::Packet;
pub use proof::{Unproven, prove, test_picture};
pub use resample::{Resampler, Stereo};
pub use scaler::{Deliver, RungSize, Scaler};
pub use still::StillMaker;
pub use tone::OutputColour;
pub use video_encoder::{EncodedFrame, VideoEncoder, VideoEngine, VideoSettings};
