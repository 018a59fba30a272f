//! Hardware encoders are used when they have proven themselves, and what they fail at is made in software.
//!
//! The trials are those of this machine's own libav and devices. Only misbehaviour is made: by libx264 with a fault.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/product.rs"]
mod product;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use product::{Product, index_task, put_source};
use prometheus::{Registry, TextEncoder};
use reelmill_av::{Fault, VideoEngine};
use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_media::codec::VideoCodec;
use reelmill_media::profile::Profile;
use reelmill_media::task::{Outcome, RenditionOutput, Task, TaskNumber, Work};
use reelmill_worker::child::Nursery;
use reelmill_worker::metrics::Metrics;
use reelmill_worker::probe::ready::Encoders;
use reelmill_worker::probe::{Finding, Prober, Ready, Verdict};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const WORKER: &str = env!("CARGO_BIN_EXE_reelmill-worker");

/// For a trial that ends by itself: long enough for any machine.
const PATIENT: Duration = Duration::from_secs(120);

/// Memory that a child may take, in bytes.
const MEMORY: u64 = 2 << 30;

/// A frame in the middle of a chunk.
const MIDDLE: u32 = 20;

fn nursery() -> Nursery {
    Nursery::of(WORKER.into())
}

fn refusal(verdict: Verdict) -> String {
    match verdict {
        Verdict::Refused { reason } => reason,
        Verdict::Ready(_) | Verdict::NotBuilt => panic!("not refused: {verdict:?}"),
    }
}

