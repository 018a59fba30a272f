//! A run of video segments: decoded once, encoded for every rung.

use std::time::Instant;

use reelmill_av::{
    AvError, DecodeError, Decoded, Deliver, EncodedFrame, Frame, OutputColour, RungSize, Scaler,
    SourceVideoCodec, VideoDecoder, VideoEncoder, VideoEngine, VideoSettings,
};
use reelmill_media::task::{Failure, FailureCode};
use reelmill_media::time::Ticks;

use super::encoder::{self, Opened};
use super::failure::{fail, internal, of_decode, of_encode, of_segment, of_source};
use super::feed::Packets;
use super::index::MAX_PIXELS;
use super::parent::{Parent, READ_AHEAD_BYTES};
use super::progress::Progress;
use super::protocol::{FromChild, InitOutput, PlannedFrame, SegmentOutput, VideoJob};
use super::stills::Stills;
use crate::mp4::fragment::{VideoSample, video_segment};
use crate::mp4::init::VideoInit;
use crate::mp4::video_config::VideoConfig;

/// The number of a frame that filters are to see and no encoder is.
const LEAD_IN: i64 = -1;

/// Makes all segments of `job`.
pub fn run(parent: &Parent, job: &VideoJob) -> Result<(), Failure> {
    let mut encodes = Encodes::open(parent, job)?;
    if job.conceal {
        encodes.last = Some(Frame::black(job.picture.width, job.picture.height).map_err(internal)?);
        return encodes.finish();
    }
    let codec = SourceVideoCodec::named(&job.feed.setup.codec).map_err(of_source)?;
    let mut decoder = VideoDecoder::open(
        codec,
        &job.feed.setup.extradata,
        job.feed.timescale,
        (job.picture.width, job.picture.height),
        MAX_PIXELS,
    )
    .map_err(of_source)?;
    let mut packets = Packets::open(parent, &job.feed, READ_AHEAD_BYTES)?;
    let mut frame = Frame::new().map_err(internal)?;
    loop {
        let packet = packets.next()?;
        match decoder.send(packet.as_ref()) {
            Ok(()) => {}
            // A broken packet costs its frames, which are then concealed.
            Err(error @ DecodeError::Fatal(_)) => return Err(of_decode(error)),
            Err(DecodeError::Broken(_)) => {}
        }
        loop {
            match decoder.receive(&mut frame) {
                Ok(Decoded::Frame) => encodes.take(&frame)?,
                Ok(Decoded::Hungry | Decoded::Ended) => break,
                Err(error @ DecodeError::Fatal(_)) => return Err(of_decode(error)),
                Err(DecodeError::Broken(_)) if packet.is_some() => break,
                Err(DecodeError::Broken(_)) => {}
            }
        }
        if packet.is_none() {
            break;
        }
    }
    encodes.finish()
}

/// From decoded frames to segments.
struct Encodes<'a> {
    parent: &'a Parent,
    job: &'a VideoJob,
    scaler: Scaler,
    rungs: Vec<RungEncode<'a>>,
    stills: Stills<'a>,
    /// The planned frame that is next.
    next: usize,
    /// What a missing frame is replaced by.
    last: Option<Frame>,
    concealed: Vec<bool>,
    progress: Progress,
}

