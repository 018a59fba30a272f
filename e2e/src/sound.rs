//! The fixtures' sound: a steady 440 Hz tone on the left, where a seam clicks, and a chirp on the right, whose
//! pitch tells the place.

use std::f64::consts::TAU;
use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::fixtures::ffmpeg;

/// Samples a second, in the fixtures and in what [`read_sound`] returns.
pub const RATE_HZ: u32 = 48_000;
/// The left channel's pitch.
pub const TONE_HZ: f64 = 440.0;
/// The right channel climbs from the first pitch to the second in [`CHIRP_S`] seconds, then begins again.
pub const CHIRP_HZ: (f64, f64) = (200.0, 4_000.0);
/// A whole number of cycles fits in one climb, so the chirp's phase has no jump.
pub const CHIRP_S: f64 = 10.0;
const AMPLITUDE: f64 = 0.4 * i16::MAX as f64;

/// The source's sound at a sample: left and right.
pub fn sample(index: u64) -> [i16; 2] {
    let seconds = index as f64 / f64::from(RATE_HZ);
    let chirp_s = seconds % CHIRP_S;
    let climb = (CHIRP_HZ.1 - CHIRP_HZ.0) / CHIRP_S;
    let cycles = [seconds * TONE_HZ, chirp_s * CHIRP_HZ.0 + chirp_s * chirp_s * climb / 2.0];
    cycles.map(|cycles| (AMPLITUDE * (cycles.fract() * TAU).sin()) as i16)
}

/// The first samples as interleaved little-endian PCM.
pub(crate) fn pcm(samples: u64) -> Vec<u8> {
    (0..samples).flat_map(sample).flat_map(i16::to_le_bytes).collect()
}

/// Decodes a file's or address's first audio track with the ffmpeg program, as stereo at [`RATE_HZ`].
pub fn read_sound(media: impl AsRef<OsStr>) -> Vec<[i16; 2]> {
    read_sound_through(media, "anull")
}

/// The same through an ffmpeg filter.
pub fn read_sound_through(media: impl AsRef<OsStr>, filter: &str) -> Vec<[i16; 2]> {
    let rate = RATE_HZ.to_string();
    let output = Command::new(ffmpeg())
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(media.as_ref())
        .args(["-map", "0:a:0", "-af", filter, "-ac", "2", "-ar", &rate, "-f", "s16le", "-"])
        .stderr(Stdio::inherit())
        .output()
        .expect("ffmpeg starts");
    assert!(output.status.success(), "ffmpeg cannot decode the sound of {:?}", media.as_ref());
    let (samples, _) = output.stdout.as_chunks::<4>();
    samples.iter().map(|&[a, b, c, d]| [i16::from_le_bytes([a, b]), i16::from_le_bytes([c, d])]).collect()
}
