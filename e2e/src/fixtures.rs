//! Sources made on demand: every byte of picture and sound is ours, and each frame carries its number.
//!
//! They are cached under `target/fixtures/`. Any number of test processes may ask at once: one makes the file under
//! a lock, and it appears by a rename.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{barcode, sound};

/// Names the cache folder: raise it whenever a recipe changes.
const RECIPE_VERSION: u32 = 1;

/// Every source is counted in this clock, in which all the frame rates used here are whole.
const CLOCK_HZ: u64 = 90_000;

/// What a source is like. All are 640x360, 6 s, 30 frames a second, H.264 with B-frames and AAC in MP4 with the
/// `moov` first, but for what their line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As said above.
    Landscape,
    /// `moov` after the media.
    MoovAtEnd,
    /// Fragmented MP4.
    Fragmented,
    /// Turned by 90 degrees clockwise for display.
    Portrait,
    /// Turned by 180 degrees for display.
    UpsideDown,
    /// Turned by 270 degrees clockwise for display.
    Portrait270,
    /// No audio track.
    NoAudio,
    /// Matroska.
    Mkv,
    /// WebM with VP9 and Opus.
    WebM,
    /// MPEG transport stream.
    MpegTs,
    /// Frames that come after a random-access point and show before it need the GOP before.
    OpenGop,
    /// One GOP of 250 frames.
    LongGop,
    /// Uneven frame durations, on a 90 kHz clock.
    Vfr,
    /// 30000/1001 frames a second.
    Ntsc,
    /// One frame, no audio.
    OneFrame,
    /// 15 frames.
    HalfSecond,
    /// Any size (even, 160x96 at least) and length (30 minutes at most).
    Custom {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Duration.
        seconds: u32,
    },
}

impl Kind {
    /// All but `Custom`.
    pub const ALL: [Self; 16] = [
        Self::Landscape,
        Self::MoovAtEnd,
        Self::Fragmented,
        Self::Portrait,
        Self::UpsideDown,
        Self::Portrait270,
        Self::NoAudio,
        Self::Mkv,
        Self::WebM,
        Self::MpegTs,
        Self::OpenGop,
        Self::LongGop,
        Self::Vfr,
        Self::Ntsc,
        Self::OneFrame,
        Self::HalfSecond,
    ];

    fn name(self) -> String {
        match self {
            Self::Landscape => "landscape.mp4".into(),
            Self::MoovAtEnd => "moov-at-end.mp4".into(),
            Self::Fragmented => "fragmented.mp4".into(),
            Self::Portrait => "portrait.mp4".into(),
            Self::UpsideDown => "upside-down.mp4".into(),
            Self::Portrait270 => "portrait-270.mp4".into(),
            Self::NoAudio => "no-audio.mp4".into(),
            Self::Mkv => "matroska.mkv".into(),
            Self::WebM => "webm.webm".into(),
            Self::MpegTs => "mpeg-ts.ts".into(),
            Self::OpenGop => "open-gop.mp4".into(),
            Self::LongGop => "long-gop.mp4".into(),
            Self::Vfr => "vfr.mp4".into(),
            Self::Ntsc => "ntsc.mp4".into(),
            Self::OneFrame => "one-frame.mp4".into(),
            Self::HalfSecond => "half-second.mp4".into(),
            Self::Custom { width, height, seconds } => format!("custom-{width}x{height}-{seconds}s.mp4"),
        }
    }
}

/// A source on disk, and what is true of it by construction.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// How it was asked for.
    pub kind: Kind,
    /// Where it is. Shared by all tests: never write to it.
    pub path: PathBuf,
    /// Frames shown. Frame `n` carries the barcode `n`.
    pub frames: u32,
    /// Frames a second, as a fraction. Nominal for [`Kind::Vfr`].
    pub fps: (u32, u32),
    /// Coded width in pixels.
    pub width: u32,
    /// Coded height in pixels.
    pub height: u32,
    /// Degrees clockwise that the picture is turned for display.
    pub rotation: i32,
    /// Whether there is an audio track; it is as long as the video.
    pub has_audio: bool,
}