impl<'a> Encodes<'a> {
    fn open(parent: &'a Parent, job: &'a VideoJob) -> Result<Self, Failure> {
        let increasing =
            job.frames.windows(2).all(|w| w[0].source_pts < w[1].source_pts && w[0].pts < w[1].pts);
        if job.frames.is_empty() || !increasing || job.segments.first().is_none_or(|s| s.first != 0) {
            return Err(internal("the job's frames are out of order"));
        }
        let colour = OutputColour::of(&job.picture);
        let sizes = job.rungs.iter().map(|r| RungSize { width: r.width, height: r.height }).collect();
        let rungs = (0..job.rungs.len())
            .map(|i| RungEncode::open(parent, job, i, colour))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            parent,
            job,
            scaler: Scaler::new(job.picture, colour, sizes),
            rungs,
            stills: Stills::new(parent, job, colour),
            next: 0,
            last: None,
            concealed: vec![false; job.frames.len()],
            progress: Progress::new(Instant::now()),
        })
    }

    /// Takes a decoded frame, which may lie outside the job.
    fn take(&mut self, frame: &Frame) -> Result<(), Failure> {
        let Some(pts) = frame.pts().map(Ticks) else { return Ok(()) };
        let found = self.job.frames.binary_search_by_key(&pts, |f| f.source_pts).ok();
        if let Some(found) = found.filter(|found| *found >= self.next) {
            if self.next == 0 && frame.is_interlaced() {
                self.lead_in()?;
            }
            if found > self.next {
                let stand_in = self.last.as_ref().unwrap_or(frame).share().map_err(internal)?;
                self.conceal_up_to(found, stand_in)?;
            }
            self.push(found as i64, frame.share().map_err(internal)?)?;
            self.next = found + 1;
            let permille = self.next * 1000 / self.job.frames.len();
            self.progress.tell(self.parent, permille)?;
        }
        self.last = Some(frame.share().map_err(internal)?);
        Ok(())
    }

    /// A deinterlacer looks at the frame before, which may have been decoded on the way here.
    fn lead_in(&mut self) -> Result<(), Failure> {
        match &self.last {
            Some(before) => {
                let before = before.share().map_err(internal)?;
                self.push(LEAD_IN, before)
            }
            None => Ok(()),
        }
    }

    /// Repeats `stand_in` for the planned frames before `end` that did not come.
    fn conceal_up_to(&mut self, end: usize, stand_in: Frame) -> Result<(), Failure> {
        for missing in self.next..end {
            if let Some(mark) = self.concealed.get_mut(missing) {
                *mark = true;
            }
            self.push(missing as i64, stand_in.share().map_err(internal)?)?;
        }
        Ok(())
    }

    /// Filters frame `index` of the job, or [`LEAD_IN`].
    fn push(&mut self, index: i64, mut frame: Frame) -> Result<(), Failure> {
        frame.set_pts(index);
        self.scale(|scaler, deliver| scaler.push(&frame, deliver))
    }

    /// Hands what a step of the scaler gives to the rungs.
    fn scale(
        &mut self,
        step: impl FnOnce(&mut Scaler, Deliver<'_>) -> Result<(), AvError>,
    ) -> Result<(), Failure> {
        let Self { scaler, rungs, stills, job, concealed, .. } = self;
        let mut delivered = Ok(());
        let stepped = step(scaler, &mut |rung, frame| {
            delivered = std::mem::replace(&mut delivered, Ok(()))
                .and_then(|()| deliver(rungs, stills, &job.frames, concealed, rung, frame));
            Ok(())
        });
        delivered.and(stepped.map_err(internal))
    }

    fn finish(mut self) -> Result<(), Failure> {
        let Some(last) = self.last.take() else {
            return Err(fail(FailureCode::Corrupt, "nothing of this part of the picture can be decoded"));
        };
        self.conceal_up_to(self.job.frames.len(), last)?;
        self.scale(|scaler, deliver| scaler.flush(deliver))?;
        for rung in self.rungs {
            rung.finish(&self.concealed)?;
        }
        Ok(())
    }
}

fn deliver(
    rungs: &mut [RungEncode<'_>],
    stills: &mut Stills<'_>,
    frames: &[PlannedFrame],
    concealed: &[bool],
    rung: usize,
    frame: Frame,
) -> Result<(), Failure> {
    if frame.pts() == Some(LEAD_IN) {
        return Ok(());
    }
    let planned = frame.pts().and_then(|i| usize::try_from(i).ok());
    let (Some(planned), Some(rung)) = (planned, rungs.get_mut(rung)) else {
        return Err(internal("a filter lost count of its frames"));
    };
    let pts = frames.get(planned).ok_or_else(|| internal("a filter lost count of its frames"))?.pts;
    stills.take(planned, rung.rung, &frame)?;
    rung.encode(planned, pts, frame, concealed)
}

/// One rung: its encoder, and the segment in the making.
struct RungEncode<'a> {
    parent: &'a Parent,
    job: &'a VideoJob,
    rung: usize,
    encoder: VideoEncoder,
    config: VideoConfig,
    coded: Vec<EncodedFrame>,
    /// The job's segment that `samples` belong to.
    segment: usize,
    samples: Vec<VideoSample>,
}

