//! Time: decode times without a hole, presentation times as in the source, playlists that say what the media says.

use super::{Expected, Faults};
use crate::boxes::nal_types;
use crate::published::{Published, Track};

/// NAL unit type of an IDR slice (ITU-T H.264 table 7-1).
const NAL_IDR: u8 = 5;

pub(super) fn judge(published: &Published, expected: &Expected, faults: &mut Faults) {
    for track in published.tracks() {
        decode_times(track, faults);
        key_frames(track, faults);
        playlist_lengths(track, faults);
    }
    for track in &published.video {
        presentation_times(track, expected, faults);
    }
    same_cuts(published, faults);
}

/// Every sample lasts until the next one, over segment borders as well, from 0 on.
fn decode_times(track: &Track, faults: &mut Faults) {
    let name = &track.name;
    let mut end = 0;
    for (number, segment) in track.segments.iter().enumerate() {
        let fragment = &segment.fragment;
        faults.check(fragment.start == end, || {
            format!(
                "{name}: segment {number} starts at decode time {}, the one before ends at {end}",
                fragment.start
            )
        });
        faults.check(fragment.sequence as usize == number + 1, || {
            format!("{name}: segment {number} has the sequence number {}", fragment.sequence)
        });
        faults.check(fragment.samples.iter().all(|sample| sample.duration > 0), || {
            format!("{name}: segment {number} has a sample without duration")
        });
        if track.is_video() {
            let times = fragment.times();
            faults.check(times.windows(2).all(|pair| pair[0] < pair[1]), || {
                format!("{name}: segment {number} shows two frames at one time")
            });
            let within =
                times.first() == Some(&fragment.start) && times.last().is_some_and(|t| *t < fragment.end());
            faults.check(within, || {
                format!(
                    "{name}: segment {number} shows frames from {:?} to {:?}, but decodes from {} to {}",
                    times.first(),
                    times.last(),
                    fragment.start,
                    fragment.end()
                )
            });
        }
        end = fragment.end();
    }
}

/// A segment starts with a key frame, and what is called one is one.
fn key_frames(track: &Track, faults: &mut Faults) {
    let name = &track.name;
    for (number, segment) in track.segments.iter().enumerate() {
        let samples = &segment.fragment.samples;
        faults.check(samples.first().is_some_and(|sample| sample.sync), || {
            format!("{name}: segment {number} does not start with a sync sample")
        });
        if !track.is_video() {
            continue;
        }
        for (at, sample) in samples.iter().enumerate() {
            let Some(types) = faults.catch(name, nal_types(&sample.data)) else { return };
            faults.check(types.contains(&NAL_IDR) == sample.sync, || {
                format!(
                    "{name}: frame {at} of segment {number} has NAL units {types:?}, sync {}",
                    sample.sync
                )
            });
        }
    }
}

/// EXTINF is each segment's media duration within one tick; the sum is exact.
fn playlist_lengths(track: &Track, faults: &mut Faults) {
    let (name, clock) = (&track.name, i64::from(track.init.timescale));
    let skipped = i64::try_from(track.init.skipped).unwrap_or(i64::MAX);
    let shown = |time: i64| (time - skipped).max(0);
    for (number, segment) in track.segments.iter().enumerate() {
        let ticks = shown(segment.fragment.end()) - shown(segment.fragment.start);
        let off = (segment.micros * clock - ticks * 1_000_000).abs();
        faults.check(off <= 1_000_000 + clock, || {
            format!(
                "{name}: EXTINF of segment {number} says {} µs, the media {ticks}/{clock} s",
                segment.micros
            )
        });
    }
    let sum: i64 = track.segments.iter().map(|segment| segment.micros).sum();
    let off = (sum * clock - track.end() * 1_000_000).abs();
    faults.check(off <= clock, || {
        format!("{name}: the EXTINF sum is {sum} µs, the media lasts {}/{clock} s", track.end())
    });
}

/// As many frames as in the source, each at its time.
fn presentation_times(track: &Track, expected: &Expected, faults: &mut Faults) {
    let (name, clock) = (&track.name, f64::from(track.init.timescale));
    let times = track.times();
    faults.check(times.len() == expected.times_s.len(), || {
        format!("{name}: {} frames instead of {}", times.len(), expected.times_s.len())
    });
    faults.check(times.first() == Some(&0), || {
        format!("{name}: the first frame is at {:?}, not 0", times.first())
    });
    // The first frame is held when the sound begins before it.
    let due = expected.times_s.iter().map(|time| time + expected.lead_s);
    let wrong: Vec<String> = times
        .iter()
        .zip(due)
        .enumerate()
        .skip(1)
        .map(|(frame, (ticks, due))| (frame, *ticks as f64 / clock, due))
        .filter(|(_, is, due)| (is - due).abs() > expected.time_tolerance_s + 1.0 / clock)
        .map(|(frame, is, due)| format!("frame {frame} at {is:.6} s instead of {due:.6} s"))
        .collect();
    faults.check(wrong.is_empty(), || format!("{name}: {} frames at wrong times: {}", wrong.len(), wrong[0]));
    let is = track.end() as f64 / clock;
    let due = expected.duration_s + expected.lead_s;
    faults.check((is - due).abs() <= expected.longest_frame_s() + expected.time_tolerance_s, || {
        format!("{name}: lasts {is:.6} s instead of {due:.6} s")
    });
}

/// All pictures are cut at the same times, and the sound within a packet of them.
fn same_cuts(published: &Published, faults: &mut Faults) {
    let Some(first) = published.video.first() else { return };
    let cuts = |track: &Track| -> Vec<i64> { track.segments.iter().map(|s| s.fragment.start).collect() };
    let of_first = cuts(first);
    for track in &published.video[1..] {
        let same = track.init.timescale == first.init.timescale && cuts(track) == of_first;
        faults.check(same, || format!("{} is not cut where {} is", track.name, first.name));
        let same = track.times() == first.times();
        faults.check(same, || format!("{} does not show its frames when {} does", track.name, first.name));
    }
    let Some(sound) = &published.audio else { return };
    let skipped = sound.init.skipped as f64;
    let seconds = |ticks: f64, track: &Track| ticks / f64::from(track.init.timescale);
    let packet = seconds(1024.0, sound);
    let picture_end = seconds(first.end() as f64, first);
    for cut in cuts(sound).into_iter().skip(1) {
        let at = seconds(cut as f64 - skipped, sound);
        let near = of_first.iter().any(|cut| (seconds(*cut as f64, first) - at).abs() <= packet);
        faults.check(near || at >= picture_end - packet, || {
            format!("{}: a cut at {at:.4} s is at no cut of the picture", sound.name)
        });
    }
}
