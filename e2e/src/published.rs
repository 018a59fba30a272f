//! A published tree as any player gets it: playlists, init segments and media segments, read into memory.

use std::path::Path;

use anyhow::{Context, bail, ensure};
pub use m3u8_rs::MediaPlaylistType;
use m3u8_rs::{AlternativeMedia, MasterPlaylist, MediaPlaylist, VariantStream};

use crate::boxes::{self, Fragment, Init};
use crate::http::Http;

/// One object, and how it was served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// `Content-Type` and `Cache-Control`, where a server answered.
    pub served_as: Option<(String, String)>,
}

/// Everything that belongs to one asset.
#[derive(Debug, Clone)]
pub struct Published {
    /// The multivariant playlist.
    pub index: Playlist<MasterPlaylist>,
    /// Video renditions in the order of the multivariant playlist.
    pub video: Vec<Track>,
    /// The sound that is played unless the viewer chooses another.
    pub audio: Option<Track>,
    /// The other sounds.
    pub other_audio: Vec<Track>,
    /// What scrubbing is shown from.
    pub iframes: Vec<IFrames>,
}

/// An I-frame playlist.
#[derive(Debug, Clone)]
pub struct IFrames {
    /// The rendition that it is of.
    pub rendition: String,
    /// What it says.
    pub playlist: Playlist<MediaPlaylist>,
}

/// A playlist: its path in the store, its text, and what an independent parser makes of it.
#[derive(Debug, Clone)]
pub struct Playlist<T> {
    /// Where it lies.
    pub path: String,
    /// How it came.
    pub fetched: Fetched,
    /// What it says.
    pub says: T,
}

impl<T> Playlist<T> {
    /// Its text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.fetched.bytes).into_owned()
    }
}

/// One rendition.
#[derive(Debug, Clone)]
pub struct Track {
    /// The playlist's name without its extension.
    pub name: String,
    /// The row of the multivariant playlist, for video.
    pub variant: Option<VariantStream>,
    /// The entry of the multivariant playlist, for sound.
    pub alternative: Option<AlternativeMedia>,
    /// The media playlist.
    pub playlist: Playlist<MediaPlaylist>,
    /// The init segment's path.
    pub init_path: String,
    /// The init segment as it came.
    pub init_fetched: Fetched,
    /// The init segment, read.
    pub init: Init,
    /// Media segments in order.
    pub segments: Vec<Segment>,
}

/// One media segment.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Where it lies.
    pub path: String,
    /// How it came.
    pub fetched: Fetched,
    /// What it holds.
    pub fragment: Fragment,
    /// Its EXTINF in microseconds.
    pub micros: i64,
}

/// Reads an object of the store by its path.
pub type Get<'a> = dyn Fn(&str) -> anyhow::Result<Fetched> + 'a;

/// Reads from a server.
pub fn from_server<'a>(http: &'a Http, base: &'a str) -> impl Fn(&str) -> anyhow::Result<Fetched> + 'a {
    move |path| {
        let answer = http.try_send("GET", &format!("{base}/{path}"), &[], Vec::new())?;
        ensure!(answer.status == 200, "{path}: status {}", answer.status);
        let served_as = (answer.header("content-type").to_owned(), answer.header("cache-control").to_owned());
        Ok(Fetched { bytes: answer.body, served_as: Some(served_as) })
    }
}

/// Reads from a folder.
pub fn from_folder(folder: &Path) -> impl Fn(&str) -> anyhow::Result<Fetched> + '_ {
    move |path| {
        let bytes = std::fs::read(folder.join(path)).with_context(|| path.to_owned())?;
        Ok(Fetched { bytes, served_as: None })
    }
}

impl Published {
    /// Reads everything that the multivariant playlist at `path` leads to.
    pub fn read(get: &Get<'_>, path: &str) -> anyhow::Result<Published> {
        let fetched = get(path)?;
        let (_, says) = m3u8_rs::parse_master_playlist(&fetched.bytes)
            .map_err(|error| anyhow::anyhow!("{path}: not a multivariant playlist: {error:?}"))?;
        let index = Playlist { path: path.to_owned(), fetched, says };
        let (mut video, mut sounds, mut iframes) = (Vec::<Track>::new(), Vec::new(), Vec::new());
        for variant in &index.says.variants {
            let address = resolve(path, &variant.uri)?;
            if variant.is_i_frame {
                iframes.push(IFrames::read(get, &address)?);
                continue;
            }
            // Each group of sounds repeats the rows of the picture.
            if video.iter().any(|track| track.playlist.path == address) {
                continue;
            }
            let mut track = Track::read(get, &address)?;
            track.variant = Some(variant.clone());
            if variant.resolution.is_some() {
                video.push(track);
            } else {
                sounds.push(track);
            }
        }
        for alternative in &index.says.alternatives {
            let uri = alternative.uri.as_ref().context("a sound has no address")?;
            let mut track = Track::read(get, &resolve(path, uri)?)?;
            track.alternative = Some(alternative.clone());
            sounds.push(track);
        }
        let other_audio = sounds.split_off(sounds.len().min(1));
        Ok(Published { index, video, audio: sounds.pop(), other_audio, iframes })
    }

