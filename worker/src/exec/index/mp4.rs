//! MP4: tracks as the pure reader finds them.

use reelmill_media::index::{
    AudioTrack, Container, MAX_AUDIO_TRACKS, Picture, Sample, SourceIndex, VideoTrack,
};
use reelmill_media::task::{Failure, FailureCode};

use super::super::failure::{fail, not_begun, of_mp4};
use super::super::parent::Input;
use super::sound;
use crate::mp4::entry::{AudioEntry, Entry, VideoEntry};
use crate::mp4::movie::{self, Boxes};
use crate::mp4::track::Track;

/// Codecs of cover art and thumbnails, which come second to any other picture.
const STILLS: [&str; 1] = ["mjpeg"];

/// Reads the boxes and chooses tracks. Says whether that was all: of a source of which the first `there` bytes are there,
/// fragments to come are not known.
pub fn run(input: &mut Input, there: u64) -> Result<(SourceIndex, bool), Failure> {
    let Boxes { tracks, whole } = movie::read(input, there).map_err(of_mp4)?;
    let begins = |t: &Track| !matches!(t.entry, Entry::Unknown(_)) && t.samples.samples.is_empty();
    if !whole && tracks.iter().any(begins) {
        return Err(not_begun());
    }
    let unknown = tracks.iter().find_map(|t| match &t.entry {
        Entry::Unknown(codec) if !codec.is_empty() => Some(codec.clone()),
        Entry::Unknown(_) | Entry::Video(_) | Entry::Audio(_) => None,
    });
    let video = choose(&tracks, |t| match &t.entry {
        Entry::Video(v) if reelmill_av::SourceVideoCodec::named(&v.setup.codec).is_ok() => {
            let still = STILLS.contains(&v.setup.codec.as_str());
            Some((!still, t.enabled, u64::from(v.width) * u64::from(v.height)))
        }
        Entry::Video(_) | Entry::Audio(_) | Entry::Unknown(_) => None,
    });
    let video = video.and_then(|n| match tracks.get(n) {
        Some(track @ Track { entry: Entry::Video(entry), .. }) => Some(video_track(n, track, entry)),
        Some(_) | None => None,
    });
    let audio = sounds(&tracks);
    if video.is_none() && audio.is_empty() {
        return Err(match unknown {
            Some(codec) => fail(FailureCode::Unsupported, format!("the codec {codec:?} is not supported")),
            None => {
                fail(FailureCode::NoTracks, "the file has no track of picture or sound with samples in it")
            }
        });
    }
    Ok((SourceIndex { container: Container::Mp4, video, audio }, whole))
}

/// The audio tracks that can be decoded: those meant to be played first, otherwise in the file's order.
fn sounds(tracks: &[Track]) -> Vec<AudioTrack> {
    let mut found: Vec<(bool, AudioTrack)> = tracks
        .iter()
        .enumerate()
        .filter_map(|(n, track)| match &track.entry {
            Entry::Audio(a)
                if !track.samples.samples.is_empty()
                    && reelmill_av::SourceAudioCodec::named(&a.setup.codec).is_ok() =>
            {
                Some((!(track.enabled && a.channels > 0), audio_track(n, track, a)))
            }
            Entry::Audio(_) | Entry::Video(_) | Entry::Unknown(_) => None,
        })
        .collect();
    found.sort_by_key(|(second, _)| *second);
    found.into_iter().map(|(_, track)| track).take(MAX_AUDIO_TRACKS).collect()
}

/// The number of the track that ranks highest among those that have samples; of equals the first.
fn choose<R: Ord>(tracks: &[Track], rank: impl Fn(&Track) -> Option<R>) -> Option<usize> {
    let ranked = tracks.iter().enumerate().filter(|(_, t)| !t.samples.samples.is_empty());
    ranked.filter_map(|(n, t)| Some((rank(t)?, std::cmp::Reverse(n)))).max().map(|(_, n)| n.0)
}

fn shifted(track: &Track) -> Vec<Sample> {
    track.samples.samples.iter().map(|s| Sample { pts: s.pts + track.edit.shift, ..*s }).collect()
}

fn video_track(number: usize, track: &Track, entry: &VideoEntry) -> VideoTrack {
    let (sar_num, sar_den) = entry.sample_aspect.or_else(|| track.sample_aspect(entry)).unwrap_or((0, 0));
    VideoTrack {
        stream: number as u32,
        setup: entry.setup.clone(),
        timescale: track.timescale,
        picture: Picture {
            width: entry.width,
            height: entry.height,
            sar_num,
            sar_den,
            orientation: track.orientation,
            colour: entry.colour,
        },
        samples: shifted(track),
        window: track.edit.window(),
        last_duration: track.samples.last_duration,
    }
}

fn audio_track(number: usize, track: &Track, entry: &AudioEntry) -> AudioTrack {
    let mut made = AudioTrack {
        stream: number as u32,
        setup: entry.setup.clone(),
        timescale: track.timescale,
        sample_rate: entry.sample_rate,
        channels: entry.channels,
        language: track.language.clone(),
        samples: shifted(track),
        window: track.edit.window(),
    };
    sound::snap(&mut made, 0);
    made
}
