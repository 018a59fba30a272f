//! A run of audio segments on the encoder's absolute grid: packet n presents the samples from n packets minus the
//! encoder's delay on.
//!
//! The encoder starts some packets early and goes on past the end; what it makes there is thrown away, so that a seam
//! between two runs cannot be told from the middle of one.

use std::time::Instant;

use reelmill_av::{
    AudioDecoder, AudioEncoder, DecodeError, Decoded, EncodedPacket, Frame, Resampler, SourceAudioCodec,
    Stereo,
};
use reelmill_media::task::Failure;
use reelmill_media::time::{Ticks, Timescale};

use super::cut::first_packet;
use super::failure::{internal, of_decode, of_encode, of_parameter_sets, of_segment, of_source};
use super::feed::Packets;
use super::parent::{Parent, READ_AHEAD_BYTES};
use super::progress::Progress;
use super::protocol::{AudioJob, FromChild, InitOutput, SegmentOutput};
use super::tape::Tape;
use crate::mp4::fragment::audio_segment;
use crate::mp4::init::{AudioConfig, AudioInit};

/// Sound whose time is off by less than this, in milliseconds, is taken to go on without a break.
const SLACK_MS: i64 = 30;

/// Makes all segments of `job`.
pub fn run(parent: &Parent, job: &AudioJob) -> Result<(), Failure> {
    let mut encode = Encode::open(parent, job)?;
    let mut placing = Placing::new(job);
    if job.conceal {
        encode.broken = job.feed.samples.iter().map(|sample| placing.output_time(sample.pts)).collect();
        return encode.finish();
    }
    let codec = SourceAudioCodec::named(&job.feed.setup.codec).map_err(of_source)?;
    let setup = &job.feed.setup;
    let mut decoder = AudioDecoder::open(codec, setup, job.feed.timescale, job.sample_rate, job.channels)
        .map_err(of_source)?;
    let mut packets = Packets::open(parent, &job.feed, READ_AHEAD_BYTES)?;
    let mut frame = Frame::new().map_err(internal)?;
    loop {
        let packet = packets.next()?;
        match decoder.send(packet.as_ref()) {
            Ok(()) => {}
            Err(DecodeError::Broken(_)) => {
                if let Some(pts) = packet.as_ref().and_then(|p| p.pts()) {
                    encode.broken.push(placing.output_time(Ticks(pts)));
                }
            }
            Err(error @ DecodeError::Fatal(_)) => return Err(of_decode(error)),
        }
        loop {
            match decoder.receive(&mut frame) {
                Ok(Decoded::Frame) => placing.take(&frame, &mut encode.tape)?,
                Ok(Decoded::Hungry | Decoded::Ended) | Err(DecodeError::Broken(_)) => break,
                Err(error @ DecodeError::Fatal(_)) => return Err(of_decode(error)),
            }
        }
        encode.encode_what_is_there()?;
        if packet.is_none() || encode.is_done() {
            break;
        }
    }
    placing.finish(&mut encode.tape)?;
    encode.finish()
}

/// Puts decoded sound where it belongs on the output's time.
struct Placing<'a> {
    job: &'a AudioJob,
    resampler: Resampler,
    scratch: Stereo,
    /// Where the next input sample is expected, in input samples from presentation time 0, at this rate.
    expected: Option<(i64, u32)>,
    /// Where the resampler's next output sample belongs.
    output_at: i64,
}

impl<'a> Placing<'a> {
    fn new(job: &'a AudioJob) -> Self {
        let resampler = Resampler::new(job.timeline.sample_rate);
        Self { job, resampler, scratch: Stereo::default(), expected: None, output_at: 0 }
    }

    /// A source time as output samples from presentation time 0.
    fn output_time(&self, pts: Ticks) -> i64 {
        (pts - self.job.timeline.zero).rescale(self.job.feed.timescale, self.job.timeline.sample_rate).0
    }

