//! Single rules, by example and by generated calls.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

pub(super) fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

pub(super) fn asset(n: u64) -> AssetId {
    AssetId::from_parts(n, 1)
}

/// A planned job of so many tasks, of which none was handed out.
fn job(owner: &str, urgent: u32, tasks: u32, mean_ms: u64) -> Demand {
    Demand {
        tenant: tenant(owner),
        next: TaskNumber(1),
        ordinary: TaskNumber(1 + urgent),
        end: TaskNumber(1 + tasks),
        room: u32::MAX,
        out: PerClass::default(),
        mean_ms: PerClass { publish: mean_ms, ladder: mean_ms },
        backlog_ms: PerClass {
            publish: u64::from(urgent) * mean_ms,
            ladder: u64::from(tasks - urgent) * mean_ms,
        },
    }
}

fn given(schedule: &mut Schedule, picks: usize) -> BTreeMap<AssetId, usize> {
    let mut given = BTreeMap::new();
    for _ in 0..picks {
        let Some(pick) = schedule.pick(usize::MAX) else { break };
        *given.entry(pick.asset).or_default() += 1;
    }
    given
}

#[test]
fn tenants_share_by_cpu_time_and_by_weight_whatever_they_have_queued() {
    let mut schedule = Schedule::new([(tenant("heavy"), NonZeroU32::new(3).unwrap())].into());
    schedule.see(asset(1), Revision(1), Some(job("long", 0, 8000, 1000)));
    schedule.see(asset(2), Revision(1), Some(job("short", 0, 8000, 100)));
    schedule.see(asset(3), Revision(1), Some(job("heavy", 0, 8000, 1000)));
    // Assets are bounded, tenants are not: twenty of one tenant's share what one would have.
    for n in 4..24 {
        schedule.see(asset(n), Revision(1), Some(job("many", 0, 8000, 1000)));
    }
    let given = given(&mut schedule, 15 * 100);
    assert_eq!((given[&asset(1)], given[&asset(2)], given[&asset(3)]), (100, 1000, 300));
    let many: Vec<usize> = given.range(asset(4)..).map(|(_, tasks)| *tasks).collect();
    assert_eq!(many, [5; 20]);
}

#[test]
fn what_a_publish_waits_for_goes_first_and_needs_no_room_left_by_others() {
    let mut schedule = Schedule::default();
    schedule.see(asset(1), Revision(1), Some(job("a", 0, 100, 1000)));
    assert_eq!(schedule.round(8, 9).last(), Some(&(asset(1), TaskNumber(8))));
    assert_eq!(schedule.pick(8), None, "the window is full");
    schedule.see(asset(2), Revision(1), Some(job("b", 2, 100, 1000)));
    let first = schedule.pick(8).unwrap();
    assert_eq!((first.asset, first.number, first.class), (asset(2), TaskNumber(1), Class::Publish));
    assert_eq!(schedule.pick(8).unwrap().number, TaskNumber(2));
    assert_eq!(schedule.pick(8), None, "its other tasks wait for room as all do");
    assert_eq!(schedule.out(), PerClass { publish: 2, ladder: 8 });
}

#[test]
fn a_newcomer_is_next_and_nobody_saves_up_time() {
    let mut schedule = Schedule::default();
    schedule.see(asset(1), Revision(1), Some(job("a", 0, 8000, 1000)));
    given(&mut schedule, 1000);
    schedule.see(asset(2), Revision(1), Some(job("b", 0, 8000, 1000)));
    assert_eq!(schedule.pick(usize::MAX).unwrap().asset, asset(2));
    // It was alone for long, and is not made to pay for it; nor does the newcomer get what it missed.
    assert_eq!(given(&mut schedule, 100), [(asset(1), 50), (asset(2), 50)].into());
    // Going and coming back is not worth anything.
    schedule.see(asset(2), Revision(2), None);
    schedule.see(asset(3), Revision(1), Some(job("b", 0, 8000, 1000)));
    assert_eq!(given(&mut schedule, 100), [(asset(1), 50), (asset(3), 50)].into());
}

