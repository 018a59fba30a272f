//! Sources by random parameters, each frame with its number drawn into it.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use reelmill_e2e::barcode;
use reelmill_e2e::fixtures::ffmpeg;

/// How a source is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapping {
    Mp4,
    FragmentedMp4,
    Matroska,
    TransportStream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    H264,
    Hevc,
    Mpeg4,
    Mpeg2,
    Vp8,
    Vp9,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Timing {
    /// From 0 on, at a constant rate.
    Constant,
    /// Jitter in 1/45000 s on every frame, and a pause after every so many frames.
    Variable { jitter: u32, pause_every: u32 },
    /// The first frame shows so many seconds after 0, or before it: then an edit list cuts it off.
    Shifted(f64),
    /// An edit list starts the presentation so many seconds into the media, mostly in the middle of a GOP.
    Trimmed(f64),
    /// The 33 bits of the clock wrap around so many seconds after the first frame.
    Wrapping(f64),
}

/// All parameters of one source.
#[derive(Debug, Clone)]
pub struct Recipe {
    wrapping: Wrapping,
    codec: Codec,
    width: usize,
    height: usize,
    rate: (u32, u32),
    frames: u32,
    gop: u32,
    b_frames: u32,
    pyramid: bool,
    open_gop: bool,
    interlaced: bool,
    sound: bool,
    timing: Timing,
}

/// MPEG-2 has no others.
const RATES: [(u32, u32); 7] =
    [(24_000, 1001), (24, 1), (25, 1), (30_000, 1001), (30, 1), (50, 1), (60_000, 1001)];

impl Recipe {
    /// The source of this number in its family.
    pub fn random(wrapping: Wrapping, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let codecs: &[Codec] = match wrapping {
            Wrapping::Mp4 => &[Codec::H264, Codec::H264, Codec::Hevc, Codec::Mpeg4, Codec::Vp9],
            Wrapping::FragmentedMp4 => &[Codec::H264, Codec::H264, Codec::Hevc, Codec::Vp9],
            Wrapping::Matroska => {
                &[Codec::H264, Codec::H264, Codec::Hevc, Codec::Mpeg4, Codec::Vp8, Codec::Vp9]
            }
            Wrapping::TransportStream => &[Codec::H264, Codec::H264, Codec::Hevc, Codec::Mpeg2],
        };
        let codec = *codecs.choose(&mut rng).unwrap();
        let mut rates = RATES.to_vec();
        if codec != Codec::Mpeg2 {
            // Slow ones are cheap, and have few frames between cuts.
            rates.extend([(6, 1), (8, 1), (10, 1), (10, 1), (12, 1), (12, 1), (15, 1)]);
        }
        let rate = *rates.choose(&mut rng).unwrap();
        let per_second = f64::from(rate.0) / f64::from(rate.1);
        let frames = match rng.random_range(0..16) {
            0 => 1,
            1 => rng.random_range(2..12),
            _ => (per_second * rng.random_range(4.0..16.0)) as u32,
        };
        let variable =
            Timing::Variable { jitter: rng.random_range(0..500), pause_every: rng.random_range(7..90) };
        let shift = rng.random_range(0.01..2.5);
        let timings: &[Timing] = match wrapping {
            Wrapping::Mp4 => &[
                Timing::Constant,
                variable,
                Timing::Shifted(shift),
                Timing::Shifted(-shift / 3.0),
                Timing::Trimmed(shift),
            ],
            Wrapping::FragmentedMp4 | Wrapping::Matroska => {
                &[Timing::Constant, Timing::Constant, variable, Timing::Shifted(shift)]
            }
            Wrapping::TransportStream => {
                &[Timing::Constant, variable, Timing::Shifted(shift), Timing::Wrapping(shift)]
            }
        };
        let mut timing = match *timings.choose(&mut rng).unwrap() {
            // It knows a few constant rates and no other.
            Timing::Variable { .. } if codec == Codec::Mpeg2 => Timing::Constant,
            // ffmpeg, which is asked for the truth, shows nothing of it.
            Timing::Trimmed(_) if frames == 1 => Timing::Constant,
            timing => timing,
        };
        let seconds = f64::from(frames) / per_second;
        // Something has to be left of the picture.
        match &mut timing {
            Timing::Trimmed(at) => *at = at.min(seconds / 2.0),
            Timing::Shifted(at) => *at = at.max(-seconds / 2.0),
            Timing::Constant | Timing::Variable { .. } | Timing::Wrapping(_) => {}
        }
        Self {
            wrapping,
            codec,
            width: rng.random_range(80..=120) * 2,
            height: rng.random_range(24..=36) * 4,
            rate,
            frames,
            gop: *[1, 5, 12, 25, 48, 60, 250].choose(&mut rng).unwrap(),
            b_frames: rng.random_range(0..=4),
            pyramid: rng.random(),
            open_gop: rng.random(),
            interlaced: codec == Codec::H264 && rng.random_range(0..10) == 0,
            sound: rng.random_range(0..4) == 0,
            timing,
        }
    }

