//! All containers but MP4: one pass over all packets of the streams that are wanted.

use std::ops::Range;

use reelmill_av::{
    Demuxer, FieldParser, Look, Packet, PictureKind, SourceAudioCodec, SourceVideoCodec, StreamFacts,
    StreamKind,
};
use reelmill_media::index::{
    AudioTrack, CodecSetup, Colour, Container, MAX_AUDIO_TRACKS, Picture, Sample, SourceIndex, VideoTrack,
};
use reelmill_media::task::{Failure, FailureCode};
use reelmill_media::time::{Ticks, Timescale};

use super::super::failure::{fail, internal, not_begun, of_source};
use super::super::feed;
use super::super::parent::{Input, Parent, READ_AHEAD_BYTES};
use super::super::progress::Progress;
use super::{HOP_BYTES, caf, sound};
use crate::mp4::samples::MAX_SAMPLES;

/// A transport stream whose decode times jump ahead by more than this was spliced, in milliseconds …
const JUMP_AHEAD_MS: i64 = 10_000;
/// … and so it was when they fall back by more than this, in milliseconds.
const JUMP_BACK_MS: i64 = 500;

/// Bits of an MPEG system stream's clock (ISO 13818-1 §2.4.3.7, §2.5.3.3).
const MPEG_CLOCK_BITS: u32 = 33;

/// Codecs that show a frame which others refer to when the next of them is decoded, and all others at once. Program
/// streams and AVI leave the former's times out.
const ONE_FRAME_DEEP: [&str; 8] =
    ["mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4v3", "wmv2", "wmv3", "vc1"];

/// Scans the source, or as much as is there of it: then every stream must have begun.
pub fn run(parent: &Parent, container: Container, length: u64, whole: bool) -> Result<SourceIndex, Failure> {
    let format = feed::format(container).ok_or_else(|| internal("MP4 needs no demuxer"))?;
    let input = Input::new(parent, length, READ_AHEAD_BYTES);
    let mut demuxer = Demuxer::open(format, input, Look::Analyse).map_err(of_source)?;
    let streams = demuxer.streams();
    let video = choose(
        &streams,
        StreamKind::Video,
        |s| SourceVideoCodec::named(&s.codec).is_ok(),
        |s| u64::from(s.width) * u64::from(s.height),
    );
    let sounds = sounds(&streams);
    if video.is_none() && sounds.is_empty() {
        let other = streams.iter().find(|s| s.kind != StreamKind::Other).map(|s| s.codec.clone());
        return Err(match other {
            Some(codec) => fail(FailureCode::Unsupported, format!("the codec {codec:?} is not supported")),
            None => fail(FailureCode::NoTracks, "the file has neither a picture nor a sound track"),
        });
    }
    let wanted: Vec<u32> = video.iter().chain(&sounds).map(|(stream, _)| *stream).collect();
    demuxer.keep_only(&wanted);

    let mut scans: Vec<Scan> = Vec::new();
    for (_, facts) in video.iter().chain(&sounds) {
        scans.push(Scan::new(facts, container)?);
    }
    if let (Some((_, facts)), Some(pictures)) = (video, scans.first_mut()) {
        pictures.fields = SourceVideoCodec::named(&facts.codec)
            .and_then(|codec| FieldParser::open(codec, &facts.extradata))
            .map_err(of_source)?;
    }
    let mut packet = Packet::new().map_err(internal)?;
    let mut progress = Progress::new(std::time::Instant::now());
    loop {
        match demuxer.read(&mut packet) {
            Ok(true) => {}
            Ok(false) => break,
            // The rest of a damaged file is lost; what came before it is good.
            Err(error) if error.is_bad_data() => break,
            Err(error) => return Err(of_source(error)),
        }
        if let Some(own) = wanted.iter().position(|stream| *stream == packet.stream()) {
            // All streams pass a splice by the same offset: the first packet after it finds it.
            let offsets: Vec<i64> = scans.iter().map(|scan| scan.offset).collect();
            if let Some(scan) = scans.get_mut(own) {
                scan.add(&packet, &offsets)?;
            }
        }
        let permille = packet.position().map_or(0, |p| p.saturating_mul(1000) / length.max(1));
        progress.tell(parent, permille as usize)?;
    }
    if !whole && scans.iter().any(|scan| scan.samples.is_empty()) {
        return Err(not_begun());
    }
    if container == Container::Caf {
        let trimmed = caf::trimmed(&mut Input::new(parent, length, HOP_BYTES)).map_err(internal)?;
        for scan in &mut scans {
            scan.trimmed = trimmed;
            // What remains of the last packet counts from the end of a whole one.
            scan.last_duration = scan.last_duration.filter(|_| trimmed.1 == 0);
        }
    }
    let mut scans = scans.into_iter();
    let video = video.and_then(|(stream, facts)| Some(scans.next()?.video(stream, facts)));
    let audio = sounds
        .into_iter()
        .zip(scans)
        .filter(|(_, scan)| !scan.samples.is_empty())
        .map(|((stream, facts), scan)| scan.audio(stream, facts, container));
    Ok(SourceIndex { container, video, audio: audio.collect() })
}

