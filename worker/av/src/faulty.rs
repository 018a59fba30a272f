//! An encoder that misbehaves on command: libx264, but for one fault. For tests alone.

use std::time::Duration;

use ffmpeg_next::{Dictionary, ffi};
use serde::{Deserialize, Serialize};

use crate::error::{AvError, check};
use crate::frame::Frame;
use crate::video_encoder::{EncodedFrame, VideoEngine, VideoSettings};
use crate::x264;

/// What goes wrong. Frames are counted from 0 in the order they go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nothing.
    None,
    /// Nothing either, but its parameter sets come in the stream alone, as those of some devices do.
    SetsInStream,
    /// It fails at this frame.
    FailsAt(u32),
    /// It never comes back from this frame.
    HangsAt(u32),
    /// It takes the process with it at this frame.
    CrashesAt(u32),
    /// One frame fewer comes out than went in.
    Loses,
    /// It shows nothing but green.
    Green,
    /// Its stream is of another profile.
    OtherProfile,
}

impl Fault {
    pub(crate) fn options(self, settings: &VideoSettings) -> Dictionary<'static> {
        let mut options = x264::options(settings);
        if self == Fault::OtherProfile {
            options.set("profile", "main");
        }
        options
    }
}

/// A fault on its way to happen.
pub(crate) struct Faults {
    fault: Fault,
    taken: u32,
    lost: bool,
}

impl Faults {
    pub(crate) fn of(engine: VideoEngine) -> Option<Self> {
        match engine {
            VideoEngine::Faulty(fault) => Some(Self { fault, taken: 0, lost: false }),
            VideoEngine::X264 | VideoEngine::X265 | VideoEngine::SvtAv1 | VideoEngine::Hardware(_) => None,
        }
    }

    /// Before a frame goes in.
    pub(crate) fn before(&mut self, frame: &mut Frame) -> Result<(), AvError> {
        let n = self.taken;
        self.taken += 1;
        match self.fault {
            Fault::FailsAt(at) if at == n => {
                check("faulty encoder", ffi::AVERROR_EXTERNAL)?;
            }
            Fault::HangsAt(at) if at == n => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            Fault::CrashesAt(at) if at == n => std::process::abort(),
            Fault::Green => blank(frame)?,
            Fault::None
            | Fault::SetsInStream
            | Fault::FailsAt(_)
            | Fault::HangsAt(_)
            | Fault::CrashesAt(_)
            | Fault::Loses
            | Fault::OtherProfile => {}
        }
        Ok(())
    }

    /// After frames came out.
    pub(crate) fn after(&mut self, out: &mut Vec<EncodedFrame>) {
        if self.fault == Fault::Loses && !self.lost && out.last().is_some_and(|f| !f.sync) {
            out.pop();
            self.lost = true;
        }
    }
}

/// All zeros, which is green.
fn blank(frame: &mut Frame) -> Result<(), AvError> {
    let mut green = Frame::new()?;
    let raw = green.raw_mut();
    (raw.width, raw.height, raw.format) = (frame.raw().width, frame.raw().height, frame.raw().format);
    // SAFETY: a frame whose size and format are set gets its own buffers, each of which is `size` bytes long.
    unsafe {
        check("av_frame_get_buffer", ffi::av_frame_get_buffer(green.as_mut_ptr(), 0))?;
        for buffer in green.raw().buf.iter().filter(|b| !b.is_null()) {
            std::ptr::write_bytes((**buffer).data, 0, (**buffer).size);
        }
    }
    green.copy_properties(frame)?;
    *frame = green;
    Ok(())
}
