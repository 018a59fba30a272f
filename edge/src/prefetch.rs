//! Bringing in what a viewer will ask for next, before it does.
//!
//! What comes next stands in the media playlist that the viewer has read here, or the player says it (CMCD `nor`). The
//! further a viewer watches without a jump, the further ahead this goes, up to a few segments and so many bytes; so one
//! who looks and leaves costs little. When a player that says who it is goes elsewhere, what is on its way for it alone is
//! given up. Viewers who do not say are told apart by address only, and several may share one, so theirs is left to end.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use moka::sync::Cache;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::cache::{Blob, BlobCache};
use crate::cmcd::{ObjectType, Report};
use crate::conditional::EntityTag;
use crate::limits::{
    PREFETCH_AHEAD, PREFETCH_AT_ONCE, PREFETCH_AT_START, PREFETCH_BYTES, PREFETCH_IDLE, PREFETCH_PLACES,
    PREFETCH_WINDOWS,
};
use crate::playlists::Text;
use crate::route::{self, Action, MutableObject, PublicBlob, Resource};

/// Against what the addresses in playlists and reports are resolved; only their paths count.
const BASE: &str = "http://edge.invalid";

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Prefetch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    blobs: BlobCache,
    /// The segments of media playlists.
    sequences: Cache<MutableObject, Arc<Sequence>>,
    /// Where in which playlist a blob stands; of several, the one that was read last.
    places: Cache<PublicBlob, (MutableObject, usize)>,
    windows: Cache<Viewer, Arc<Mutex<Window>>>,
    at_once: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// The segments of a media playlist, in order.
#[derive(Debug)]
struct Sequence {
    tag: EntityTag,
    init: Option<PublicBlob>,
    segments: Vec<PublicBlob>,
}

/// Who watches one rendition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Viewer {
    /// A session that says so, watching one rendition of each kind at a time.
    Session(BlobHash, ObjectType),
    /// Anybody at an address, by what is watched.
    Address(IpAddr, MutableObject),
}

/// Whether a window may be that of several viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    None,
    Perhaps,
}

/// What is brought in for one viewer.
#[derive(Debug, Default)]
struct Window {
    watched: Option<(MutableObject, usize)>,
    /// How many segments were asked for one after the other.
    streak: usize,
    /// Not held here: it is the cache that decides what stays.
    ahead: Vec<Weak<Blob>>,
}

impl Prefetch {
    pub(crate) fn new(blobs: BlobCache, tasks: TaskTracker) -> Self {
        Self(Arc::new(Inner {
            blobs,
            sequences: Cache::builder()
                .weigher(|_, sequence: &Arc<Sequence>| sequence.weight())
                .max_capacity(PREFETCH_PLACES)
                .build(),
            places: Cache::new(PREFETCH_PLACES),
            windows: Cache::builder().max_capacity(PREFETCH_WINDOWS).time_to_idle(PREFETCH_IDLE).build(),
            at_once: Arc::new(Semaphore::new(PREFETCH_AT_ONCE)),
            tasks,
        }))
    }

    /// A viewer was given a text: it may begin to watch.
    pub(crate) fn listed(&self, from: IpAddr, report: Option<&Report>, object: &MutableObject, text: &Text) {
        let MutableObject::MediaPlaylist(..) = object else { return };
        let sequence = self.learn(object, text);
        let viewer = viewer(from, report, object);
        let window = self.0.windows.get_with(viewer, Arc::default);
        let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.watched.as_ref().is_some_and(|(watched, _)| watched == object) {
            return;
        }
        window.watched = Some((object.clone(), 0));
        window.streak = 0;
        let first = sequence.segments.iter().take(PREFETCH_AT_START);
        self.bring(&mut window, sequence.init.iter().chain(first).copied().collect(), others(report));
    }

