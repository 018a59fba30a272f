//! How often something may be done.

use std::time::Instant;

/// Tokens that come back with time.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second: per_second.into(), level: 2.0 * f64::from(per_second), at: now }
    }

    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.level = (self.level + gained).min(2.0 * self.per_second);
        self.at = now;
        let taken = self.level >= 1.0;
        if taken {
            self.level -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tokens_come_back_with_time() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(10, begun);
        assert_eq!((0..100).filter(|_| bucket.take(begun)).count(), 20);
        assert_eq!((0..100).filter(|_| bucket.take(begun + Duration::from_millis(500))).count(), 5);
        assert_eq!((0..100).filter(|_| bucket.take(begun + Duration::from_secs(60))).count(), 20);
    }
}