    fn take(&mut self, frame: &Frame, tape: &mut Tape) -> Result<(), Failure> {
        let Some(input_rate) = Timescale::new(frame.sample_rate()) else { return Ok(()) };
        let rate = input_rate.get();
        let said = frame
            .pts()
            .map(|pts| (Ticks(pts) - self.job.timeline.zero).rescale(self.job.feed.timescale, input_rate).0);
        let slack = Ticks::from_millis(SLACK_MS, input_rate).0;
        let (at, goes_on) = match (self.expected, said) {
            (Some((expected, same)), Some(said)) if same == rate && (expected - said).abs() <= slack => {
                (expected, true)
            }
            (Some((expected, same)), None) if same == rate => (expected, true),
            (_, Some(said)) => (said, false),
            (_, None) => return Ok(()),
        };
        let length = frame.samples();
        self.expected = Some((at.saturating_add(length as i64), rate));
        let mut skip = 0;
        if !goes_on {
            self.flush(tape)?;
            // The stretch must begin where input and output samples coincide, or chunks would differ in phase.
            let grid = i64::from(rate / gcd(rate, self.job.timeline.sample_rate.get()));
            skip = (-at).rem_euclid(grid);
            let start = at.saturating_add(skip);
            self.output_at = Ticks(start).rescale(input_rate, self.job.timeline.sample_rate).0;
            if skip >= length as i64 {
                self.expected = None;
                return Ok(());
            }
        }
        self.resampler.push(frame, skip as usize, &mut self.scratch).map_err(internal)?;
        self.place(tape);
        Ok(())
    }

    fn place(&mut self, tape: &mut Tape) {
        tape.lay(self.output_at, &self.scratch);
        self.output_at = self.output_at.saturating_add(self.scratch.left.len() as i64);
        self.scratch.left.clear();
        self.scratch.right.clear();
    }

    fn flush(&mut self, tape: &mut Tape) -> Result<(), Failure> {
        self.resampler.flush(&mut self.scratch).map_err(internal)?;
        self.place(tape);
        Ok(())
    }

    fn finish(mut self, tape: &mut Tape) -> Result<(), Failure> {
        self.flush(tape)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// From samples on the tape to segments.
struct Encode<'a> {
    parent: &'a Parent,
    job: &'a AudioJob,
    tape: Tape,
    encoder: AudioEncoder,
    coded: Vec<EncodedPacket>,
    /// The encoder frame that is next: frame k holds the samples from k packets on.
    frame: i64,
    /// One past the last frame fed.
    end_frame: i64,
    /// The init segment says how many packets early a decoder begins.
    rolls: bool,
    /// The job's segment in the making.
    segment: usize,
    packets: Vec<Vec<u8>>,
    /// Output times of source packets that could not be decoded.
    broken: Vec<i64>,
    progress: Progress,
}

impl<'a> Encode<'a> {
    fn open(parent: &'a Parent, job: &'a AudioJob) -> Result<Self, Failure> {
        let Some(first) = job.segments.first() else { return Err(internal("a job without segments")) };
        let increasing = job.segments.windows(2).all(|w| w[0].first < w[1].first);
        if !increasing || job.segments.last().is_none_or(|s| s.first >= job.end_packet) {
            return Err(internal("the job's segments are out of order"));
        }
        let rate = job.timeline.sample_rate;
        let encoder = AudioEncoder::open(job.rung.codec, rate, job.rung.kbps).map_err(of_encode)?;
        let config = AudioConfig::of(job.rung.codec, encoder.config()).map_err(of_parameter_sets)?;
        let init = AudioInit {
            sample_rate: rate,
            channels: 2,
            config: config.clone(),
            bits_per_second: job.rung.kbps.saturating_mul(1000),
            delay_samples: job.rung.codec.priming_samples() as u32,
            language: job.rung.language.clone(),
        };
        parent.say(&FromChild::Init(InitOutput {
            rendition: job.rung.id.clone(),
            encoder: job.rung.codec.name().to_owned(),
            timescale: rate,
            codecs: config.codecs(),
            bytes: init.bytes(),
        }))?;
        let samples = job.rung.codec.packet_samples();
        let frame = first_packet(job.rung.codec, first.first) - 1;
        // The last packet wanted comes out once the frame after its own samples is in.
        let end_frame = i64::from(job.end_packet) + 1;
        let mut tape = Tape::new(frame * samples, end_frame * samples);
        tape.present(job.timeline.start..job.timeline.samples);
        Ok(Self {
            parent,
            job,
            tape,
            encoder,
            coded: Vec::new(),
            frame,
            end_frame,
            rolls: config.roll_packets().is_some(),
            segment: 0,
            packets: Vec::new(),
            broken: Vec::new(),
            progress: Progress::new(Instant::now()),
        })
    }

