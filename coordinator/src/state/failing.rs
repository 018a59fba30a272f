//! Single rules about attempts that fail, straggle or come to nothing, by example.

use jiff::SignedDuration;
use reelmill_media::ids::BlobHash;
use reelmill_media::task::{FailureCode, TaskNumber, Way};

use super::attempt::STALLED_AFTER;
use super::rules::indexed;
use super::simulation::{World, worker};
use super::*;
use crate::schedule::Demand;

#[test]
fn the_fifth_failure_fails_the_asset_with_its_code() {
    let mut world = indexed(2, 4);
    for epoch in 1..=5 {
        assert_eq!(world.asset.stage.name(), StageName::Processing);
        assert!(world.queue.remove(&(TaskNumber(1), epoch)), "epoch {epoch} was not published");
        world.fails(1, epoch);
        world.now += SignedDuration::from_secs(100);
        world.apply(Input::Tick, usize::MAX);
    }
    let Stage::Failed { failure, .. } = &world.asset.stage else { panic!("still going") };
    assert_eq!(failure.code, FailureCode::Limit);
    assert!(world.queue.is_empty(), "its other tasks were taken back");
}

/// The next attempt at task 1, once its pause is over.
fn next_way(world: &mut World, epoch: u32) -> Way {
    world.now += SignedDuration::from_secs(100);
    world.apply(Input::Tick, usize::MAX);
    assert!(world.queue.remove(&(TaskNumber(1), epoch)), "epoch {epoch} was not published");
    world.asset.attempt(TaskNumber(1)).unwrap().way
}

#[test]
fn a_poison_task_goes_to_others_then_to_software_and_is_left_out_in_the_end() {
    let mut world = indexed(2, 4);
    world.apply(world.success(TaskNumber(2), 1), usize::MAX);
    let mut ways = Vec::new();
    for epoch in 1..5 {
        world.fails(1, epoch);
        ways.push(next_way(&mut world, epoch + 1));
    }
    assert_eq!(ways, [Way::Any, Way::Software, Way::Software, Way::Concealed]);
    assert_eq!(world.asset.attempt(TaskNumber(1)).unwrap().failed_by.len(), 4);
    world.apply(world.success(TaskNumber(1), 5), usize::MAX);
    assert_eq!(world.asset.stage.name(), StageName::Ready);
    assert_eq!((world.asset.renditions[0].made, world.asset.renditions[0].blank), (2, 1));
    assert!(world.blamed.is_empty(), "nobody did it");
}

#[test]
fn what_two_call_corrupt_is_left_out_where_the_rest_is_not() {
    let mut world = indexed(2, 4);
    world.apply(world.success(TaskNumber(2), 1), usize::MAX);
    world.fails_with(1, 1, 1, FailureCode::Corrupt);
    assert_eq!(next_way(&mut world, 2), Way::Any);
    world.fails_with(1, 2, 2, FailureCode::Corrupt);
    assert_eq!(next_way(&mut world, 3), Way::Concealed);

    let mut nothing = indexed(2, 4);
    for epoch in 1..3 {
        nothing.fails_with(1, epoch, epoch.into(), FailureCode::Corrupt);
        nothing.fails_with(2, epoch, epoch.into(), FailureCode::Corrupt);
        nothing.now += SignedDuration::from_secs(100);
        nothing.apply(Input::Tick, usize::MAX);
    }
    let Stage::Failed { failure, .. } = &nothing.asset.stage else { panic!("still going") };
    assert_eq!(failure.code, FailureCode::Corrupt);
}

#[test]
fn an_outage_costs_time_only_but_not_for_ever() {
    let mut world = indexed(1, 4);
    let begun = world.now;
    let mut epoch = 1;
    while world.asset.stage.name() == StageName::Processing {
        world.fails_with(1, epoch, 1, FailureCode::Unavailable);
        epoch += 1;
        let Some(attempt) = world.asset.attempt(TaskNumber(1)) else { break };
        assert_eq!((attempt.failures, attempt.way, attempt.failed_by.len()), (0, Way::Any, 0));
        world.now = world.asset.retry_at().unwrap();
        world.apply(Input::Tick, usize::MAX);
    }
    let minutes = world.now.duration_since(begun).as_mins();
    assert!((45..75).contains(&minutes), "given up after {minutes} min");
}