    /// The same as H.264 with a key frame at the start only.
    pub fn with_one_key_frame(self) -> Self {
        Self { codec: Codec::H264, gop: 1_000, timing: Timing::Constant, ..self }
    }

    /// The same as H.264 with open GOPs that are shorter than a segment, of which the last has four frames.
    pub fn with_short_open_gops(self) -> Self {
        let (rate, frames, gop, b_frames) = ((10, 1), 94, 5, 2);
        let open_gop = true;
        let timing = Timing::Constant;
        Self { codec: Codec::H264, rate, frames, gop, b_frames, open_gop, pyramid: false, timing, ..self }
    }

    /// Whether sound may start before the picture, which then is held.
    pub fn has_sound(&self) -> bool {
        self.sound
    }

    /// Name of the file, which says nothing but the kind of container.
    pub fn file_name(&self) -> &'static str {
        match self.wrapping {
            Wrapping::Mp4 | Wrapping::FragmentedMp4 => "source.mp4",
            Wrapping::Matroska => "source.mkv",
            Wrapping::TransportStream => "source.ts",
        }
    }

    /// Makes the source in `folder`.
    pub fn make(&self, folder: &Path) {
        let file = folder.join(self.file_name());
        let Timing::Trimmed(at) = self.timing else { return self.encode(&file) };
        // A copy that starts between key frames keeps those before, and hides them by an edit list.
        let whole = folder.join("whole.mp4");
        self.encode(&whole);
        let mut cut = Command::new(ffmpeg());
        cut.args(["-nostdin", "-v", "error", "-y", "-ss", &format!("{at:.3}"), "-i"]).arg(whole);
        let status = cut.args(["-c", "copy", "-avoid_negative_ts", "disabled"]).arg(file).status().unwrap();
        assert!(status.success(), "cannot cut {self:?}");
    }

    fn encode(&self, file: &Path) {
        let mut command = Command::new(ffmpeg());
        command.args(["-v", "error", "-y", "-threads", "1", "-f", "rawvideo", "-pix_fmt", "yuv420p"]);
        command.args(["-video_size", &format!("{}x{}", self.width, self.height)]);
        command.args(["-framerate", &format!("{}/{}", self.rate.0, self.rate.1), "-i", "-"]);
        if self.sound {
            let seconds = f64::from(self.frames * self.rate.1) / f64::from(self.rate.0);
            command.args([
                "-f",
                "lavfi",
                "-i",
                &format!("sine=duration={seconds:.3}"),
                "-map",
                "0",
                "-map",
                "1",
            ]);
        }
        command.args(self.arguments()).arg(file);
        let mut encoder = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut pictures = BufWriter::new(encoder.stdin.take().unwrap());
        for frame in 0..self.frames {
            pictures.write_all(&self.picture(frame)).unwrap();
        }
        pictures.flush().unwrap();
        drop(pictures);
        assert!(encoder.wait().unwrap().success(), "ffmpeg refuses {self:?}");
    }

    /// A gradient that moves and a block that jumps, so that frames predicted from the wrong ones look wrong.
    fn picture(&self, frame: u32) -> Vec<u8> {
        let (width, height, n) = (self.width, self.height, frame as usize);
        let mut picture = vec![128; width * height * 3 / 2];
        let luma = &mut picture[..width * height];
        for (y, line) in luma.chunks_exact_mut(width).enumerate() {
            line.iter_mut().enumerate().for_each(|(x, v)| *v = 60 + ((x + 2 * y + 3 * n) % 128) as u8);
        }
        let (left, top) = (n * 37 % (width - 16), height / 2 + n * 11 % (height / 2 - 16));
        for line in luma.chunks_exact_mut(width).skip(top).take(16) {
            line[left..left + 16].fill(if n.is_multiple_of(2) { 30 } else { 220 });
        }
        barcode::draw(luma, width, height, frame);
        picture
    }

    fn arguments(&self) -> Vec<String> {
        let Self { gop, b_frames, .. } = *self;
        let open = u8::from(self.open_gop);
        let mut text = match self.codec {
            Codec::H264 => {
                let pyramid = if self.pyramid { "normal" } else { "none" };
                let fields = if self.interlaced { ":tff=1" } else { "" };
                format!(
                    "-c:v libx264 -preset ultrafast -crf 22 -threads 1 -x264-params keyint={gop}:min-keyint=1:scenecut=0:\
                     b-adapt=0:bframes={b_frames}:b-pyramid={pyramid}:open-gop={open}:ref=3:cabac=1:8x8dct=1{fields} -profile:v high"
                )
            }
            Codec::Hevc => format!(
                "-c:v libx265 -preset ultrafast -crf 22 -tag:v hvc1 -x265-params log-level=none:pools=1:frame-threads=1:\
                 keyint={gop}:min-keyint=1:scenecut=0:b-adapt=0:bframes={b_frames}:b-pyramid={}:open-gop={open}",
                u8::from(self.pyramid)
            ),
            Codec::Mpeg4 | Codec::Mpeg2 => {
                let name = if self.codec == Codec::Mpeg4 { "mpeg4" } else { "mpeg2video" };
                let closed = if self.open_gop { "" } else { " -flags +cgop -sc_threshold 1000000000" };
                format!("-c:v {name} -q:v 3 -g {gop} -bf {}{closed}", b_frames.min(2))
            }
            Codec::Vp8 | Codec::Vp9 => {
                let name = if self.codec == Codec::Vp8 { "libvpx" } else { "libvpx-vp9" };
                format!(
                    "-c:v {name} -deadline good -cpu-used 5 -b:v 400k -g {gop} -auto-alt-ref 1 -lag-in-frames 12 -threads 1"
                )
            }
        };
        text += match self.wrapping {
            Wrapping::Mp4 if self.gop.is_multiple_of(2) => " -movflags +faststart",
            Wrapping::Mp4 | Wrapping::Matroska | Wrapping::TransportStream => "",
            Wrapping::FragmentedMp4 => " -movflags +frag_keyframe+empty_moov+default_base_moof",
        };
        text += match self.timing {
            Timing::Constant | Timing::Trimmed(_) => String::new(),
            // Without the encoder's own clock the times would be rounded to the nominal rate.
            Timing::Variable { jitter, pause_every } => {
                let step = 45_000 * self.rate.1 / self.rate.0;
                format!(
                    " -vf settb=1/45000,setpts=N*{step}+mod(N*7\\,5)*{jitter}/5+floor(N/{pause_every})*4500 \
                     -fps_mode passthrough -enc_time_base 1:45000 -video_track_timescale 45000"
                )
            }
            Timing::Shifted(by) => format!(" -output_ts_offset {by:.4} -avoid_negative_ts disabled"),
            Timing::Wrapping(after) => {
                format!(" -output_ts_offset {:.4}", (1u64 << 33) as f64 / 90_000.0 - after)
            }
        }
        .as_str();
        text.split_whitespace().map(str::to_owned).collect()
    }
}
