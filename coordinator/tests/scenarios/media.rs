//! A source that never was, and what a worker would make of it.

use bytes::Bytes;
use reelmill_media::ids::RenditionId;
use reelmill_media::index::{
    AudioTrack, CodecSetup, Colour, Container, Orientation, Picture, Sample, SourceIndex, VideoTrack,
};
use reelmill_media::keys::BlobKind;
use reelmill_media::plan::Plan;
use reelmill_media::segment::{InitSegment, Segment};
use reelmill_media::task::{RenditionOutput, Work};
use reelmill_media::time::{Ticks, Timescale};
use reelmill_platform::store::Store;

/// The index of so many seconds of 1280×720 at 30 fps with sound at 48 kHz.
pub fn index(seconds: u32) -> SourceIndex {
    let video = (0..i64::from(seconds) * 30).map(|n| Sample {
        offset: n as u64 * 1000,
        bytes: 1000,
        dts: Ticks(n * 3000),
        pts: Ticks(n * 3000),
        key: n % 30 == 0,
    });
    let audio = (0..i64::from(seconds) * 48_000 / 1024).map(|n| Sample {
        offset: 1_000_000_000 + n as u64 * 300,
        bytes: 300,
        dts: Ticks(n * 1024),
        pts: Ticks(n * 1024),
        key: true,
    });
    let always = Ticks(i64::MIN)..Ticks(i64::MAX);
    SourceIndex {
        container: Container::Mp4,
        video: VideoTrack {
            stream: 0,
            setup: CodecSetup { codec: "h264".into(), extradata: Vec::new() },
            timescale: Timescale::MPEG,
            picture: Picture {
                width: 1280,
                height: 720,
                sar_num: 1,
                sar_den: 1,
                orientation: Orientation::default(),
                colour: Colour::UNSPECIFIED,
            },
            samples: video.collect(),
            window: always.clone(),
            last_duration: Ticks(3000),
        },
        audio: Some(AudioTrack {
            stream: 1,
            setup: CodecSetup { codec: "aac".into(), extradata: Vec::new() },
            timescale: Timescale::new(48_000).unwrap(),
            sample_rate: 48_000,
            channels: 2,
            language: None,
            samples: audio.collect(),
            window: always,
        }),
    }
}

/// Does a planned task: every segment is stored, and says which one it is.
pub async fn make(store: &Store, plan: &Plan, work: &Work) -> Vec<RenditionOutput> {
    let mut outputs = Vec::new();
    match work {
        Work::Index => {}
        Work::Video { segments, rungs } => {
            for rung in rungs {
                let spans = segments.clone().map(|n| {
                    let span = &plan.video.segments[n as usize];
                    (n, span.start, span.end - span.start, span.frames.end - span.frames.start)
                });
                outputs.push(rendition(store, rung, plan.video.timescale, "avc1.64001f", spans).await);
            }
        }
        Work::Audio { segments } => {
            let audio = plan.audio.as_ref().unwrap();
            let spans = segments.clone().map(|n| {
                let (span, packets) = (audio.span(n as usize).unwrap(), &audio.segments[n as usize]);
                (n, span.start, span.end - span.start, packets.end - packets.start)
            });
            let clock = audio.timeline.sample_rate;
            outputs.push(rendition(store, &audio.rung.id, clock, "mp4a.40.2", spans).await);
        }
    }
    outputs
}

async fn rendition(
    store: &Store,
    id: &RenditionId,
    timescale: Timescale,
    codecs: &str,
    spans: impl Iterator<Item = (u32, Ticks, Ticks, u32)>,
) -> RenditionOutput {
    let text = Bytes::from(format!("init of {id}"));
    let bytes = text.len() as u64;
    let hash = store.put_blob(BlobKind::InitSegment, text).await.unwrap();
    let init = InitSegment { hash, bytes, timescale, codecs: codecs.into() };
    let mut segments = Vec::new();
    for (number, start, duration, frames) in spans {
        let text = Bytes::from(format!("segment {number} of {id}"));
        let bytes = text.len() as u64;
        let hash = store.put_blob(BlobKind::Segment, text).await.unwrap();
        segments.push(Segment { number, start, duration, frames, concealed: 0, bytes, hash });
    }
    RenditionOutput { rendition: id.clone(), init, segments }
}
