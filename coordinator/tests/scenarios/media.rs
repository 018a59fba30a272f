//! A source that never was, and what a worker would make of it.

use bytes::Bytes;
use reelmill_media::ids::RenditionId;
use reelmill_media::image::{Image, ImageKind};
use reelmill_media::index::{AudioTrack, CodecSetup, Container, Picture, Sample, SourceIndex, VideoTrack};
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
        // Between the frames of its time.
        offset: n as u64 * 640,
        bytes: 300,
        dts: Ticks(n * 1024),
        pts: Ticks(n * 1024),
        key: true,
    });
    let always = Ticks(i64::MIN)..Ticks(i64::MAX);
    SourceIndex {
        container: Container::Mp4,
        video: Some(VideoTrack {
            stream: 0,
            setup: CodecSetup::new("h264", []),
            timescale: Timescale::MPEG,
            picture: Picture::plain(1280, 720),
            samples: video.collect(),
            window: always.clone(),
            last_duration: Ticks(3000),
        }),
        audio: vec![AudioTrack {
            stream: 1,
            setup: CodecSetup::new("aac", []),
            timescale: Timescale::new(48_000).unwrap(),
            sample_rate: 48_000,
            channels: 2,
            language: None,
            samples: audio.collect(),
            window: always,
        }],
    }
}

/// What the first `bytes` of it settle.
pub fn beginning(seconds: u32, bytes: u64) -> SourceIndex {
    let mut index = index(seconds);
    let is_there = |sample: &Sample| sample.offset + u64::from(sample.bytes) <= bytes;
    if let Some(video) = &mut index.video {
        video.samples.retain(is_there);
    }
    for audio in &mut index.audio {
        audio.samples.retain(is_there);
    }
    index.settled()
}

/// The stills of a planned task.
pub async fn stills(store: &Store, plan: &Plan, work: &Work) -> Vec<Image> {
    let (Some(images), Work::Video { segments, rungs }) = (&plan.images, work) else { return Vec::new() };
    if !rungs.contains(&plan.ladder.video[0].id) {
        return Vec::new();
    }
    let video = plan.video.as_ref().unwrap();
    let frames = video.segments[segments.start as usize].frames.start
        ..video.segments[segments.end as usize - 1].frames.end;
    let (width, height) = images.thumbnail_size;
    let mut made = Vec::new();
    for frame in images.thumbnails.iter().copied().filter(|frame| frames.contains(frame)) {
        let mut jpeg = Vec::new();
        let picture = image::RgbImage::from_pixel(width, height, image::Rgb([frame as u8; 3]));
        image::codecs::jpeg::JpegEncoder::new(&mut jpeg).encode_image(&picture).unwrap();
        let bytes = jpeg.len() as u64;
        let hash = store.put_blob(BlobKind::Image, Bytes::from(jpeg)).await.unwrap();
        let at_micros = i64::from(frame) * 1_000_000 / 30;
        made.push(Image { kind: ImageKind::Thumbnail, frame, at_micros, width, height, bytes, hash });
    }
    made
}

/// Does a planned task: every segment is stored, and says which one it is.
pub async fn make(store: &Store, plan: &Plan, work: &Work) -> Vec<RenditionOutput> {
    let mut outputs = Vec::new();
    match work {
        Work::Index => {}
        Work::Video { segments, rungs } => {
            let video = plan.video.as_ref().unwrap();
            for rung in rungs {
                let spans = segments.clone().map(|n| {
                    let span = &video.segments[n as usize];
                    (n, span.start, span.end - span.start, span.frames.end - span.frames.start)
                });
                outputs.push(rendition(store, rung, video.timescale, "avc1.64001f", spans).await);
            }
        }
        Work::Audio { rendition: id, segments } => {
            let audio = plan.sound(id).unwrap();
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
        segments.push(Segment {
            number,
            start,
            duration,
            frames,
            concealed: 0,
            first_frame_bytes: 1,
            bytes,
            hash,
        });
    }
    RenditionOutput { rendition: id.clone(), encoder: "a test".into(), init, segments }
}