#[test]
fn whoever_failed_at_what_another_did_the_same_way_is_blamed() {
    let mut world = indexed(3, 4);
    world.fails_with(1, 1, 7, FailureCode::Internal);
    world.apply(world.success(TaskNumber(1), 2), usize::MAX);
    assert_eq!(world.blamed, [(worker(7), TaskNumber(1))].into());
    // The same one did it in the end, or it went well in software only.
    world.fails_with(2, 1, 9, FailureCode::Internal);
    world.apply(world.success(TaskNumber(2), 2), usize::MAX);
    for epoch in 1..3 {
        world.fails_with(3, epoch, epoch.into(), FailureCode::Internal);
    }
    world.apply(world.success(TaskNumber(3), 3), usize::MAX);
    assert_eq!(world.blamed.len(), 1);
    assert_eq!(world.asset.stage.name(), StageName::Ready);
}

#[test]
fn a_straggling_attempt_is_raced_once_and_the_first_report_counts() {
    let mut world = indexed(2, 4);
    let straggles = |epoch| Input::Straggles { number: TaskNumber(1), epoch, worker: worker(1) };
    world.apply(straggles(1), 0);
    assert!(world.races.is_empty(), "whoever asked for it has died");
    world.now += SignedDuration::from_secs(61);
    world.apply(Input::Tick, usize::MAX);
    assert_eq!(world.races, [(TaskNumber(1), 1)].into());
    world.races.clear();
    world.apply(straggles(1), usize::MAX);
    world.apply(straggles(2), usize::MAX);
    assert!(world.races.is_empty(), "once, and of the present attempt");
    world.races.insert((TaskNumber(1), 1));
    world.apply(world.success(TaskNumber(1), 1), usize::MAX);
    assert!(
        world.races.is_empty() && !world.queue.contains(&(TaskNumber(1), 1)),
        "the other one is taken back"
    );
    let done = world.asset.clone();
    world.apply(world.success(TaskNumber(1), 1), usize::MAX);
    world.fails(1, 1);
    assert_eq!(world.asset, done, "what comes second does not count");
    // A failure of either ends the attempt.
    world.apply(Input::Straggles { number: TaskNumber(2), epoch: 1, worker: worker(1) }, usize::MAX);
    world.fails(2, 1);
    assert!(world.races.is_empty() && world.asset.attempt(TaskNumber(2)).unwrap().raced.is_none());
}

#[test]
fn a_task_that_takes_its_workers_with_it_gets_five_of_them_at_most() {
    let mut world = indexed(2, 4);
    world.apply(world.success(TaskNumber(2), 1), usize::MAX);
    for (epoch, ways) in [(1, Way::Software), (2, Way::Concealed)] {
        let n = u64::from(epoch) * 2;
        world.falls_silent(1, epoch, n, usize::MAX);
        world.falls_silent(1, epoch, n, usize::MAX);
        let attempt = world.asset.attempt(TaskNumber(1)).unwrap();
        assert_eq!((attempt.epoch, &world.races), (epoch, &[(TaskNumber(1), epoch)].into()), "once each");
        let left = |world: &World| world.queue.iter().any(|(number, _)| *number == TaskNumber(1));
        assert!(!left(&world), "the queue does not hand it out to a third one");
        world.falls_silent(1, epoch, n + 1, usize::MAX);
        assert!(world.races.is_empty() && !left(&world), "nobody else takes it up meanwhile");
        assert_eq!(next_way(&mut world, epoch + 1), ways);
    }
    let attempt = world.asset.attempt(TaskNumber(1)).unwrap();
    assert_eq!((attempt.failures, attempt.failed_by.len()), (4, 4));
    let before = world.asset.clone();
    world.falls_silent(1, 3, 9, usize::MAX);
    assert_eq!(world.asset.stage.name(), StageName::Failed, "the fifth is the last");
    world.asset = before;
    world.apply(world.success(TaskNumber(1), 3), usize::MAX);
    assert_eq!(world.asset.stage.name(), StageName::Ready);
}

