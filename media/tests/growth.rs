//! What every plan of a source promises whose end is still to come.

#![allow(clippy::unwrap_used, clippy::panic)]

mod sources;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use reelmill_media::ids::RenditionId;
use reelmill_media::index::SourceIndex;
use reelmill_media::plan::{Extent, GrowthError, Inflow, MAX_TASKS, Plan};
use reelmill_media::profile::Profile;
use reelmill_media::source::block_end;
use reelmill_media::task::Work;
use reelmill_media::time::Ticks;
use sources::{any_profile, any_source, sparse, steady};

/// What is known of a source when so many of its samples of the picture are there, and how many bytes that are.
fn beginning(index: &SourceIndex, samples: usize) -> (SourceIndex, u64) {
    let mut known = index.clone();
    let picture = known.video.as_mut().unwrap();
    let end = picture.samples.get(samples).map_or(Ticks(i64::MAX), |next| next.dts);
    picture.samples.truncate(samples);
    let bytes = picture.samples.last().map_or(0, |s| s.offset + u64::from(s.bytes));
    for sound in &mut known.audio {
        let end = end.rescale(picture.timescale, sound.timescale);
        sound.samples.retain(|s| s.pts < end);
    }
    (known.settled(), bytes)
}

/// How often each segment of each rendition is made.
fn made(plan: &Plan) -> BTreeMap<(RenditionId, u32), u32> {
    let mut made = BTreeMap::new();
    for task in &plan.tasks {
        let (rungs, segments) = match &task.work {
            Work::Video { segments, rungs } => (rungs.clone(), segments.clone()),
            Work::Audio { rendition, segments } => (vec![rendition.clone()], segments.clone()),
            Work::Index => panic!("no index task is planned"),
        };
        for (rung, segment) in rungs.iter().flat_map(|rung| segments.clone().map(move |n| (rung, n))) {
            *made.entry((rung.clone(), segment)).or_default() += 1;
        }
    }
    made
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_planned_of_a_beginning_stays_and_the_whole_is_made_exactly_once(
        index in any_source(), profile in any_profile(), slots in 1u32..50,
        mut cuts in prop::collection::vec(0.05f64..1.0, 1..6), within_ms in prop::option::of(0u64..200_000),
    ) {
        let Ok(alone) = Plan::new(&index, &profile, slots) else { return Ok(()) };
        let total = index.video.as_ref().unwrap().samples.len();
        cuts.sort_by(f64::total_cmp);
        let (_, length) = beginning(&index, total);
        let inflow = |bytes| {
            within_ms.map(|within_ms| Inflow { bytes, of: bytes, length: Some(length), within_ms })
        };
        let mut last: Option<(SourceIndex, Plan)> = None;
        for cut in cuts {
            let (known, bytes) = beginning(&index, (total as f64 * cut) as usize);
            let next = match &last {
                None => Plan::of_beginning(&known, &profile, bytes, inflow(bytes)),
                Some((was, plan)) => {
                    plan.continued(was, &known, &profile, Extent::Beginning { bytes }, inflow(bytes))
                }
            };
            match next {
                Ok(plan) => {
                    let before = last.as_ref().map_or(0, |(_, before)| before.tasks.len());
                    prop_assert!(last.is_none_or(|(_, before)| plan.tasks.starts_with(&before.tasks)));
                    prop_assert!(plan.reads[before..].iter().all(|end| *end <= bytes));
                    let of_unknown_length = inflow(bytes).map(|inflow| Inflow { length: None, ..inflow });
                    let (near, far) =
                        (plan.goes_on_at(bytes, inflow(bytes)), plan.goes_on_at(bytes, of_unknown_length));
                    prop_assert!((bytes + bytes / 64..=far).contains(&near));
                    let rest = length.saturating_sub(bytes);
                    let half = bytes + rest / 2;
                    prop_assert!(within_ms.is_none() || far == near || (rest < bytes / 4 && near >= half));
                    last = Some((known, plan));
                }
                Err(GrowthError::TooShort { upto }) => {
                    // How dense the first bytes are says little of the next ones.
                    prop_assert!(last.is_none() && (bytes..=bytes * 2).contains(&upto));
                }
                Err(GrowthError::Differs) => {
                    prop_assert!(is_deceiving(&last.unwrap().1, &alone, &known, &index));
                    return Ok(());
                }
                Err(error @ GrowthError::Plan(_)) => panic!("{error}"),
            }
        }
        let Some((was, begun)) = last else { return Ok(()) };
        match begun.continued(&was, &index, &profile, Extent::Whole { slots }, None) {
            Ok(whole) => {
                prop_assert!(whole.tasks.starts_with(&begun.tasks));
                prop_assume!(every(&whole) == every(&alone));
                prop_assert_eq!(made(&whole), made(&alone));
                prop_assert!(made(&whole).values().all(|times| *times == 1));
                let cuts = |plan: &Plan| {
                    let sounds: Vec<_> = plan.audio.iter().map(|audio| audio.segments.clone()).collect();
                    (plan.video.as_ref().map(|video| video.segments.clone()), sounds)
                };
                prop_assert_eq!(cuts(&whole), cuts(&alone));
                let stills = |plan: &Plan| plan.images.as_ref().map_or(Vec::new(), |i| i.thumbnails.clone());
                let upto = begun.video.iter().flat_map(|v| v.segments.first()).map(|s| s.frames.end).sum();
                let wanted: Vec<u32> = stills(&whole).into_iter().filter(|frame| *frame < upto).collect();
                prop_assert!(wanted.iter().all(|frame| stills(&begun).contains(frame)));
            }
            Err(error) => prop_assert!(is_deceiving(&begun, &alone, &was, &index), "{error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    #[test]
    fn however_long_a_source_gets_its_tasks_are_planned_as_it_comes_and_are_few_enough(
        hours in 12usize..24 * 7, profile in any_profile(), often in 1.2f64..3.0,
    ) {
        let index = sparse(hours);
        let total = index.video.as_ref().unwrap().samples.len();
        let mut samples = 100;
        let (mut was, bytes) = beginning(&index, samples);
        let mut plan = Plan::of_beginning(&was, &profile, bytes, None).unwrap();
        while samples < total {
            // As soon as the coordinator would, or later.
            let (_, bytes) = beginning(&index, samples);
            samples = total.min((plan.goes_on_at(bytes, None) as f64 / 1000.0 * often) as usize + 1);
            let (known, bytes) = beginning(&index, samples);
            let next = plan.continued(&was, &known, &profile, Extent::Beginning { bytes }, None).unwrap();
            prop_assert!(next.tasks.len() > plan.tasks.len(), "nothing of hour {} of {hours}", samples / 900);
            (was, plan) = (known, next);
        }
        let whole = plan.continued(&was, &index, &profile, Extent::Whole { slots: 4 }, None).unwrap();
        prop_assert!(whole.tasks.len() <= MAX_TASKS, "{} tasks of {hours} hours", whole.tasks.len());
        prop_assert_eq!(made(&whole), made(&Plan::new(&index, &profile, 4).unwrap()));
    }
}

/// Which frames are left out follows from the rate that the beginning has.
fn every(plan: &Plan) -> Option<u32> {
    plan.video.as_ref().map(|video| video.every)
}

/// Whether a source begins in a way that nobody could go on from: its longest segment comes later, its millisecond clock is
/// no grid in the end, or a sound comes to be before the others.
fn is_deceiving(begun: &Plan, alone: &Plan, known: &SourceIndex, index: &SourceIndex) -> bool {
    let clock = |plan: &Plan| plan.video.as_ref().map(|video| video.timescale);
    begun.target_duration() < alone.target_duration()
        || clock(begun) != clock(alone)
        || every(begun) != every(alone)
        || known.audio.len() != index.audio.len()
}

/// What comes of looking at a source while it comes in, as fast as it plays on the whole, and byte by byte evenly.
struct Looks {
    /// For each that found more.
    each: f64,
    /// Seconds that had come at some time, and of which nothing was planned then: at most so many.
    behind: f64,
    /// The same when the last byte comes.
    left: f64,
}

/// Of so many seconds of a steady picture of which the frame of each second has so many bytes.
fn looks_at(seconds: usize, frame_bytes: impl Fn(usize) -> u32) -> Looks {
    let (mut index, profile) = (steady(seconds, 60), Profile::default());
    let mut length = 0;
    for (n, sample) in index.video.as_mut().unwrap().samples.iter_mut().enumerate() {
        (sample.offset, sample.bytes) = (length, frame_bytes(n / 30));
        length += u64::from(sample.bytes);
    }
    let ends: Vec<u64> =
        index.video.as_ref().unwrap().samples.iter().map(|s| s.offset + u64::from(s.bytes)).collect();
    let whole = Plan::new(&index, &profile, 2).unwrap();
    let grid = whole.video.as_ref().unwrap();
    let planned_s = |plan: &Plan| {
        let made = made(plan);
        let is_made = |n: u32| whole.ladder.video.iter().all(|rung| made.contains_key(&(rung.id.clone(), n)));
        let last = (0..grid.segments.len() as u32).take_while(|n| is_made(*n)).last();
        last.map_or(0.0, |n| grid.segments[n as usize].end.micros(grid.timescale) as f64 / 1e6)
    };
    let (mut looks, mut found) = (0u32, 0u32);
    let mut out = Looks { each: 0.0, behind: 0.0, left: 0.0 };
    let (mut last, mut planned, mut goes_on_at): (Option<(SourceIndex, Plan)>, _, _) = (None, 0.0, 0);
    for there in std::iter::successors(Some(0), |at| Some(block_end(*at))).take_while(|at| *at < length) {
        let samples = ends.partition_point(|end| *end <= there);
        // The first look comes when eight seconds are there.
        if samples < 240 {
            continue;
        }
        if there >= goes_on_at {
            let within_ms = there * seconds as u64 * 1000 / length;
            let inflow = Some(Inflow { bytes: there, of: there, length: Some(length), within_ms });
            let (known, _) = beginning(&index, samples);
            let plan = match &last {
                None => Plan::of_beginning(&known, &profile, there, inflow).unwrap(),
                Some((was, plan)) => {
                    let extent = Extent::Beginning { bytes: there };
                    plan.continued(was, &known, &profile, extent, inflow).unwrap()
                }
            };
            looks += 1;
            found += u32::from(planned_s(&plan) > planned);
            planned = planned_s(&plan);
            goes_on_at = plan.goes_on_at(there, inflow);
            last = Some((known, plan));
        }
        out.behind = out.behind.max(samples as f64 / 30.0 - planned);
    }
    out.left = seconds as f64 - planned;
    out.each = f64::from(looks) / f64::from(found);
    out
}

#[test]
fn of_a_steady_source_few_looks_find_nothing_and_little_is_left_for_its_last_byte() {
    let mut all = 0.0;
    let lengths = || (30..=120).step_by(5);
    for seconds in lengths() {
        let Looks { each, behind, left } = looks_at(seconds, |_| 12_500);
        println!("{seconds} s: {each:.1} looks for each find, {behind:.1} s behind, {left:.1} s left");
        assert!(each <= 3.0 && behind < 8.5 && left <= 8.0, "{seconds} s: {each}, {behind}, {left}");
        all += left;
    }
    let mean = all / lengths().count() as f64;
    println!("{mean:.2} s left");
    assert!(mean < 4.0, "{mean}");
}

#[test]
fn what_comes_faster_when_the_picture_gets_calm_is_planned_soon() {
    // Half of it has four fifths of the bytes.
    let Looks { each, behind, left } = looks_at(60, |second| if second < 30 { 16_000 } else { 4_000 });
    println!("{each:.1} looks for each find, {behind:.1} s behind, {left:.1} s left");
    assert!(each <= 3.0 && behind < 8.0 && left <= 6.0, "{each}, {behind}, {left}");
}

/// Ten seconds of an even picture with sound.
fn even() -> SourceIndex {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    loop {
        let index = any_source().new_tree(&mut runner).unwrap().current();
        let video = index.video.as_ref().unwrap();
        let span = video.samples.iter().map(|s| s.pts).max().unwrap() - video.samples[0].pts;
        let long = span > Ticks::from_millis(15_000, video.timescale);
        let sound = index.audio.first().is_some_and(|a| a.samples.len() > 800);
        if long && sound && video.timescale.get() > 1000 {
            return index;
        }
    }
}

#[test]
fn a_longer_index_that_says_otherwise_is_refused() {
    let profile = Profile::default();
    let index = even();
    let count = index.video.as_ref().unwrap().samples.len();
    let (was, plan) = (count / 2..count)
        .find_map(|n| {
            let (known, bytes) = beginning(&index, n);
            Some((known.clone(), Plan::of_beginning(&known, &profile, bytes, None).ok()?))
        })
        .unwrap();
    let whole = |now: &SourceIndex| plan.continued(&was, now, &profile, Extent::Whole { slots: 2 }, None);
    whole(&index).unwrap();
    let changes: [fn(&mut SourceIndex); 6] = [
        |i| i.video.as_mut().unwrap().samples[5].offset += 1,
        |i| i.video.as_mut().unwrap().samples[5].pts.0 += 1,
        |i| i.video.as_mut().unwrap().setup.extradata.push(1),
        |i| i.audio[0].samples[5].pts.0 += 1,
        |i| i.audio.push(i.audio[0].clone()),
        |i| i.video = None,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut other = index.clone();
        change(&mut other);
        assert_eq!(whole(&other), Err(GrowthError::Differs), "change {n}");
    }
}