    /// A viewer was given a blob.
    pub(crate) fn watched(&self, from: IpAddr, report: Option<&Report>, name: PublicBlob) {
        let said = report.and_then(|report| next(name, report.next.as_deref()?));
        let place = self.0.places.get(&name);
        let Some((object, index)) = place else {
            // It is in no playlist that was read here, so the player alone knows what follows.
            if let (Some(said), Some(viewer)) = (said, report.and_then(session)) {
                let window = self.0.windows.get_with(viewer, Arc::default);
                let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
                self.bring(&mut window, vec![said], Others::None);
            }
            return;
        };
        let window = self.0.windows.get_with(viewer(from, report, &object), Arc::default);
        let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = window.watched.as_ref().is_some_and(|(watched, last)| {
            *watched == object && (*last..=last.saturating_add(PREFETCH_AHEAD)).contains(&index)
        });
        window.streak = if goes_on { window.streak + 1 } else { 0 };
        window.watched = Some((object.clone(), index));
        let ahead = (PREFETCH_AT_START + window.streak).min(PREFETCH_AHEAD);
        let sequence = self.0.sequences.get(&object);
        let segments = sequence.as_ref().map_or(&[][..], |sequence| &sequence.segments);
        let following = segments.iter().skip(index + 1).take(ahead).copied();
        self.bring(&mut window, said.into_iter().chain(following).collect(), others(report));
    }

    /// Makes `wanted` what is brought in for a viewer. What else was is given up, if the viewer is the only one.
    fn bring(&self, window: &mut Window, wanted: Vec<PublicBlob>, others: Others) {
        let ahead = std::mem::take(&mut window.ahead).into_iter().filter_map(|blob| blob.upgrade());
        let (kept, left): (Vec<_>, Vec<_>) = ahead.partition(|blob| wanted.contains(&blob.name()));
        match others {
            Others::None => left.iter().for_each(|blob| blob.give_up()),
            Others::Perhaps => {}
        }
        let mut bytes: u64 = kept.iter().map(|blob| blob.length()).sum();
        window.ahead = kept.iter().map(Arc::downgrade).collect();
        for name in wanted {
            if bytes >= PREFETCH_BYTES {
                return;
            }
            // Who finds no place asks again with the next segment.
            let Ok(place) = self.0.at_once.clone().try_acquire_owned() else { return };
            if let Some(blob) = self.0.blobs.bring_ahead(name) {
                bytes += blob.length();
                window.ahead.push(Arc::downgrade(&blob));
                self.0.tasks.spawn(async move {
                    blob.over().await;
                    drop(place);
                });
            }
        }
    }

    fn learn(&self, object: &MutableObject, text: &Text) -> Arc<Sequence> {
        let known = self.0.sequences.get(object);
        if let Some(known) = known.as_ref().filter(|known| known.tag == text.tag()) {
            return known.clone();
        }
        let sequence = Arc::new(Sequence::read(text));
        let told = known.map_or(0, |known| known.segments.len());
        // Playlists only grow, so the places of the earlier ones stand.
        for (index, name) in sequence.segments.iter().enumerate().skip(told) {
            self.0.places.insert(*name, (object.clone(), index));
        }
        self.0.sequences.insert(object.clone(), sequence.clone());
        sequence
    }
}

impl Sequence {
    /// In segments; an empty one costs something, too.
    fn weight(&self) -> u32 {
        u32::try_from(self.segments.len()).unwrap_or(u32::MAX).saturating_add(4)
    }

    fn read(text: &Text) -> Self {
        let (mut init, mut segments) = (None, Vec::new());
        for line in std::str::from_utf8(text.bytes()).unwrap_or_default().lines().map(str::trim) {
            if let Some(attributes) = line.strip_prefix("#EXT-X-MAP:") {
                let uri = attributes.split_once("URI=\"").and_then(|(_, rest)| rest.split_once('"'));
                init = init.or(uri.and_then(|(uri, _)| listed(uri)));
            } else if !line.starts_with('#') {
                segments.extend(listed(line));
            }
        }
        Self { tag: text.tag(), init, segments }
    }
}

