//! Too much to do: new uploads are sent away for a while when more waits than the fleet does within a bound. What has begun
//! goes on, and what waits is done in the order that it has.

use std::time::Duration;

/// Nobody is asked to come back sooner.
const LEAST_WAIT: Duration = Duration::from_secs(5);
/// Nor later: by then there may be more workers.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How long a newcomer is to wait: until no more than `bound` is left for each slot, if the fleet stays as it is. `None` if
/// there is room now. `backlog_ms` is in milliseconds of one core.
pub fn wait(backlog_ms: u64, slots: u32, bound: Duration) -> Option<Duration> {
    let per_slot = Duration::from_millis(backlog_ms / u64::from(slots.max(1)));
    let excess = per_slot.checked_sub(bound).filter(|excess| !excess.is_zero())?;
    Some(excess.clamp(LEAST_WAIT, LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_wait_for_what_is_too_much() {
        let bound = Duration::from_secs(60);
        let wait_s = |backlog_s: u64, slots| wait(backlog_s * 1000, slots, bound).map(|wait| wait.as_secs());
        assert_eq!((wait_s(0, 0), wait_s(60, 1), wait_s(600, 10)), (None, None, None));
        assert_eq!((wait_s(61, 0), wait_s(61, 1), wait_s(100, 1)), (Some(5), Some(5), Some(40)));
        assert_eq!((wait_s(1000, 10), wait_s(1_000_000, 2)), (Some(40), Some(300)));
    }
}
