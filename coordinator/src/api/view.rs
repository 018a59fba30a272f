//! An asset as callers see it.

use std::collections::BTreeMap;

use http::HeaderValue;
use jiff::Timestamp;
use reelmill_media::captions::{Captions, CaptionsKind, Language};
use reelmill_media::ids::{AssetId, RenditionId};
use reelmill_media::index::Container;
use reelmill_media::profile::Profile;
use reelmill_media::task::{Failure, FailureCode};
use serde::Serialize;

use crate::catalog::Sight;
use crate::state::{Asset, RenditionKind, Stage, StageName};

/// The JSON of an asset.
#[derive(Debug, Serialize)]
pub(super) struct AssetView<'a> {
    id: AssetId,
    name: Option<&'a str>,
    description: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
    state: StageName,
    playable: bool,
    created_at: Timestamp,
    profile: &'a Profile,
    upload: UploadView,
    duration_seconds: Option<f64>,
    source: Option<SourceView<'a>>,
    renditions: Vec<RenditionView<'a>>,
    captions: Vec<CaptionsView<'a>>,
    /// 0 to 1.
    progress: f64,
    playback: PlaybackView,
    error: Option<ErrorView<'a>>,
    timings: TimingsView,
}

#[derive(Debug, Serialize)]
struct UploadView {
    bytes: u64,
    length: Option<u64>,
}

#[derive(Debug, Serialize)]
struct SourceView<'a> {
    container: Container,
    video_codec: Option<&'a str>,
    /// Of the first sound track.
    audio_codec: Option<&'a str>,
    audio_tracks: usize,
    width: Option<u32>,
    height: Option<u32>,
    frame_rate: Option<f64>,
}

#[derive(Debug, Serialize)]
struct RenditionView<'a> {
    id: &'a RenditionId,
    #[serde(flatten)]
    kind: RenditionKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
    codecs: Option<&'a str>,
    encoders: Vec<&'a str>,
    /// Frames (of sound, packets) of the source that could not be decoded and were filled in.
    concealed: u32,
    /// 0 to 1.
    progress: f64,
    /// Segments made.
    segments: u32,
    /// Segments there will be.
    segments_planned: u32,
}

/// The JSON of captions.
#[derive(Debug, Serialize)]
pub(super) struct CaptionsView<'a> {
    language: &'a Language,
    name: &'a str,
    default: bool,
    kind: CaptionsKind,
    bytes: u64,
    /// Where the text is.
    path: String,
}

impl<'a> CaptionsView<'a> {
    /// Of this asset's captions.
    pub(super) fn of(asset: AssetId, captions: &'a Captions) -> CaptionsView<'a> {
        let Captions { language, name, default, kind, bytes, hash: _ } = captions;
        let path = format!("/v1/assets/{asset}/captions/{language}");
        CaptionsView { language, name, default: *default, kind: *kind, bytes: *bytes, path }
    }
}

#[derive(Debug, Serialize)]
struct PlaybackView {
    path: String,
    watch: String,
    url: Option<String>,
}

#[derive(Debug, Serialize)]
struct ErrorView<'a> {
    code: FailureCode,
    reason: &'a str,
}

#[derive(Debug, Serialize)]
struct TimingsView {
    received_at: Option<Timestamp>,
    playable_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
}

impl AssetView<'_> {
    /// What a listener was told before does not become less: what running tasks say is an estimate.
    pub(super) fn not_before(mut self, told: &mut f64) -> Self {
        self.progress = self.progress.max(*told);
        *told = self.progress;
        self
    }
}

/// Shows an asset; `sight` adds how far its running tasks are.
pub(super) fn show<'a>(asset: &'a Asset, sight: Option<&Sight>, edge_url: Option<&str>) -> AssetView<'a> {
    let id = asset.id;
    let path = format!("/assets/{id}/index.m3u8");
    let renditions = asset.renditions.iter().map(|rendition| RenditionView {
        id: &rendition.planned.id,
        kind: rendition.planned.kind,
        language: rendition.planned.language.as_deref(),
        codecs: rendition.codecs.as_deref(),
        encoders: rendition.encoders.iter().map(|encoder| encoder.name.as_str()).collect(),
        concealed: rendition.concealed,
        progress: part(u64::from(rendition.made), u64::from(rendition.planned.segments)),
        segments: rendition.made,
        segments_planned: rendition.planned.segments,
    });
    AssetView {
        id,
        name: asset.name.as_deref(),
        description: asset.about.description.as_deref(),
        metadata: &asset.about.metadata,
        state: asset.stage.name(),
        playable: asset.is_playable(),
        created_at: asset.created_at,
        profile: &asset.profile,
        upload: UploadView { bytes: asset.upload.bytes, length: asset.upload.length },
        duration_seconds: asset.facts.as_ref().map(|facts| facts.duration_micros as f64 / 1e6),
        source: asset.facts.as_ref().map(|facts| {
            let video = facts.video.as_ref();
            SourceView {
                container: facts.container,
                video_codec: video.map(|video| video.codec.as_str()),
                audio_codec: facts.audio_codecs.first().map(String::as_str),
                audio_tracks: facts.audio_codecs.len(),
                width: video.map(|video| video.width),
                height: video.map(|video| video.height),
                frame_rate: video.map(|video| video.frame_rate),
            }
        }),
        renditions: renditions.collect(),
        captions: asset.captions.iter().map(|captions| CaptionsView::of(id, captions)).collect(),
        progress: progress(asset, sight),
        playback: PlaybackView {
            watch: format!("/watch/{id}"),
            url: edge_url.map(|edge| format!("{}{path}", edge.trim_end_matches('/'))),
            path,
        },
        error: match &asset.stage {
            Stage::Failed { failure: Failure { code, reason }, .. } => {
                Some(ErrorView { code: *code, reason })
            }
            Stage::Uploading
            | Stage::Queued { .. }
            | Stage::Indexing { .. }
            | Stage::Processing { .. }
            | Stage::Ready { .. }
            | Stage::Deleted { .. } => None,
        },
        timings: TimingsView {
            received_at: asset.timings.received_at,
            playable_at: asset.timings.playable_at,
            completed_at: asset.timings.completed_at,
        },
    }
}

/// Work done by its cost; tasks in flight count as far as they say, at the mean cost.
fn progress(asset: &Asset, sight: Option<&Sight>) -> f64 {
    match &asset.stage {
        Stage::Uploading | Stage::Queued { .. } | Stage::Indexing { .. } => 0.0,
        Stage::Processing { job, .. } => {
            let running: f64 =
                sight.map_or(0.0, |s| s.running.values().map(|permille| f64::from(*permille) / 1000.0).sum());
            let running = running / f64::from(job.tasks.max(1));
            let done = part(job.done_cost_ms, job.cost_ms);
            // What is in flight is no more than what is left.
            done + running.min((1.0 - done) * 0.99)
        }
        Stage::Ready { .. } => 1.0,
        Stage::Failed { .. } | Stage::Deleted { .. } => {
            let (made, planned) = asset.renditions.iter().fold((0, 0), |(made, planned), r| {
                (made + u64::from(r.made), planned + u64::from(r.planned.segments))
            });
            part(made, planned)
        }
    }
}

fn part(of: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (of as f64 / whole as f64).min(1.0) }
}

/// An asset's id as a header.
pub(super) fn header(id: &AssetId) -> HeaderValue {
    // Letters and digits only.
    HeaderValue::try_from(id.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}
