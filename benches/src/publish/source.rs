//! What is uploaded: one light clip of either size, copied into containers at any length without encoding it again.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::ValueEnum;
use reelmill_benches::{clip, ffmpeg};
use tempfile::TempDir;

/// The made clip that all sources are copied from, in seconds.
const CLIP_SECONDS: u32 = 60;

/// How a source is wrapped, and where it says what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Container {
    /// MP4 with its index before the media
    Mp4,
    /// MP4 with its index behind them: nothing begins before the last byte
    Mp4Last,
    /// MP4 in fragments of a group of pictures
    Fmp4,
    /// MPEG transport stream
    Ts,
    /// Matroska with its cues behind the media
    Mkv,
}

impl Container {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Container::Mp4 => "MP4, index first",
            Container::Mp4Last => "MP4, index last",
            Container::Fmp4 => "fragmented MP4",
            Container::Ts => "MPEG-TS",
            Container::Mkv => "Matroska",
        }
    }

    /// ffmpeg's words for it.
    fn muxer(self) -> &'static [&'static str] {
        match self {
            Container::Mp4 => &["-movflags", "+faststart", "-f", "mp4"],
            Container::Mp4Last => &["-f", "mp4"],
            Container::Fmp4 => &["-movflags", "+frag_keyframe+empty_moov+default_base_moof", "-f", "mp4"],
            Container::Ts => &["-f", "mpegts"],
            Container::Mkv => &["-f", "matroska"],
        }
    }
}

/// How large the picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// 1080p: two cores take longer for its ladder than it lasts
    Full,
    /// 720p: they take less
    Half,
}

impl Size {
    /// Lines of the picture.
    fn height(self) -> u32 {
        match self {
            Size::Full => 1080,
            Size::Half => 720,
        }
    }
}

/// A source; it goes with this, since two hours are 2 GB.
#[derive(Debug)]
pub struct Source {
    folder: TempDir,
    /// How long it plays, in seconds.
    pub seconds: u32,
    /// How it is wrapped.
    pub container: Container,
    size: Size,
}

impl Source {
    /// Cuts or repeats the clip.
    pub fn made(seconds: u32, container: Container, size: Size) -> anyhow::Result<Source> {
        let light = light(size)?;
        let folder = tempfile::Builder::new().prefix("publish-").tempdir_in(clip::FOLDER)?;
        let source = Source { folder, seconds, container, size };
        let loops = (seconds.div_ceil(CLIP_SECONDS).saturating_sub(1)).to_string();
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-y", "-stream_loop", &loops, "-i"]).arg(light);
        command.args(["-map", "0", "-c", "copy", "-t", &seconds.to_string()]).args(container.muxer());
        ffmpeg::run(command.arg(source.path()))?;
        Ok(source)
    }

    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("source")
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} s, {}p, {}", self.seconds, self.size.height(), self.container.name())
    }
}

/// The usual clip at a rate at which two hours fit on a disk.
pub fn light(size: Size) -> anyhow::Result<PathBuf> {
    let height = size.height();
    let (made, scale) = (clip::made(CLIP_SECONDS)?, format!("scale=-2:{height}"));
    let from = ["-i", text(&made)?, "-vf", &scale];
    let encode = ["-c:v", "libx264", "-preset", "veryfast", "-b:v", "3M", "-g", "60", "-c:a", "copy"];
    clip::kept(&format!("publish-{height}p.mp4"), &[&from[..], &encode].concat())
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is no text")
}
