//! What tasks made, gathered in whatever order they report, and what can be shown of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{AssetId, RenditionId};
use crate::image::{Image, ImageKind};
use crate::plan::Plan;
use crate::presentation::{AudioRendition, Edition, Presentation, Run, Track, VideoRendition};
use crate::segment::{InitSegment, Segment};
use crate::task::RenditionOutput;

/// The outputs so far.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    renditions: BTreeMap<RenditionId, Parts>,
    images: BTreeMap<(ImageKind, u32), Image>,
}

#[derive(Debug, Clone, Default)]
struct Parts {
    /// Each encoder that made a part, with its init segment.
    encoders: Vec<(String, InitSegment)>,
    /// By number; which of the encoders made it.
    segments: BTreeMap<u32, (usize, Segment)>,
}

/// A task's output that cannot be part of its rendition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The same encoder has another init segment: another build of it, with which nothing may be mixed.
    #[error("rendition {0} was begun with another init segment of the same encoder")]
    Init(RenditionId),
    /// Players choose by the codec string, once for all segments.
    #[error("rendition {0} was begun with another clock or codec string")]
    Codecs(RenditionId),
}

impl Parts {
    fn check(&self, output: &RenditionOutput) -> Result<(), Misfit> {
        for (encoder, init) in &self.encoders {
            if *encoder == output.encoder && *init != output.init {
                return Err(Misfit::Init(output.rendition.clone()));
            }
            if (init.timescale, &init.codecs) != (output.init.timescale, &output.init.codecs) {
                return Err(Misfit::Codecs(output.rendition.clone()));
            }
        }
        Ok(())
    }

    fn add(&mut self, output: &RenditionOutput) {
        let known = self.encoders.iter().position(|(encoder, _)| *encoder == output.encoder);
        let encoder = known.unwrap_or_else(|| {
            self.encoders.push((output.encoder.clone(), output.init.clone()));
            self.encoders.len() - 1
        });
        for segment in &output.segments {
            self.segments.entry(segment.number).or_insert((encoder, *segment));
        }
    }

    /// The segments from the first on up to the first that is missing.
    fn track(&self, id: &RenditionId, planned: usize) -> Option<Track> {
        let mut runs: Vec<Run> = Vec::new();
        let mut segments = Vec::new();
        let mut last = None;
        for (number, (encoder, segment)) in (0u32..).zip(self.segments.values()) {
            if segment.number != number {
                break;
            }
            if last != Some(*encoder) {
                let (name, init) = self.encoders.get(*encoder)?;
                runs.push(Run { from: number, encoder: name.clone(), init: init.clone() });
                last = Some(*encoder);
            }
            segments.push(*segment);
        }
        let complete = segments.len() == planned;
        (!segments.is_empty()).then(|| Track { id: id.clone(), runs, segments, complete })
    }
}

impl Gathered {
    /// Adds one task's part. The same part twice changes nothing. Refused whole when it does not fit.
    pub fn add(&mut self, outputs: &[RenditionOutput], images: &[Image]) -> Result<(), Misfit> {
        for output in outputs {
            self.renditions.get(&output.rendition).map_or(Ok(()), |parts| parts.check(output))?;
        }
        for output in outputs {
            self.renditions.entry(output.rendition.clone()).or_default().add(output);
        }
        for image in images {
            self.images.entry((image.kind, image.frame)).or_insert(*image);
        }
        Ok(())
    }

    fn track(&self, id: &RenditionId, planned: usize) -> Option<Track> {
        self.renditions.get(id)?.track(id, planned)
    }

    /// What can be shown now, as a first edition. A storyboard is made of its thumbnails afterwards, and captions come from
    /// elsewhere.
    pub fn presentation(&self, asset: AssetId, plan: &Plan) -> Presentation {
        let pictures = plan.video.iter().flat_map(|video| {
            plan.ladder.lanes().flat_map(move |lane| {
                lane.iter().enumerate().filter_map(move |(n, rung)| {
                    Some(VideoRendition {
                        codec: rung.codec,
                        width: rung.width,
                        height: rung.height,
                        frame_rate: video.frame_rate,
                        lowest: n == 0,
                        track: self.track(&rung.id, video.segments.len())?,
                    })
                })
            })
        });
        let sounds = plan.audio.iter().filter_map(|audio| {
            Some(AudioRendition {
                codec: audio.rung.codec,
                channels: 2,
                source_track: audio.rung.track,
                language: audio.rung.language.clone(),
                track: self.track(&audio.rung.id, audio.segments.len())?,
            })
        });
        let (video, audio): (Vec<_>, Vec<_>) = (pictures.collect(), sounds.collect());
        let planned = plan.ladder.video.len() + plan.audio.len();
        let tracks = || video.iter().map(|r| &r.track).chain(audio.iter().map(|r| &r.track));
        let complete = tracks().count() == planned && tracks().all(|track| track.complete);
        let of_kind = |kind| self.images.values().filter(move |image| image.kind == kind).copied();
        let poster = best_poster(of_kind(ImageKind::Poster));
        // Tasks that were planned of a beginning have taken more than are wanted in the end.
        let wanted =
            plan.images.iter().flat_map(|images| &images.thumbnails).copied().collect::<BTreeSet<_>>();
        let thumbnails =
            of_kind(ImageKind::Thumbnail).filter(|image| wanted.contains(&image.frame)).collect();
        Presentation {
            asset,
            edition: Edition::default(),
            past: Vec::new(),
            complete,
            target_duration: plan.target_duration(),
            duration_micros: plan.duration_micros(),
            video,
            audio,
            poster,
            thumbnails,
            storyboard: None,
            captions: Vec::new(),
        }
    }
}

/// The earliest that shows at least half as much as any other: all are JPEGs of one size and quantiser, and one of a black
/// or blurred picture is short.
fn best_poster(posters: impl Iterator<Item = Image> + Clone) -> Option<Image> {
    let most = posters.clone().map(|poster| poster.bytes).max()?;
    posters.filter(|poster| poster.bytes >= most / 2).min_by_key(|poster| poster.frame)
}

impl Presentation {
    /// Something can be played: a picture where one is planned, and the beginning of every sound beside it.
    pub fn is_playable(&self, plan: &Plan) -> bool {
        (!self.video.is_empty() || plan.video.is_none()) && self.audio.len() == plan.audio.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BlobHash;

    #[test]
    fn a_poster_is_early_but_not_black() {
        let poster = |frame, bytes| Image {
            kind: ImageKind::Poster,
            frame,
            at_micros: 0,
            width: 2,
            height: 2,
            bytes,
            hash: BlobHash::of(b""),
        };
        let best = |posters: &[Image]| best_poster(posters.iter().copied()).map(|poster| poster.frame);
        assert_eq!(best(&[]), None);
        assert_eq!(best(&[poster(29, 900)]), Some(29));
        assert_eq!(best(&[poster(29, 20_000), poster(119, 39_000)]), Some(29), "as good as the other");
        assert_eq!(best(&[poster(29, 900), poster(119, 30_000), poster(239, 50_000)]), Some(119));
    }
}