impl Fixture {
    /// Width and height as shown, after rotation.
    pub fn presented_size(&self) -> (u32, u32) {
        if self.rotation % 180 == 0 { (self.width, self.height) } else { (self.height, self.width) }
    }

    /// When frame `n` shows, counted in 1/90000 s from the first frame. `n = frames` is the end.
    pub fn pts_90k(&self, n: u32) -> u64 {
        let (rate, scale) = (u64::from(self.fps.0), u64::from(self.fps.1));
        if self.kind != Kind::Vfr {
            return u64::from(n) * CLOCK_HZ * scale / rate;
        }
        if n == self.frames {
            // No timestamp says how long the last frame shows.
            return self.pts_90k(n - 1) + CLOCK_HZ * scale / rate;
        }
        let n = u64::from(n);
        n * 3_000 + n * 7 % 5 * 400 + n / 45 * 12_000
    }

    /// Length in 1/90000 s.
    pub fn duration_90k(&self) -> u64 {
        self.pts_90k(self.frames)
    }

    fn samples(&self) -> u64 {
        self.duration_90k() * u64::from(sound::RATE_HZ) / CLOCK_HZ
    }
}

/// [`Fixture::pts_90k`] for [`Kind::Vfr`], in ffmpeg's words: jitter, and a long frame every 45.
const VFR_FILTER: &str = "settb=1/90000,setpts=N*3000+mod(N*7\\,5)*400+floor(N/45)*12000";

const AAC: &str = "-c:a aac -b:a 128k";
const H264: &str = "-c:v libx264 -preset veryfast -crf 20 -bf 3";
const CLOSED_GOPS: &str = "-g 50";
const MOOV_FIRST: &str = "-movflags +faststart";

/// The source of a kind, made now if no test has asked for it before. Blocks; the first call takes a few seconds.
pub fn fixture(kind: Kind) -> Fixture {
    let mut fixture = Fixture {
        kind,
        path: PathBuf::new(),
        frames: 180,
        fps: (30, 1),
        width: 640,
        height: 360,
        rotation: 0,
        has_audio: true,
    };
    let mp4 = format!("{H264} {CLOSED_GOPS} {AAC} {MOOV_FIRST}");
    let arguments = match kind {
        Kind::Landscape => mp4,
        Kind::MoovAtEnd => format!("{H264} {CLOSED_GOPS} {AAC}"),
        Kind::Fragmented => {
            format!("{H264} {CLOSED_GOPS} {AAC} -movflags +frag_keyframe+empty_moov+default_base_moof")
        }
        Kind::Portrait => return turned(fixture, 90),
        Kind::UpsideDown => return turned(fixture, 180),
        Kind::Portrait270 => return turned(fixture, 270),
        Kind::NoAudio => {
            fixture.has_audio = false;
            mp4
        }
        Kind::Mkv | Kind::MpegTs => format!("{H264} {CLOSED_GOPS} {AAC}"),
        Kind::WebM => {
            "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 1M -g 50 -c:a libopus -b:a 96k".into()
        }
        Kind::OpenGop => format!(
            "{H264} -x264-params open-gop=1:keyint=30:min-keyint=30:scenecut=0:b-adapt=0:bframes=3 {AAC} {MOOV_FIRST}"
        ),
        Kind::LongGop => {
            fixture.frames = 250;
            format!("{H264} -g 250 -keyint_min 250 -sc_threshold 0 {AAC} {MOOV_FIRST}")
        }
        // Without the encoder's own clock, the times would be rounded to the nominal frame rate.
        Kind::Vfr => format!(
            "-vf {VFR_FILTER} -fps_mode passthrough -enc_time_base 1:90000 -video_track_timescale 90000 {mp4}"
        ),
        Kind::Ntsc => {
            fixture.fps = (30_000, 1_001);
            mp4
        }
        Kind::OneFrame => {
            fixture.frames = 1;
            fixture.has_audio = false;
            mp4
        }
        Kind::HalfSecond => {
            fixture.frames = 15;
            mp4
        }
        Kind::Custom { width, height, seconds } => {
            assert!(width % 2 == 0 && height % 2 == 0 && width >= 160 && height >= 96, "{width}x{height}");
            (fixture.width, fixture.height, fixture.frames) = (width, height, seconds * 30);
            mp4
        }
    };
    assert!((1..=barcode::MOST_FRAMES).contains(&fixture.frames), "{} frames", fixture.frames);
    fixture.path = cached(&kind.name(), |path| encode(&fixture, &arguments, path));
    fixture
}

