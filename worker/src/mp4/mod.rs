//! MP4 (ISO 14496-12), read and written without libav.
//!
//! Reading: [`movie`] finds and reads `moov` (and the `moof` boxes of a fragmented file) by byte ranges, [`track`]
//! reads one `trak`, [`entry`] its codec, [`samples`] its sample tables, [`fragments`] the samples of fragments,
//! [`edits`] its edit list. Every index is bounded and every size capped before it is allocated.
//!
//! Writing: [`init`] makes the init segment of a rendition, [`fragment`] its media segments, both with the small
//! box writer of [`boxes`]; [`avc`] turns an H.264 encoder's output into what they hold.

pub mod avc;
pub mod boxes;
pub mod edits;
pub mod entry;
pub mod fragment;
pub mod fragments;
pub mod init;
pub mod movie;
pub mod read;
pub mod samples;
pub mod track;
