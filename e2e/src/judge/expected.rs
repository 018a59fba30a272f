//! What a source promises of everything made from it.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::fixtures::{Fixture, Kind};
use crate::sound::{self, RATE_HZ};
use crate::tools::probe;

/// What must come out.
#[derive(Debug, Clone)]
pub struct Expected {
    /// When each presented frame shows, in seconds from the first one.
    pub times_s: Vec<f64>,
    /// How far a time may be off: half of the source clock's coarseness, at least a tick of any clock in use.
    pub time_tolerance_s: f64,
    /// How much earlier than the picture the sound begins; the first frame is held for that long.
    pub lead_s: f64,
    /// Length of the picture, from the first frame's time to the last one's end.
    pub duration_s: f64,
    /// Size in square pixels as the viewer sees it.
    pub display_size: (u32, u32),
    /// Frames carry barcodes, turned by so many degrees clockwise.
    pub barcodes: Option<i32>,
    /// The sound, where there is any.
    pub sound: Option<Sound>,
    /// Decode only the lowest rendition: the clip is long.
    pub decode_lowest_only: bool,
}

/// What must be heard.
#[derive(Debug, Clone)]
pub struct Sound {
    /// One channel (or a mix) of the source's sound at 48 kHz.
    pub reference: Vec<i16>,
    /// Which of the published channels is compared with it; a mix of both if `None`.
    pub channel: Option<usize>,
    /// When the first sample of the reference is heard, in seconds of the presentation.
    pub start_s: f64,
    /// How far that may be off.
    pub start_tolerance_s: f64,
    /// Presented samples at 48 kHz, silence before the start included, and how far they may be off.
    pub samples: (i64, i64),
}

/// Start times of picture and sound in a source, in seconds, as libav sees them.
struct Starts {
    video_s: f64,
    audio_s: Option<f64>,
}

impl Starts {
    fn of(media: &Path) -> anyhow::Result<Starts> {
        let found = probe(media, &["-show_entries", "stream=codec_type,start_time"])?;
        let of = |kind: &str| {
            let streams = found["streams"].as_array().into_iter().flatten();
            streams
                .filter(|stream| stream["codec_type"] == kind)
                .find_map(|stream| number(&stream["start_time"]))
        };
        // What Matroska dates before 0 is the codec's delay (RFC 9559 §5.1.4.1.25.2), and not heard.
        let matroska = media.extension().is_some_and(|e| e == "mkv" || e == "webm");
        let audio_s = of("audio").map(|start| if matroska { start.max(0.0) } else { start });
        Ok(Starts { video_s: of("video").context("no picture")?, audio_s })
    }

    fn zero(&self) -> f64 {
        self.audio_s.map_or(self.video_s, |audio| audio.min(self.video_s))
    }
}

impl Expected {
    /// Of a source whose every frame and sample is known.
    pub fn of(source: &Fixture) -> Expected {
        let starts = Starts::of(&source.path).expect("ffprobe reads a fixture");
        let seconds = |n: u32| source.pts_90k(n) as f64 / 90_000.0;
        let duration_s = seconds(source.frames);
        // Containers without an edit list keep the encoder's lead-in as sound, and round times.
        let exact = !matches!(source.kind, Kind::Mkv | Kind::WebM | Kind::MpegTs | Kind::Fragmented);
        let lead_s = starts.video_s - starts.zero();
        let sound = source.has_audio.then(|| {
            let made = (duration_s * f64::from(RATE_HZ)).round() as i64;
            Sound {
                reference: (0..made as u64).map(|at| sound::sample(at)[1]).collect(),
                channel: Some(1),
                // libav's muxer puts Opus before its place by the codec's delay.
                start_s: if source.kind == Kind::WebM { 0.0 } else { lead_s },
                start_tolerance_s: 0.002,
                samples: if exact {
                    (made, i64::from(RATE_HZ) / 1000)
                } else {
                    (made + (lead_s * f64::from(RATE_HZ)) as i64, 2048)
                },
            }
        });
        Expected {
            times_s: (0..source.frames).map(seconds).collect(),
            time_tolerance_s: if exact { 0.000_012 } else { 0.001_1 },
            lead_s,
            duration_s,
            display_size: source.presented_size(),
            barcodes: Some(source.rotation),
            sound,
            decode_lowest_only: false,
        }
    }