/// The landscape source with a rotation: the same media bytes.
fn turned(mut fixture: Fixture, degrees: i32) -> Fixture {
    let upright = self::fixture(Kind::Landscape);
    fixture.rotation = degrees;
    fixture.path = cached(&fixture.kind.name(), |path| {
        let mut bytes = fs::read(&upright.path)?;
        turn(&mut bytes, degrees);
        fs::write(path, bytes)
    });
    fixture
}

/// What must be refused, each for its own reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// No bytes.
    Empty,
    /// Prose.
    Text,
    /// A playlist that names a file of the machine that reads it.
    Playlist,
    /// A picture.
    Png,
    /// 256 KiB without any structure.
    Garbage,
    /// Sound alone, in a `.m4a`.
    AudioOnly,
    /// An MP4 that ends at 60 % of its bytes, with a whole `moov`: its first frames are good.
    TruncatedMoovFirst,
    /// An MP4 that ends before its `moov`.
    TruncatedMoovMissing,
}

impl Bad {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Empty,
        Self::Text,
        Self::Playlist,
        Self::Png,
        Self::Garbage,
        Self::AudioOnly,
        Self::TruncatedMoovFirst,
        Self::TruncatedMoovMissing,
    ];
}

/// A bad source of a kind, made now if no test has asked for it before. Blocks.
pub fn bad(bad: Bad) -> PathBuf {
    match bad {
        Bad::Empty => cached("empty.mp4", |path| fs::write(path, "")),
        Bad::Text => cached("text.mp4", |path| fs::write(path, "A letter, not a film.\n".repeat(500))),
        Bad::Playlist => cached("playlist.mp4", |path| {
            fs::write(
                path,
                "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
            )
        }),
        Bad::Png => cached("picture.png", |path| {
            run_ffmpeg(path, words("-f lavfi -i testsrc=size=320x180 -frames:v 1"), |_| Ok(()))
        }),
        Bad::Garbage => cached("garbage.mp4", |path| fs::write(path, garbage(256 * 1024))),
        Bad::AudioOnly => cached("audio-only.m4a", |path| {
            let pcm = pcm_file(2 * u64::from(sound::RATE_HZ))?;
            let mut arguments = sound_input(pcm.path());
            arguments.extend(words(AAC));
            run_ffmpeg(path, arguments, |_| Ok(()))
        }),
        Bad::TruncatedMoovFirst => cut(Kind::Landscape, "truncated-moov-first.mp4"),
        Bad::TruncatedMoovMissing => cut(Kind::MoovAtEnd, "truncated-moov-missing.mp4"),
    }
}

/// The ffmpeg program: `FFMPEG_BIN`, or the one on the path.
pub fn ffmpeg() -> OsString {
    std::env::var_os("FFMPEG_BIN").unwrap_or_else(|| "ffmpeg".into())
}

fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    target.join(format!("fixtures/v{RECIPE_VERSION}"))
}

