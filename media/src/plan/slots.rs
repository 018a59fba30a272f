//! Slots that take tasks in their order, and chunks such that all of them are done at about the same time.

use std::ops::Range;

/// Of the ways to begin that end with the same segment, so many are followed up.
const FOLLOWED: usize = 16;

/// More slots than this are as good as these.
const MOST_SLOTS: u32 = 256;

/// When each slot will be done with the tasks that it took, in milliseconds from the start, the first one first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slots(Vec<u64>);

impl Slots {
    /// So many that have nothing to do, one at least.
    pub(super) fn idle(count: u32) -> Self {
        Self(vec![0; count.clamp(1, MOST_SLOTS) as usize])
    }

    /// The one that is done first takes a task.
    pub(super) fn take(&mut self, cost_ms: u64) {
        if let Some(first) = self.0.first_mut() {
            *first += cost_ms;
        }
        self.0.sort_unstable();
    }

    /// How dear it is to be here with so much left to do, in milliseconds: when the last slot is done at best, and what all of
    /// it takes, spread over them. So a millisecond sooner is worth one of every slot.
    fn price(&self, left_ms: u64) -> u64 {
        let mean = (self.0.iter().sum::<u64>() + left_ms) / self.0.len() as u64;
        self.0.last().copied().unwrap_or(0).max(mean) + mean
    }
}

/// A way to begin.
struct Begun {
    slots: Slots,
    /// Where its last chunk starts, as the number of segments before it, and which of the ways that end there it goes on from.
    from: (usize, usize),
}

/// Groups the segments `of` a source's end into chunks that `may` be, for slots that take them next.
///
/// Goes over all groupings from the front, and of those that are alike so far follows up the best ones.
pub(super) fn chunks(
    of: Range<u32>,
    slots: Slots,
    cost_ms: impl Fn(&Range<u32>) -> u64,
    may: impl Fn(&Range<u32>) -> bool,
) -> Vec<Range<u32>> {
    let count = of.len();
    let mut begun: Vec<Vec<Begun>> = (0..=count).map(|_| Vec::new()).collect();
    begun[0].push(Begun { slots, from: (0, 0) });
    for at in 0..=count {
        let rest = of.start + at as u32..of.end;
        let left_ms = if rest.is_empty() { 0 } else { cost_ms(&rest) };
        let ways = &mut begun[at];
        ways.sort_by_cached_key(|way| (way.slots.price(left_ms), way.slots.clone()));
        ways.dedup_by(|one, other| one.slots == other.slots);
        ways.truncate(FOLLOWED);
        for end in at + 1..=count {
            let chunk = rest.start..of.start + end as u32;
            if end > at + 1 && !may(&chunk) {
                break;
            }
            let cost_ms = cost_ms(&chunk);
            let next: Vec<Begun> = begun[at]
                .iter()
                .enumerate()
                .map(|(n, way)| {
                    let mut slots = way.slots.clone();
                    slots.take(cost_ms);
                    Begun { slots, from: (at, n) }
                })
                .collect();
            begun[end].extend(next);
        }
    }
    let (mut end, mut way) = (count, 0);
    let mut out = Vec::new();
    while end > 0 {
        let (start, before) = begun[end][way].from;
        out.push(of.start + start as u32..of.start + end as u32);
        (end, way) = (start, before);
    }
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks of segments that cost so much each, and every chunk so much more.
    fn grouped(segments: &[u64], each: u64, slots: Slots) -> Vec<Range<u32>> {
        let cost = |of: &Range<u32>| segments[of.start as usize..of.end as usize].iter().sum::<u64>() + each;
        chunks(0..segments.len() as u32, slots, cost, |of| of.len() <= 4)
    }

    #[test]
    fn slots_are_done_together() {
        let idle = || Slots::idle(2);
        assert_eq!(grouped(&[10, 10, 20, 27, 28], 1, idle()), [0..2, 2..4, 4..5]);
        assert_eq!(grouped(&[10; 8], 1, idle()), [0..4, 4..8]);
        assert_eq!(grouped(&[10; 9], 1, idle()).len(), 3);
        assert_eq!(grouped(&[10], 1, idle()), vec![0..1]);
        assert!(grouped(&[], 1, idle()).is_empty());
        // One has something to do already.
        let mut busy = idle();
        busy.take(40);
        assert_eq!(grouped(&[10, 10, 10, 10, 20], 1, busy), [0..4, 4..5]);
    }

    #[test]
    fn what_costs_more_than_it_saves_is_not_cut() {
        assert_eq!(grouped(&[10; 4], 5, Slots::idle(2)), [0..2, 2..4]);
        assert_eq!(grouped(&[10; 4], 60, Slots::idle(2)), vec![0..4]);
    }
}