    /// Of a real clip, as libav sees it. `display_size` is what a viewer sees.
    pub fn of_clip(media: &Path, display_size: (u32, u32)) -> anyhow::Result<Expected> {
        let starts = Starts::of(media)?;
        let mut frames = presented_frames(media)?;
        frames.sort_by(|a, b| a.0.total_cmp(&b.0));
        frames.dedup_by(|a, b| a.0 == b.0);
        let &(first, _) = frames.first().context("no frames")?;
        let &(last, last_duration) = frames.last().context("no frames")?;
        let lead_s = first - starts.audio_s.map_or(first, |audio| audio.min(first));
        let zero = first - lead_s;
        let sound = starts.audio_s.map(|audio| {
            let reference: Vec<i16> = sound::read_sound(media)
                .iter()
                .map(|s| ((i32::from(s[0]) + i32::from(s[1])) / 2) as i16)
                .collect();
            let start_s = audio - zero;
            let samples = reference.len() as i64 + (start_s * f64::from(RATE_HZ)) as i64;
            Sound { reference, channel: None, start_s, start_tolerance_s: 0.004, samples: (samples, 4096) }
        });
        Ok(Expected {
            times_s: frames.iter().map(|(time, _)| time - first).collect(),
            time_tolerance_s: tick_s(media)?,
            lead_s,
            duration_s: last + last_duration - first,
            display_size,
            barcodes: None,
            sound,
            decode_lowest_only: frames.len() > 600,
        })
    }

    /// The longest that one frame shows, at least a 60th of a second.
    pub(super) fn longest_frame_s(&self) -> f64 {
        self.times_s.windows(2).map(|pair| pair[1] - pair[0]).fold(1.0 / 60.0, f64::max)
    }
}

/// How far a time may be off: a tick of a clock so coarse that a nominal rate's grid is the better truth, else what
/// ffprobe's decimals lose.
fn tick_s(media: &Path) -> anyhow::Result<f64> {
    let found = probe(media, &["-select_streams", "v:0", "-show_entries", "stream=time_base"])?;
    let base = found["streams"][0]["time_base"].as_str().unwrap_or_default();
    let ticks: f64 = base.strip_prefix("1/").unwrap_or("90000").parse()?;
    Ok(if ticks <= 1000.0 { 1.05 / ticks } else { 0.000_02 })
}

/// Time and duration of each packet that the edit list lets through; of each decoded frame, where packets are fields.
fn presented_frames(media: &Path) -> anyhow::Result<Vec<(f64, f64)>> {
    let entries = "stream=field_order:packet=pts_time,duration_time,flags";
    let packets = probe(media, &["-select_streams", "v:0", "-show_entries", entries])?;
    let order = packets["streams"][0]["field_order"].as_str().unwrap_or("progressive");
    let interlaced = !matches!(order, "progressive" | "unknown");
    let (found, list, time, duration) = if interlaced {
        let entries = "frame=best_effort_timestamp_time,pkt_duration_time";
        let frames = probe(media, &["-select_streams", "v:0", "-show_entries", entries])?;
        (frames, "frames", "best_effort_timestamp_time", "pkt_duration_time")
    } else {
        (packets, "packets", "pts_time", "duration_time")
    };
    let shown = |packet: &&Value| !packet["flags"].as_str().unwrap_or_default().contains('D');
    let times = |packet: &Value| Some((number(&packet[time])?, number(&packet[duration]).unwrap_or(0.0)));
    Ok(found[list].as_array().into_iter().flatten().filter(shown).filter_map(times).collect())
}

fn number(value: &Value) -> Option<f64> {
    value.as_str()?.parse().ok()
}