/// The audio streams that can be decoded: those the container marks first, otherwise in its order.
fn sounds(streams: &[StreamFacts]) -> Vec<(u32, &StreamFacts)> {
    let mut found: Vec<(u32, &StreamFacts)> = (0u32..)
        .zip(streams)
        .filter(|(_, s)| s.kind == StreamKind::Audio && SourceAudioCodec::named(&s.codec).is_ok())
        .collect();
    found.sort_by_key(|(_, s)| (s.sample_rate == 0, !s.default));
    found.truncate(MAX_AUDIO_TRACKS);
    found
}

/// The best stream of a kind: one the container marks, then the largest, then the first.
fn choose(
    streams: &[StreamFacts],
    kind: StreamKind,
    supported: impl Fn(&StreamFacts) -> bool,
    size: impl Fn(&StreamFacts) -> u64,
) -> Option<(u32, &StreamFacts)> {
    (0u32..)
        .zip(streams)
        .filter(|(_, s)| s.kind == kind && supported(s))
        .max_by_key(|(n, s)| (size(s) > 0, s.default, size(s), std::cmp::Reverse(*n)))
}

fn setup(facts: &StreamFacts) -> CodecSetup {
    CodecSetup { codec: facts.codec.clone(), extradata: facts.extradata.clone(), wave: facts.wave }
}

/// The packets of one stream so far.
struct Scan {
    clock: Timescale,
    /// Ticks of `clock` per tick of the container.
    scale: i64,
    /// Set where the clock wraps around.
    wrap: Option<i64>,
    /// Added to times since the last splice, so that they go on.
    offset: i64,
    fields: Option<FieldParser>,
    /// The last packet held the first field of a frame of which this is the kind.
    first_field: Option<PictureKind>,
    samples: Vec<Sample>,
    /// Those whose presentation time is unsaid.
    undated: Vec<bool>,
    /// Samples of sound that are not presented: at the start of the first packet, and at the end of the last.
    trimmed: (u32, u32),
    last_offset: Option<u64>,
    last_time: Option<i64>,
    last_duration: Option<i64>,
    /// The codec is ALAC in a container that says of no packet how long it lasts.
    alac: bool,
}

impl Scan {
    fn new(facts: &StreamFacts, container: Container) -> Result<Self, Failure> {
        let (num, den) = facts.time_base;
        let clock =
            Timescale::new(den).filter(|_| num > 0).ok_or_else(|| internal("a stream without a clock"))?;
        let wrap = match container {
            Container::MpegTs | Container::MpegPs => Some(1i64 << MPEG_CLOCK_BITS),
            Container::Mp4
            | Container::Matroska
            | Container::Avi
            | Container::Flv
            | Container::Ogg
            | Container::Asf
            | Container::MpegAudio
            | Container::Wav
            | Container::Flac
            | Container::Aiff
            | Container::Caf
            | Container::Adts => None,
        };
        Ok(Self {
            clock,
            scale: i64::from(num),
            wrap,
            offset: 0,
            fields: None,
            first_field: None,
            samples: Vec::new(),
            undated: Vec::new(),
            trimmed: (0, 0),
            last_offset: None,
            last_time: None,
            last_duration: None,
            alac: container == Container::Caf && facts.codec == "alac",
        })
    }

