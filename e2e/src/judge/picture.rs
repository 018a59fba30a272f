//! Pictures: all there, in order, upright, and decodable from every segment on.

use std::path::Path;

use super::{Expected, Faults, file};
use crate::barcode::read_barcodes;
use crate::published::{Published, Track};
use crate::tools::decode_strictly;

pub(super) fn judge(published: &Published, expected: &Expected, folder: &Path, faults: &mut Faults) {
    ladder(published, expected, faults);
    let decoded = if expected.decode_lowest_only { 1 } else { published.video.len() };
    for track in published.video.iter().take(decoded) {
        let whole = file(folder, &format!("{}.mp4", track.name), &track.whole());
        let frames = faults.catch(&track.name, decode_strictly(&whole));
        faults.check(frames.is_none_or(|frames| frames == track.samples()), || {
            format!("{}: {frames:?} frames decoded of {} samples", track.name, track.samples())
        });
        if track.segments.len() > 1 {
            alone(track, folder, faults);
        }
        if let Some(rotation) = expected.barcodes {
            numbers(track, &whole, rotation, faults);
        }
    }
}

/// Rungs lie as the source does, get larger, and are never larger than the source.
fn ladder(published: &Published, expected: &Expected, faults: &mut Faults) {
    let (width, height) = expected.display_size;
    let mut before = 0;
    for track in &published.video {
        let (w, h) = track.init.size;
        faults.check(w <= width && h <= height, || {
            format!("{}: {w}x{h} is larger than the source's {width}x{height}", track.name)
        });
        // Sides are even, which may cost a small picture one pixel of a side.
        let shape = (f64::from(w) / f64::from(h)) / (f64::from(width) / f64::from(height));
        let slack = 2.5 / f64::from(w.min(h)) + 0.003;
        faults.check((shape - 1.0).abs() <= slack, || {
            format!("{}: {w}x{h} has another shape than {width}x{height}", track.name)
        });
        faults.check(w.min(h) > before, || format!("{}: rungs do not rise", track.name));
        before = w.min(h);
    }
    let top = before.max(1);
    let due = width.min(height).min(1080);
    faults.check(top + 2 > due || top == 1080, || format!("the top rung has {top} lines, the source {due}"));
}

/// Each segment decodes with nothing but the init segment before it.
fn alone(track: &Track, folder: &Path, faults: &mut Faults) {
    for (number, segment) in track.segments.iter().enumerate() {
        let place = format!("{}: segment {number} alone", track.name);
        let path = file(folder, "alone.mp4", &track.alone(number));
        let frames = faults.catch(&place, decode_strictly(&path));
        faults.check(frames.is_none_or(|frames| frames == segment.fragment.samples.len()), || {
            format!("{place}: {frames:?} frames decoded of {}", segment.fragment.samples.len())
        });
    }
}

/// Frame n carries the number n.
fn numbers(track: &Track, whole: &Path, rotation: i32, faults: &mut Faults) {
    let numbers = read_barcodes(whole, rotation);
    let wrong = numbers.iter().enumerate().find(|(n, number)| **number != u32::try_from(*n).ok());
    if let Some((n, number)) = wrong {
        faults.add(format!("{}: frame {n} of {} carries the number {number:?}", track.name, numbers.len()));
    }
}
