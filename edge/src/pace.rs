//! Who takes what there is for it too slowly.

use std::time::{Duration, Instant};

use crate::clients::ClientLimits;

/// How fast a connection takes what there is for it.
#[derive(Debug)]
pub(crate) struct Pace {
    least_bytes: u64,
    window: Duration,
    /// Since when the peer alone held things up, and how many bytes it had taken by then.
    pressed_since: Option<(Instant, u64)>,
}

impl Pace {
    pub(crate) fn new(limits: &ClientLimits) -> Self {
        let least_bytes = limits.least_bytes_per_second.saturating_mul(limits.slow_for.as_secs().max(1));
        Self { least_bytes, window: limits.slow_for, pressed_since: None }
    }

    /// Looks at the connection: `taken` bytes in all by now, and whether the peer holds things up. Says whether it has
    /// been too slow for too long.
    pub(crate) fn is_too_slow(&mut self, now: Instant, taken: u64, pressed: bool) -> bool {
        if !pressed {
            self.pressed_since = None;
            return false;
        }
        let (since, before) = *self.pressed_since.get_or_insert((now, taken));
        if now.duration_since(since) < self.window {
            return false;
        }
        self.pressed_since = Some((now, taken));
        taken - before < self.least_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ClientLimits = ClientLimits {
        connections: 1,
        requests_per_second: 1,
        handshakes_per_second: 1,
        resets_per_second: 1,
        least_bytes_per_second: 100,
        slow_for: Duration::from_secs(10),
        loopback_too: false,
    };

    #[test]
    fn slow_is_who_holds_things_up_for_a_whole_window() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut pace = Pace::new(&LIMITS);
        assert!(!pace.is_too_slow(at(0), 0, true));
        assert!(!pace.is_too_slow(at(9), 0, true));
        assert!(!pace.is_too_slow(at(10), 1000, true), "just fast enough");
        assert!(!pace.is_too_slow(at(15), 1000, false), "waiting for the origin");
        assert!(!pace.is_too_slow(at(20), 1000, true));
        assert!(pace.is_too_slow(at(30), 1999, true));
    }
}
