//! The peer: the ffmpeg command line with the same ladder, encoder settings and key frames.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};
use reelmill_media::ladder::Rung;

use crate::usage::{Cost, Meter};

/// One ffmpeg, and what it is to make.
#[derive(Debug, Clone, Copy)]
pub struct Ffmpeg<'a> {
    /// The program.
    pub program: &'a Path,
    /// The source.
    pub clip: &'a Path,
    /// The ladder.
    pub rungs: &'a [Rung],
    /// libx264's preset.
    pub preset: &'a str,
    /// Where segments start, in seconds.
    pub cuts: &'a [f64],
}

impl Ffmpeg<'_> {
    /// One process: one decode, all rungs and the sound, as HLS with fMP4 segments in `out`.
    pub fn one_process(&self, out: &Path) -> anyhow::Result<Cost> {
        let count = self.rungs.len();
        let outputs: String = (0..count).map(|k| format!("[s{k}]")).collect();
        let mut graph = format!("[0:v]split={count}{outputs}");
        for (k, rung) in self.rungs.iter().enumerate() {
            graph += &format!(";[s{k}]{}[v{k}]", scale(rung));
        }
        let mut command = self.command();
        command.arg("-i").arg(self.clip).args(["-filter_complex", &graph]);
        for k in 0..count {
            command.args(["-map", &format!("[v{k}]")]);
        }
        command.args(["-map", "0:a?"]);
        self.encoder(&mut command);
        for (k, rung) in self.rungs.iter().enumerate() {
            rate(&mut command, &format!(":v:{k}"), rung);
        }
        command.args(["-c:a", "aac", "-aac_coder", "fast", "-b:a", "128k"]);
        let groups: Vec<String> =
            (0..count).map(|k| format!("v:{k},agroup:a")).chain(["a:0,agroup:a".into()]).collect();
        hls(&mut command);
        command.args(["-master_pl_name", "index.m3u8", "-var_stream_map", &groups.join(" ")]).args([
            "-hls_segment_filename",
            "v%v_%d.m4s",
            "v%v.m3u8",
        ]);
        let meter = Meter::start()?;
        run(command.current_dir(out))?;
        meter.cost()
    }

    /// One process after another, each with its own decode; the first makes the sound as well.
    pub fn process_per_rung(&self, out: &Path) -> anyhow::Result<Cost> {
        let meter = Meter::start()?;
        for (k, rung) in self.rungs.iter().enumerate() {
            let mut command = self.command();
            command.arg("-i").arg(self.clip).args(["-map", "0:v:0", "-vf", &scale(rung)]);
            self.encoder(&mut command);
            rate(&mut command, "", rung);
            if k == 0 {
                command.args(["-map", "0:a?", "-c:a", "aac", "-aac_coder", "fast", "-b:a", "128k"]);
            }
            hls(&mut command);
            command.args(["-hls_segment_filename", &format!("v{k}_%d.m4s"), &format!("v{k}.m3u8")]);
            run(command.current_dir(out))?;
        }
        meter.cost()
    }

    /// Decodes and scales into one raw file per rung, which is not counted.
    pub fn decode(&self, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let files: Vec<_> = (0..self.rungs.len()).map(|k| folder.join(format!("{k}.yuv"))).collect();
        for (rung, file) in self.rungs.iter().zip(&files) {
            let mut command = self.command();
            command.arg("-i").arg(self.clip).args(["-map", "0:v:0", "-vf", &scale(rung)]);
            run(command.args(["-pix_fmt", "yuv420p", "-f", "rawvideo"]).arg(file))?;
        }
        Ok(files)
    }

    /// The bare encodes: raw pictures in, nothing out, one thread each, as many at once as ours runs tasks.
    pub fn floor(&self, raw: &[PathBuf], frame_rate: f64, slots: usize) -> anyhow::Result<Cost> {
        let meter = Meter::start()?;
        let mut waiting: Vec<_> = self.rungs.iter().zip(raw).collect();
        let mut running: Vec<std::process::Child> = Vec::new();
        // The largest first, so that none is left for the end.
        waiting.sort_by_key(|(rung, _)| rung.width * rung.height);
        while let Some((rung, file)) = waiting.pop() {
            let mut command = self.command();
            command.args(["-f", "rawvideo", "-pix_fmt", "yuv420p", "-r", &frame_rate.to_string()]);
            command.args(["-s", &format!("{}x{}", rung.width, rung.height), "-i"]).arg(file);
            self.encoder(&mut command);
            rate(&mut command, "", rung);
            command.args(["-threads", "1", "-f", "null", "-"]);
            running.push(command.spawn().with_context(|| self.program.display().to_string())?);
            while running.len() >= slots.max(1) {
                let ended =
                    running.iter_mut().map(std::process::Child::try_wait).collect::<Result<Vec<_>, _>>()?;
                match ended.iter().position(Option::is_some) {
                    Some(at) => drop(running.remove(at)),
                    None => std::thread::sleep(std::time::Duration::from_millis(5)),
                }
                if ended.iter().flatten().any(|status| !status.success()) {
                    bail!("ffmpeg failed");
                }
            }
        }
        for mut child in running {
            if !child.wait()?.success() {
                bail!("ffmpeg failed");
            }
        }
        meter.cost()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.args(["-nostdin", "-v", "error", "-y"]).stdin(Stdio::null());
        command
    }

    /// The same key frames as ours, and no others.
    fn encoder(&self, command: &mut Command) {
        let cuts: Vec<String> = self.cuts.iter().map(|cut| format!("{cut:.4}")).collect();
        command
            .args(["-c:v", "libx264", "-preset", self.preset, "-pix_fmt", "yuv420p", "-profile:v", "high"])
            .args(["-g", "100000", "-sc_threshold", "0", "-forced-idr", "1"])
            .args(["-force_key_frames", &cuts.join(",")]);
    }

    /// Bytes of each rung's segments in `out`.
    pub fn bytes(&self, out: &Path) -> anyhow::Result<Vec<u64>> {
        let mut totals = vec![0; self.rungs.len()];
        for entry in std::fs::read_dir(out)? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| anyhow!("{name:?}"))?;
            let rung = name.strip_prefix('v').and_then(|rest| rest.strip_suffix(".m4s"));
            let number =
                rung.and_then(|rest| rest.split_once('_')).and_then(|(k, _)| k.parse::<usize>().ok());
            if let Some(total) = number.and_then(|k| totals.get_mut(k)) {
                *total += entry.metadata()?.len();
            }
        }
        Ok(totals)
    }
}

fn scale(rung: &Rung) -> String {
    format!("scale={}:{}:flags=bicubic", rung.width, rung.height)
}

fn rate(command: &mut Command, stream: &str, rung: &Rung) {
    command.args([format!("-crf{stream}"), rung.crf.to_string()]);
    command.args([format!("-maxrate{stream}"), format!("{}k", rung.max_kbps)]);
    command.args([format!("-bufsize{stream}"), format!("{}k", rung.buffer_kbit)]);
}

/// A segment ends at every key frame.
fn hls(command: &mut Command) {
    command.args(["-f", "hls", "-hls_segment_type", "fmp4", "-hls_time", "0.5", "-hls_playlist_type", "vod"]);
}

/// Runs to the end.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_owned();
    let status = command.status().with_context(|| format!("{} cannot be run", program.display()))?;
    if status.success() { Ok(()) } else { bail!("{} failed ({status})", program.display()) }
}
