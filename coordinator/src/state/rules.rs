//! Single rules, by example.

use jiff::{SignedDuration, Timestamp};
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_media::source::SourceRef;
use reelmill_media::task::{FailureCode, TaskNumber};

use super::simulation::{RETRY_AFTER, World};
use super::*;

/// A planned job with its first `room` tasks handed out.
pub(super) fn indexed(tasks: u32, room: u32) -> World {
    let mut world = World::new(tasks);
    world.hand_out(1, usize::MAX);
    let index = world.success(TaskNumber::INDEX, 1);
    world.queue.clear();
    world.apply(index, usize::MAX);
    world.hand_out(room, usize::MAX);
    world
}

#[test]
fn tasks_are_handed_out_in_the_plans_order_when_it_is_their_turn_and_only_once() {
    let mut world = indexed(9, 4);
    assert_eq!(world.queue, (1..=4).map(|n| (TaskNumber(n), 1)).collect());
    world.queue.clear();
    let before = world.asset.clone();
    world.apply(Input::HandOut { upto: TaskNumber(4) }, usize::MAX);
    world.apply(world.success(TaskNumber::INDEX, 1), usize::MAX);
    assert!(world.queue.is_empty() && world.asset == before, "the same again, and a late copy");
    world.apply(Input::HandOut { upto: TaskNumber(6) }, usize::MAX);
    assert_eq!(world.queue, [(TaskNumber(5), 1), (TaskNumber(6), 1)].into());
    world.apply(Input::HandOut { upto: TaskNumber(100) }, usize::MAX);
    assert_eq!(world.asset.in_flight().len(), 9);

    let mut long = indexed(2 * MAX_IN_FLIGHT as u32, 1);
    long.apply(Input::HandOut { upto: TaskNumber(u32::MAX) }, usize::MAX);
    assert_eq!(long.asset.in_flight().len(), MAX_IN_FLIGHT, "the record is bounded");
    long.apply(long.success(TaskNumber(1), 1), usize::MAX);
    long.apply(Input::HandOut { upto: TaskNumber(u32::MAX) }, usize::MAX);
    assert_eq!(long.asset.epoch(TaskNumber(MAX_IN_FLIGHT as u32 + 1)), Some(1));
}

#[test]
fn a_late_result_of_an_older_epoch_is_ignored() {
    let mut world = indexed(2, 4);
    world.apply(Input::TaskLost { number: TaskNumber(1), epoch: 1 }, usize::MAX);
    world.apply(world.success(TaskNumber(1), 1), usize::MAX);
    assert_eq!(world.asset.renditions[0].made, 0);
    world.apply(world.success(TaskNumber(1), 2), usize::MAX);
    assert_eq!(world.asset.renditions[0].made, 1);
}

#[test]
fn uploads_end_when_nobody_sends_any_more() {
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let id = AssetId::from_parts(1, 1);
    let asset = Asset::new(id, "demo".parse().unwrap(), None, None, Arrival::Whole, now);
    let later = Moment { now: now + SignedDuration::from_secs(200), retry_after: RETRY_AFTER, webhook: true };
    let ended = handle(asset.clone(), later, Input::Tick).asset;
    let Stage::Failed { failure, closed: true, .. } = &ended.stage else { panic!("{ended:?}") };
    assert_eq!(failure.code, FailureCode::Incomplete);
    let alive = handle(asset, later, Input::UploadProgress { bytes: 1, length: None }).asset;
    assert_eq!(handle(alive, later, Input::Tick).asset.stage, Stage::Uploading);

    let nothing = SourceRef { blocks: BlobHash::of(b"[]"), bytes: 0 };
    let empty = handle(ended, later, Input::UploadComplete { source: nothing });
    assert!(empty.effects.is_empty(), "an end is the end");
}

#[test]
fn bytes_that_came_before_end_at_once_and_only_once() {
    let mut made = indexed(2, 4);
    for number in 1..=2 {
        made.apply(made.success(TaskNumber(number), 1), usize::MAX);
    }
    let Stage::Ready { source, recipe, .. } = made.asset.stage.clone() else { panic!("not ready") };
    let (facts, renditions) = (made.asset.facts.clone(), made.asset.renditions.clone());
    let reused = Input::Reused { source, twin: Box::new(Twin { recipe, facts, renditions }) };
    let moment = Moment { now: made.now, retry_after: RETRY_AFTER, webhook: true };
    let id = AssetId::from_parts(1, 2);
    let new = Asset::new(id, "demo".parse().unwrap(), None, None, Arrival::Whole, made.now);
    let next = handle(new, moment, reused.clone());
    assert_eq!(
        (&next.asset.stage, &next.effects),
        (&Stage::Ready { source, recipe, closed: false }, &vec![])
    );
    assert!(next.asset.is_playable() && next.asset.renditions == made.asset.renditions);
    assert_eq!(next.asset.upload.bytes, source.bytes);
    let owed: Vec<_> = next.asset.notices.iter().map(|notice| notice.occasion).collect();
    assert_eq!(owed, [Occasion::Playable, Occasion::Ready]);
    // The same completion again, and one that comes after the owner's deletion.
    let again = handle(next.asset.clone(), moment, reused.clone());
    assert!(again.asset == next.asset && again.effects.is_empty());
    let deleted = handle(next.asset, moment, Input::Deleted).asset;
    assert_eq!(handle(deleted.clone(), moment, reused).asset, deleted);
}

