//! How quickly the fleet works, and what is left behind by it. What a task should take is its estimated cost times what tasks lately
//! took for each millisecond of theirs.

use std::collections::VecDeque;

/// So many times what it should take is too long...
const TOO_LONG: f64 = 3.0;
/// ...and so many times what the slowest tenth takes...
const OUT_OF_LINE: f64 = 1.5;
/// ...and so much longer than it should take, in milliseconds: what a busy machine does to a short task is no reason.
const WORTH_IT_MS: f64 = 5000.0;
/// Tasks by which the pace is known.
const SAMPLES: usize = 128;
/// With fewer than this it is not known.
const FEWEST_SAMPLES: usize = 8;

/// How far a task has come.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    /// Its estimated cost, in milliseconds of one core.
    pub cost_ms: u64,
    /// How long a worker has been at it.
    pub elapsed_ms: u64,
    /// How much of it is done.
    pub permille: u16,
}

/// What tasks lately took.
#[derive(Debug, Default)]
pub struct Pace {
    /// Milliseconds taken per millisecond of estimate, the latest first.
    samples: VecDeque<f64>,
}

/// Milliseconds taken per millisecond of estimate: by half of all tasks, and by all but a tenth.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    median: f64,
    slow: f64,
}

impl Pace {
    /// Takes in a task that has come to its end.
    pub fn learn(&mut self, done: Course) {
        self.samples.truncate(SAMPLES - 1);
        self.samples.push_front(done.elapsed_ms as f64 / done.cost_ms as f64);
    }

    /// The pace, once enough tasks have come to their end.
    pub fn known(&self) -> Option<Known> {
        let mut sorted: Vec<f64> = self.samples.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| sorted.get((sorted.len() as f64 * part) as usize).copied();
        (sorted.len() >= FEWEST_SAMPLES).then_some(Known { median: at(0.5)?, slow: at(0.9)? })
    }
}

impl Known {
    /// Whether a task is so late that another worker, which begins now, would be done sooner.
    pub fn leaves_behind(self, course: Course) -> bool {
        let (elapsed, cost) = (course.elapsed_ms as f64, course.cost_ms as f64);
        let left = elapsed * f64::from(1000 - course.permille.min(1000)) / f64::from(course.permille.max(1));
        elapsed >= cost * self.median + WORTH_IT_MS
            && elapsed > cost * f64::max(TOO_LONG * self.median, OUT_OF_LINE * self.slow)
            && left > cost * self.median
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(elapsed_ms: u64, permille: u16) -> Course {
        Course { cost_ms: 1000, elapsed_ms, permille }
    }

    #[test]
    fn it_is_known_from_a_few_tasks_on_and_goes_by_the_latest() {
        let mut pace = Pace::default();
        for _ in 1..FEWEST_SAMPLES {
            pace.learn(after(9000, 1000));
        }
        assert!(pace.known().is_none());
        for _ in 0..SAMPLES {
            pace.learn(after(2000, 1000));
        }
        let known = pace.known().unwrap();
        assert_eq!((known.median, known.slow, pace.samples.len()), (2.0, 2.0, SAMPLES));
    }

    #[test]
    fn where_a_tenth_takes_long_anyway_taking_long_is_no_sign() {
        let even = Known { median: 2.0, slow: 2.0 };
        assert!(even.leaves_behind(after(7001, 100)));
        assert!(!even.leaves_behind(after(6999, 100)), "five seconds more than it should");
        assert!(!even.leaves_behind(after(7001, 900)), "it is nearly done");
        let uneven = Known { median: 2.0, slow: 10.0 };
        assert!(!uneven.leaves_behind(after(14_999, 100)));
        assert!(uneven.leaves_behind(after(15_001, 100)));
    }
}
