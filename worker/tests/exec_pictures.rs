//! Pictures as people shoot them: a card of known colours comes out with those colours, upright and in its proportions,
//! however it was coded, turned, stretched and wrapped.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/ffmpeg.rs"]
mod ffmpeg;
mod harness;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ffmpeg::run;
use harness::{Rendition, Title};
use reelmill_e2e::barcode::read_barcodes;
use reelmill_e2e::fixtures::{Kind, fixture, turn};
use reelmill_media::profile::Profile;

type Rgb = [u8; 3];

/// Two rows of patches, no two alike.
const CARD: [[Rgb; 3]; 2] =
    [[[180, 40, 40], [40, 160, 60], [50, 60, 170]], [[235, 235, 235], [110, 110, 110], [190, 180, 50]]];

/// Steps of 255 that a patch may be off by rounding and coding. BT.601 that is taken for BT.709 costs one of them 17, and a
/// range that is taken for the other as much.
const CLOSE: i32 = 7;

/// `x' = a·x + c·y`, `y' = b·x + d·y`.
type Axes = [i8; 4];

const UPRIGHT: Axes = [1, 0, 0, 1];

/// ffmpeg, for a source of the card.
struct Shot<'a> {
    width: u32,
    height: u32,
    /// Filters from RGB to what is coded.
    filter: &'a str,
    /// Encoder and its options.
    coded: &'a str,
    /// File name extension.
    container: &'a str,
}

const H264: &str = "-c:v libx264 -preset ultrafast -qp 8";
const LIMITED_709: &str = "zscale=min=gbr:rin=full:m=709:r=limited,format=yuv420p";
const TAGGED_709: &str =
    "-c:v libx264 -preset ultrafast -qp 8 -colorspace bt709 -color_primaries bt709 -color_trc bt709";

/// High definition in H.264, as most things are.
const PLAIN: Shot =
    Shot { width: 1280, height: 720, filter: LIMITED_709, coded: TAGGED_709, container: "mp4" };

impl Shot<'_> {
    fn take(&self, folder: &Path) -> PathBuf {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut card = format!("P6\n{width} {height}\n255\n").into_bytes();
        for y in 0..height {
            card.extend((0..width).flat_map(|x| CARD[y * 2 / height][x * 3 / width]));
        }
        let picture = folder.join("card.ppm");
        fs::write(&picture, card).unwrap();
        let file = folder.join("source").with_extension(self.container);
        let mut arguments: Vec<_> = "-loop 1 -framerate 25 -i".split(' ').map(Into::into).collect();
        arguments.extend([picture.into_os_string(), "-frames:v".into(), "12".into()]);
        arguments.extend(["-vf".into(), format!("format=gbrp,{}", self.filter).into()]);
        arguments.extend(self.coded.split_whitespace().map(Into::into));
        arguments.push(file.clone().into_os_string());
        run(arguments);
        file
    }

    /// The title, and its lowest rendition.
    fn made(&self) -> (Title, Rendition) {
        let folder = tempfile::tempdir().unwrap();
        made(&fs::read(self.take(folder.path())).unwrap())
    }

    /// Checks sizes and colours.
    fn comes_out(&self, size: (u32, u32), axes: Axes) {
        let (title, rendition) = self.made();
        check(&title, &rendition, size, axes);
    }
}

fn made(source: &[u8]) -> (Title, Rendition) {
    let title = Title::of(source).unwrap();
    let top = title.plan.ladder.video.last().cloned();
    let mut lowest = title.lowest(1);
    let rendition = lowest.make(source, &[100]).unwrap().into_values().next().unwrap();
    lowest.plan.ladder.video.extend(top);
    (lowest, rendition)
}

fn check(title: &Title, rendition: &Rendition, size: (u32, u32), axes: Axes) {
    let top = title.plan.ladder.video.last().unwrap();
    assert_eq!((top.width, top.height), size);
    assert!(rendition.segments.iter().all(|segment| segment.concealed == 0));
    for (seen, shot) in seen(rendition, axes).iter().zip(CARD.iter().flatten()) {
        let off = |n: usize| (i32::from(seen[n]) - i32::from(shot[n])).abs();
        assert!((0..3).all(|n| off(n) <= CLOSE), "{shot:?} came out as {seen:?}");
    }
}

/// The colours of the card's patches, as a player shows them that believes what the stream says of itself.
fn seen(rendition: &Rendition, axes: Axes) -> Vec<Rgb> {
    const SIDE: usize = 240;
    let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    fs::write(file.path(), rendition.file()).unwrap();
    let filter = format!("select=eq(n\\,6),zscale=m=gbr:r=full,format=gbrp,scale={SIDE}:{SIDE}");
    let picture = run([
        OsStr::new("-i"),
        file.path().as_os_str(),
        OsStr::new("-vf"),
        OsStr::new(&filter),
        OsStr::new("-f"),
        OsStr::new("rawvideo"),
        OsStr::new("-pix_fmt"),
        OsStr::new("rgb24"),
        OsStr::new("-"),
    ]);
    assert_eq!(picture.len(), SIDE * SIDE * 3);
    let [a, b, c, d] = axes.map(f64::from);
    let patch = |(row, column): (usize, usize)| {
        // From the middle of the picture, whose sides are 2 long.
        let (x, y) = ((column as f64 - 1.0) / 1.5, row as f64 - 0.5);
        let at = |v: f64| ((v + 1.0) / 2.0 * SIDE as f64) as usize;
        let pixel = at(b * x + d * y) * SIDE + at(a * x + c * y);
        [0, 1, 2].map(|n| picture[pixel * 3 + n])
    };
    (0..6).map(|n| patch((n / 3, n % 3))).collect()
}