/// Returns the named file; `make` writes it to the path it is given when there is none yet.
fn cached(name: &str, make: impl FnOnce(&Path) -> io::Result<()>) -> PathBuf {
    let try_cached = || -> io::Result<PathBuf> {
        let folder = folder();
        let path = folder.join(name);
        if path.exists() {
            return Ok(path);
        }
        fs::create_dir_all(&folder)?;
        // Only spares the others the work; the rename alone keeps half a file from being seen.
        let lock = File::create(folder.join(format!(".{name}.lock")))?;
        lock.lock()?;
        if !path.exists() {
            let unfinished = tempfile::Builder::new().prefix(".making-").suffix(name).tempfile_in(&folder)?;
            make(unfinished.path())?;
            unfinished.persist(&path)?;
        }
        Ok(path)
    };
    try_cached().unwrap_or_else(|error| panic!("cannot make the fixture {name}: {error}"))
}

fn encode(fixture: &Fixture, arguments: &str, path: &Path) -> io::Result<()> {
    let mut input = words("-f rawvideo -pix_fmt yuv420p");
    input.extend(words(&format!("-video_size {}x{}", fixture.width, fixture.height)));
    input.extend(words(&format!("-framerate {}/{} -i -", fixture.fps.0, fixture.fps.1)));
    let pcm = pcm_file(fixture.samples())?;
    let mut output = words(arguments);
    if fixture.has_audio {
        input.extend(sound_input(pcm.path()));
    } else {
        output.push("-an".into());
    }
    input.extend(output);
    run_ffmpeg(path, input, |stdin| {
        let mut painter = Painter::new(fixture.width as usize, fixture.height as usize);
        for frame in 0..fixture.frames {
            stdin.write_all(painter.paint(frame))?;
        }
        Ok(())
    })
}

/// Runs ffmpeg with the arguments and the output path, and lets `feed` write to its standard input.
fn run_ffmpeg(
    path: &Path,
    arguments: Vec<OsString>,
    feed: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut child = Command::new(ffmpeg())
        .args(["-v", "error", "-y"])
        .args(arguments)
        .arg(path)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::other(format!("ffmpeg does not start: {error}")))?;
    let fed = {
        let mut stdin = BufWriter::new(child.stdin.take().expect("stdin is piped"));
        feed(&mut stdin).and_then(|()| stdin.flush())
    };
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    fed
}

fn pcm_file(samples: u64) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&sound::pcm(samples))?;
    Ok(file)
}

fn sound_input(pcm: &Path) -> Vec<OsString> {
    let mut input = words(&format!("-f s16le -ar {} -ac 2 -i", sound::RATE_HZ));
    input.push(pcm.into());
    input
}

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

/// The first 60 % of a source's bytes.
fn cut(kind: Kind, name: &str) -> PathBuf {
    let whole = fixture(kind);
    cached(name, |path| {
        let bytes = fs::read(&whole.path)?;
        fs::write(path, &bytes[..bytes.len() * 6 / 10])
    })
}

