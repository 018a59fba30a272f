//! Tells frames from single fields in a stream whose packets may be either.

use std::ptr::{self, NonNull};

use ffmpeg_next::ffi;

use crate::codec::SourceVideoCodec;
use crate::context::CodecContext;
use crate::error::AvError;
use crate::packet::Packet;

/// What a packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureKind {
    /// A frame, or nothing is known.
    Frame,
    /// The top field alone.
    TopField,
    /// The bottom field alone.
    BottomField,
}

/// Looks at packet headers without decoding. H.264 alone packs fields apart (PAFF); other codecs need no parser.
pub struct FieldParser {
    parser: NonNull<ffi::AVCodecParserContext>,
    context: CodecContext,
}

// SAFETY: neither context has ties to a thread, and we own both alone.
unsafe impl Send for FieldParser {}

impl FieldParser {
    /// A parser for whole packets of `codec`, or `None` where fields never come apart.
    pub fn open(codec: SourceVideoCodec, extradata: &[u8]) -> Result<Option<Self>, AvError> {
        if codec.name() != "h264" {
            return Ok(None);
        }
        let mut context = CodecContext::for_decoder(codec.decoder())?;
        context.set_extradata(extradata)?;
        // SAFETY: the codec id is that of an existing codec; null back means no parser or no memory.
        let raw = unsafe { ffi::av_parser_init(context.raw().codec_id as i32) };
        let mut parser = NonNull::new(raw).ok_or(AvError::Missing("H.264 parser"))?;
        // SAFETY: a fresh parser that we own.
        unsafe { parser.as_mut() }.flags |= ffi::PARSER_FLAG_COMPLETE_FRAMES;
        Ok(Some(Self { parser, context }))
    }

    /// What `packet` holds.
    pub fn kind(&mut self, packet: &Packet) -> PictureKind {
        let data = packet.data();
        let (mut out, mut out_bytes) = (ptr::null_mut(), 0);
        // SAFETY: both contexts are valid; packet data is followed by the padding parsers demand; with
        // COMPLETE_FRAMES the output points into the input and is not used.
        let structure = unsafe {
            ffi::av_parser_parse2(
                self.parser.as_ptr(),
                self.context.raw_mut(),
                &mut out,
                &mut out_bytes,
                data.as_ptr(),
                data.len() as i32,
                ffi::AV_NOPTS_VALUE,
                ffi::AV_NOPTS_VALUE,
                0,
            );
            self.parser.as_ref().picture_structure
        };
        match structure {
            ffi::AVPictureStructure::AV_PICTURE_STRUCTURE_TOP_FIELD => PictureKind::TopField,
            ffi::AVPictureStructure::AV_PICTURE_STRUCTURE_BOTTOM_FIELD => PictureKind::BottomField,
            ffi::AVPictureStructure::AV_PICTURE_STRUCTURE_FRAME
            | ffi::AVPictureStructure::AV_PICTURE_STRUCTURE_UNKNOWN => PictureKind::Frame,
        }
    }
}

impl Drop for FieldParser {
    fn drop(&mut self) {
        // SAFETY: we own the parser.
        unsafe { ffi::av_parser_close(self.parser.as_ptr()) };
    }
}