#[test]
fn a_deleted_asset_goes_at_once_and_its_record_last() {
    let lives: [fn() -> World; 3] = [
        || World::new(3),
        || indexed(3, 4),
        || {
            let mut world = indexed(3, 4);
            world.settle();
            world
        },
    ];
    for life in lives {
        let mut world = life();
        world.apply(Input::Deleted, 0);
        assert_eq!(world.asset.stage.name(), StageName::Deleted);
        assert!(!world.asset.is_playable() && world.asset.in_flight().is_empty());
        // Whoever applied it has died before its effects; its owner asks again.
        let deleted = world.asset.clone();
        world.now += SignedDuration::from_secs(60);
        world.apply(Input::Deleted, usize::MAX);
        assert!(world.queue.is_empty() && world.asset == deleted);
        // A sweep takes it away as well, until somebody is sure of it.
        let tick = |world: &World| {
            let moment = Moment { now: world.now, retry_after: RETRY_AFTER, webhook: true };
            handle(world.asset.clone(), moment, Input::Tick).effects
        };
        assert_eq!(tick(&world), [Effect::Retract]);
        world.apply(Input::Retracted, usize::MAX);
        assert_eq!(tick(&world), []);
        let deleted = world.asset.clone();
        // What comes late changes nothing.
        for late in [
            Input::HandOut { upto: TaskNumber(3) },
            world.success(TaskNumber::INDEX, 1),
            world.success(TaskNumber(1), 1),
        ] {
            world.apply(late, usize::MAX);
        }
        world.apply(Input::Published { playable: true, complete: true }, usize::MAX);
        world.apply(Input::Tick, usize::MAX);
        assert!(world.asset == deleted && world.queue.is_empty() && !world.forgotten);
        world.now += SignedDuration::from_secs(61);
        world.apply(Input::Tick, usize::MAX);
        assert!(world.forgotten);
    }
}

#[test]
fn owners_are_told_in_order_until_they_take_it_or_a_day_has_passed() {
    let mut world = indexed(2, 4);
    for number in 1..=2 {
        world.apply(world.success(TaskNumber(number), 1), usize::MAX);
    }
    let owed = |world: &World| world.asset.notices.iter().map(|n| n.occasion).collect::<Vec<_>>();
    assert_eq!(owed(&world), [Occasion::Playable, Occasion::Ready]);
    let first = world.asset.notices[0].clone();
    let tried = |tries, told| Input::NoticeTried { notice: Notice { tries, ..first.clone() }, told };
    world.apply(Input::ClaimNotice, usize::MAX);
    let claimed = world.asset.clone();
    world.apply(Input::ClaimNotice, usize::MAX);
    assert_eq!(world.asset, claimed, "nobody else tells it meanwhile");
    // Whoever claimed it has died: somebody else does it, and the first one's end comes too late.
    world.now += SignedDuration::from_secs(30);
    world.apply(Input::ClaimNotice, usize::MAX);
    let claimed = world.asset.clone();
    world.apply(tried(1, false), usize::MAX);
    assert_eq!(world.asset, claimed);
    world.apply(tried(2, true), usize::MAX);
    world.apply(tried(2, true), usize::MAX);
    assert_eq!(owed(&world), [Occasion::Ready]);
    let (begun, mut tries) = (world.now, 0);
    while !world.asset.notices.is_empty() {
        world.apply(Input::Closed, usize::MAX);
        assert!(!world.asset.is_closed(), "forgotten while something is owed");
        world.now = world.asset.notices[0].not_before;
        world.apply(Input::ClaimNotice, usize::MAX);
        tries += 1;
        let notice = world.asset.notices[0].clone();
        world.apply(Input::NoticeTried { notice, told: false }, usize::MAX);
    }
    assert!(world.asset.is_closed());
    let hours = world.now.duration_since(begun).as_hours();
    assert!((23..=24).contains(&hours) && (40..80).contains(&tries), "{tries} tries in {hours} h");
}
