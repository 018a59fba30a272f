//! The MP4 reader against ffprobe's view of the same files, and against damage.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_e2e::media_dir::real_clips;
use reelmill_media::time::{Ticks, Timescale};
use reelmill_worker::mp4::entry::Entry;
use reelmill_worker::mp4::movie;
use reelmill_worker::mp4::read::{Mp4Error, ReadAt};
use reelmill_worker::mp4::track::Track;

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let from = self.0.get(start..start + to.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        to.copy_from_slice(from);
        Ok(())
    }
}

fn read(bytes: Vec<u8>) -> Result<Vec<Track>, Mp4Error> {
    let length = bytes.len() as u64;
    movie::read(&mut Bytes(bytes), length).map(|boxes| boxes.tracks)
}

/// One packet as ffprobe prints it: pts, dts, size, position, key.
type Probed = (i64, i64, u32, u64, bool);

fn probe(path: &Path, stream: usize) -> Vec<Probed> {
    let output = Command::new("ffprobe")
        // Without edit lists both sides speak of media time.
        .args(["-v", "error", "-ignore_editlist", "1", "-select_streams", &stream.to_string()])
        .args(["-show_entries", "packet=pts,dts,size,pos,flags", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let field: Vec<&str> = line.split(',').collect();
            let number = |i: usize| field[i].parse::<i64>().unwrap();
            (number(0), number(1), number(2) as u32, number(3) as u64, field[4].contains('K'))
        })
        .collect()
}

fn compare(path: &Path) {
    let tracks = read(std::fs::read(path).unwrap()).unwrap();
    for (stream, track) in tracks.iter().enumerate() {
        let pcm = matches!(&track.entry, Entry::Audio(a) if a.pcm_frame_bytes.is_some());
        if matches!(track.entry, Entry::Unknown(_)) || pcm {
            continue;
        }
        let theirs = probe(path, stream);
        let ours = &track.samples.samples;
        assert_eq!(ours.len(), theirs.len(), "{} stream {stream}", path.display());
        // libav shifts all times when an offset is negative: compare from the first on.
        let (first_pts, first_dts) = (theirs[0].0 - ours[0].pts.0, theirs[0].1 - ours[0].dts.0);
        for (n, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let our = (ours.pts.0 + first_pts, ours.dts.0 + first_dts, ours.bytes, ours.offset, ours.key);
            assert_eq!(our, *theirs, "{} stream {stream} sample {n}", path.display());
        }
    }
}

#[test]
fn sample_tables_are_ffprobes() {
    for kind in [Kind::Landscape, Kind::MoovAtEnd, Kind::Fragmented, Kind::OpenGop, Kind::Vfr, Kind::NoAudio]
    {
        compare(&fixture(kind).path);
    }
}

#[test]
fn sample_tables_of_real_clips_are_ffprobes() {
    let Some(folder) = real_clips() else { return };
    let refused = ["corrupt_chunk_out_of_range.mp4", "fuzz_h264_bad_ptr.mp4"];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if (name.ends_with(".mp4") || name.ends_with(".mov")) && !refused.contains(&name.as_str()) {
            compare(&path);
        }
    }
}

/// A fixed generator, so that a failure can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

fn bytes_of(kind: Kind) -> Vec<u8> {
    std::fs::read(fixture(kind).path).unwrap()
}

#[test]
fn damaged_boxes_are_errors_or_tracks_but_never_more() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let began = Instant::now();
    for kind in [Kind::HalfSecond, Kind::Landscape, Kind::Fragmented, Kind::MoovAtEnd] {
        let whole = bytes_of(kind);
        let boxes: Vec<usize> = [&b"moov"[..], b"moof"]
            .iter()
            .flat_map(|kind| whole.windows(4).enumerate().filter(move |(_, w)| w == kind).map(|(i, _)| i))
            .collect();
        for round in 0..1500 {
            let mut bytes = whole.clone();
            let start = boxes[random.below(boxes.len())];
            for _ in 0..=random.below(4) {
                let at = (start + random.below(2000)).min(bytes.len() - 8);
                match round % 4 {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes[at..at + 4].copy_from_slice(&[0xff; 4]),
                    2 => bytes[at..at + 4].copy_from_slice(&(random.below(1 << 32) as u32).to_be_bytes()),
                    _ => bytes[at..at + 8].fill(0),
                }
            }
            if round % 16 == 15 {
                bytes.truncate(random.below(bytes.len()));
            }
            let length = bytes.len() as u64;
            for track in read(bytes).unwrap_or_default() {
                assert!(track.samples.samples.iter().all(|s| s.offset + u64::from(s.bytes) <= length));
            }
        }
    }
    assert!(began.elapsed() < Duration::from_secs(300));
}

#[test]
fn small_files_cannot_claim_many_samples() {
    // One chunk, equal sizes, and a count of four billion.
    let mut bytes = bytes_of(Kind::NoAudio);
    let stsz = bytes.windows(4).position(|w| w == b"stsz").unwrap() + 8;
    bytes[stsz..stsz + 8].copy_from_slice(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
    assert!(read(bytes).is_err());
}

#[test]
fn clocks_and_edits_are_read() {
    let tracks = read(bytes_of(Kind::Landscape)).unwrap();
    let sound = tracks.iter().find(|t| matches!(t.entry, Entry::Audio(_))).unwrap();
    assert_eq!(sound.timescale, Timescale::new(48_000).unwrap());
    assert_eq!(sound.edit.shift, Ticks(-1024), "the encoder's delay lies before the presentation");
}
