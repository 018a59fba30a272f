//! The typed, numbered description of all renditions published together; playlists are texts made of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AssetId, RenditionId};
use crate::plan::Plan;
use crate::segment::{InitSegment, Segment};
use crate::task::RenditionOutput;
use crate::time::FrameRate;

/// Everything that viewers can see of an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presentation {
    /// Whose.
    pub asset: AssetId,
    /// Every segment of every rendition is there.
    pub complete: bool,
    /// EXT-X-TARGETDURATION of all playlists, in seconds. Known from the plan, so it never changes.
    pub target_duration: u32,
    /// Duration of the picture in microseconds.
    pub duration_micros: i64,
    /// Video renditions with at least one segment, lowest first.
    pub video: Vec<VideoRendition>,
    /// The sound, once it has a segment.
    pub audio: Option<AudioRendition>,
}

/// One encoded video track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoRendition {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Mean frame rate.
    pub frame_rate: FrameRate,
    /// Its segments.
    pub track: Track,
}

/// One encoded audio track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioRendition {
    /// Channels.
    pub channels: u16,
    /// Its segments.
    pub track: Track,
}

/// What all renditions have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// Name.
    pub id: RenditionId,
    /// Init segment.
    pub init: InitSegment,
    /// From number 0 on, without a gap; never empty.
    pub segments: Vec<Segment>,
    /// No segment is missing.
    pub complete: bool,
}

/// Gathers what tasks made, in whatever order they report.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    tracks: BTreeMap<RenditionId, (InitSegment, BTreeMap<u32, Segment>)>,
}

/// A task's output that cannot be part of its rendition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rendition {rendition} was begun with another init segment than this output has")]
pub struct InitMismatch {
    /// Which rendition.
    pub rendition: RenditionId,
}

impl Gathered {
    /// Adds one task's part. The same part twice changes nothing. Refused whole when its init segment differs from
    /// the one the rendition was begun with.
    pub fn add(&mut self, outputs: &[RenditionOutput]) -> Result<(), InitMismatch> {
        let differs =
            |o: &&RenditionOutput| self.tracks.get(&o.rendition).is_some_and(|(init, _)| *init != o.init);
        if let Some(output) = outputs.iter().find(differs) {
            return Err(InitMismatch { rendition: output.rendition.clone() });
        }
        for output in outputs {
            let (_, segments) = self
                .tracks
                .entry(output.rendition.clone())
                .or_insert_with(|| (output.init.clone(), BTreeMap::new()));
            for segment in &output.segments {
                segments.entry(segment.number).or_insert(*segment);
            }
        }
        Ok(())
    }

    fn track(&self, id: &RenditionId, planned: usize) -> Option<Track> {
        let (init, segments) = self.tracks.get(id)?;
        let prefix: Vec<Segment> =
            (0u32..).zip(segments.values()).take_while(|(n, s)| *n == s.number).map(|(_, s)| *s).collect();
        let complete = prefix.len() == planned;
        (!prefix.is_empty()).then(|| Track { id: id.clone(), init: init.clone(), segments: prefix, complete })
    }

    /// What can be shown now: of each rendition the segments from the first on up to the first that is missing.
    pub fn presentation(&self, asset: AssetId, plan: &Plan) -> Presentation {
        let video: Vec<VideoRendition> = plan
            .ladder
            .video
            .iter()
            .filter_map(|rung| {
                let track = self.track(&rung.id, plan.video.segments.len())?;
                Some(VideoRendition {
                    width: rung.width,
                    height: rung.height,
                    frame_rate: plan.video.frame_rate,
                    track,
                })
            })
            .collect();
        let audio = plan.audio.as_ref().and_then(|audio| {
            let track = self.track(&audio.rung.id, audio.segments.len())?;
            Some(AudioRendition { channels: 2, track })
        });
        let complete = video.len() == plan.ladder.video.len()
            && video.iter().all(|r| r.track.complete)
            && audio.as_ref().map(|a| a.track.complete) == plan.audio.as_ref().map(|_| true);
        Presentation {
            asset,
            complete,
            target_duration: plan.target_duration(),
            duration_micros: plan.duration_micros(),
            video,
            audio,
        }
    }
}

impl Presentation {
    /// Something can be played: a picture, and the sound if there is to be any.
    pub fn is_playable(&self, plan: &Plan) -> bool {
        !self.video.is_empty() && (self.audio.is_some() || plan.audio.is_none())
    }

    /// All tracks, video first.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.video.iter().map(|r| &r.track).chain(self.audio.iter().map(|r| &r.track))
    }
}
