//! What runs inside the child that tries one encoder, and says on stdout what came of it.

use std::io::Write;
use std::process::ExitCode;

use reelmill_av::{
    Family, Hardware, OutputColour, VideoEncoder, VideoEngine, VideoSettings, encoder_version, prove,
    take_log, test_picture,
};
use reelmill_media::profile::Effort;
use reelmill_media::time::{FrameRate, Ticks, Timescale};

use super::devices::render_nodes;
use super::{Ready, Verdict, reason};
use crate::confine::{confine, confine_with_devices};
use crate::exec::encoder;

/// Sizes tried, in pixels, and their rate caps in kbit/s: a thumbnail of a rung, the usual ones, and 4K.
const SIZES: [(u32, u32, u32); 4] =
    [(256, 144, 300), (1280, 720, 3200), (1920, 1080, 6000), (3840, 2160, 17_000)];

/// Encoders open at once that are tried, at most: two ladders.
pub const MOST_SESSIONS: u32 = 8;

/// After so many sizes that fail, with none that passed, there is no encoder.
const HOPELESS: usize = 2;

/// The child's main. `engine` is a [`VideoEngine`] as JSON. Software needs no devices, and is confined like all media work.
pub fn run(engine: Option<String>) -> ExitCode {
    let Some(engine): Option<VideoEngine> = engine.and_then(|text| serde_json::from_str(&text).ok()) else {
        eprintln!("reelmill-worker {}: no encoder is named", super::TRIAL);
        return ExitCode::FAILURE;
    };
    reelmill_av::quiet();
    let confined = match engine.hardware() {
        Some(_) => confine_with_devices(),
        None => confine(),
    };
    let verdict = match confined {
        Ok(()) => try_on_devices(engine),
        Err(error) => Verdict::Refused { reason: error.to_string() },
    };
    let answer = serde_json::to_vec(&verdict).map_err(std::io::Error::from);
    match answer.and_then(|answer| std::io::stdout().write_all(&answer)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// On each device that it could be on, until it is ready on one.
fn try_on_devices(engine: VideoEngine) -> Verdict {
    let Some(hardware) = engine.hardware() else { return software(engine) };
    let nodes = match hardware.family {
        Family::Vaapi => render_nodes().into_iter().map(Some).collect(),
        Family::Nvenc | Family::Qsv | Family::Amf | Family::V4l2M2m | Family::VideoToolbox => vec![None],
    };
    let on = |render_node| VideoEngine::Hardware(Hardware { render_node, ..hardware });
    // Without a node libav says what is missing.
    let mut last = Err(String::new());
    for node in if nodes.is_empty() { vec![None] } else { nodes } {
        last = sizes(on(node), &SIZES).map(|sizes| (on(node), sizes));
        if last.is_ok() {
            break;
        }
    }
    match last {
        Ok((engine, sizes)) => {
            Verdict::Ready(Ready { engine, version: None, sizes, sessions: Some(sessions(engine)) })
        }
        Err(error) => Verdict::Refused { reason: reason::in_words(hardware, &error, &take_log()) },
    }
}

/// Software takes every size, or none.
fn software(engine: VideoEngine) -> Verdict {
    match sizes(engine, &SIZES[..1]) {
        Ok(sizes) => {
            Verdict::Ready(Ready { engine, version: encoder_version(engine.codec()), sizes, sessions: None })
        }
        Err(reason) => Verdict::Refused { reason },
    }
}

/// The sizes that pass, or why the first one does not.
fn sizes(engine: VideoEngine, sizes: &[(u32, u32, u32)]) -> Result<Vec<(u32, u32)>, String> {
    let (mut passed, mut refused) = (Vec::new(), Vec::new());
    for &size in sizes {
        let tried = encoder::open(engine, settings(size))
            .map_err(|error| error.to_string())
            .and_then(|opened| prove(opened.encoder, engine.codec()).map_err(|error| error.to_string()));
        match tried {
            Ok(()) => passed.push((size.0, size.1)),
            Err(error) => refused.push(error),
        }
        if passed.is_empty() && refused.len() == HOPELESS {
            break;
        }
    }
    match refused.into_iter().next() {
        Some(error) if passed.is_empty() => Err(error),
        Some(_) | None => Ok(passed),
    }
}

/// How many of it are open at once, each with a picture in it.
fn sessions(engine: VideoEngine) -> u32 {
    let mut open: Vec<VideoEncoder> = Vec::new();
    let one_more = || {
        let mut encoder = encoder::open(engine, settings(SIZES[1])).ok()?.encoder;
        let picture = test_picture(SIZES[1].0, SIZES[1].1, 0).ok()?;
        encoder.encode(picture, Ticks(0), true, &mut Vec::new()).ok()?;
        Some(encoder)
    };
    open.extend(std::iter::repeat_with(one_more).take(MOST_SESSIONS as usize).map_while(|encoder| encoder));
    open.len() as u32
}

/// A clock that counts frames.
const CLOCK: Timescale = Timescale::new(30).unwrap();

fn settings((width, height, max_kbps): (u32, u32, u32)) -> VideoSettings {
    VideoSettings {
        width,
        height,
        timescale: CLOCK,
        frame_rate: FrameRate { num: 30, den: 1 },
        crf: 23,
        max_kbps,
        buffer_kbit: max_kbps * 2,
        effort: Effort::Fast,
        colour: OutputColour { primaries: 1, transfer: 1, matrix: 1 },
    }
}
