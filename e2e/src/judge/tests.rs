//! The judge is judged: a right tree, made by another packager, passes, and each fault put into it is named.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::Context;

use super::*;
use crate::boxes;
use crate::fixtures::{Kind, ffmpeg, fixture};
use crate::published::Fetched;

/// Objects of a store by their paths.
type Store = BTreeMap<String, Vec<u8>>;

const INDEX: &str = "assets/a/index.m3u8";

/// One rendition in the making.
#[derive(Clone)]
struct Made {
    name: &'static str,
    init: Vec<u8>,
    segments: Vec<Vec<u8>>,
}

/// A right tree of the landscape fixture, of two pictures and a sound.
fn right() -> &'static [Made] {
    static MADE: OnceLock<Vec<Made>> = OnceLock::new();
    MADE.get_or_init(|| {
        let source = fixture(Kind::Landscape).path;
        let picture = "-map 0:v -movflags +cmaf+frag_keyframe+skip_trailer -c:v libx264 -preset veryfast -bf 2 -g 60 -keyint_min 60 -sc_threshold 0 -vf";
        let sound = "-map 0:a -movflags +delay_moov+default_base_moof+skip_trailer -brand cmfc -c:a aac -frag_duration 1990000";
        vec![
            encode("v180", &source, &format!("{picture} scale=320:180")),
            encode("v360", &source, &format!("{picture} scale=640:360")),
            encode("a0", &source, sound),
        ]
    })
}

