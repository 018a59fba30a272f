//! Stills: JPEGs (JFIF: full range, BT.601) of pictures that are ready for an encoder.

use ffmpeg_next::filter::{self, Graph};
use ffmpeg_next::{Dictionary, ffi};

use crate::context::{CodecContext, Step};
use crate::error::{AvError, check};
use crate::frame::Frame;
use crate::packet::Packet;
use crate::tone::OutputColour;

/// The quantiser scale: 2 is the finest, 31 the coarsest. Here a 160×90 thumbnail takes about 4 kB.
const QUANTISER: i32 = 4;

/// Makes stills of one size from pictures of one size.
pub struct StillMaker {
    graph: Graph,
    encoder: CodecContext,
    /// Stills taken so far: libav wants times that increase.
    taken: i64,
}

impl StillMaker {
    /// For pictures of `from` pixels and still of `to` pixels, width first.
    pub fn open(from: (u32, u32), to: (u32, u32), colour: OutputColour) -> Result<Self, AvError> {
        Ok(Self { graph: graph(from, to, colour)?, encoder: encoder(to)?, taken: 0 })
    }

    /// The JPEG of `frame`, which is as an encoder would take it.
    pub fn take(&mut self, frame: &Frame) -> Result<Vec<u8>, AvError> {
        let mut frame = frame.share()?;
        frame.set_pts(self.taken);
        self.taken += 1;
        let mut input = self.graph.get("in").ok_or(AvError::Missing("graph input"))?;
        // SAFETY: a valid source filter and a valid frame, whose reference the filter takes over.
        let code = unsafe { ffi::av_buffersrc_add_frame_flags(input.as_mut_ptr(), frame.as_mut_ptr(), 0) };
        check("av_buffersrc_add_frame_flags", code)?;
        let mut small = Frame::new()?;
        let mut output = self.graph.get("out").ok_or(AvError::Missing("graph output"))?;
        // SAFETY: a valid sink filter and an empty frame.
        let code = unsafe { ffi::av_buffersink_get_frame(output.as_mut_ptr(), small.as_mut_ptr()) };
        check("av_buffersink_get_frame", code)?;
        small.raw_mut().quality = QUANTISER * ffi::FF_QP2LAMBDA;
        small.raw_mut().pict_type = ffi::AVPictureType::AV_PICTURE_TYPE_NONE;
        self.encoder.send_frame(Some(&small))?;
        let mut packet = Packet::new()?;
        match self.encoder.receive_packet(&mut packet)? {
            Step::Got => Ok(packet.data().to_vec()),
            Step::Hungry | Step::Ended => Err(AvError::Missing("JPEG of a picture that was encoded")),
        }
    }
}

fn graph(from: (u32, u32), to: (u32, u32), colour: OutputColour) -> Result<Graph, AvError> {
    let failed =
        |call| move |e: ffmpeg_next::Error| check(call, e.into()).err().unwrap_or(AvError::Missing(call));
    let mut graph = Graph::new();
    // SAFETY: a fresh graph that we own; one thread, as everywhere.
    unsafe { (*graph.as_mut_ptr()).nb_threads = 1 };
    let source = filter::find("buffer").ok_or(AvError::Missing("filter buffer"))?;
    let sink = filter::find("buffersink").ok_or(AvError::Missing("filter buffersink"))?;
    let arguments =
        format!("video_size={}x{}:pix_fmt=yuv420p:time_base=1/1000:pixel_aspect=1/1", from.0, from.1);
    graph.add(&source, "in", &arguments).map_err(failed("buffer"))?;
    graph.add(&sink, "out", "").map_err(failed("buffersink"))?;
    let matrix = if colour.matrix == 1 { "bt709" } else { "bt601" };
    let spec = format!(
        "scale={}:{}:flags=area+accurate_rnd:in_color_matrix={matrix}:in_range=tv:out_color_matrix=bt601:out_range=pc,format=yuvj420p",
        to.0, to.1
    );
    let parser = graph.output("in", 0).map_err(failed("graph"))?;
    let parser = parser.input("out", 0).map_err(failed("graph"))?;
    parser.parse(&spec).map_err(failed("avfilter_graph_parse_ptr"))?;
    graph.validate().map_err(failed("avfilter_graph_config"))?;
    Ok(graph)
}

fn encoder((width, height): (u32, u32)) -> Result<CodecContext, AvError> {
    let side = |value: u32| {
        i32::try_from(value).map_err(|_| AvError::OutOfRange { what: "pixels", value: i64::from(value) })
    };
    let mut context = CodecContext::for_encoder(c"mjpeg", "JPEG encoder")?;
    let raw = context.raw_mut();
    (raw.width, raw.height) = (side(width)?, side(height)?);
    raw.pix_fmt = ffi::AVPixelFormat::AV_PIX_FMT_YUVJ420P;
    raw.time_base = ffi::AVRational { num: 1, den: 1000 };
    raw.thread_count = 1;
    // No name of the encoder in the file; one quantiser, which each picture carries.
    raw.flags |= (ffi::AV_CODEC_FLAG_BITEXACT | ffi::AV_CODEC_FLAG_QSCALE) as i32;
    raw.global_quality = QUANTISER * ffi::FF_QP2LAMBDA;
    context.open(Dictionary::new())?;
    Ok(context)
}
