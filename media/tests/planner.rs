//! What every plan promises, for sources of any shape.

#![allow(clippy::unwrap_used, clippy::panic)]

mod sources;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use reelmill_media::ids::RenditionId;
use reelmill_media::index::SourceIndex;
use reelmill_media::plan::{Inflow, Plan, PlanError, VideoPlan};
use reelmill_media::profile::Profile;
use reelmill_media::task::Work;
use reelmill_media::time::Ticks;
use reelmill_media::timeline::{AudioTimeline, VideoTimeline};
use sources::{any_profile, any_source, steady};

fn plan(index: &SourceIndex, slots: u32) -> (VideoTimeline, Plan) {
    let plan = Plan::new(index, &Profile::default(), slots).unwrap();
    (VideoTimeline::of(index).unwrap(), plan)
}

fn picture(plan: &Plan) -> &VideoPlan {
    plan.video.as_ref().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn timelines_start_at_zero_and_keep_every_frame(index in any_source()) {
        let (timeline, _) = plan(&index, 2);
        let track = index.video.as_ref().unwrap();
        prop_assert_eq!(timeline.frames.len(), track.samples.len());
        prop_assert_eq!(timeline.frames[0].pts, Ticks::ZERO);
        for (k, pair) in timeline.frames.windows(2).enumerate() {
            prop_assert!(pair[0].pts < pair[1].pts);
            prop_assert!(pair[0].source_pts < pair[1].source_pts);
            // Distances stay as they were, but for the first frame, which may be held, and for millisecond clocks.
            if k > 0 && timeline.timescale == track.timescale {
                prop_assert_eq!(pair[1].pts - pair[0].pts, pair[1].source_pts - pair[0].source_pts);
            }
        }
        prop_assert!(timeline.end > timeline.frames[timeline.frames.len() - 1].pts);
    }

    #[test]
    fn segments_cover_all_frames_without_gap(index in any_source(), slots in 1u32..100) {
        let (timeline, plan) = plan(&index, slots);
        let video = picture(&plan);
        let segments = &video.segments;
        prop_assert_eq!(segments[0].frames.start, 0);
        prop_assert_eq!(segments[0].start, Ticks::ZERO);
        prop_assert_eq!(segments[segments.len() - 1].frames.end as usize, timeline.frames.len());
        prop_assert_eq!(segments[segments.len() - 1].end, timeline.end);
        for segment in segments {
            prop_assert!(segment.frames.start < segment.frames.end);
            prop_assert_eq!(segment.start, timeline.frames[segment.frames.start as usize].pts);
        }
        for pair in segments.windows(2) {
            prop_assert_eq!(pair[0].frames.end, pair[1].frames.start);
            prop_assert_eq!(pair[0].end, pair[1].start);
        }
        let longest = segments.iter().map(|s| (s.end - s.start).micros(video.timescale)).max().unwrap();
        prop_assert!(i64::from(plan.target_duration()) * 1_000_000 + 500_000 >= longest);
    }

    #[test]
    fn segments_grow_to_their_length_and_are_cut_where_decoding_can_begin(
        index in any_source(), profile in any_profile(),
    ) {
        let timeline = VideoTimeline::of(&index).unwrap();
        let plan = Plan::new(&index, &Profile { max_frame_rate: None, ..profile.clone() }, 2).unwrap();
        let ticks = |ms| Ticks::from_millis(ms, timeline.timescale);
        let later = ticks(i64::from(profile.segment_seconds) * 1000);
        let samples = &index.video.as_ref().unwrap().samples;
        let is_key = |frame: u32| samples[timeline.frames[frame as usize].sample as usize].key;
        let segments = &picture(&plan).segments;
        for (n, segment) in segments.iter().enumerate() {
            let usual = segment.start.clamp(ticks(1000), later).0;
            let near = usual / 2..=usual + usual / 10;
            let frames = &timeline.frames[segment.frames.start as usize..segment.frames.end as usize];
            prop_assert!((frames[frames.len() - 1].pts - segment.start).0 < *near.end());
            let Some(next) = segments.get(n + 1) else { continue };
            prop_assert!((segment.end - segment.start).0 >= *near.start());
            let could = timeline.frames.iter().zip(0..);
            let mut could = could.filter(|(f, k)| near.contains(&(f.pts - segment.start).0) && is_key(*k));
            prop_assert!(is_key(next.frames.start) || could.next().is_none());
        }
    }

    #[test]
    fn every_segment_of_every_rendition_is_made_exactly_once(
        index in any_source(), profile in any_profile(), slots in 1u32..100, silent in any::<bool>(), blind in any::<bool>(),
    ) {
        let mut index = index;
        if silent {
            index.audio.clear();
        } else if blind && !index.audio.is_empty() {
            index.video = None;
        }
        let plan = match Plan::new(&index, &profile, slots) {
            Ok(plan) => plan,
            Err(error) => {
                prop_assert!(error == PlanError::Nothing && index.video.is_none() && profile.audio.is_empty());
                return Ok(());
            }
        };
        let mut made: BTreeMap<(String, u32), u32> = BTreeMap::new();
        for task in &plan.tasks {
            prop_assert!(task.cost_ms > 0);
            let (segments, names): (_, Vec<String>) = match &task.work {
                Work::Video { segments, rungs } => {
                    let of = |id: &RenditionId| plan.ladder.video.iter().find(|r| r.id == *id).unwrap().codec;
                    prop_assert!(rungs.iter().all(|id| of(id) == of(&rungs[0])), "one codec per task");
                    (segments.clone(), rungs.iter().map(|r| r.to_string()).collect())
                }
                Work::Audio { segments, rendition } => (segments.clone(), vec![rendition.to_string()]),
                Work::Index => panic!("planned an index"),
            };
            for segment in segments {
                for name in &names {
                    *made.entry((name.clone(), segment)).or_default() += 1;
                }
            }
        }
        let pictures = plan.video.as_ref().map_or(0, |v| v.segments.len()) * plan.ladder.video.len();
        let wanted = pictures + plan.audio.iter().map(|a| a.segments.len()).sum::<usize>();
        prop_assert_eq!(made.len(), wanted);
        prop_assert!(made.values().all(|n| *n == 1));
        prop_assert_eq!(plan.audio.len(), index.audio.len() * profile.audio.len());
        // The lowest rung's first segment comes first: a video plays as soon as it is there.
        if let Some(lowest) = plan.ladder.video.first() {
            prop_assert_eq!(&plan.tasks[0].work, &Work::Video { segments: 0..1, rungs: vec![lowest.id.clone()] });
            let images = plan.images.as_ref().unwrap();
            prop_assert!(images.thumbnails.len() <= 100 && images.thumbnails[0] == 0);
            prop_assert!(images.thumbnails.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn faster_sources_are_thinned_evenly(index in any_source(), most in 10u32..30) {
        let profile = Profile { max_frame_rate: Some(most), ..Profile::default() };
        let plan = Plan::new(&index, &profile, 2).unwrap();
        let whole = VideoTimeline::of(&index).unwrap();
        let every = picture(&plan).every;
        prop_assert!(whole.frame_rate().per_second() / f64::from(every) <= f64::from(most) * 1.06);
        let kept = picture(&plan).segments.last().unwrap().frames.end;
        prop_assert_eq!(kept, (whole.frames.len() as u32).div_ceil(every));
        prop_assert_eq!(picture(&plan).segments.last().unwrap().end, whole.end);
    }

    #[test]
    fn sound_is_cut_on_its_own_grid_to_the_sample(
        index in any_source(), profile in any_profile(), blind in any::<bool>(),
    ) {
        let mut index = index;
        if blind {
            index.video = None;
        }
        let Ok(plan) = Plan::new(&index, &profile, 2) else { return Ok(()) };
        for audio in &plan.audio {
            let codec = audio.rung.codec;
            prop_assert_eq!(
                AudioTimeline::of(&index, audio.rung.track as usize, codec), Some(audio.timeline)
            );
            prop_assert_eq!(audio.segments[0].start, 0);
            for pair in audio.segments.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
            }
            let mut at = Ticks::ZERO;
            for n in 0..audio.segments.len() {
                let span = audio.span(n).unwrap();
                prop_assert_eq!(span.start, at);
                prop_assert!(span.end > span.start);
                at = span.end;
            }
            prop_assert_eq!(at, Ticks(audio.timeline.samples));
            let packets = i64::from(audio.segments[audio.segments.len() - 1].end);
            let fed = audio.timeline.samples + codec.priming_samples();
            prop_assert_eq!(packets, (fed + codec.packet_samples() - 1) / codec.packet_samples());
        }
    }

    #[test]
    fn every_task_says_how_far_it_reads(index in any_source(), slots in 1u32..100, bytes in any::<u64>()) {
        let (timeline, plan) = plan(&index, slots);
        let samples = &index.video.as_ref().unwrap().samples;
        prop_assert_eq!(plan.reads.len(), plan.tasks.len());
        for (task, upto) in plan.tasks.iter().zip(&plan.reads) {
            let Work::Video { segments, .. } = &task.work else { continue };
            let spans = &picture(&plan).segments[segments.start as usize..segments.end as usize];
            let frames = spans[0].frames.start as usize..spans[spans.len() - 1].frames.end as usize;
            for frame in &timeline.frames[frames] {
                let sample = samples[frame.sample as usize];
                prop_assert!(sample.offset + u64::from(sample.bytes) <= *upto);
            }
        }
        let released = plan.released(bytes) as usize;
        prop_assert!(plan.reads[..released].iter().all(|upto| *upto <= bytes));
        prop_assert!(plan.reads.get(released).is_none_or(|upto| *upto > bytes));
        prop_assert_eq!(plan.released(u64::MAX) as usize, plan.tasks.len());
    }

    #[test]
    fn the_same_source_gives_the_same_plan(index in any_source()) {
        prop_assert_eq!(plan(&index, 4).1, plan(&index, 4).1);
    }

    #[test]
    fn index_and_plan_survive_the_way_to_the_worker(index in any_source()) {
        let (_, plan) = plan(&index, 4);
        let bytes = postcard::to_stdvec(&plan).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Plan>(&bytes).unwrap(), plan);
        let bytes = postcard::to_stdvec(&index).unwrap();
        prop_assert_eq!(postcard::from_bytes::<SourceIndex>(&bytes).unwrap(), index);
    }
}

/// What all tasks of a plan cost together, what the dearest of them does, and when the last of so many slots is done that take
/// them in their order; in milliseconds.
fn costs_ms(plan: &Plan, slots: usize) -> (u64, u64, u64) {
    let costs = || plan.tasks.iter().map(|task| task.cost_ms);
    let mut busy = vec![0; slots];
    for cost in costs() {
        *busy.iter_mut().min().unwrap() += cost;
    }
    (costs().sum(), costs().max().unwrap(), busy.into_iter().max().unwrap())
}

#[test]
fn slots_that_take_tasks_in_order_are_done_with_a_short_source_at_about_the_same_time() {
    let plan = |index: &SourceIndex, slots| Plan::new(index, &Profile::default(), slots).unwrap();
    for (slots, gop, most, mean) in [
        (2, 30, 1.25, 1.05),
        (2, 60, 1.25, 1.05),
        (2, 250, 1.30, 1.08),
        (4, 30, 1.35, 1.12),
        (4, 60, 1.35, 1.12),
        (4, 250, 1.40, 1.15),
    ] {
        let times_ideal = (5..=60).step_by(2).map(|seconds| {
            let index = steady(seconds, gop);
            // Nobody is done before the longest segment is, or before all has been done by all.
            let (cheapest, _, _) = costs_ms(&plan(&index, 1), 1);
            let (_, dearest, _) = costs_ms(&plan(&index, 256), 256);
            let (_, _, done) = costs_ms(&plan(&index, slots), slots as usize);
            done as f64 / (cheapest as f64 / f64::from(slots)).max(dearest as f64)
        });
        let times_ideal: Vec<f64> = times_ideal.collect();
        let worst = times_ideal.iter().copied().fold(0.0, f64::max);
        let usual = times_ideal.iter().sum::<f64>() / times_ideal.len() as f64;
        println!("{slots} slots, key frames every {gop}: {usual:.3} of the ideal, at worst {worst:.3}");
        assert!(worst <= most && usual <= mean, "{slots} slots, {gop}: {usual:.3}, {worst:.3}");
    }
}

#[test]
fn what_comes_in_slowly_is_cut_into_short_chunks_of_the_same_segments() {
    let index = steady(120, 60);
    let whole = Plan::new(&index, &Profile::default(), 2).unwrap();
    let arriving = |within_ms| {
        let inflow = Inflow { bytes: 1_000, of: 10_000, length: Some(10_000), within_ms };
        Plan::arriving(&index, &Profile::default(), 2, Some(inflow)).unwrap()
    };
    let longest_s = |plan: &Plan| {
        let video = picture(plan);
        let chunks = plan.tasks.iter().filter_map(|task| match &task.work {
            Work::Video { segments, .. } => {
                let spans = &video.segments[segments.start as usize..segments.end as usize];
                Some((spans[spans.len() - 1].end - spans[0].start).micros(video.timescale) as f64 / 1e6)
            }
            Work::Audio { .. } | Work::Index => None,
        });
        chunks.fold(0.0, f64::max)
    };
    // A tenth of two minutes within an instant, half of its length, its length, and much longer.
    assert_eq!(arriving(0), whole);
    let longest = [arriving(6_000), arriving(12_000), arriving(600_000)].map(|plan| {
        assert_eq!(picture(&plan).segments, picture(&whole).segments);
        longest_s(&plan)
    });
    assert!(longest_s(&whole) > 8.8 && longest[0] > 4.4, "{longest:?}");
    assert!(longest[0] <= 8.8 && longest[1] <= 4.4 && longest[2] <= 4.4, "{longest:?}");
}

/// A few bytes can claim years; planning them must end at once.
#[test]
fn sources_beyond_a_week_are_refused() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..20 {
        let mut index = any_source().new_tree(&mut runner).unwrap().current();
        let track = index.video.as_mut().unwrap();
        // On an evident grid the last frame lasts as long as the others, whatever is said.
        if track.timescale.get() == 1000 {
            continue;
        }
        track.last_duration = Ticks(i64::from(track.timescale.get()) * 1_000_000);
        assert_eq!(Plan::new(&index, &Profile::default(), 2), Err(PlanError::TooLong));
        if let Some(audio) = index.audio.first_mut() {
            index.video.as_mut().unwrap().last_duration = Ticks(1);
            audio.samples.last_mut().unwrap().pts = Ticks(i64::MAX / 2);
            assert_eq!(Plan::new(&index, &Profile::default(), 2), Err(PlanError::TooLong));
        }
    }
}
