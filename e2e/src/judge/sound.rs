//! Sound: as long as in the source, and at its place beside the picture.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::{Expected, Faults, Sound, file};
use crate::fixtures::ffmpeg;
use crate::published::{Published, Track};
use crate::sound::RATE_HZ;
use crate::tools::decode_strictly;

/// Sound may be looked for so far from its place.
const MOST_LAG: usize = RATE_HZ as usize * 3 / 10;
/// What is compared.
const WINDOW: usize = RATE_HZ as usize;
/// The first search goes over means of so many samples.
const COARSE: usize = 8;

pub(super) fn judge(published: &Published, expected: &Expected, folder: &Path, faults: &mut Faults) {
    let (track, sound) = match (&published.audio, &expected.sound) {
        (Some(track), Some(sound)) => (track, sound),
        (None, None) => return,
        (track, sound) => {
            let (is, due) = (track.is_some(), sound.is_some());
            return faults.add(format!("sound: there is {is}, there should be {due}"));
        }
    };
    let name = &track.name;
    let whole = file(folder, &format!("{name}.mp4"), &track.whole());
    faults.catch(name, decode_strictly(&whole));

    let samples = track.end() * i64::from(RATE_HZ) / i64::from(track.init.timescale);
    let (due, tolerance) = sound.samples;
    faults
        .check((samples - due).abs() <= tolerance, || format!("{name}: {samples} samples instead of {due}"));

    let Some(heard) = faults.catch(name, presented(track, &whole, sound)) else { return };
    let short = track.end() * i64::from(RATE_HZ) / i64::from(track.init.timescale) - heard.len() as i64;
    faults.check(short.abs() <= 1100, || format!("{name}: {} samples decoded of {samples}", heard.len()));
    let due = sound.start_s * f64::from(RATE_HZ);
    let Some((start, likeness)) = place(&sound.reference, &heard, due as i64) else { return };
    faults
        .check(likeness > 0.8, || format!("{name}: the sound is not the source's (likeness {likeness:.2})"));
    let off_ms = (start as f64 - due) * 1000.0 / f64::from(RATE_HZ);
    faults.check(likeness <= 0.8 || off_ms.abs() <= sound.start_tolerance_s * 1000.0, || {
        format!("{name}: the sound is {off_ms:.2} ms from its place")
    });
}

/// Decodes without libav's idea of the edit list, and applies it here.
fn presented(track: &Track, whole: &Path, sound: &Sound) -> anyhow::Result<Vec<i16>> {
    let rate = RATE_HZ.to_string();
    let output = Command::new(ffmpeg())
        .args(["-nostdin", "-v", "error", "-ignore_editlist", "1", "-i"])
        .arg(whole)
        .args(["-ac", "2", "-ar", &rate, "-f", "s16le", "-"])
        .stdin(Stdio::null())
        .output()
        .context("ffmpeg does not start")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    let skipped = track.init.skipped * u64::from(RATE_HZ) / u64::from(track.init.timescale);
    let (samples, _) = output.stdout.as_chunks::<4>();
    let mix = |&[a, b, c, d]: &[u8; 4]| {
        let both = [i16::from_le_bytes([a, b]), i16::from_le_bytes([c, d])];
        sound.channel.map_or(((i32::from(both[0]) + i32::from(both[1])) / 2) as i16, |channel| both[channel])
    };
    Ok(samples.iter().skip(skipped as usize).map(mix).collect())
}

/// Where in `heard` the first sample of `reference` is, near `due`, and how alike the two are there (1: the same).
/// `None` where there is nothing to compare but silence.
fn place(reference: &[i16], heard: &[i16], due: i64) -> Option<(i64, f64)> {
    let length = WINDOW.min(reference.len() / 2).min(heard.len() / 2);
    let from = loudest(reference, length)?;
    let window = &reference[from..from + length];
    // The window's own place in `heard`, if the sound is where it should be.
    let at = from as i64 + due;
    let coarse = |samples: &[i16]| -> Vec<i16> {
        let mean = |some: &[i16]| (some.iter().map(|s| i32::from(*s)).sum::<i32>() / COARSE as i32) as i16;
        samples.chunks_exact(COARSE).map(mean).collect()
    };
    let lags = |centre: i64, most: i64| centre - most..=centre + most;
    let step = COARSE as i64;
    let (rough, _) = best(&coarse(window), &coarse(heard), lags(at / step, MOST_LAG as i64 / step))?;
    let (found, likeness) = best(window, heard, lags(rough * step, 2 * step))?;
    Some((found - from as i64, likeness))
}

/// The start of the loudest stretch, unless all is silent.
fn loudest(samples: &[i16], length: usize) -> Option<usize> {
    let power =
        |from: usize| -> i64 { samples[from..from + length].iter().map(|s| i64::from(*s).pow(2)).sum() };
    let starts = (0..=samples.len().checked_sub(length)?).step_by((length / 4).max(1));
    let (from, power) = starts.map(|from| (from, power(from))).max_by_key(|(_, power)| *power)?;
    // -66 dBFS.
    (length > 0 && power / length as i64 > 16 * 16).then_some(from)
}

fn best(window: &[i16], heard: &[i16], lags: std::ops::RangeInclusive<i64>) -> Option<(i64, f64)> {
    let likeness = |at: i64| {
        let start = usize::try_from(at).ok()?;
        let there = heard.get(start..start + window.len())?;
        let (mut cross, mut own, mut other) = (0i64, 0i64, 0i64);
        for (a, b) in window.iter().zip(there) {
            let (a, b) = (i64::from(*a), i64::from(*b));
            (cross, own, other) = (cross + a * b, own + a * a, other + b * b);
        }
        Some((at, cross as f64 / ((own as f64 * other as f64).sqrt().max(1.0))))
    };
    lags.filter_map(likeness).max_by(|a, b| a.1.total_cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sound::sample;

    #[test]
    fn a_delay_is_found_to_the_sample() {
        let reference: Vec<i16> = (0..96_000).map(|at| sample(at)[1]).collect();
        for delay in [0i64, 1, 1_024, 5_000] {
            let heard: Vec<i16> =
                std::iter::repeat_n(0, delay as usize).chain(reference.iter().copied()).collect();
            let (found, likeness) = place(&reference, &heard, 0).unwrap();
            assert_eq!(found, delay);
            assert!(likeness > 0.99);
        }
        assert_eq!(place(&[0; 1000], &[0; 1000], 0), None, "silence is nowhere");
    }
}
