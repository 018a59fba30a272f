//! Of several pictures in a file, the one that is meant to be watched is taken.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/ffmpeg.rs"]
mod ffmpeg;
mod harness;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use ffmpeg::run;
use reelmill_e2e::fixtures::{Kind, fixture};

/// Several pictures in one file: the width of the one that is played.
fn played(folder: &Path, name: &str, tracks: &[(u32, &str)]) -> u32 {
    let mut arguments = Vec::new();
    for (width, _) in tracks {
        let picture = format!("-f lavfi -i color=gray:size={width}x96:rate=25:duration=0.2");
        arguments.extend(picture.split(' ').map(str::to_owned));
    }
    for (n, (_, disposition)) in tracks.iter().enumerate() {
        let track = format!("-map {n} -disposition:v:{n} {disposition}");
        arguments.extend(track.split(' ').map(str::to_owned));
    }
    let file = folder.join(name);
    arguments.extend(["-c:v", "libx264"].map(str::to_owned));
    run(arguments.iter().map(OsStr::new).chain([file.as_os_str()]));
    width(&fs::read(file).unwrap())
}

fn width(source: &[u8]) -> u32 {
    harness::index(source).unwrap().video.unwrap().picture.width
}

#[test]
fn the_right_one_of_several_pictures() {
    let folder = tempfile::tempdir().unwrap();
    for container in ["mp4", "mov", "mkv"] {
        let played = |tracks: &[(u32, &str)]| played(folder.path(), &format!("several.{container}"), tracks);
        assert_eq!(played(&[(160, "default"), (320, "default")]), 320, "{container}: two cameras");
        assert_eq!(played(&[(160, "0"), (320, "default")]), 320, "{container}: a preview first");
        assert_eq!(
            played(&[(320, "0"), (160, "default")]),
            160,
            "{container}: a larger one that is not for viewing"
        );
    }
    // A depth map as cameras write it: larger, enabled, and of another handler.
    let file = folder.path().join("several.mov");
    assert_eq!(played(folder.path(), "several.mov", &[(320, "default"), (160, "default")]), 320);
    let mut source = fs::read(file).unwrap();
    let handler = source.windows(8).position(|bytes| bytes == b"mhlrvide").unwrap();
    source[handler + 4..handler + 8].copy_from_slice(b"auxv");
    assert_eq!(width(&source), 160);
}

/// As shops and taggers put it there.
#[test]
fn cover_art_is_not_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    let cover = folder.path().join("cover.jpg");
    run([
        OsStr::new("-f"),
        "lavfi".as_ref(),
        "-i".as_ref(),
        "color=red:size=640x640".as_ref(),
        "-frames:v".as_ref(),
        "1".as_ref(),
        cover.as_os_str(),
    ]);
    let film = fixture(Kind::HalfSecond);
    for container in ["mp4", "mkv"] {
        let file = folder.path().join("covered").with_extension(container);
        let art = if container == "mkv" {
            "-map 0 -c copy -metadata:s:t mimetype=image/jpeg -attach"
        } else {
            "-map 1 -map 0 -c copy -disposition:v:0 attached_pic"
        };
        let cover = cover.as_os_str();
        let mut arguments = vec![OsStr::new("-i"), film.path.as_os_str()];
        arguments.extend(if container == "mkv" { vec![] } else { vec![OsStr::new("-i"), cover] });
        arguments.extend(art.split(' ').map(OsStr::new));
        arguments.extend(if container == "mkv" { vec![cover] } else { vec![] });
        arguments.push(file.as_os_str());
        run(arguments);
        let picture = harness::index(&fs::read(&file).unwrap()).unwrap().video.unwrap();
        assert_eq!(picture.samples.len(), 15, "{container}");
    }
}