#[test]
fn records_say_the_truth_in_whatever_order_they_come() {
    let mut schedule = Schedule::default();
    let planned = job("a", 2, 100, 1000);
    schedule.see(asset(1), Revision(5), Some(planned.clone()));
    assert_eq!(schedule.round(4, 9), [(asset(1), TaskNumber(4))]);
    assert_eq!(schedule.round(400, 9), [], "somebody writes the first ones");
    assert_eq!(schedule.out(), PerClass { publish: 2, ladder: 2 });
    // Older news, news from before the writing, and the writing itself.
    schedule.see(asset(1), Revision(4), None);
    schedule.see(asset(1), Revision(6), Some(planned.clone()));
    assert_eq!(schedule.out(), PerClass { publish: 2, ladder: 2 });
    let out = PerClass { publish: 2, ladder: 2 };
    let written = Demand { next: TaskNumber(5), out, room: 508, ..planned };
    schedule.see(asset(1), Revision(7), Some(written.clone()));
    assert_eq!(schedule.out(), out);
    schedule.settle(asset(1));
    assert_eq!((schedule.out(), schedule.pick(4)), (out, None));
    // What could not be written is asked for again.
    assert_eq!(schedule.round(5, 9), [(asset(1), TaskNumber(5))]);
    schedule.settle(asset(1));
    assert_eq!(schedule.round(5, 9), [(asset(1), TaskNumber(5))]);
    schedule.see(asset(1), Revision(8), Some(Demand { room: 0, ..written }));
    schedule.settle(asset(1));
    assert_eq!(schedule.pick(usize::MAX), None, "the record is full");
    schedule.see(asset(1), Revision(9), None);
    assert_eq!((schedule.out(), schedule.backlog_ms()), Default::default());
}

#[derive(Debug, Clone)]
enum Call {
    See { asset: u64, owner: u8, urgent: u32, ordinary: u32, mean_ms: u64 },
    Over { asset: u64 },
    Round { window: usize, assets: usize },
    Settle { asset: u64 },
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        3 => (0..12u64, 0..4u8, 0..4u32, 0..30u32, 1..5000u64).prop_map(
            |(asset, owner, urgent, ordinary, mean_ms)| Call::See { asset, owner, urgent, ordinary, mean_ms }
        ),
        1 => (0..12u64).prop_map(|asset| Call::Over { asset }),
        3 => (0..20usize, 1..6usize).prop_map(|(window, assets)| Call::Round { window, assets }),
        3 => (0..12u64).prop_map(|asset| Call::Settle { asset }),
    ]
}

proptest! {
    #[test]
    fn sums_are_sums_and_the_window_is_kept(calls in prop::collection::vec(call(), 0..200)) {
        let (mut one, mut other) = (Schedule::default(), Schedule::default());
        for (revision, call) in calls.into_iter().enumerate() {
            let revision = Revision(revision as u64);
            let before = one.out();
            for schedule in [&mut one, &mut other] {
                match call.clone() {
                    Call::See { asset: n, owner, urgent, ordinary, mean_ms } => {
                        let demand = job(["a", "b", "c", "d"][usize::from(owner)], urgent, urgent + ordinary, mean_ms);
                        schedule.see(asset(n), revision, Some(demand));
                    }
                    Call::Over { asset: n } => schedule.see(asset(n), revision, None),
                    Call::Round { window, assets } => drop(schedule.round(window, assets)),
                    Call::Settle { asset: n } => schedule.settle(asset(n)),
                }
            }
            prop_assert_eq!(format!("{:?}", one.jobs), format!("{:?}", other.jobs), "the same calls, another end");
            if let Call::Round { window, .. } = call {
                let out = one.out();
                prop_assert!(out.publish <= before.publish.max(window));
                prop_assert!(out.ladder == before.ladder || out.publish + out.ladder <= window);
            }
            let sum = |of: fn(&Job) -> usize| one.jobs.values().map(of).sum::<usize>();
            let picked = sum(|job| job.picked as usize);
            prop_assert_eq!(one.out().publish + one.out().ladder, picked);
            let backlog_ms = sum(|job| (job.demand.backlog_ms.publish + job.demand.backlog_ms.ladder) as usize);
            prop_assert_eq!((one.backlog_ms().publish + one.backlog_ms().ladder) as usize, backlog_ms);
            for class in Class::ALL {
                let line = one.lines.of(class);
                let waiting = one.jobs.values().filter(|job| job.class() == Some(class)).count();
                prop_assert_eq!(line.waiting.values().map(BTreeSet::len).sum::<usize>(), waiting);
                prop_assert_eq!(line.order.len(), line.waiting.len());
                prop_assert!(line.order.iter().all(|(tag, tenant)| line.tags.get(tenant) == Some(tag)));
            }
        }
    }
}