    /// Adds a packet. `offsets` are those of all streams, which pass a splice by the same one.
    fn add(&mut self, packet: &Packet, offsets: &[i64]) -> Result<(), Failure> {
        if self.ends_a_frame(packet) {
            return Ok(());
        }
        // Of several frames in one packet of the container, only the first has a place of its own.
        self.last_offset = packet.position().or(self.last_offset);
        // A packet without a time belongs to the one before.
        let (Some(dts), Some(offset)) = (packet.dts().or(packet.pts()), self.last_offset) else {
            return Ok(());
        };
        if self.samples.len() == MAX_SAMPLES {
            return Err(fail(FailureCode::TooLarge, "the file has too many samples"));
        }
        let dts = self.dated(dts, offsets);
        self.last_time = Some(dts);
        self.last_duration = packet.duration().or_else(|| self.partial(packet));
        let (start, end) = packet.trimmed();
        self.trimmed = (if self.samples.is_empty() { start } else { self.trimmed.0 }, end);
        self.undated.push(packet.pts().is_none());
        let pts = packet.pts().map_or(dts, |pts| self.unrolled(pts + self.offset));
        self.samples.push(Sample {
            offset,
            bytes: u32::try_from(packet.data().len()).unwrap_or(u32::MAX),
            dts: Ticks(dts.saturating_mul(self.scale)),
            pts: Ticks(pts.saturating_mul(self.scale)),
            key: packet.is_key(),
        });
        Ok(())
    }

    /// How long a packet lasts that says so by itself.
    fn partial(&self, packet: &Packet) -> Option<i64> {
        self.alac.then(|| caf::partial_alac(packet.data())).flatten().map(i64::from)
    }

    /// Whether this packet is the second field of a frame whose first came before.
    fn ends_a_frame(&mut self, packet: &Packet) -> bool {
        let Some(parser) = &mut self.fields else { return false };
        let kind = parser.kind(packet);
        let opposite = match self.first_field {
            Some(PictureKind::TopField) => PictureKind::BottomField,
            Some(PictureKind::BottomField) => PictureKind::TopField,
            Some(PictureKind::Frame) | None => PictureKind::Frame,
        };
        let ends = kind != PictureKind::Frame && kind == opposite;
        self.first_field = if ends || kind == PictureKind::Frame { None } else { Some(kind) };
        ends
    }

    /// A decode time as it goes on from the last one, over wraps and splices.
    fn dated(&mut self, time: i64, offsets: &[i64]) -> i64 {
        let (Some(_), Some(last)) = (self.wrap, self.last_time) else { return time };
        let ticks = |ms| Ticks::from_millis(ms, self.clock).0;
        let goes_on = (last - ticks(JUMP_BACK_MS))..=(last + ticks(JUMP_AHEAD_MS));
        let tried = std::iter::once(self.offset).chain(offsets.iter().copied());
        let known = tried.map(|o| (o, self.unrolled(time + o))).find(|(_, t)| goes_on.contains(t));
        let (offset, dated) = known.unwrap_or_else(|| {
            let next = last + self.last_duration.unwrap_or(1);
            (next - time, next)
        });
        self.offset = offset;
        dated
    }

    /// The time nearest to the last one that a wrapping clock may mean.
    fn unrolled(&self, time: i64) -> i64 {
        let (Some(wrap), Some(last)) = (self.wrap, self.last_time) else { return time };
        let turns = (last - time + wrap / 2).div_euclid(wrap);
        time + turns * wrap
    }