/// The blob that a line of a playlist names. Playlists of ours name blobs one way only.
fn listed(uri: &str) -> Option<PublicBlob> {
    blob(uri.strip_prefix("../..")?)
}

fn blob(path: &str) -> Option<PublicBlob> {
    match route::route(&http::Method::GET, path) {
        Ok(Action::Get(Resource::Blob(name))) => Some(name),
        Ok(Action::Get(_) | Action::Head(_) | Action::Options) | Err(_) => None,
    }
}

/// The blob that a player says it will ask for after `now` (CTA-5004: relative to what is asked for now).
fn next(now: PublicBlob, said: &str) -> Option<PublicBlob> {
    let said: String = url::form_urlencoded::parse(said.replace('+', "%2B").as_bytes())
        .map(|(name, value)| if value.is_empty() { name.into_owned() } else { format!("{name}={value}") })
        .next()?;
    let here = Url::parse(BASE).ok()?.join(&keys::blob(&now.hash(), now.kind())).ok()?;
    let there = here.join(&said).ok()?;
    (there.host() == here.host()).then(|| blob(there.path())).flatten().filter(|name| *name != now)
}

fn others(report: Option<&Report>) -> Others {
    if report.and_then(session).is_some() { Others::None } else { Others::Perhaps }
}

fn session(report: &Report) -> Option<Viewer> {
    let (id, object) = (report.session.as_ref()?, report.object?);
    Some(Viewer::Session(BlobHash::of(id.as_bytes()), object))
}

fn viewer(from: IpAddr, report: Option<&Report>, object: &MutableObject) -> Viewer {
    report.and_then(session).unwrap_or_else(|| Viewer::Address(from, object.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use reelmill_media::keys::BlobKind;

    fn name(content: &str, kind: BlobKind) -> PublicBlob {
        PublicBlob::new(BlobHash::of(content.as_bytes()), kind).unwrap()
    }

    fn uri(name: PublicBlob) -> String {
        keys::blob_from_playlist(&name.hash(), name.kind())
    }

    #[test]
    fn a_playlist_is_read_in_its_order() {
        let (init, a, b) =
            (name("i", BlobKind::InitSegment), name("a", BlobKind::Segment), name("b", BlobKind::Segment));
        let text = format!(
            "#EXTM3U\n#EXT-X-MAP:URI=\"{}\"\n#EXTINF:1,\n{}\r\n#EXTINF:1,\nhttps://else/x.m4s\n\n{}\n",
            uri(init),
            uri(b),
            uri(a)
        );
        let sequence = Sequence::read(&Text::new(Bytes::from(text)));
        assert_eq!((sequence.init, sequence.segments), (Some(init), vec![b, a]));
    }

    #[test]
    fn what_a_player_says_is_resolved_against_what_it_asks_for() {
        let (now, then) = (name("a", BlobKind::Segment), name("b", BlobKind::Segment));
        let path = keys::blob(&then.hash(), then.kind());
        let relative = format!("../{}", path.strip_prefix("blobs/").unwrap());
        for said in
            [relative.clone(), relative.replace('/', "%2F"), format!("/{path}"), format!("{relative}?CMCD=x")]
        {
            assert_eq!(next(now, &said), Some(then), "{said}");
        }
        for said in [
            "",
            "x.m4s",
            "https://else.example/blobs",
            "../../assets/x",
            "%",
            &keys::blob(&now.hash(), now.kind()),
        ] {
            assert_eq!(next(now, said), None, "{said}");
        }
    }

    proptest! {
        #[test]
        fn no_word_of_a_player_breaks_it(said in ".{0,60}", near in "[./%a-f0-9:?+]{0,40}") {
            let now = name("a", BlobKind::Segment);
            let _ = (next(now, &said), next(now, &near));
        }
    }
}
