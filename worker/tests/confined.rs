//! The real child process: confined, it does all media work; and it never outlives its parent's patience.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

mod harness;

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Title, converse};
use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_media::codec::{AudioCodec, VideoCodec};
use reelmill_media::profile::Profile;
use reelmill_media::task::Work;
use reelmill_worker::confine::SEALS;
use reelmill_worker::exec::protocol::{FromChild, Job, ToChild, read_message, write_message};

const WORKER: &str = env!("CARGO_BIN_EXE_reelmill-worker");

/// How long a process may take to notice that it should end.
const SOON: Duration = Duration::from_secs(10);

/// MP4, Matroska, WebM with VP9 and Opus, and a transport stream.
const CONTAINERS: [Kind; 4] = [Kind::Landscape, Kind::Mkv, Kind::WebM, Kind::MpegTs];

fn worker() -> Command {
    let mut command = Command::new(WORKER);
    command.arg("exec").env_clear().current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Indexing, and one segment of the picture and of the sound.
fn jobs(source: &[u8], video: VideoCodec, audio: AudioCodec) -> Vec<Job> {
    let length = source.len() as u64;
    let mut profile = Profile::default();
    (profile.video[0].codec, profile.audio[0].codec) = (video, audio);
    let title = Title::planned(harness::index(source).unwrap(), &profile).lowest(1);
    let work = [
        Work::Video { segments: 1..2, rungs: title.rungs() },
        Work::Audio { rendition: title.plan.audio[0].rung.id.clone(), segments: 1..2 },
    ];
    let cut = |work: &Work| Job::for_work(work, length, Some((&title.index, &title.plan))).unwrap();
    std::iter::once(Job::Index { source_bytes: length }).chain(work.iter().map(cut)).collect()
}

#[test]
fn confined_work_makes_the_same_bytes() {
    let decoders = CONTAINERS.map(|kind| (kind, VideoCodec::H264, AudioCodec::Aac));
    // These start threads of their own.
    let encoders =
        [VideoCodec::Hevc, VideoCodec::Av1].map(|codec| (Kind::Landscape, codec, AudioCodec::Opus));
    for (kind, video, audio) in decoders.into_iter().chain(encoders) {
        let source = std::fs::read(fixture(kind).path).unwrap();
        for job in jobs(&source, video, audio) {
            // What encoders say goes to a log, which often is a file.
            let mut child = worker().stderr(tempfile::tempfile().unwrap()).spawn().unwrap();
            let (mut to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            let made = converse(&mut to, &mut BufReader::new(from), &source, job.clone()).unwrap();
            drop(to);
            assert!(child.wait().unwrap().success());
            assert_eq!(made, harness::run(&source, job).unwrap(), "{kind:?} to {video}");
        }
    }
}

/// Calls by which a process opens, reaches or starts something.
const OUTWARD: &str = "%file,%network,%process,open_by_handle_at,io_uring_setup,memfd_create,seccomp";

#[test]
fn nothing_is_opened_reached_or_started_once_confined() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let traced = || {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "signal=none", "-e", OUTWARD, "-o"]).arg(&trace);
        command
    };
    let works = traced().arg("true").status();
    let missing = works.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    assert!(!(missing && std::env::var_os("CI").is_some()), "strace must be there where all is tested");
    if !SEALS || !works.is_ok_and(|s| s.success()) {
        eprintln!("skipped: no strace that works here");
        return;
    }
    for kind in CONTAINERS {
        let source = std::fs::read(fixture(kind).path).unwrap();
        for job in jobs(&source, VideoCodec::H264, AudioCodec::Aac) {
            let mut child =
                traced().args([WORKER, "exec"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let (mut to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            converse(&mut to, &mut BufReader::new(from), &source, job).unwrap();
            drop(to);
            assert!(child.wait().unwrap().success());
            let calls = std::fs::read_to_string(&trace).unwrap();
            let calls: Vec<_> = calls.lines().collect();
            let set = calls.iter().rposition(|l| l.contains("SECCOMP_SET_MODE_FILTER") && l.ends_with("= 0"));
            let after = set.map(|at| &calls[at + 1..]).expect("a filter");
            // For names of programmes in a transport stream the C library looks for its tables of alphabets, in vain.
            let in_vain = |l: &str| l.contains("/gconv/") && l.contains("EPERM");
            let tried: Vec<_> =
                after.iter().filter(|l| !l.contains(" exit") && !l.contains("+++") && !in_vain(l)).collect();
            assert_eq!(tried, Vec::<&&str>::new(), "{kind:?}");
        }
    }
}

/// A child in the middle of its job: it has asked for bytes and waits for them.
fn busy(source: &[u8]) -> (std::process::Child, impl Write, impl Read) {
    let mut child = worker().spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let job = Job::Index { source_bytes: source.len() as u64 };
    write_message(&mut to, &ToChild::Job(job)).unwrap();
    let first = read_message::<FromChild>(&mut from).unwrap();
    assert!(matches!(first, Some(FromChild::Read { .. })), "{first:?}");
    (child, to, from)
}

fn ends_soon(child: &mut std::process::Child) -> std::process::ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < SOON, "the child goes on without its parent");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_busy_child_holds_its_pipes_alone_under_a_filter() {
    let source = std::fs::read(fixture(Kind::Landscape).path).unwrap();
    // Whoever started this test may have left files open to all that come after.
    let left_open: Vec<_> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .collect();
    let (mut child, to, from) = busy(&source);
    let about = Path::new("/proc").join(child.id().to_string());
    let status = std::fs::read_to_string(about.join("status")).unwrap();
    if SEALS {
        assert!(status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    }
    let limits = std::fs::read_to_string(about.join("limits")).unwrap();
    for (what, most) in
        [("cpu time", "14400"), ("file size", "0"), ("core file size", "0"), ("open files", "64")]
    {
        let line = limits.lines().find_map(|line| line.strip_prefix(&format!("Max {what}"))).unwrap();
        let [soft, hard] = [0, 1].map(|n| line.split_whitespace().nth(n).unwrap());
        assert_eq!((soft, hard), (most, most), "{what}");
    }
    let open: Vec<_> = std::fs::read_dir(about.join("fd")).unwrap().map(|e| e.unwrap()).collect();
    for entry in open {
        let number: u32 = entry.file_name().to_string_lossy().parse().unwrap();
        let held = std::fs::read_link(entry.path()).unwrap();
        assert!(number <= 2 || left_open.contains(&held), "it holds {}", held.display());
    }
    drop((to, from));
    ends_soon(&mut child);
}

#[test]
fn a_child_ends_when_its_parent_closes_the_pipe() {
    let mut idle = worker().spawn().unwrap();
    drop(idle.stdin.take());
    assert!(ends_soon(&mut idle).success(), "nothing was asked, so nothing failed");

    let source = std::fs::read(fixture(Kind::Landscape).path).unwrap();
    let (mut child, to, from) = busy(&source);
    drop(to);
    ends_soon(&mut child);
    drop(from);
}