#[test]
fn one_that_is_silent_beside_one_that_works_costs_no_attempt() {
    let mut world = indexed(2, 4);
    let slow = worker(1);
    world.apply(Input::Straggles { number: TaskNumber(1), epoch: 1, worker: slow }, usize::MAX);
    world.falls_silent(1, 1, 2, usize::MAX);
    let attempt = world.asset.attempt(TaskNumber(1)).unwrap();
    assert_eq!((attempt.failures, attempt.epoch, attempt.raced), (0, 1, Some(slow)));
    world.falls_silent(1, 1, 1, usize::MAX);
    let attempt = world.asset.attempt(TaskNumber(1)).unwrap();
    assert_eq!((attempt.failures, attempt.epoch, attempt.raced), (2, 2, None));
}

#[test]
fn failed_attempts_wait_longer_each_time_and_let_others_go_before() {
    let mut world = indexed(20, 4);
    let mut pauses = Vec::new();
    for epoch in 1..5 {
        world.queue.clear();
        world.fails(1, epoch);
        let out = Demand::of(&world.asset).unwrap().out;
        assert_eq!(out.publish + out.ladder, 3, "it makes room for another task");
        world.fails(1, epoch);
        assert!(world.queue.is_empty(), "the same report again");
        let failed_at = world.now;
        let released_at = world.asset.retry_at().unwrap();
        world.now = released_at - SignedDuration::from_millis(2);
        world.apply(Input::Tick, usize::MAX);
        assert!(!world.queue.contains(&(TaskNumber(1), epoch + 1)), "too early");
        world.now = released_at;
        world.apply(Input::Tick, usize::MAX);
        assert!(world.queue.contains(&(TaskNumber(1), epoch + 1)));
        assert_eq!(world.asset.retry_at(), None);
        pauses.push(released_at.duration_since(failed_at).as_secs_f64());
    }
    for (pause, planned) in pauses.iter().zip([1.0, 4.0, 16.0, 64.0]) {
        assert!((0.75..=1.26).contains(&(pause / planned)), "{pauses:?}");
    }
}

#[test]
fn a_job_whose_attempts_fail_one_after_the_other_begins_no_more() {
    let mut world = indexed(100, 30);
    for number in 1..=20 {
        world.hand_out(1, usize::MAX);
        world.fails(number, 1);
    }
    let Stage::Processing { job, .. } = &world.asset.stage else { panic!("not at work") };
    assert_eq!((job.next, Demand::of(&world.asset).unwrap().room), (46, 0));
    world.now += SignedDuration::from_secs(2);
    world.apply(Input::Tick, usize::MAX);
    assert!(Demand::of(&world.asset).unwrap().room > 0, "the pause is over");
}

#[test]
fn another_init_segment_is_a_failed_attempt() {
    let mut world = indexed(2, 4);
    world.apply(world.success(TaskNumber(1), 1), usize::MAX);
    let Input::TaskDone { number, epoch, worker, mut made } = world.success(TaskNumber(2), 1) else {
        panic!()
    };
    made.parts[0].init = BlobHash::of(b"of another encoder");
    world.failed.insert((worker, number));
    world.apply(Input::TaskDone { number, epoch, worker, made }, usize::MAX);
    assert_eq!(world.asset.renditions[0].made, 1);
    assert_eq!(world.asset.epoch(TaskNumber(2)), Some(2));
}

#[test]
fn a_stalled_attempt_is_replaced_without_counting_as_failed() {
    let mut world = indexed(1, 4);
    for epoch in 2..20 {
        world.now += STALLED_AFTER + SignedDuration::from_secs(1);
        world.apply(Input::Tick, usize::MAX);
        assert_eq!(world.queue, [(TaskNumber(1), epoch)].into());
    }
    assert_eq!(world.asset.stage.name(), StageName::Processing);
}
