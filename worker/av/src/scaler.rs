//! One decoded picture in, one picture per rung out: deinterlacing, turning, tone mapping, and a cascade of scalers.

use ffmpeg_next::ffi;
use ffmpeg_next::filter::{self, Graph};
use reelmill_media::index::{Colour, Orientation, Picture};

use crate::error::{AvError, check};
use crate::frame::Frame;
use crate::tone::{self, OutputColour, ToneFilters};

/// `accurate_rnd` makes all instruction sets agree on every pixel, at no measurable cost.
const FIRST_SCALE: &str = "flags=bicubic+accurate_rnd+full_chroma_int";

/// Each rung is scaled from the next larger one, which is cheap; with a softer kernel the lowest rungs would lose detail
/// by it. VMAF at equal bytes beside scaling from the source: bilinear −5 and worse, bicubic −0.3, Lanczos +0.5 to +2.
const NEXT_SCALE: &str = "flags=lanczos+accurate_rnd+full_chroma_int";

/// Size of one rung's pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RungSize {
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
}

/// Scales every picture to every rung. The graph is built from the first picture and built anew when pictures change
/// their size, format, colour or scan, so that no encoder is ever handed a picture of another size than its own.
pub struct Scaler {
    picture: Picture,
    target: OutputColour,
    rungs: Vec<RungSize>,
    built: Option<(Shape, Graph)>,
}

/// What a graph depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    width: u32,
    height: u32,
    format: i32,
    colour: Colour,
    interlaced: bool,
}

/// Takes rung number and picture. Pictures of a rung come in order.
pub type Deliver<'a> = &'a mut dyn FnMut(usize, Frame) -> Result<(), AvError>;

impl Scaler {
    /// One for pictures like `picture`.
    pub fn new(picture: Picture, target: OutputColour, rungs: Vec<RungSize>) -> Self {
        Self { picture, target, rungs, built: None }
    }

    /// Feeds a picture, whose pts must be a small counter, and delivers what is ready. Pts are kept.
    pub fn push(&mut self, frame: &Frame, deliver: Deliver<'_>) -> Result<(), AvError> {
        let mut shape = self.shape(frame);
        // Some frames of an interlaced stream are flagged progressive: that is for the deinterlacer to see.
        if let Some((built, _)) = &self.built {
            shape.interlaced |= built.interlaced;
        }
        if self.built.as_ref().is_none_or(|(built, _)| *built != shape) {
            self.flush(deliver)?;
            self.built = Some((shape, self.build(shape)?));
        }
        if let Some((_, graph)) = &mut self.built {
            let mut input = graph.get("in").ok_or(AvError::Missing("graph input"))?;
            // SAFETY: a valid source filter and a valid frame, of which KEEP_REF makes the filter take its own
            // reference.
            let code = unsafe {
                ffi::av_buffersrc_add_frame_flags(
                    input.as_mut_ptr(),
                    frame.as_ptr().cast_mut(),
                    ffi::AV_BUFFERSRC_FLAG_KEEP_REF as i32,
                )
            };
            check("av_buffersrc_add_frame_flags", code)?;
        }
        self.drain(deliver)
    }

    /// Delivers what the graph still holds. Pushing may go on after it.
    pub fn flush(&mut self, deliver: Deliver<'_>) -> Result<(), AvError> {
        if let Some((_, graph)) = &mut self.built {
            let mut input = graph.get("in").ok_or(AvError::Missing("graph input"))?;
            // SAFETY: a valid source filter; a null frame marks the end of the stream.
            let code =
                unsafe { ffi::av_buffersrc_add_frame_flags(input.as_mut_ptr(), std::ptr::null_mut(), 0) };
            check("av_buffersrc_add_frame_flags", code)?;
            self.drain(deliver)?;
        }
        self.built = None;
        Ok(())
    }

    fn drain(&mut self, deliver: Deliver<'_>) -> Result<(), AvError> {
        let Some((_, graph)) = &mut self.built else { return Ok(()) };
        for rung in 0..self.rungs.len() {
            let mut sink = graph.get(&sink_name(rung)).ok_or(AvError::Missing("graph output"))?;
            loop {
                let mut frame = Frame::new()?;
                // SAFETY: a valid sink filter and an empty frame.
                let code = unsafe { ffi::av_buffersink_get_frame(sink.as_mut_ptr(), frame.as_mut_ptr()) };
                if code == ffi::AVERROR(ffi::EAGAIN) || code == ffi::AVERROR_EOF {
                    break;
                }
                check("av_buffersink_get_frame", code)?;
                deliver(rung, frame)?;
            }
        }
        Ok(())
    }