#[test]
fn every_candidate_of_this_machine_is_ready_or_refused_with_a_reason_and_nothing_else_is_said() {
    let output = Command::new(WORKER).args(["probe", "--json"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let encoders = report["encoders"].as_array().unwrap();
    let found = |name: &str| encoders.iter().find(|e| e["encoder"] == name).unwrap();
    assert_eq!(encoders.len(), 3 + 18);
    for name in ["libx264", "libx265", "libsvtav1"] {
        assert_eq!(found(name)["verdict"], "ready", "{}", found(name));
    }
    for encoder in encoders {
        match encoder["verdict"].as_str().unwrap() {
            "ready" => assert!(!encoder["sizes"].as_array().unwrap().is_empty()),
            "refused" => assert!(!encoder["reason"].as_str().unwrap().is_empty()),
            "not_built" => assert_ne!(encoder["family"], "software"),
            other => panic!("{other}"),
        }
    }
    if !Path::new("/dev/dri").exists() {
        for name in ["h264_vaapi", "hevc_vaapi", "h264_qsv", "hevc_qsv"] {
            if found(name)["verdict"] != "not_built" {
                assert_eq!(found(name)["reason"], "no render node: /dev/dri does not exist");
            }
        }
    }
}

#[test]
fn the_table_for_people_names_every_encoder_once() {
    let output = Command::new(WORKER).arg("probe").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    let table = String::from_utf8(output.stdout).unwrap();
    for name in ["libx264 ", "libx265 ", "libsvtav1 ", "h264_nvenc", "av1_videotoolbox"] {
        assert_eq!(table.matches(name).count(), 1, "{name} in\n{table}");
    }
}

#[tokio::test]
async fn an_encoder_that_misbehaves_is_refused_with_its_reason() {
    let prober = Prober::of(WORKER.into(), PATIENT);
    let sound = prober.prove(VideoEngine::Faulty(Fault::None)).await;
    assert!(matches!(sound, Verdict::Ready(_)), "{sound:?}");
    for (fault, part) in [
        (Fault::FailsAt(3), "faulty encoder"),
        (Fault::Loses, "9 frames came out for 10"),
        (Fault::Green, "its picture is not the one that went in"),
        (Fault::OtherProfile, "its stream is avc1.4d"),
        (Fault::CrashesAt(3), "it took its process down (signal: 6 (SIGABRT)"),
    ] {
        let reason = refusal(prober.prove(VideoEngine::Faulty(fault)).await);
        assert!(reason.contains(part), "{fault:?}: {reason}");
    }
    let hasty = Prober::of(WORKER.into(), Duration::from_secs(3));
    let reason = refusal(hasty.prove(VideoEngine::Faulty(Fault::HangsAt(3))).await);
    assert_eq!(reason, "it did not finish within 3 s and was stopped");
}

/// A clip in a store, indexed and planned.
struct Title {
    product: Product,
    video: Task,
}

impl Title {
    async fn new(hardware: bool) -> Self {
        let product = Product::new();
        let bytes = Bytes::from(std::fs::read(fixture(Kind::Landscape).path).unwrap());
        let task = index_task(put_source(&product.store, bytes).await);
        let child = nursery().start().unwrap();
        let (indexed, _) = product.kitchen(MEMORY, None).perform(&task, child, |_| {}).await;
        let Outcome::Indexed { index, .. } = indexed else { panic!("{indexed:?}") };
        let (plan, recipe) = product.plan(index, &Profile { hardware, ..Profile::default() }).await.unwrap();
        // The longest segment and the one before, so that a fault in the middle comes after a segment is out.
        let segments = plan.video.as_ref().unwrap().segments.len() as u32;
        let rungs = plan.ladder.video.iter().map(|rung| rung.id.clone()).collect();
        let work = Work::Video { segments: 0..segments, rungs };
        Self { product, video: Task { number: TaskNumber::planned(0), recipe: Some(recipe), work, ..task } }
    }

    async fn made(&self, encoders: Option<Encoders>) -> Vec<RenditionOutput> {
        let child = nursery().start().unwrap();
        match self.product.kitchen(MEMORY, encoders).perform(&self.video, child, |_| {}).await {
            (Outcome::Made { outputs, .. }, _) => outputs,
            other => panic!("{other:?}"),
        }
    }
}

/// A worker that believes this encoder to be ready.
fn with(fault: Fault, sessions: u32) -> (Encoders, Registry) {
    let registry = Registry::new();
    let encoders = Encoders::new(nursery(), Metrics::new(&registry).unwrap());
    let engine = VideoEngine::Faulty(fault);
    let ready =
        Ready { engine, version: None, sizes: vec![(16, 16), (3840, 2160)], sessions: Some(sessions) };
    encoders.learn(&Finding::of(engine, Verdict::Ready(ready)));
    (encoders, registry)
}

#[tokio::test]
async fn a_task_uses_hardware_only_where_its_ladder_says_so() {
    for (hardware, encoder) in [(true, "faulty-"), (false, "libx264")] {
        let title = Title::new(hardware).await;
        let (encoders, _) = with(Fault::None, 8);
        let made = title.made(Some(encoders)).await;
        assert!(made.iter().all(|output| output.encoder.starts_with(encoder)), "{made:?}");
    }
}

#[tokio::test]
async fn parameter_sets_that_come_in_the_stream_alone_make_the_same_segments() {
    let title = Title::new(true).await;
    let (ahead, _) = with(Fault::None, 8);
    let (inside, _) = with(Fault::SetsInStream, 8);
    assert!(title.made(Some(inside.clone())).await == title.made(Some(ahead)).await);
    assert_eq!(inside.advertised().len(), 1, "it was used");
}

#[tokio::test]
async fn what_hardware_fails_at_is_made_whole_in_software() {
    let title = Title::new(true).await;
    let software = title.made(None).await;
    let frames: u32 = software[0].segments.iter().map(|s| s.frames).sum();
    assert!(frames > MIDDLE && software[0].segments.len() > 1 && software[0].encoder == "libx264");
    for fault in [
        Fault::FailsAt(MIDDLE),
        Fault::CrashesAt(frames - 1),
        Fault::HangsAt(MIDDLE),
        Fault::Loses,
        Fault::OtherProfile,
    ] {
        let (encoders, _) = with(fault, 8);
        let made = title.made(Some(encoders.clone())).await;
        assert!(made == software, "{fault:?} left something behind");
        assert_eq!(encoders.advertised(), [], "{fault:?} is still believed");
    }
}

#[tokio::test]
async fn a_device_is_not_asked_for_more_sessions_than_it_has() {
    let title = Title::new(true).await;
    let (encoders, _) = with(Fault::None, 3);
    let small = [(640, 360), (854, 480)];
    let first = encoders.reserve(VideoCodec::H264, &small).unwrap();
    assert!(encoders.reserve(VideoCodec::H264, &small).is_none(), "one of three is left");
    assert!(encoders.reserve(VideoCodec::H264, &[(4096, 2160)]).is_none(), "larger than proven");
    assert!(encoders.reserve(VideoCodec::Hevc, &[(640, 360)]).is_none(), "not its codec");
    // All sessions taken, a task that could use it is done in software, at once.
    let second = encoders.reserve(VideoCodec::H264, &[(640, 360)]).unwrap();
    assert!(title.made(Some(encoders.clone())).await.iter().all(|output| output.encoder == "libx264"));
    drop((first, second));
    assert!(encoders.reserve(VideoCodec::H264, &small).is_some());
}

#[tokio::test]
async fn an_encoder_that_failed_is_tried_again_but_not_for_ever() {
    // It passes every trial, which is shorter, and fails in work.
    let (encoders, registry) = with(Fault::FailsAt(MIDDLE), 8);
    let engine = VideoEngine::Faulty(Fault::FailsAt(MIDDLE));
    let metric = |line: &str| TextEncoder::new().encode_to_string(&registry.gather()).unwrap().contains(line);
    let stop = CancellationToken::new();
    let watching = tokio::spawn(encoders.clone().watch(Prober::of(WORKER.into(), PATIENT), stop.clone()));
    let ready = || encoders.advertised().iter().any(|e| e.encoder == engine.name());
    let mut failures = 0;
    while let Some(reserved) =
        encoders.reserve(VideoCodec::H264, &[(256, 144)]).filter(|r| r.engine() == engine)
    {
        assert!(metric(r#"reelmill_worker_encoder_ready{codec="h264",family="software"} 1"#));
        reserved.failed();
        failures += 1;
        assert!(!ready());
        assert!(metric(r#"reelmill_worker_encoder_ready{codec="h264",family="software"} 0"#));
        if failures < 3 {
            let again = async {
                while !ready() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(PATIENT, again).await.expect("it is tried again");
        }
    }
    assert_eq!(failures, 3);
    stop.cancel();
    watching.await.unwrap();
}