/// Bytes of a fixed xorshift generator: the same on every machine.
fn garbage(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Writes a rotation into the video track's header. Done here because ffmpeg's option for it differs by release.
fn turn(mp4: &mut [u8], degrees: i32) {
    // In a version 0 `tkhd`: the matrix after 40 bytes of payload, then width and height in 16.16.
    const MATRIX: usize = 4 + 40;
    let header = mp4
        .windows(MATRIX + 44)
        .position(|bytes| bytes.starts_with(b"tkhd\0") && bytes[MATRIX + 36..] != [0; 8])
        .expect("the source has a video track");
    let (matrix, size) = mp4[header + MATRIX..header + MATRIX + 44].split_at_mut(36);
    let one = [0, 1, 0, 0];
    let minus_one = [0xff, 0xff, 0, 0];
    let zero = [0; 4];
    let (width, height): ([u8; 4], [u8; 4]) = (size[..4].try_into().unwrap(), size[4..].try_into().unwrap());
    // a b, c d, x y: where the turned picture's axes point, and how far it is moved back to the origin.
    let (axes, origin) = match degrees {
        90 => ([zero, one, minus_one, zero], [height, zero]),
        180 => ([minus_one, zero, zero, minus_one], [width, height]),
        270 => ([zero, minus_one, one, zero], [zero, width]),
        _ => panic!("{degrees} is not a quarter turn"),
    };
    matrix[0..4].copy_from_slice(&axes[0]);
    matrix[4..8].copy_from_slice(&axes[1]);
    matrix[12..16].copy_from_slice(&axes[2]);
    matrix[16..20].copy_from_slice(&axes[3]);
    matrix[24..28].copy_from_slice(&origin[0]);
    matrix[28..32].copy_from_slice(&origin[1]);
}

/// Paints moving gradients, a disc on a path and a bar that sweeps, under the barcode. Rows are copied from
/// ramps, so that an unoptimised build keeps up with the encoder.
struct Painter {
    width: usize,
    height: usize,
    luma_ramp: Vec<u8>,
    chroma_ramp: Vec<u8>,
    /// Planar 4:2:0.
    picture: Vec<u8>,
}

const LUMA_PERIOD: usize = 512;
const CHROMA_PERIOD: usize = 256;

impl Painter {
    fn new(width: usize, height: usize) -> Self {
        let ramp = |length: usize, period: usize, low: usize, high: usize| -> Vec<u8> {
            let up_and_down = |at: usize| (at % period).min(period - at % period) * 2;
            (0..length).map(|at| low + up_and_down(at) * (high - low) / period).map(|v| v as u8).collect()
        };
        Self {
            width,
            height,
            luma_ramp: ramp(width + LUMA_PERIOD, LUMA_PERIOD, 40, 200),
            chroma_ramp: ramp(width / 2 + CHROMA_PERIOD, CHROMA_PERIOD, 90, 166),
            picture: vec![128; width * height * 3 / 2],
        }
    }

    fn paint(&mut self, frame: u32) -> &[u8] {
        let (width, height, n) = (self.width, self.height, frame as usize);
        let (luma, chroma) = self.picture.split_at_mut(width * height);
        let (blue, red) = chroma.split_at_mut(width * height / 4);

        for (y, line) in luma.chunks_exact_mut(width).enumerate() {
            let from = (y * 2 + n * 5) % LUMA_PERIOD;
            line.copy_from_slice(&self.luma_ramp[from..from + width]);
            let bar = n * 4 % width;
            line[bar..(bar + width / 40).min(width)].fill(30);
        }
        // The barcode stays gray: its chroma rows are never painted.
        let gray_rows = barcode::barcode_rows(height).div_ceil(2);
        let half = width / 2;
        for (y, (blue, red)) in
            blue.chunks_exact_mut(half).zip(red.chunks_exact_mut(half)).enumerate().skip(gray_rows)
        {
            let (b, r) = ((y + n * 2) % CHROMA_PERIOD, (y * 2 + n * 3) % CHROMA_PERIOD);
            blue.copy_from_slice(&self.chroma_ramp[b..b + half]);
            red.copy_from_slice(&self.chroma_ramp[r..r + half]);
        }
        self.paint_disc(frame);
        let luma = &mut self.picture[..width * height];
        barcode::draw(luma, width, height, frame);
        &self.picture
    }

    fn paint_disc(&mut self, frame: u32) {
        let (width, height) = (self.width as f64, self.height as f64);
        let turn = f64::from(frame) / 20.0;
        let radius = width.min(height) / 8.0;
        let (x, y) = (width * (0.5 + 0.35 * turn.cos()), height * (0.6 + 0.2 * (turn * 1.7).sin()));
        for line in (y - radius) as usize..(y + radius) as usize {
            let half = (radius * radius - (line as f64 - y).powi(2)).max(0.0).sqrt();
            let span = (x - half) as usize..(x + half) as usize;
            self.picture[line * self.width..][span].fill(if line % 16 < 8 { 215 } else { 60 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::barcode::read_barcodes;

    fn ffprobe(path: &Path, arguments: &str) -> String {
        let output = Command::new("ffprobe")
            .args(words("-v error -of csv=p=0"))
            .args(words(arguments))
            .arg(path)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    fn numbered(frames: u32) -> Vec<Option<u32>> {
        (0..frames).map(Some).collect()
    }

    /// Transcodes the video roughly, as shown, to a picture of this height.
    fn lossy(source: &Path, height: u32, path: &Path) {
        let mut arguments = vec!["-i".into(), source.into()];
        arguments.extend(words(&format!("-vf scale=-2:{height} -c:v libx264 -preset veryfast -crf 30 -an")));
        run_ffmpeg(path, arguments, |_| Ok(())).unwrap();
    }

    #[test]
    fn sources_hold_the_declared_frames_in_order() {
        for kind in Kind::ALL {
            let source = fixture(kind);
            let counted = ffprobe(
                &source.path,
                "-select_streams v:0 -count_frames -show_entries stream=nb_read_frames",
            );
            // A transport stream's program lists its streams once more.
            let counted = counted.lines().next().unwrap().trim_end_matches(',');
            assert_eq!(counted, source.frames.to_string(), "{kind:?}");
            assert_eq!(read_barcodes(&source.path, source.rotation), numbered(source.frames), "{kind:?}");
        }
    }

    #[test]
    fn sources_show_each_frame_at_the_declared_time() {
        for kind in Kind::ALL {
            let source = fixture(kind);
            let text =
                ffprobe(&source.path, "-select_streams v:0 -show_entries frame=best_effort_timestamp_time");
            let seconds: Vec<f64> =
                text.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect();
            assert_eq!(seconds.len(), source.frames as usize, "{kind:?}");
            for (n, shown) in (0..).zip(&seconds) {
                let declared = source.pts_90k(n) as f64 / CLOCK_HZ as f64;
                // Matroska counts in milliseconds.
                assert!((shown - seconds[0] - declared).abs() < 0.0011, "{kind:?}: frame {n} at {shown}");
            }
        }
    }

    #[test]
    fn sources_have_the_declared_tracks_and_size() {
        for kind in Kind::ALL {
            let source = fixture(kind);
            let tracks = ffprobe(&source.path, "-show_entries stream=codec_type");
            assert_eq!(tracks.contains("audio"), source.has_audio, "{kind:?}");
            let size = ffprobe(&source.path, "-select_streams v:0 -show_entries stream=width,height");
            assert!(size.starts_with(&format!("{},{}", source.width, source.height)), "{kind:?}: {size}");
        }
    }

    #[test]
    fn open_gops_are_open_and_the_long_gop_is_one() {
        // In decode order: frames that follow a random-access point and show before it.
        let packets =
            ffprobe(&fixture(Kind::OpenGop).path, "-select_streams v:0 -show_entries packet=pts,flags");
        let packets: Vec<(i64, bool)> = packets
            .lines()
            .filter_map(|line| line.split_once(','))
            .map(|(pts, flags)| (pts.parse().unwrap(), flags.starts_with('K')))
            .collect();
        let points: Vec<usize> = (0..packets.len()).filter(|&at| packets[at].1).collect();
        assert!(points.len() >= 6, "{} random-access points", points.len());
        let leading = points.iter().filter(|&&at| packets[at + 1].0 < packets[at].0).count();
        assert!(leading >= points.len() - 1, "{leading} of {} have leading frames", points.len());

        let long = ffprobe(&fixture(Kind::LongGop).path, "-select_streams v:0 -show_entries packet=flags");
        assert_eq!(long.lines().filter(|flags| flags.starts_with('K')).count(), 1);
    }

    #[test]
    fn the_moov_is_where_the_kind_says() {
        let at = |kind, name: &[u8]| {
            let bytes = fs::read(fixture(kind).path).unwrap();
            bytes.windows(4).position(|window| window == name)
        };
        assert!(at(Kind::Landscape, b"moov") < at(Kind::Landscape, b"mdat"));
        assert!(at(Kind::MoovAtEnd, b"moov") > at(Kind::MoovAtEnd, b"mdat"));
        assert!(at(Kind::Fragmented, b"moof").is_some());
    }

    #[test]
    fn barcodes_survive_a_lossy_240p_encode() {
        let folder = tempfile::tempdir().unwrap();
        let small = folder.path().join("small.mp4");
        for kind in [Kind::Landscape, Kind::Portrait, Kind::UpsideDown, Kind::Portrait270] {
            let source = fixture(kind);
            lossy(&source.path, 240, &small);
            let (width, height) = source.presented_size();
            let shown = ffprobe(&small, "-select_streams v:0 -show_entries stream=width,height");
            let expected_width = (f64::from(width) * 120.0 / f64::from(height)).round() as u32 * 2;
            assert_eq!(shown.trim(), format!("{expected_width},240"), "{kind:?}");
            assert_eq!(read_barcodes(&small, source.rotation), numbered(source.frames), "{kind:?}");
        }
        assert_eq!(read_barcodes(&small, 0), vec![None; 180], "a wrong rotation reads nothing");
    }

    #[test]
    fn sound_is_the_declared_tone_for_as_long_as_the_picture() {
        let source = fixture(Kind::Landscape);
        let heard = sound::read_sound(&source.path);
        assert!(heard.len().abs_diff(source.samples() as usize) <= 1024, "{} samples", heard.len());
        for channel in 0..2 {
            let (mut error, mut power) = (0.0, 0.0);
            for (at, heard) in (0..).zip(&heard).skip(4_800).take(240_000) {
                let made = f64::from(sound::sample(at)[channel]);
                error += (f64::from(heard[channel]) - made).powi(2);
                power += made.powi(2);
            }
            assert!(error / power < 0.02, "channel {channel} differs: {}", error / power);
        }
    }

    #[test]
    fn custom_sources_have_the_asked_size_and_length() {
        let source = fixture(Kind::Custom { width: 320, height: 240, seconds: 2 });
        assert_eq!((source.frames, source.duration_90k()), (60, 180_000));
        assert_eq!(read_barcodes(&source.path, 0), numbered(60));
    }

    #[test]
    fn bad_sources_are_bad_in_their_own_way() {
        for kind in Bad::ALL {
            let path = bad(kind);
            let length = fs::metadata(&path).unwrap().len();
            assert_eq!(length == 0, kind == Bad::Empty, "{kind:?}");
        }
        assert!(ffprobe(&bad(Bad::AudioOnly), "-show_entries stream=codec_type").trim().eq("audio"));
        let whole = fs::metadata(fixture(Kind::Landscape).path).unwrap().len();
        let cut = bad(Bad::TruncatedMoovFirst);
        assert_eq!(fs::metadata(&cut).unwrap().len(), whole * 6 / 10);
        assert!(ffprobe(&cut, "-show_entries stream=codec_type").contains("video"));
        assert!(
            !ffprobe(&bad(Bad::TruncatedMoovMissing), "-show_entries stream=codec_type").contains("video")
        );
    }

    #[test]
    fn many_askers_get_one_whole_file() {
        let folder = folder();
        let asked = std::sync::atomic::AtomicU32::new(0);
        let name = format!("test-race-{}.bin", std::process::id());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let path = cached(&name, |path| {
                        asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        fs::write(path, garbage(100_000))
                    });
                    assert_eq!(fs::metadata(path).unwrap().len(), 100_000);
                });
            }
        });
        assert_eq!(asked.into_inner(), 1);
        fs::remove_file(folder.join(&name)).unwrap();
        fs::remove_file(folder.join(format!(".{name}.lock"))).unwrap();
    }
}
