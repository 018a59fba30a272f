//! Puts the packets of a sound track where their samples truly lie.
//!
//! Containers round packet times to their own clock: Matroska to milliseconds, which is 48 samples. Chunks that start
//! from times so rounded would be shifted against each other. Where it is known how many samples a packet holds, counting
//! them is exact.

use reelmill_media::index::{AudioTrack, CodecSetup};
use reelmill_media::time::{Ticks, Timescale};

/// Codecs whose packets all hold the same number of samples.
const EVEN_CODECS: [&str; 6] = ["aac", "mp3", "mp2", "ac3", "eac3", "opus"];

/// Samples per packet of those.
const PACKET_SAMPLES: [i64; 11] = [1024, 2048, 1152, 576, 1536, 960, 480, 1920, 2880, 768, 256];

/// A packet may lie so many ticks of the container's clock from where counting puts it.
const TOLERANCE_TICKS: i64 = 2;

/// How many samples the packets of a track hold.
enum Holds {
    /// Each so many, but for the last, which may hold fewer: then it is known how many all hold together.
    Even { each: i64, all: Option<i64> },
    /// Each one of these numbers, in ascending order.
    OneOf([i64; 3]),
    /// As many as so many bytes each fit in.
    Bytes(i64),
}

/// Replaces the track's clock by its sample rate, and its packets' times by counted ones where that is evident. Of the last packet
/// the last `cut` samples are not presented.
pub fn snap(track: &mut AudioTrack, cut: u32) {
    let Some(rate) = Timescale::new(track.sample_rate) else { return };
    if track.timescale == rate || track.samples.len() < 3 {
        return;
    }
    let Some(holds) = Holds::of(track, rate) else { return };
    let clock = track.timescale;
    let tolerance = Ticks(TOLERANCE_TICKS).rescale(clock, rate).0.max(1) + 1;
    let said: Vec<i64> = track.samples.iter().map(|sample| sample.pts.rescale(clock, rate).0).collect();
    let mut counted = opus_delay(&track.setup).map(|samples| -samples);
    for (n, sample) in track.samples.iter_mut().enumerate() {
        let Some(said_here) = said.get(n) else { break };
        let at = counted.filter(|at| (at - said_here).abs() <= tolerance).unwrap_or(*said_here);
        counted = Some(at + holds.samples(sample.bytes, said.get(n + 1).map(|next| next - said_here)));
        sample.pts = Ticks(at);
        sample.dts = Ticks(at);
    }
    let window = track.window.start.rescale(clock, rate)..track.window.end.rescale(clock, rate);
    let end = holds.end(track, counted, i64::from(cut)).map_or(window.end, |end| window.end.min(end));
    track.window = window.start..end;
    track.timescale = rate;
}

impl Holds {
    fn of(track: &AudioTrack, rate: Timescale) -> Option<Self> {
        let CodecSetup { codec, extradata, .. } = &track.setup;
        match codec.as_str() {
            "flac" => flac(extradata),
            "vorbis" => vorbis(extradata),
            even if EVEN_CODECS.contains(&even) => {
                packet_samples(track, rate).map(|each| Holds::Even { each, all: None })
            }
            plain => pcm_bytes(plain).map(|bytes| Holds::Bytes(bytes * i64::from(track.channels.max(1)))),
        }
    }

    /// Samples of a packet of so many bytes, after which the next one comes so many samples later, roughly.
    fn samples(&self, bytes: u32, until_next: Option<i64>) -> i64 {
        match self {
            Holds::Even { each, .. } => *each,
            Holds::OneOf(numbers) => {
                let until_next = until_next.unwrap_or(i64::MAX);
                let nearest = numbers.iter().min_by_key(|number| until_next.abs_diff(**number));
                nearest.copied().unwrap_or(0)
            }
            Holds::Bytes(each) => i64::from(bytes) / each,
        }
    }

    /// Where the sound of the track ends, on its rate's clock, when its packets are in their places and the last one was
    /// `counted` to end there, but for what is `cut` off.
    fn end(&self, track: &AudioTrack, counted: Option<i64>, cut: i64) -> Option<Ticks> {
        match self {
            // A part of a longer track still says how long the whole was.
            Holds::Even { each, all: Some(all) } => {
                let (first, last) = (track.samples.first()?.pts, track.samples.last()?.pts);
                let end = first + Ticks(*all);
                (last < end && end <= last + Ticks(*each)).then_some(end)
            }
            Holds::Even { each, all: None } => {
                counted.filter(|_| (1..*each).contains(&cut)).map(|end| Ticks(end - cut))
            }
            Holds::OneOf(_) => None,
            Holds::Bytes(_) => counted.map(Ticks),
        }
    }
}

/// Samples per packet, when the usual distance of packets is that of a codec's packets.
fn packet_samples(track: &AudioTrack, rate: Timescale) -> Option<i64> {
    let mut steps: Vec<i64> = track.samples.windows(2).map(|w| (w[1].pts - w[0].pts).0).collect();
    steps.sort_unstable();
    // Rounded steps alternate between two neighbours: their mean over the middle half is close to the truth.
    let middle = steps.get(steps.len() / 4..steps.len() - steps.len() / 4).filter(|m| !m.is_empty())?;
    let mean = middle.iter().sum::<i64>() as f64 / middle.len() as f64;
    let samples = mean * f64::from(rate.get()) / f64::from(track.timescale.get());
    let tick = f64::from(rate.get()) / f64::from(track.timescale.get());
    PACKET_SAMPLES.into_iter().find(|known| (*known as f64 - samples).abs() <= (tick / 2.0).max(1.0))
}

