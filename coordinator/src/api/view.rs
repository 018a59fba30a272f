//! An asset as callers see it.

use std::collections::BTreeMap;

use http::HeaderValue;
use jiff::Timestamp;
use reelmill_media::captions::{Captions, CaptionsKind, Language};
use reelmill_media::ids::{AssetId, RenditionId};
use reelmill_media::index::Container;
use reelmill_media::presentation::Edition;
use reelmill_media::profile::Profile;
use reelmill_media::task::{Failure, FailureCode};
use serde::Serialize;

use crate::progress::Progress;
use crate::state::{Abandoned, Asset, Job, RenditionKind, Stage, StageName, Standing};

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
    /// Grows with each profile by which it is published again.
    edition: Edition,
    /// What viewers have while another edition is made.
    standing: Option<StandingView<'a>>,
    /// The last try at another edition, if it came to nothing.
    abandoned: Option<AbandonedView<'a>>,
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
struct StandingView<'a> {
    edition: Edition,
    profile: &'a Profile,
}

#[derive(Debug, Serialize)]
struct AbandonedView<'a> {
    edition: Edition,
    profile: &'a Profile,
    error: ErrorView<'a>,
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
    /// Of all segments made.
    bytes: u64,
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

impl<'a> ErrorView<'a> {
    fn of(Failure { code, reason }: &'a Failure) -> ErrorView<'a> {
        ErrorView { code: *code, reason }
    }
}

#[derive(Debug, Serialize)]
struct TimingsView {
    received_at: Option<Timestamp>,
    playable_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
}

impl AssetView<'_> {
    /// What a listener was told before does not become less: what running tasks say is an estimate, and they may fail.
    pub(super) fn not_before(mut self, told: &mut Told) -> Self {
        if told.edition != self.edition || told.renditions.len() != self.renditions.len() {
            let whole = if told.edition == self.edition { told.whole } else { 0.0 };
            *told = Told { edition: self.edition, whole, renditions: vec![0.0; self.renditions.len()] };
        }
        let parts = self.renditions.iter_mut().map(|rendition| &mut rendition.progress);
        let all = [&mut told.whole].into_iter().chain(&mut told.renditions);
        for (told, now) in all.zip([&mut self.progress].into_iter().chain(parts)) {
            *now = now.max(*told);
            *told = *now;
        }
        self
    }
}

/// What a listener was told of an edition's progress, 0 to 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Told {
    pub(super) edition: Edition,
    pub(super) whole: f64,
    /// In the asset's order.
    pub(super) renditions: Vec<f64>,
}

/// Shows an asset; `progress` says how far its job is with what is in work.
pub(super) fn show<'a>(
    asset: &'a Asset,
    progress: Option<&Progress>,
    edge_url: Option<&str>,
) -> AssetView<'a> {
    let id = asset.id;
    let path = format!("/assets/{id}/index.m3u8");
    let renditions = asset.renditions.iter().map(|rendition| RenditionView {
        id: &rendition.planned.id,
        kind: rendition.planned.kind,
        language: rendition.planned.language.as_deref(),
        codecs: rendition.codecs.as_deref(),
        encoders: rendition.encoders.iter().map(|encoder| encoder.name.as_str()).collect(),
        bytes: rendition.bytes,
        concealed: rendition.concealed,
        progress: planned(asset)
            * match progress.and_then(|progress| progress.renditions.get(&rendition.planned.id)) {
                Some(progress) => *progress,
                None => part(u64::from(rendition.made), u64::from(rendition.planned.segments)),
            },
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
        edition: asset.edition,
        standing: asset
            .standing
            .as_ref()
            .map(|Standing { edition, profile, .. }| StandingView { edition: *edition, profile }),
        abandoned: asset.abandoned.as_ref().map(|Abandoned { edition, profile, failure }| AbandonedView {
            edition: *edition,
            profile,
            error: ErrorView::of(failure),
        }),
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
        progress: planned(asset) * progress.map_or_else(|| done(asset), |progress| progress.whole),
        playback: PlaybackView {
            watch: format!("/watch/{id}"),
            url: edge_url.map(|edge| format!("{}{path}", edge.trim_end_matches('/'))),
            path,
        },
        error: asset.stage.failure().map(ErrorView::of),
        timings: TimingsView {
            received_at: asset.timings.received_at,
            playable_at: asset.timings.playable_at,
            completed_at: asset.timings.completed_at,
        },
    }
}

/// How much of the source is planned.
fn planned(asset: &Asset) -> f64 {
    match &asset.stage {
        Stage::Processing { job: Job { growth: Some(growth), .. }, .. } => {
            part(growth.bytes, asset.upload.length.unwrap_or(asset.upload.bytes))
        }
        Stage::Uploading
        | Stage::Queued { .. }
        | Stage::Indexing { .. }
        | Stage::Processing { .. }
        | Stage::Ready { .. }
        | Stage::Failed { .. }
        | Stage::Deleted { .. } => 1.0,
    }
}

/// Work done by its cost.
fn done(asset: &Asset) -> f64 {
    match &asset.stage {
        Stage::Uploading | Stage::Queued { .. } | Stage::Indexing { .. } => 0.0,
        Stage::Processing { job, .. } => part(job.done_cost_ms, job.cost_ms),
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
