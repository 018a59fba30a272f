//! Time is integer ticks with a timescale (ISO 14496-12 §8.4.2); seconds appear only in texts for people.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Ticks per second of a track's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timescale(NonZeroU32);

impl Timescale {
    /// The MPEG system clock, 90 kHz: what we fall back on when a source's own clock is unusable.
    pub const MPEG: Timescale = Timescale(NonZeroU32::new(90_000).unwrap());

    /// 44.1 kHz, of sound.
    pub const HZ_44_100: Timescale = Timescale(NonZeroU32::new(44_100).unwrap());

    /// 48 kHz, of sound.
    pub const HZ_48_000: Timescale = Timescale(NonZeroU32::new(48_000).unwrap());

    /// `None` for zero.
    pub const fn new(ticks_per_second: u32) -> Option<Self> {
        match NonZeroU32::new(ticks_per_second) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    /// Ticks per second.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// A time or a duration on some track's clock. The clock is named where the value is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticks(pub i64);

impl Ticks {
    /// The origin.
    pub const ZERO: Ticks = Ticks(0);

    /// The same instant on another clock, rounded to the nearest tick, halves away from zero.
    pub fn rescale(self, from: Timescale, to: Timescale) -> Ticks {
        if from == to {
            return self;
        }
        Ticks(div_round(i128::from(self.0) * i128::from(to.get()), i128::from(from.get())))
    }

    /// Seconds, for texts and estimates; never for decisions about frames.
    pub fn seconds(self, clock: Timescale) -> f64 {
        self.0 as f64 / f64::from(clock.get())
    }

    /// Nearest microsecond.
    pub fn micros(self, clock: Timescale) -> i64 {
        div_round(i128::from(self.0) * 1_000_000, i128::from(clock.get()))
    }

    /// Nearest tick to a number of milliseconds.
    pub fn from_millis(ms: i64, clock: Timescale) -> Ticks {
        Ticks(div_round(i128::from(ms) * i128::from(clock.get()), 1000))
    }
}

/// Division rounded to nearest, halves away from zero, saturating at the ends of `i64`.
fn div_round(n: i128, d: i128) -> i64 {
    let half = d / 2;
    let q = if n >= 0 { (n + half) / d } else { (n - half) / d };
    q.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

impl Add for Ticks {
    type Output = Ticks;
    fn add(self, other: Ticks) -> Ticks {
        Ticks(self.0.saturating_add(other.0))
    }
}

impl Sub for Ticks {
    type Output = Ticks;
    fn sub(self, other: Ticks) -> Ticks {
        Ticks(self.0.saturating_sub(other.0))
    }
}

/// Frames per second as a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRate {
    /// Frames …
    pub num: u32,
    /// … in this many seconds; never zero.
    pub den: u32,
}

impl FrameRate {
    /// The rates that cameras, phones and broadcasters use, slowest first.
    pub const NOMINAL: [FrameRate; 14] = [
        FrameRate::of(5, 1),
        FrameRate::of(10, 1),
        FrameRate::of(12, 1),
        FrameRate::of(15, 1),
        FrameRate::of(20, 1),
        FrameRate::of(24_000, 1001),
        FrameRate::of(24, 1),
        FrameRate::of(25, 1),
        FrameRate::of(30_000, 1001),
        FrameRate::of(30, 1),
        FrameRate::of(48, 1),
        FrameRate::of(50, 1),
        FrameRate::of(60_000, 1001),
        FrameRate::of(60, 1),
    ];

    const fn of(num: u32, den: u32) -> Self {
        Self { num, den }
    }

    /// Frames per second, for texts, rate caps and levels.
    pub fn per_second(self) -> f64 {
        f64::from(self.num) / f64::from(self.den.max(1))
    }

    /// Keeping one frame of so many brings the rate down to `most` frames per second, give or take 5 %; at least 1.
    pub fn steps_to(self, most: u32) -> u32 {
        (self.per_second() / (f64::from(most.max(1)) * 1.05)).ceil().max(1.0) as u32
    }
}

impl fmt::Display for FrameRate {
    /// Three decimals, as FRAME-RATE wants (RFC 8216bis §4.4.6.2).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.per_second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rescaling_up_and_back_is_exact(t in -1_000_000_000_000i64..1_000_000_000_000, from in 1u32..200_000, k in 1u32..1000) {
            let a = Timescale::new(from).unwrap();
            let b = Timescale::new(from * k).unwrap();
            prop_assert_eq!(Ticks(t).rescale(a, b).rescale(b, a), Ticks(t));
        }

        #[test]
        fn rescaling_never_panics(t in any::<i64>(), from in 1u32.., to in 1u32..) {
            let _ = Ticks(t).rescale(Timescale::new(from).unwrap(), Timescale::new(to).unwrap());
        }
    }
}
