//! MP4 (ISO 14496-12), read and written without libav.
//!
//! Reading: [`movie`] finds and reads `moov` (and the `moof` boxes of a fragmented file) by byte ranges, [`track`]
//! reads one `trak`, [`entry`] its codec, [`samples`] its sample tables, [`fragments`] the samples of fragments,
//! [`edits`] its edit list. Every index is bounded and every size capped before it is allocated.
//!
//! Writing: [`init`] makes the init segment of a rendition, [`fragment`] its media segments, both with the small
//! box writer of [`boxes`]; [`video_config`] with [`avc`], [`hevc`] and [`av1`], and [`opus`], turn encoders' output into
//! what they hold.

pub mod av1;
pub mod avc;
pub mod bits;
pub mod boxes;
pub mod edits;
pub mod entry;
pub mod fragment;
pub mod fragments;
pub mod hevc;
pub mod init;
pub mod movie;
pub mod nal;
pub mod opus;
pub mod read;
pub mod samples;
pub mod track;
pub mod video_config;