fn encode(name: &'static str, source: &Path, arguments: &str) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.mp4");
    let mut command = Command::new(ffmpeg());
    command.args(["-nostdin", "-v", "error", "-i"]).arg(source).args(arguments.split(' '));
    command.args(["-f", "mp4"]).arg(&path);
    assert!(command.status().unwrap().success());
    let bytes = std::fs::read(path).unwrap();
    let boxes: Vec<_> = boxes::split(&bytes).unwrap().into_iter().filter(|b| b.kind != *b"mfra").collect();
    let first = boxes.iter().position(|b| b.kind == *b"moof").unwrap();
    let segment = |pair: &[boxes::Box<'_>]| [pair[0].bytes, pair[1].bytes].concat();
    let moofs: Vec<_> =
        boxes[first..].iter().filter(|b| b.kind == *b"moof" || b.kind == *b"mdat").copied().collect();
    Made { name, init: bytes[..boxes[first].at].to_vec(), segments: moofs.chunks(2).map(segment).collect() }
}

fn blob(store: &mut Store, bytes: &[u8], extension: &str) -> String {
    let hash = blake3::hash(bytes).to_hex();
    let path = format!("blobs/{}/{hash}.{extension}", &hash[..2]);
    store.insert(path.clone(), bytes.to_vec());
    format!("../../{path}")
}

/// Publishes renditions with playlists that say what is true.
fn publish(made: &[Made]) -> Store {
    let mut store = Store::new();
    let mut index = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n".to_owned();
    index += "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"a0.m3u8\"\n";
    let mut rates = BTreeMap::new();
    for track in made {
        let init = boxes::init(&track.init).unwrap();
        let mut text =
            "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:EVENT\n".to_owned();
        text += &format!("#EXT-X-MAP:URI=\"{}\"\n", blob(&mut store, &track.init, "mp4"));
        let micros = |time: i64| (time - init.skipped as i64).max(0) * 1_000_000 / i64::from(init.timescale);
        let mut worst = 0f64;
        let (mut bytes, mut end) = (0, 0);
        for segment in &track.segments {
            let fragment = boxes::fragment(segment).unwrap();
            let length = micros(fragment.end()) - micros(fragment.start);
            let uri = blob(&mut store, segment, "m4s");
            text += &format!("#EXTINF:{}.{:06},\n{uri}\n", length / 1_000_000, length % 1_000_000);
            // Shorter runs than half the target duration do not count.
            if length >= 1_000_000 {
                worst = worst.max(segment.len() as f64 * 8e6 / length as f64);
            }
            (bytes, end) = (bytes + segment.len(), micros(fragment.end()));
        }
        text += "#EXT-X-ENDLIST\n";
        store.insert(format!("assets/a/{}.m3u8", track.name), text.into_bytes());
        rates.insert(track.name, (worst, bytes as f64 * 8e6 / end as f64));
    }
    for track in &made[..2] {
        let init = boxes::init(&track.init).unwrap();
        let [profile, constraints, level] = init.avc.unwrap();
        let (peak, average) = (rates[track.name].0 + rates["a0"].0, rates[track.name].1 + rates["a0"].1);
        let (w, h) = init.size;
        index += &format!(
            "#EXT-X-STREAM-INF:BANDWIDTH={:.0},AVERAGE-BANDWIDTH={average:.0},CODECS=\"avc1.{profile:02x}{constraints:02x}{level:02x},mp4a.40.2\",RESOLUTION={w}x{h},FRAME-RATE=30.000,AUDIO=\"audio\"\n{}.m3u8\n",
            peak * 1.005,
            track.name,
        );
    }
    store.insert(INDEX.to_owned(), index.into_bytes());
    store
}

fn get(store: &Store) -> impl Fn(&str) -> anyhow::Result<Fetched> {
    |path| {
        let bytes = store.get(path).with_context(|| format!("{path}: not there"))?.clone();
        Ok(Fetched { bytes, served_as: None })
    }
}

fn faults_of(store: &Store) -> Vec<String> {
    let mut expected = Expected::of(&fixture(Kind::Landscape));
    // This packager does not say where in its last packet the sound ends.
    expected.sound.as_mut().unwrap().samples.1 = 1024;
    judge(&get(store), INDEX, &expected).1
}

/// Changes the renditions, publishes them with true playlists, and wants a fault that holds `words`.
fn must_name(words: &str, change: impl FnOnce(&mut Vec<Made>)) {
    let mut made = right().to_vec();
    change(&mut made);
    must_be_named(words, &publish(&made));
}

/// Changes a playlist.
fn must_name_in(words: &str, path: &str, change: impl FnOnce(String) -> String) {
    let mut store = publish(right());
    let text = String::from_utf8(store[path].clone()).unwrap();
    let changed = change(text.clone());
    assert_ne!(changed, text, "the fault is not in");
    store.insert(path.to_owned(), changed.into_bytes());
    must_be_named_undecoded(words, &store);
}

/// Changes the clocks of renditions.
fn must_tell_time(words: &str, change: impl FnOnce(&mut Vec<Made>)) {
    let mut made = right().to_vec();
    change(&mut made);
    must_be_named_undecoded(words, &publish(&made));
}

/// As [`must_be_named`], for what is no decoder's matter.
fn must_be_named_undecoded(words: &str, store: &Store) {
    let mut faults = Faults::default();
    if let Some(published) = faults.catch("published tree", Published::read(&get(store), INDEX)) {
        let folder = tempfile::tempdir().unwrap();
        declared::judge(&published, folder.path(), &mut faults);
        clock::judge(&published, &Expected::of(&fixture(Kind::Landscape)), &mut faults);
    }
    assert!(faults.0.iter().any(|fault| fault.contains(words)), "{words:?} is not among {faults:#?}");
}

fn must_be_named(words: &str, store: &Store) {
    let faults = faults_of(store);
    assert!(faults.iter().any(|fault| fault.contains(words)), "{words:?} is not among {faults:#?}");
}

/// Adds to the 64-bit (or 32-bit) decode time of a segment.
fn shift_tfdt(segment: &mut [u8], ticks: i64) {
    let at = segment.windows(4).position(|w| w == b"tfdt").unwrap() + 4;
    if segment[at] == 1 {
        let time = i64::from_be_bytes(segment[at + 4..at + 12].try_into().unwrap()) + ticks;
        segment[at + 4..at + 12].copy_from_slice(&time.to_be_bytes());
    } else {
        let time = u32::from_be_bytes(segment[at + 4..at + 8].try_into().unwrap()) + ticks as u32;
        segment[at + 4..at + 8].copy_from_slice(&time.to_be_bytes());
    }
}

#[test]
fn a_right_tree_has_no_fault() {
    assert_eq!(faults_of(&publish(right())), Vec::<String>::new());
}

#[test]
fn a_frame_late_is_seen() {
    let frame = i64::from(boxes::init(&right()[1].init).unwrap().timescale) / 30;
    must_tell_time("starts at decode time", |made| shift_tfdt(&mut made[1].segments[1], frame));
    must_tell_time("is not cut where", |made| shift_tfdt(&mut made[1].segments[1], frame));
    must_tell_time("at wrong times", |made| {
        made[1].segments[1..].iter_mut().for_each(|s| shift_tfdt(s, frame))
    });
}

#[test]
fn what_is_missing_or_out_of_order_is_seen() {
    must_tell_time("120 frames instead of 180", |made| drop(made[0].segments.remove(1)));
    must_tell_time("starts at decode time", |made| drop(made[2].segments.remove(1)));
    must_name("carries the number", |made| {
        let (a, b) = (made[0].segments[0].clone(), made[0].segments[1].clone());
        let ticks = boxes::fragment(&b).unwrap().start;
        made[0].segments[0] = b;
        made[0].segments[1] = a;
        shift_tfdt(&mut made[0].segments[0], -ticks);
        shift_tfdt(&mut made[0].segments[1], ticks);
    });
    let mut store = publish(right());
    let segment = store.keys().find(|path| path.ends_with("m4s")).unwrap().clone();
    store.remove(&segment);
    must_be_named("not there", &store);
}

#[test]
fn bytes_that_are_not_those_named_are_seen() {
    let mut store = publish(right());
    let (path, bytes) = store.iter_mut().rfind(|(path, _)| path.ends_with("m4s")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let path = path.clone();
    must_be_named(&format!("{path} has bytes of the hash"), &store);
    must_name("v180", |made| {
        let segment = &mut made[0].segments[1];
        let from = segment.len() / 2;
        segment[from..from + 400].fill(0x55);
    });
    let mut store = publish(right());
    let bytes = store.iter_mut().find(|(path, _)| path.ends_with("m4s")).unwrap().1;
    bytes.truncate(bytes.len() / 2);
    must_be_named("does not fit", &store);
}

#[test]
fn sound_beside_its_place_is_seen() {
    // One packet: 21 ms, which no player would tell.
    must_name("ms from its place", |made| {
        let skip = made[2].init.windows(4).position(|w| w == b"elst").unwrap() + 16;
        let bytes = &mut made[2].init[skip..skip + 4];
        assert_eq!(u32::from_be_bytes(bytes.try_into().unwrap()), 1024, "the encoder's delay");
        bytes.copy_from_slice(&0u32.to_be_bytes());
    });
}

#[test]
fn playlists_that_lie_are_seen() {
    let media = "assets/a/v360.m3u8";
    must_name_in("EXTINF of segment 0", media, |text| {
        text.replacen("#EXTINF:2.000000", "#EXTINF:1.990000", 1)
    });
    must_name_in("EXTINF sum", media, |text| text.replacen("#EXTINF:2.000000", "#EXTINF:2.000020", 3));
    must_name_in("the target is", media, |text| text.replace("TARGETDURATION:2", "TARGETDURATION:1"));
    must_name_in("not closed", media, |text| text.replace("#EXT-X-ENDLIST\n", ""));
    must_name_in("is not relative", media, |text| text.replace("../../", "https://edge.test/"));
    must_name_in("CODECS says", INDEX, |text| text.replacen("avc1.64", "avc1.4d", 1));
    must_name_in("RESOLUTION says", INDEX, |text| text.replace("320x180", "640x360"));
    must_name_in("FRAME-RATE says", INDEX, |text| text.replacen("30.000", "29.970", 1));
    must_name_in("BANDWIDTH says 1,", INDEX, |text| {
        let from = text.find(":BANDWIDTH=").unwrap() + 11;
        let to = from + text[from..].find(',').unwrap();
        format!("{}1{}", &text[..from], &text[to..])
    });
    must_name_in("group None", INDEX, |text| text.replace(",AUDIO=\"audio\"", ""));
}