#[test]
fn high_definition() {
    PLAIN.comes_out((1280, 720), UPRIGHT);
    Shot { coded: H264, ..PLAIN }.comes_out((1280, 720), UPRIGHT);
}

#[test]
fn full_range() {
    let coded = "-c:v libx264 -preset ultrafast -qp 8 -color_range pc -colorspace bt709 -color_primaries bt709 -color_trc bt709";
    let filter = "zscale=min=gbr:rin=full:m=709:r=full,format=yuvj420p";
    Shot { filter, coded, ..PLAIN }.comes_out((1280, 720), UPRIGHT);
}

#[test]
fn standard_definition_said_and_unsaid() {
    let filter = "zscale=min=gbr:rin=full:m=170m:r=limited,format=yuv420p";
    let said = "-c:v libx264 -preset ultrafast -qp 8 -colorspace smpte170m -color_primaries smpte170m -color_trc smpte170m";
    for coded in [said, H264] {
        Shot { width: 640, height: 360, filter, coded, container: "mp4" }.comes_out((640, 360), UPRIGHT);
    }
    Shot { filter, coded: said, ..PLAIN }.comes_out((1280, 720), UPRIGHT);
}

#[test]
fn ultra_high_definition_colours_in_standard_range() {
    let filter =
        "zscale=min=gbr:rin=full:pin=709:tin=709:m=2020_ncl:p=2020:t=2020_10:r=limited,format=yuv420p10le";
    let coded = "-c:v libx265 -preset ultrafast -x265-params log-level=none:qp=8 -colorspace bt2020nc -color_primaries bt2020 -color_trc bt2020-10";
    Shot { filter, coded, ..PLAIN }.comes_out((1280, 720), UPRIGHT);
}

#[test]
fn ten_bits_and_more_chroma() {
    let depth = |format, coded, container| {
        let filter = format!("zscale=min=gbr:rin=full:m=709:r=limited,format={format}");
        Shot { filter: &filter, coded, container, ..PLAIN }.comes_out((1280, 720), UPRIGHT);
    };
    depth("yuv420p10le", TAGGED_709, "mp4");
    depth("yuv422p10le", TAGGED_709, "mp4");
    depth("yuv444p", TAGGED_709, "mkv");
    depth(
        "yuv422p10le",
        "-c:v prores_ks -profile:v hq -colorspace bt709 -color_primaries bt709 -color_trc bt709",
        "mov",
    );
    depth(
        "yuva444p10le",
        "-c:v prores_ks -profile:v 4444 -colorspace bt709 -color_primaries bt709 -color_trc bt709",
        "mov",
    );
}

/// As screen recorders do.
#[test]
fn red_green_and_blue() {
    let coded = "-c:v libx264rgb -preset ultrafast -qp 8";
    Shot { filter: "format=rgb24", coded, container: "mkv", ..PLAIN }.comes_out((1280, 720), UPRIGHT);
}

#[test]
fn pixels_that_are_not_square() {
    let filter = "zscale=min=gbr:rin=full:m=470bg:r=limited,format=yuv420p,setsar=64/45";
    let coded = "-c:v libx264 -preset ultrafast -qp 8 -colorspace bt470bg -color_primaries bt470bg -color_trc gamma28";
    Shot { width: 720, height: 576, filter, coded, container: "mp4" }.comes_out((1024, 576), UPRIGHT);
    let filter = "zscale=min=gbr:rin=full:m=170m:r=limited,format=yuv420p,setsar=8/9";
    Shot { width: 720, height: 480, filter, coded: H264, container: "mkv" }.comes_out((720, 540), UPRIGHT);
}

#[test]
fn odd_sizes() {
    let filter = "zscale=min=gbr:rin=full:m=170m:r=limited,format=yuv444p,format=yuv420p";
    let coded = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -crf 10 -b:v 0";
    Shot { width: 641, height: 361, filter, coded, container: "webm" }.comes_out((640, 360), UPRIGHT);
}

#[test]
fn turned_and_mirrored() {
    let folder = tempfile::tempdir().unwrap();
    let upright = fs::read(PLAIN.take(folder.path())).unwrap();
    for (x, y) in [(1, 1), (1, -1), (-1, 1), (-1, -1)] {
        for (axes, size) in [([x, 0, 0, y], (1280, 720)), ([0, x, y, 0], (720, 1280))] {
            let mut source = upright.clone();
            turn(&mut source, axes);
            let (title, rendition) = made(&source);
            check(&title, &rendition, size, axes);
        }
    }
}