    fn shape(&self, frame: &Frame) -> Shape {
        let (said, facts) = (frame.colour(), self.picture.colour);
        let pick = |frame: u8, fact: u8| if frame == 2 { fact } else { frame };
        let colour = Colour {
            primaries: pick(said.primaries, facts.primaries),
            transfer: pick(said.transfer, facts.transfer),
            matrix: pick(said.matrix, facts.matrix),
            full_range: said.full_range.or(facts.full_range),
        };
        let (width, height) = (frame.width(), frame.height());
        Shape {
            width,
            height,
            format: frame.format(),
            colour: tone::resolved(colour, width, height),
            interlaced: frame.is_interlaced(),
        }
    }

    fn build(&self, shape: Shape) -> Result<Graph, AvError> {
        let mut graph = Graph::new();
        // SAFETY: a fresh graph that we own; one thread, as everywhere.
        unsafe { (*graph.as_mut_ptr()).nb_threads = 1 };
        let source = filter::find("buffer").ok_or(AvError::Missing("filter buffer"))?;
        let sink = filter::find("buffersink").ok_or(AvError::Missing("filter buffersink"))?;
        let Shape { width, height, format, .. } = shape;
        let arguments =
            format!("video_size={width}x{height}:pix_fmt={format}:time_base=1/1000:pixel_aspect=1/1");
        let failed =
            |call| move |e: ffmpeg_next::Error| check(call, e.into()).err().unwrap_or(AvError::Missing(call));
        graph.add(&source, "in", &arguments).map_err(failed("buffer"))?;
        for rung in 0..self.rungs.len() {
            graph.add(&sink, &sink_name(rung), "").map_err(failed("buffersink"))?;
        }
        // libav's names are from the spec's point of view: its open input is our source's output.
        let mut parser = graph.output("in", 0).map_err(failed("graph"))?;
        for rung in 0..self.rungs.len() {
            parser = parser.input(&sink_name(rung), 0).map_err(failed("graph"))?;
        }
        parser.parse(&self.spec(shape)).map_err(failed("avfilter_graph_parse_ptr"))?;
        graph.validate().map_err(failed("avfilter_graph_config"))?;
        Ok(graph)
    }

    /// The graph in libav's words. Holds numbers and constants only, never text from a source.
    fn spec(&self, shape: Shape) -> String {
        let mut order: Vec<usize> = (0..self.rungs.len()).collect();
        order.sort_by_key(|i| {
            std::cmp::Reverse(u64::from(self.rungs[*i].width) * u64::from(self.rungs[*i].height))
        });
        let deinterlace =
            if shape.interlaced { "bwdif=mode=send_frame:deint=interlaced,settb=1/1000," } else { "" };
        let ToneFilters { scale_options, after } = tone::filters(shape.colour, self.target);
        let mut spec = String::new();
        let mut scaled = false;
        for (step, &rung) in order.iter().enumerate() {
            let RungSize { width, height } = self.rungs[rung];
            if step == 0 {
                // Turning and tone mapping come after the first scaler, which mostly makes pictures smaller.
                let turned = self.picture.orientation;
                let (w, h) = if turned.swaps_sides() { (height, width) } else { (width, height) };
                let turn = turn_filters(turned);
                scaled = (w, h) != (shape.width, shape.height);
                spec += &format!("[in]{deinterlace}scale={w}:{h}:{FIRST_SCALE}{scale_options},{turn}{after}");
            } else {
                let flags = if scaled { NEXT_SCALE } else { FIRST_SCALE };
                spec += &format!(";[c{step}]scale={width}:{height}:{flags},");
                scaled = true;
            }
            spec += "format=yuv420p,setsar=1";
            let name = sink_name(rung);
            if step + 1 < order.len() {
                spec += &format!(",split[{name}][c{}]", step + 1);
            } else {
                spec += &format!("[{name}]");
            }
        }
        spec
    }
}

fn sink_name(rung: usize) -> String {
    format!("out{rung}")
}

fn turn_filters(orientation: Orientation) -> &'static str {
    match (orientation.mirrored, orientation.quarter_turns % 4) {
        (false, 1) => "transpose=clock,",
        (false, 2) => "hflip,vflip,",
        (false, 3) => "transpose=cclock,",
        (true, 0) => "hflip,",
        (true, 1) => "transpose=clock_flip,",
        (true, 2) => "vflip,",
        (true, 3) => "transpose=cclock_flip,",
        (false | true, _) => "",
    }
}