    /// The most usual distance of presentation times, at least 1 tick.
    fn usual_step(&self) -> Ticks {
        let mut times: Vec<i64> = self.samples.iter().map(|s| s.pts.0).collect();
        times.sort_unstable();
        let mut steps: Vec<i64> =
            times.windows(2).map(|w| w[1].saturating_sub(w[0])).filter(|d| *d > 0).collect();
        steps.sort_unstable();
        Ticks(steps.get(steps.len() / 2).copied().unwrap_or(1))
    }

    /// Gives presentation times to frames that others refer to.
    fn date_references(&mut self) {
        if self.undated.iter().all(|undated| *undated) {
            return;
        }
        let mut next = self.samples.last().map(|last| last.dts + self.usual_step());
        for (sample, undated) in self.samples.iter_mut().zip(&self.undated).rev() {
            if *undated {
                sample.pts = next.unwrap_or(sample.pts);
            }
            if *undated || sample.pts != sample.dts {
                next = Some(sample.dts);
            }
        }
    }

    fn video(mut self, stream: u32, facts: &StreamFacts) -> VideoTrack {
        if ONE_FRAME_DEEP.contains(&facts.codec.as_str()) {
            self.date_references();
        }
        let (sar_num, sar_den) = facts.sample_aspect.unwrap_or((0, 0));
        let said = Ticks(self.last_duration.unwrap_or(0).saturating_mul(self.scale));
        let usual = self.usual_step();
        VideoTrack {
            stream,
            setup: setup(facts),
            timescale: self.clock,
            picture: Picture {
                width: facts.width,
                height: facts.height,
                sar_num,
                sar_den,
                orientation: facts.orientation,
                colour: Colour::UNSPECIFIED,
            },
            // Fields count as frames in what a parser says of durations.
            last_duration: if said > usual { said } else { usual },
            samples: self.samples,
            window: Ticks(i64::MIN)..Ticks(i64::MAX),
        }
    }

    fn audio(self, stream: u32, facts: &StreamFacts, container: Container) -> AudioTrack {
        let window = self.presented(container, facts.sample_rate);
        let mut track = AudioTrack {
            stream,
            setup: setup(facts),
            timescale: self.clock,
            sample_rate: facts.sample_rate,
            channels: facts.channels,
            language: facts.language.clone(),
            samples: self.samples,
            window,
        };
        sound::snap(&mut track, self.trimmed.1);
        track
    }

    /// What of the sound is to be heard.
    fn presented(&self, container: Container, sample_rate: u32) -> Range<Ticks> {
        let unbounded = Ticks(i64::MIN)..Ticks(i64::MAX);
        match container {
            // What Matroska dates before 0 is the codec's delay (RFC 9559 §5.1.4.1.25.2).
            Container::Matroska => Ticks::ZERO..unbounded.end,
            // Their clocks are too coarse to say where a sample lies, or nothing is cut off.
            Container::Mp4
            | Container::MpegTs
            | Container::MpegPs
            | Container::Avi
            | Container::Flv
            | Container::Asf
            | Container::Adts => unbounded,
            // These count samples.
            Container::Ogg
            | Container::MpegAudio
            | Container::Wav
            | Container::Flac
            | Container::Aiff
            | Container::Caf => {
                let (Some(rate), Some(first), Some(last)) =
                    (Timescale::new(sample_rate), self.samples.first(), self.samples.last())
                else {
                    return unbounded;
                };
                let ticks = |samples: u32| Ticks(i64::from(samples)).rescale(rate, self.clock);
                // Ogg's demuxer has taken what is cut off the end from the last duration.
                let cut = if container == Container::Ogg { 0 } else { self.trimmed.1 };
                let lasts = self.last_duration.map(|lasts| Ticks(lasts.saturating_mul(self.scale)));
                let end = last.pts + lasts.unwrap_or_else(|| self.usual_step()) - ticks(cut);
                // What is dated before 0 is the codec's delay, here too.
                (first.pts + ticks(self.trimmed.0)).max(Ticks::ZERO)..end
            }
        }
    }
}
