//! Edit lists (ISO 14496-12 §8.6.6): where the presentation of a track begins and ends.

use std::ops::Range;

use reelmill_media::time::{Ticks, Timescale};

use super::read::{Cursor, Mp4Error};

/// Edits read of one list; the files that have more are not made to be played.
const MAX_EDITS: usize = 256;

/// What an edit list means for a track whose media is played once and in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    /// Added to media times to get presentation times, in ticks of the track.
    pub shift: Ticks,
    /// Only what lies here is presented, in ticks of the track, after the shift.
    pub window: (Ticks, Ticks),
}

impl Edit {
    /// No edit list: all is presented as it lies.
    pub const NONE: Edit = Edit { shift: Ticks::ZERO, window: (Ticks(i64::MIN), Ticks(i64::MAX)) };

    /// The window as a range.
    pub fn window(self) -> Range<Ticks> {
        self.window.0..self.window.1
    }

    /// Reads the body of `elst`. Empty edits at the start delay the track; the first media edit says where media
    /// begins and how much is shown. A further media edit that does not go on where the first ended would repeat or
    /// reorder media: then all from the first one's start on is shown.
    pub fn read(elst: &[u8], movie: Timescale, track: Timescale) -> Result<Edit, Mp4Error> {
        let mut c = Cursor::new(elst);
        let (version, _) = c.full()?;
        let count = c.count(if version == 1 { 20 } else { 12 })?.min(MAX_EDITS);
        let mut delay = Ticks::ZERO;
        let mut media: Option<(Ticks, Ticks)> = None;
        let mut endless = false;
        for _ in 0..count {
            let (duration, start) = if version == 1 {
                (c.u64()?, c.u64()? as i64)
            } else {
                (u64::from(c.u32()?), i64::from(c.i32()?))
            };
            c.skip(4)?;
            let length = Ticks(i64::try_from(duration).unwrap_or(i64::MAX)).rescale(movie, track);
            match &mut media {
                None if start < 0 => delay = delay + length,
                None => {
                    endless = duration == 0;
                    media = Some((Ticks(start), length));
                }
                Some((first, total)) if start >= 0 && (*first + *total - Ticks(start)).0.abs() <= 1 => {
                    *total = *total + length;
                }
                Some(_) => endless = true,
            }
        }
        let Some((start, length)) = media else { return Ok(Edit::NONE) };
        let end = if endless { Ticks(i64::MAX) } else { delay + length };
        Ok(Edit { shift: delay - start, window: (delay, end) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elst(edits: &[(u32, i32)]) -> Vec<u8> {
        let mut out = vec![0; 4];
        out.extend((edits.len() as u32).to_be_bytes());
        for (duration, start) in edits {
            out.extend(duration.to_be_bytes());
            out.extend(start.to_be_bytes());
            out.extend([0, 1, 0, 0]);
        }
        out
    }

    #[test]
    fn delays_starts_and_ends() {
        let (movie, track) = (Timescale::new(1000).unwrap(), Timescale::new(90_000).unwrap());
        let read = |edits: &[(u32, i32)]| Edit::read(&elst(edits), movie, track).unwrap();
        let ticks = |a, b| (Ticks(a), Ticks(b));
        assert_eq!(read(&[(2000, 3000)]), Edit { shift: Ticks(-3000), window: ticks(0, 180_000) });
        assert_eq!(
            read(&[(1000, -1), (2000, 0)]),
            Edit { shift: Ticks(90_000), window: ticks(90_000, 270_000) }
        );
        assert_eq!(read(&[(0, 1024)]), Edit { shift: Ticks(-1024), window: ticks(0, i64::MAX) });
        assert_eq!(read(&[(1000, 0), (1000, 90_000)]).window, ticks(0, 180_000));
        assert_eq!(read(&[(1000, 0), (1000, 0)]).window, ticks(0, i64::MAX));
        assert_eq!(read(&[]), Edit::NONE);
        assert!(Edit::read(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], movie, track).is_err());
    }
}
