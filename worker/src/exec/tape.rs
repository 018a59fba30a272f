//! Stereo sound on an absolute time line, laid down in pieces and taken off in order. What was not laid is silence.

use std::ops::Range;

use reelmill_av::Stereo;

/// The part of the time line that has not been taken yet.
#[derive(Debug)]
pub struct Tape {
    left: Vec<f32>,
    right: Vec<f32>,
    /// Time of the first sample held, in samples.
    start: i64,
    /// Nothing is kept from here on.
    end: i64,
    /// Only this is sound; the rest is silence whatever is laid there.
    presented: Range<i64>,
}

impl Tape {
    /// An empty tape for the samples from `start` to `end`.
    pub fn new(start: i64, end: i64) -> Self {
        Self { left: Vec::new(), right: Vec::new(), start, end, presented: i64::MIN..i64::MAX }
    }

    /// Silences what lies outside `span`.
    pub fn present(&mut self, span: Range<i64>) {
        self.presented = span;
    }

    /// Where the next sample would go on without a gap.
    fn head(&self) -> i64 {
        self.start.saturating_add(self.left.len() as i64)
    }

    /// Lays sound whose first sample belongs at `at`. A gap before it is silence; what is already there stays.
    pub fn lay(&mut self, at: i64, sound: &Stereo) {
        let from = at.max(self.head()).max(self.presented.start);
        let to = at.saturating_add(sound.left.len() as i64).min(self.end).min(self.presented.end);
        if from >= to {
            return;
        }
        let silence = (from - self.start) as usize;
        self.left.resize(silence, 0.0);
        self.right.resize(silence, 0.0);
        let part = (from - at) as usize..(to - at) as usize;
        self.left.extend_from_slice(sound.left.get(part.clone()).unwrap_or_default());
        self.right.extend_from_slice(sound.right.get(part).unwrap_or_default());
    }

    /// Whether the next `n` samples have all been laid.
    pub fn holds(&self, n: usize) -> bool {
        self.left.len() >= n
    }

    /// Takes the next `n` samples, silence where nothing was laid.
    pub fn take(&mut self, n: usize) -> (Vec<f32>, Vec<f32>) {
        let take = |channel: &mut Vec<f32>| {
            let mut out: Vec<f32> = channel.drain(..n.min(channel.len())).collect();
            out.resize(n, 0.0);
            out
        };
        self.start = self.start.saturating_add(n as i64);
        (take(&mut self.left), take(&mut self.right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound(values: &[f32]) -> Stereo {
        Stereo { left: values.to_vec(), right: values.to_vec() }
    }

    #[test]
    fn gaps_are_silent_and_overlaps_are_dropped() {
        let mut tape = Tape::new(-2, 100);
        tape.lay(-5, &sound(&[9.0, 9.0, 9.0, 1.0, 2.0]));
        tape.lay(2, &sound(&[3.0]));
        tape.lay(1, &sound(&[8.0, 8.0, 4.0]));
        assert_eq!(tape.take(6).0, [1.0, 2.0, 0.0, 0.0, 3.0, 4.0]);
        assert!(!tape.holds(1));
        assert_eq!(tape.take(2).1, [0.0, 0.0]);
        tape.lay(3, &sound(&[5.0; 4]));
        assert_eq!(tape.take(2).0, [5.0, 0.0]);
    }

    #[test]
    fn only_the_presented_span_sounds() {
        let mut tape = Tape::new(0, 10);
        tape.present(2..4);
        tape.lay(0, &sound(&[1.0; 8]));
        assert_eq!(tape.take(6).0, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    }
}
