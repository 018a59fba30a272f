//! Which frames become stills.

use serde::{Deserialize, Serialize};

use super::VideoPlan;
use crate::ladder::{Ladder, Rung};
use crate::time::Ticks;
use crate::timeline::VideoTimeline;

/// Thumbnails of one asset, at most.
const MAX_THUMBNAILS: i64 = 100;
/// Thumbnails are no nearer to each other than this, in milliseconds.
const THUMBNAIL_EVERY_MS: i64 = 1000;
/// Short side of a thumbnail in pixels.
const THUMBNAIL_SIDE: u32 = 90;
/// Short side of a poster in pixels, at most.
const POSTER_SIDE: u32 = 720;

/// Segments of which the last frame may be the poster, too: about 4, 8 and 12 seconds in.
const LATER_POSTERS: [usize; 3] = [2, 3, 4];

/// The stills of an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePlan {
    /// The last frame of the first segment, about a second in, where most clips show what they are about; taken from
    /// the first codec's highest rung.
    pub poster: PlannedImage,
    /// Frames that become posters as well. One of them is shown where the first is black or as good as that.
    #[serde(default)]
    pub later_posters: Vec<u32>,
    /// Frames evenly spread over the presentation; taken from the lowest rung.
    pub thumbnails: Vec<u32>,
    /// Size of a thumbnail in pixels, width first.
    pub thumbnail_size: (u32, u32),
}

/// One still to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedImage {
    /// The presented frame, counted from 0.
    pub frame: u32,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

impl ImagePlan {
    pub(super) fn of(ladder: &Ladder, video: &VideoPlan, timeline: &VideoTimeline) -> Option<ImagePlan> {
        let lane = ladder.lanes().next()?;
        let (lowest, highest) = (lane.first()?, lane.last()?);
        let last_of = |segment: usize| video.segments.get(segment)?.frames.end.checked_sub(1);
        let poster = last_of(0)?;
        let later_posters = LATER_POSTERS.into_iter().filter_map(last_of).collect();
        let (width, height) = shrunk(highest, POSTER_SIDE);
        // Doubled, so that those of a whole are among those of its beginnings.
        let least = Ticks::from_millis(THUMBNAIL_EVERY_MS, timeline.timescale).max(Ticks(1));
        let mut doubled = std::iter::successors(Some(least), |every| Some(Ticks(every.0.saturating_mul(2))));
        let every = doubled
            .find(|every| every.0.saturating_mul(MAX_THUMBNAILS) >= timeline.end.0)
            .unwrap_or(timeline.end);
        let mut thumbnails = Vec::new();
        let mut next = Ticks::ZERO;
        for (n, frame) in (0u32..).zip(&timeline.frames) {
            if frame.pts >= next {
                thumbnails.push(n);
                next = Ticks((frame.pts.0 / every.0 + 1) * every.0);
            }
        }
        let poster = PlannedImage { frame: poster, width, height };
        Some(ImagePlan { poster, later_posters, thumbnails, thumbnail_size: shrunk(lowest, THUMBNAIL_SIDE) })
    }
}

/// The rung's picture with a short side of `side` pixels, or as it is where that is smaller.
fn shrunk(rung: &Rung, side: u32) -> (u32, u32) {
    let short = rung.width.min(rung.height);
    let scaled = |n: u32| (n * side.min(short) / short / 2 * 2).max(2);
    (scaled(rung.width), scaled(rung.height))
}