    fn packet_samples(&self) -> i64 {
        self.job.rung.codec.packet_samples()
    }

    fn is_done(&self) -> bool {
        self.frame >= self.end_frame
    }

    fn encode_what_is_there(&mut self) -> Result<(), Failure> {
        while !self.is_done() && self.tape.holds(self.packet_samples() as usize) {
            self.encode_one()?;
        }
        Ok(())
    }

    fn encode_one(&mut self) -> Result<(), Failure> {
        let samples = self.packet_samples();
        let (left, right) = self.tape.take(samples as usize);
        self.encoder.encode(self.frame * samples, &left, &right, &mut self.coded).map_err(of_encode)?;
        self.frame += 1;
        self.collect()
    }

    fn collect(&mut self) -> Result<(), Failure> {
        let first = self.job.segments.first().map_or(0, |s| i64::from(s.first));
        for packet in std::mem::take(&mut self.coded) {
            // The encoder dates a packet by the first sample it presents.
            let delay = self.job.rung.codec.priming_samples();
            let number = (packet.pts + delay).div_euclid(self.packet_samples());
            let wanted = first + self.made();
            if number < wanted || number >= i64::from(self.job.end_packet) {
                continue;
            }
            if number > wanted {
                return Err(internal("the audio encoder lost a packet"));
            }
            self.packets.push(packet.data);
            if number + 1 == self.segment_end() {
                self.close()?;
                let total = i64::from(self.job.end_packet) - first;
                self.progress
                    .tell(self.parent, usize::try_from(self.made() * 1000 / total.max(1)).unwrap_or(0))?;
            }
        }
        Ok(())
    }

    /// Packets kept so far.
    fn made(&self) -> i64 {
        let begun = self.job.segments.get(self.segment).map_or(self.job.end_packet, |s| s.first);
        let first = self.job.segments.first().map_or(0, |s| s.first);
        i64::from(begun - first) + self.packets.len() as i64
    }

    /// The packet after the present segment's last.
    fn segment_end(&self) -> i64 {
        i64::from(self.job.segments.get(self.segment + 1).map_or(self.job.end_packet, |next| next.first))
    }

    fn close(&mut self) -> Result<(), Failure> {
        let Some(segment) = self.job.segments.get(self.segment) else {
            return Err(internal("more segments came than were planned"));
        };
        let (samples, delay) = (self.packet_samples(), self.job.rung.codec.priming_samples());
        let (first, end) = (i64::from(segment.first), self.segment_end());
        // Presentation ends with the sound, not with the packet: the last packet of all is cut short.
        let present = |packet: i64| (packet * samples - delay).clamp(0, self.job.timeline.samples);
        let (from, to) = (present(first), present(end));
        let last = (self.job.timeline.samples + delay - (end - 1) * samples).clamp(1, samples);
        let (start, rolls) = (Ticks(first * samples), self.rolls);
        let bytes = audio_segment(segment.number, &self.packets, start, samples as u32, last as u32, rolls)
            .map_err(of_segment)?;
        self.parent.say(&FromChild::Segment(SegmentOutput {
            rendition: self.job.rung.id.clone(),
            number: segment.number,
            start: Ticks(from),
            duration: Ticks(to - from),
            frames: self.packets.len() as u32,
            concealed: self.broken.iter().filter(|at| (from..to).contains(*at)).count() as u32,
            first_frame_bytes: 0,
            bytes,
        }))?;
        self.packets.clear();
        self.segment += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        while !self.is_done() {
            self.encode_one()?;
        }
        if self.segment < self.job.segments.len() {
            self.encoder.finish(&mut self.coded).map_err(of_encode)?;
            self.collect()?;
        }
        if self.segment == self.job.segments.len() {
            Ok(())
        } else {
            Err(internal("fewer segments came than were planned"))
        }
    }
}