impl<'a> RungEncode<'a> {
    fn open(
        parent: &'a Parent,
        job: &'a VideoJob,
        rung: usize,
        colour: OutputColour,
    ) -> Result<Self, Failure> {
        let facts = job.rungs.get(rung).ok_or_else(|| internal("no such rung"))?;
        let settings = VideoSettings {
            width: facts.width,
            height: facts.height,
            timescale: job.timescale,
            frame_rate: job.frame_rate,
            crf: facts.crf,
            max_kbps: facts.max_kbps,
            buffer_kbit: facts.buffer_kbit,
            effort: facts.effort,
            colour,
        };
        let engine = job.engine.unwrap_or(VideoEngine::software(facts.codec));
        let Opened { encoder, config, codecs } =
            encoder::open(engine, settings).map_err(|e| internal(format!("{}: {e}", engine.name())))?;
        let size = |value: u32| u16::try_from(value).map_err(internal);
        let init = VideoInit {
            timescale: job.timescale,
            width: size(facts.width)?,
            height: size(facts.height)?,
            config: config.clone(),
            colour: [colour.primaries, colour.transfer, colour.matrix],
        };
        let bytes = init.bytes();
        parent.say(&FromChild::Init(InitOutput {
            rendition: facts.id.clone(),
            encoder: encoder::stream_name(engine, &bytes),
            timescale: job.timescale,
            codecs,
            bytes,
        }))?;
        Ok(Self { parent, job, rung, encoder, config, coded: Vec::new(), segment: 0, samples: Vec::new() })
    }

    fn encode(
        &mut self,
        planned: usize,
        pts: Ticks,
        frame: Frame,
        concealed: &[bool],
    ) -> Result<(), Failure> {
        let starts =
            self.job.segments.binary_search_by_key(&(planned as u64), |s| u64::from(s.first)).is_ok();
        self.encoder.encode(frame, pts, starts, &mut self.coded).map_err(of_encode)?;
        self.collect(concealed)
    }

    /// Sorts coded frames into segments: in decode order, a segment ends where the next one's first frame comes.
    fn collect(&mut self, concealed: &[bool]) -> Result<(), Failure> {
        for coded in std::mem::take(&mut self.coded) {
            if self.next_start().is_some_and(|start| coded.pts == start) {
                self.close(concealed)?;
            }
            self.samples.push(VideoSample {
                pts: coded.pts,
                sync: coded.sync,
                data: self.config.sample(&coded.data),
            });
        }
        Ok(())
    }

    /// Where the segment after the present one starts.
    fn next_start(&self) -> Option<Ticks> {
        let next = self.job.segments.get(self.segment + 1)?;
        self.job.frames.get(next.first as usize).map(|f| f.pts)
    }

    fn close(&mut self, concealed: &[bool]) -> Result<(), Failure> {
        let (Some(segment), Some(rung)) =
            (self.job.segments.get(self.segment), self.job.rungs.get(self.rung))
        else {
            return Err(internal("more segments came than were planned"));
        };
        let end_frame =
            self.job.segments.get(self.segment + 1).map_or(self.job.frames.len(), |next| next.first as usize);
        let frames = segment.first as usize..end_frame;
        if self.samples.len() != frames.len() {
            let (came, planned) = (self.samples.len(), frames.len());
            return Err(internal(format!(
                "{came} frames came out of the encoder for a segment of {planned}"
            )));
        }
        if self.samples.first().is_none_or(|first| !first.sync) {
            return Err(internal(format!(
                "segment {} begins with a frame that refers to others",
                segment.number
            )));
        }
        let start = self.job.frames.get(frames.start).map_or(Ticks::ZERO, |f| f.pts);
        let end = self.next_start().unwrap_or(self.job.end);
        let bytes = video_segment(segment.number, &self.samples, end).map_err(of_segment)?;
        // Media data comes last, in decode order.
        let after_first: usize = self.samples.iter().skip(1).map(|s| s.data.len()).sum();
        let first_frame_bytes = (bytes.len() - after_first) as u32;
        self.parent.say(&FromChild::Segment(SegmentOutput {
            rendition: rung.id.clone(),
            number: segment.number,
            start,
            duration: end - start,
            frames: frames.len() as u32,
            concealed: concealed.get(frames).unwrap_or_default().iter().filter(|c| **c).count() as u32,
            first_frame_bytes,
            bytes,
        }))?;
        self.samples.clear();
        self.segment += 1;
        Ok(())
    }

    fn finish(mut self, concealed: &[bool]) -> Result<(), Failure> {
        self.encoder.finish(&mut self.coded).map_err(of_encode)?;
        self.collect(concealed)?;
        self.close(concealed)?;
        if self.segment == self.job.segments.len() {
            Ok(())
        } else {
            Err(internal("fewer segments came than were planned"))
        }
    }
}
