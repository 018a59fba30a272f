//! A child that dies, or takes more than it may, ends its job with the right code and leaves nothing behind.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

mod harness;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use harness::Title;
use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_media::keys::BlobKind;
use reelmill_media::source::{Block, Source, SourceRef};
use reelmill_media::task::{Failure, FailureCode, Work};
use reelmill_platform::store::Store;
use reelmill_worker::child::{Bounds, Made, Nursery};
use reelmill_worker::exec::protocol::{FromChild, Job, encode_message};
use reelmill_worker::source_reader::{Blocks, SourceReader};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;

/// Bounds that no job here comes near.
const AMPLE: Bounds = Bounds { time: Duration::from_secs(60), memory: 8 << 30, output: 1 << 30 };

/// A source in a store, work for it, and children that leave their process ids.
struct Scene {
    folder: tempfile::TempDir,
    source: SourceReader,
    job: Job,
}

impl Scene {
    async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bytes = fs::read(fixture(Kind::NoAudio).path).unwrap();
        let title = Title::of(&bytes).unwrap();
        let work = Work::Video { segments: 0..title.video().segments.len() as u32, rungs: title.rungs() };
        let length = bytes.len() as u64;
        let job = Job::for_work(&work, length, Some((&title.index, &title.plan))).unwrap();
        let store = Store::open(&format!("file://{}", folder.path().join("store").display())).unwrap();
        let hash = store.put_blob(BlobKind::SourceBlock, Bytes::from(bytes)).await.unwrap();
        let list = Source { blocks: vec![Block { hash, bytes: length as u32 }], ..Source::default() };
        let list = Bytes::from(serde_json::to_vec(&list).unwrap());
        let blocks = store.put_blob(BlobKind::Record, list).await.unwrap();
        let source = Blocks::new(store, 64 << 20).open(SourceRef { blocks, bytes: length }).await.unwrap();
        Self { folder, source, job }
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    /// Runs the job in a process that writes down its number and then becomes `program`.
    async fn run(&self, program: &str, bounds: Bounds, made: mpsc::Sender<Made>) -> Result<(), Failure> {
        let script = self.folder.path().join("child");
        let pid = self.pid_file();
        fs::write(&script, format!("#!/bin/sh\necho $$ > {}\nexec {program}\n", pid.display())).unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        let child = Nursery::of(script).start().unwrap();
        while fs::read_to_string(&pid).map_or(true, |text| !text.ends_with('\n')) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        child.run(self.job.clone(), &self.source, bounds, made).await?.end().await;
        Ok(())
    }

    fn pid(&self) -> i32 {
        fs::read_to_string(self.pid_file()).unwrap().trim().parse().unwrap()
    }

    fn assert_gone(&self) {
        assert!(!Path::new(&format!("/proc/{}", self.pid())).exists(), "the process is still there");
    }
}

const WORKER: &str = concat!(env!("CARGO_BIN_EXE_reelmill-worker"), " exec");

#[tokio::test]
async fn a_job_within_its_bounds_is_done() {
    let scene = Scene::set().await;
    let (sender, mut made) = mpsc::channel(1);
    let (ran, segments) = tokio::join!(scene.run(WORKER, AMPLE, sender), async {
        let mut segments = 0;
        while let Some(item) = made.recv().await {
            segments += usize::from(matches!(item, Made::Segment(_)));
        }
        segments
    });
    assert_eq!((ran, segments), (Ok(()), 4));
    scene.assert_gone();
}

#[tokio::test]
async fn a_killed_child_is_our_own_failure() {
    let scene = Scene::set().await;
    let (sender, mut made) = mpsc::channel(1);
    let (ran, ()) = tokio::join!(scene.run(WORKER, AMPLE, sender), async {
        assert!(matches!(made.recv().await, Some(Made::Init(_) | Made::Progress(_))));
        kill_process(Pid::from_raw(scene.pid()).unwrap(), Signal::KILL).unwrap();
        while made.recv().await.is_some() {}
    });
    let failure = ran.unwrap_err();
    assert_eq!(failure.code, FailureCode::Internal);
    assert!(failure.reason.contains("signal: 9"), "{}", failure.reason);
    scene.assert_gone();
}

#[tokio::test]
async fn a_child_that_speaks_nonsense_or_is_greedy_is_our_own_failure() {
    let scene = Scene::set().await;
    let greedy = scene.folder.path().join("greedy");
    fs::write(&greedy, encode_message(&FromChild::Read { offset: 0, len: u32::MAX }).unwrap()).unwrap();
    for program in ["cat".to_owned(), format!("cat {} -", greedy.display())] {
        fs::remove_file(scene.pid_file()).ok();
        let (sender, _made) = mpsc::channel(64);
        assert_eq!(scene.run(&program, AMPLE, sender).await.unwrap_err().code, FailureCode::Internal);
        scene.assert_gone();
    }
}

#[tokio::test]
async fn too_much_time_memory_or_output_is_a_limit() {
    let scene = Scene::set().await;
    let boast = scene.folder.path().join("boast");
    fs::write(&boast, (256u32 << 20).to_le_bytes()).unwrap();
    let boasts = format!("cat {} -", boast.display());
    for (program, bounds, word) in [
        ("sleep 600", Bounds { time: Duration::from_millis(300), ..AMPLE }, "within"),
        (WORKER, Bounds { time: Duration::from_millis(1), ..AMPLE }, "within"),
        (WORKER, Bounds { memory: 4 << 20, ..AMPLE }, "memory"),
        (WORKER, Bounds { output: 4 << 10, ..AMPLE }, "made more"),
        // A length, and no bytes yet.
        (&boasts, Bounds { output: 4 << 10, ..AMPLE }, "made more"),
    ] {
        fs::remove_file(scene.pid_file()).ok();
        let (sender, mut made) = mpsc::channel(64);
        let (ran, ()) =
            tokio::join!(scene.run(program, bounds, sender), async { while made.recv().await.is_some() {} });
        let failure = ran.unwrap_err();
        assert_eq!(failure.code, FailureCode::Limit, "{}", failure.reason);
        assert!(failure.reason.contains(word), "{}", failure.reason);
        scene.assert_gone();
    }
}