/// Samples before the first that is heard: of Opus its header says so (RFC 7845 §5.1), where containers round.
fn opus_delay(setup: &CodecSetup) -> Option<i64> {
    let delay = setup.extradata.strip_prefix(b"OpusHead")?.get(2..4)?.first_chunk()?;
    Some(i64::from(u16::from_le_bytes(*delay)))
}

/// STREAMINFO (RFC 9639 §8.2): the smallest and the largest block, in two bytes each, and from byte 13 on, behind four bits,
/// how many samples there are.
fn flac(streaminfo: &[u8]) -> Option<Holds> {
    let &[s0, s1, l0, l1, ..] = streaminfo.first_chunk::<4>()?;
    let &[high, rest @ ..] = streaminfo.get(13..)?.first_chunk::<5>()?;
    let each = i64::from(u16::from_be_bytes([l0, l1]));
    let all = i64::from(high & 0xf) << 32 | i64::from(u32::from_be_bytes(rest));
    (each > 0 && [s0, s1] == [l0, l1]).then_some(Holds::Even { each, all: (all > 0).then_some(all) })
}

/// The identification header (Vorbis I §4.2.2) says how long the two kinds of blocks are; a packet holds a quarter of its own
/// block and of the one before.
fn vorbis(headers: &[u8]) -> Option<Holds> {
    const MARK: &[u8] = b"\x01vorbis";
    let header = headers.windows(MARK.len()).position(|bytes| bytes == MARK)?;
    let sizes = headers.get(header + 28)?;
    let (short, long) = (1i64 << (sizes & 0xf), 1i64 << (sizes >> 4));
    (64 <= short && short <= long).then_some(Holds::OneOf([short / 2, (short + long) / 4, long / 2]))
}

/// Bytes of one channel's sample, of uncompressed sound.
fn pcm_bytes(codec: &str) -> Option<i64> {
    match codec {
        "pcm_u8" | "pcm_alaw" | "pcm_mulaw" => Some(1),
        "pcm_s16le" | "pcm_s16be" => Some(2),
        "pcm_s24le" | "pcm_s24be" => Some(3),
        "pcm_s32le" | "pcm_s32be" | "pcm_f32le" | "pcm_f32be" => Some(4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reelmill_media::index::Sample;

    const MILLIS: u32 = 1000;
    const RATE: u32 = 48_000;

    /// Packets of so many samples, as Matroska dates them.
    fn track(codec: &str, extradata: Vec<u8>, packets: &[i64]) -> AudioTrack {
        let starts = packets.iter().scan(0, |at, samples| {
            let start = *at;
            *at += samples;
            Some(Ticks(start).rescale(Timescale::new(RATE).unwrap(), Timescale::new(MILLIS).unwrap()))
        });
        let samples = starts.zip(packets).map(|(pts, samples)| Sample {
            offset: 0,
            bytes: *samples as u32 * 4,
            dts: pts,
            pts,
            key: true,
        });
        AudioTrack {
            stream: 0,
            setup: CodecSetup::new(codec, extradata),
            timescale: Timescale::new(MILLIS).unwrap(),
            sample_rate: RATE,
            channels: 2,
            language: None,
            samples: samples.collect(),
            window: Ticks(0)..Ticks(i64::MAX),
        }
    }

    fn starts(mut track: AudioTrack) -> (Vec<i64>, i64) {
        snap(&mut track, 0);
        assert_eq!(track.timescale.get(), RATE);
        (track.samples.iter().map(|sample| sample.pts.0).collect(), track.span().unwrap().end.0)
    }

    #[test]
    fn blocks_of_flac_are_counted() {
        let mut streaminfo = vec![0; 34];
        streaminfo[..4].copy_from_slice(&[0x12, 0, 0x12, 0]);
        streaminfo[14..18].copy_from_slice(&(3 * 4608u32 + 700).to_be_bytes());
        let made = track("flac", streaminfo, &[4608, 4608, 4608, 700]);
        assert_eq!(starts(made), (vec![0, 4608, 9216, 13_824], 3 * 4608 + 700));
    }

    #[test]
    fn vorbis_has_two_kinds_of_blocks() {
        // 256 and 2048 samples.
        let mut header = b"\x02\x1e\x01\x01vorbis".to_vec();
        header.extend([0; 21]);
        header.push(0xb8);
        let packets = [128, 576, 1024, 1024, 576, 128, 128, 128, 576, 1024, 1024];
        let expected: Vec<i64> = packets
            .iter()
            .scan(0, |at, n| {
                *at += n;
                Some(*at - n)
            })
            .collect();
        assert_eq!(starts(track("vorbis", header, &packets)).0, expected);
    }

    #[test]
    fn uncompressed_samples_have_their_length() {
        let packets = [1_001, 999, 3, 1_000, 517];
        assert_eq!(
            starts(track("pcm_s16le", vec![], &packets)),
            (vec![0, 1_001, 2_000, 2_003, 3_003], 3_520)
        );
    }

    #[test]
    fn opus_begins_and_ends_to_the_sample() {
        let head = [&b"OpusHead\x01\x02"[..], &312u16.to_le_bytes(), &[0; 7]].concat();
        let mut made = track("opus", head, &[960; 5]);
        for sample in &mut made.samples {
            sample.pts = sample.pts - Ticks(7);
        }
        snap(&mut made, 24);
        assert_eq!(made.samples[0].pts, Ticks(-312));
        assert_eq!(made.span(), Some(Ticks(0)..Ticks(5 * 960 - 312 - 24)));
    }

    #[test]
    fn a_hole_stays_one() {
        let mut made = track("aac", vec![], &[1024; 8]);
        for sample in &mut made.samples[5..] {
            sample.pts = sample.pts + Ticks(2_000);
        }
        assert_eq!(starts(made).0[4..7], [4096, 5 * 1024 + 96_000 + 16, 5 * 1024 + 96_000 + 16 + 1024]);
    }
}