/// No outside judge of such a picture is right to the digit: tone mapping is a matter of taste within bounds. What an SDR
/// camera would have made white is at 203 nits in HDR (ITU-R BT.2408).
#[test]
fn high_dynamic_range() {
    for transfer in ["arib-std-b67", "smpte2084"] {
        let filter = format!(
            "zscale=min=gbr:rin=full:pin=709:tin=709:t=linear:m=gbr:p=709:npl=203,format=gbrpf32le,\
             zscale=min=gbr:rin=full:pin=709:tin=linear:p=2020:m=2020_ncl:t={transfer}:r=limited:npl=203,\
             format=yuv420p10le"
        );
        let coded = format!(
            "-c:v libx265 -preset ultrafast -x265-params log-level=none:qp=8 -colorspace bt2020nc \
             -color_primaries bt2020 -color_trc {transfer}"
        );
        let (title, rendition) = Shot { filter: &filter, coded: &coded, ..PLAIN }.made();
        assert_eq!(title.plan.ladder.video.last().unwrap().width, 1280);
        for (seen, shot) in seen(&rendition, UPRIGHT).iter().zip(CARD.iter().flatten()) {
            // Room for what is brighter than white costs the scene a part of its own, the most at the top.
            for (seen, shot) in seen.iter().zip(shot) {
                let (seen, shot) = (i32::from(*seen), i32::from(*shot));
                assert!(
                    (shot * 3 / 4 - CLOSE..=shot + CLOSE).contains(&seen),
                    "{transfer}: {shot} as {seen}"
                );
            }
            let spread = |rgb: &Rgb| i32::from(rgb.iter().max().unwrap() - rgb.iter().min().unwrap());
            assert!(spread(shot) > 0 || spread(seen) <= CLOSE, "{transfer}: grey came out as {seen:?}");
        }
    }
}

/// Frames of two fields, 33 ms apart: each shows what the first of them showed, whole.
#[test]
fn interlaced() {
    let folder = tempfile::tempdir().unwrap();
    let fields = fixture(Kind::NoAudio);
    for (mode, order) in [("interleave_top", "tff"), ("interleave_bottom", "bff")] {
        let file = folder.path().join(format!("{order}.mp4"));
        let coded = format!(
            "-vf tinterlace={mode} -c:v libx264 -preset veryfast -crf 16 -flags +ilme+ildct -x264-params {order}=1"
        );
        recoded(&fields.path, &coded, &file);
        let (title, rendition) = made(&fs::read(&file).unwrap());
        assert_eq!(title.timeline().frames.len(), 90);
        let whole = folder.path().join("whole.mp4");
        fs::write(&whole, rendition.file()).unwrap();
        let likeness = |parity| likeness(&whole, &fields.path, parity);
        // As they were coded, frames are 30 dB from either.
        let (first, second) = (likeness(0), likeness(1));
        assert!(first > 35.0 && second < 30.0, "{order}: {first} and {second} dB");
    }
}

/// PSNR in dB between a video and every second frame of another, below the barcode: its last digit changes with every
/// field, which looks like fine lines.
fn likeness(made: &Path, source: &Path, parity: usize) -> f64 {
    let graph = format!(
        "[0]setpts=N,settb=1/90,crop=iw:ih*5/6:0:ih/6[a];\
         [1]select=eq(mod(n\\,2)\\,{parity}),setpts=N,settb=1/90,crop=iw:ih*5/6:0:ih/6[b];[a][b]psnr"
    );
    let mut command = Command::new(reelmill_e2e::fixtures::ffmpeg());
    command
        .args(["-nostdin", "-i"])
        .arg(made)
        .arg("-i")
        .arg(source)
        .args(["-lavfi", &graph, "-f", "null", "-"]);
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    let mean = said.split("average:").nth(1).unwrap_or_else(|| panic!("{said}"));
    mean.split(' ').next().unwrap().parse().unwrap()
}

fn recoded(from: &Path, how: &str, to: &Path) {
    let mut arguments = vec![OsStr::new("-i"), from.as_os_str()];
    arguments.extend(how.split(' ').map(OsStr::new));
    run(arguments.into_iter().chain([to.as_os_str()]));
}

#[test]
fn many_frames_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fast.mp4");
    let slow = fixture(Kind::NoAudio);
    recoded(&slow.path, "-vf settb=1/120,setpts=N -r 120 -c:v libx264 -preset veryfast -crf 20", &file);
    let source = fs::read(&file).unwrap();
    for (most, every) in [(None, 1), (Some(60), 2)] {
        let profile = Profile { max_frame_rate: most, ..Profile::default() };
        let title = Title::planned(harness::index(&source).unwrap(), &profile).lowest(1);
        let made = title.make(&source, &[100]).unwrap().into_values().next().unwrap();
        let whole = folder.path().join("whole.mp4");
        fs::write(&whole, made.file()).unwrap();
        let expected: Vec<_> = (0..180 / every).map(|n| Some(n * every)).collect();
        assert_eq!(read_barcodes(&whole, 0), expected, "{most:?}");
    }
}