    /// All renditions.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.video.iter().chain(&self.audio).chain(&self.other_audio)
    }

    /// Paths of all media segments and init segments, in order: equal paths mean equal bytes.
    pub fn blobs(&self) -> Vec<String> {
        let of = |track: &Track| {
            let segments = track.segments.iter().map(|segment| segment.path.clone());
            std::iter::once(track.init_path.clone()).chain(segments).collect::<Vec<_>>()
        };
        self.tracks().flat_map(of).collect()
    }
}

impl IFrames {
    fn read(get: &Get<'_>, path: &str) -> anyhow::Result<IFrames> {
        let fetched = get(path)?;
        let (_, says) = m3u8_rs::parse_media_playlist(&fetched.bytes)
            .map_err(|error| anyhow::anyhow!("{path}: not a media playlist: {error:?}"))?;
        let file = path.rsplit('/').next().unwrap_or(path);
        let rendition = file.strip_suffix("-iframes.m3u8").context("an I-frame playlist of another name")?;
        let playlist = Playlist { path: path.to_owned(), fetched, says };
        Ok(IFrames { rendition: rendition.to_owned(), playlist })
    }
}

impl Track {
    fn read(get: &Get<'_>, path: &str) -> anyhow::Result<Track> {
        let fetched = get(path)?;
        let (_, says) = m3u8_rs::parse_media_playlist(&fetched.bytes)
            .map_err(|error| anyhow::anyhow!("{path}: not a media playlist: {error:?}"))?;
        let lengths = extinf_micros(std::str::from_utf8(&fetched.bytes)?)?;
        ensure!(lengths.len() == says.segments.len(), "{path}: an EXTINF without a segment");
        let maps: Vec<_> = says.segments.iter().filter_map(|segment| segment.map.as_ref()).collect();
        let [map] = maps.as_slice() else { bail!("{path}: {} EXT-X-MAP instead of one", maps.len()) };
        let init_path = resolve(path, &map.uri)?;
        let init_fetched = get(&init_path)?;
        let init = boxes::init(&init_fetched.bytes).with_context(|| init_path.clone())?;
        let mut segments = Vec::new();
        for (segment, micros) in says.segments.iter().zip(lengths) {
            let path = resolve(path, &segment.uri)?;
            let fetched = get(&path)?;
            let fragment = boxes::fragment(&fetched.bytes).with_context(|| path.clone())?;
            segments.push(Segment { path, fetched, fragment, micros });
        }
        let name = path.rsplit('/').next().and_then(|file| file.strip_suffix(".m3u8")).unwrap_or(path);
        let playlist = Playlist { path: path.to_owned(), fetched, says };
        Ok(Track {
            name: name.to_owned(),
            variant: None,
            alternative: None,
            playlist,
            init_path,
            init_fetched,
            init,
            segments,
        })
    }

    /// The init segment and all media segments as one file.
    pub fn whole(&self) -> Vec<u8> {
        self.init_fetched
            .bytes
            .iter()
            .chain(self.segments.iter().flat_map(|s| &s.fetched.bytes))
            .copied()
            .collect()
    }

    /// The init segment and one media segment.
    pub fn alone(&self, segment: usize) -> Vec<u8> {
        [self.init_fetched.bytes.as_slice(), &self.segments[segment].fetched.bytes].concat()
    }

    /// Whether it is a picture.
    pub fn is_video(&self) -> bool {
        self.init.handler == *b"vide"
    }

    /// Presentation times of all samples in order, after the edit list, in ticks.
    pub fn times(&self) -> Vec<i64> {
        let skipped = i64::try_from(self.init.skipped).expect("a short skip");
        self.segments.iter().flat_map(|segment| segment.fragment.times()).map(|time| time - skipped).collect()
    }

    /// Where the presentation ends, in ticks.
    pub fn end(&self) -> i64 {
        let skipped = i64::try_from(self.init.skipped).expect("a short skip");
        self.segments.last().map_or(0, |segment| segment.fragment.end() - skipped)
    }

    /// Samples of all segments.
    pub fn samples(&self) -> usize {
        self.segments.iter().map(|segment| segment.fragment.samples.len()).sum()
    }
}

/// A relative reference in the playlist at `base`. Absolute ones would tie the tree to one server.
fn resolve(base: &str, uri: &str) -> anyhow::Result<String> {
    ensure!(!uri.contains(':') && !uri.starts_with('/'), "{base}: {uri} is not relative");
    let mut parts: Vec<&str> = base.split('/').collect();
    parts.pop();
    for part in uri.split('/') {
        match part {
            ".." => drop(parts.pop().with_context(|| format!("{base}: {uri} leads outside"))?),
            _ => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// EXTINF durations, exactly as written.
fn extinf_micros(text: &str) -> anyhow::Result<Vec<i64>> {
    let parse = |line: &str| -> anyhow::Result<i64> {
        let number = line.split(',').next().unwrap_or_default();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        ensure!(fraction.len() <= 6, "EXTINF {number} is finer than a microsecond");
        Ok(whole.parse::<i64>()? * 1_000_000 + format!("{fraction:0<6}").parse::<i64>()?)
    };
    text.lines().filter_map(|line| line.strip_prefix("#EXTINF:")).map(parse).collect()
}
