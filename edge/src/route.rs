//! What a request asks for. Pure: method and path in, a resource or a precise refusal out.
//!
//! Every resource has exactly one spelling. A path that needs decoding or normalising is refused, so that nothing
//! behind this module ever sees a name it could misread.

use http::Method;
use reelmill_media::ids::{AssetId, BlobHash, RenditionId};
use reelmill_media::keys::{self, BlobKind};

use crate::limits::PATH_BYTES;

/// The methods that are answered, as the `Allow` field has them.
pub const ALLOW: &str = "GET, HEAD, OPTIONS";

/// A request that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// GET.
    Get(Resource),
    /// HEAD: all of GET but the body.
    Head(Resource),
    /// OPTIONS: what may be asked, for scripts of other sites.
    Options,
}

/// What an edge serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// An immutable blob for viewers.
    Blob(PublicBlob),
    /// A small object that may change.
    Mutable(MutableObject),
    /// The page with player and facts.
    WatchPage(AssetId),
    /// The bare player, for embedding in other sites.
    EmbedPage(AssetId),
    /// The player's own script, which both pages share.
    PlayerScript,
    /// The style sheet of both pages.
    PlayerStyle,
    /// hls.js.
    HlsScript,
    /// The icon of the pages.
    Icon,
}

/// A blob of a kind that viewers may have. Source blocks and records cannot be named by this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicBlob {
    hash: BlobHash,
    kind: BlobKind,
    media_type: &'static str,
}

impl PublicBlob {
    /// Names a blob; `None` for kinds that are not for viewers.
    pub fn new(hash: BlobHash, kind: BlobKind) -> Option<Self> {
        kind.public_media_type().map(|media_type| Self { hash, kind, media_type })
    }

    /// Every name that content with this hash could have.
    pub(crate) fn all_of(hash: BlobHash) -> impl Iterator<Item = Self> {
        BlobKind::ALL.into_iter().filter_map(move |kind| Self::new(hash, kind))
    }

    /// The content hash.
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// What it holds.
    pub fn kind(&self) -> BlobKind {
        self.kind
    }

    /// Its `Content-Type`.
    pub fn media_type(&self) -> &'static str {
        self.media_type
    }
}

/// One of the mutable objects of an asset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MutableObject {
    /// `index.m3u8`
    MultivariantPlaylist(AssetId),
    /// `<rendition>.m3u8`
    MediaPlaylist(AssetId, RenditionId),
    /// `storyboard.vtt`
    Storyboard(AssetId),
    /// `presentation.json`
    Presentation(AssetId),
}

impl MutableObject {
    /// Where it lies in the object store.
    pub fn key(&self) -> String {
        match self {
            Self::MultivariantPlaylist(asset) => keys::multivariant_playlist(*asset),
            Self::MediaPlaylist(asset, rendition) => keys::media_playlist(*asset, rendition),
            Self::Storyboard(asset) => keys::storyboard(*asset),
            Self::Presentation(asset) => keys::presentation(*asset),
        }
    }

    /// The asset it belongs to.
    pub fn asset(&self) -> AssetId {
        match self {
            Self::MultivariantPlaylist(asset)
            | Self::MediaPlaylist(asset, _)
            | Self::Storyboard(asset)
            | Self::Presentation(asset) => *asset,
        }
    }

    /// Its `Content-Type`.
    pub fn media_type(&self) -> &'static str {
        match self {
            Self::MultivariantPlaylist(_) | Self::MediaPlaylist(..) => keys::PLAYLIST_MEDIA_TYPE,
            Self::Storyboard(_) => keys::WEBVTT_MEDIA_TYPE,
            Self::Presentation(_) => "application/json",
        }
    }
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 405
    #[error("this server answers GET, HEAD and OPTIONS only")]
    Method,
    /// 414
    #[error("the path is longer than {PATH_BYTES} bytes")]
    PathTooLong,
    /// 400
    #[error("the path does not start with a slash")]
    NotAbsolute,
    /// 400
    #[error("the path has an empty, \".\" or \"..\" segment")]
    Segment,
    /// 400
    #[error("the path is percent-encoded or has characters that no name here has")]
    Spelling,
    /// 404
    #[error("there is nothing at this path")]
    Nothing,
}

/// Reads method and path (without the query, which names nothing here).
pub fn route(method: &Method, path: &str) -> Result<Action, Refusal> {
    if *method == Method::OPTIONS {
        return Ok(Action::Options);
    }
    let head = *method == Method::HEAD;
    if !head && *method != Method::GET {
        return Err(Refusal::Method);
    }
    let resource = resource(path)?;
    Ok(if head { Action::Head(resource) } else { Action::Get(resource) })
}

fn resource(path: &str) -> Result<Resource, Refusal> {
    if path.len() > PATH_BYTES {
        return Err(Refusal::PathTooLong);
    }
    let Some(relative) = path.strip_prefix('/') else { return Err(Refusal::NotAbsolute) };
    if relative.is_empty() {
        return Err(Refusal::Nothing);
    }
    if !relative.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_')) {
        return Err(Refusal::Spelling);
    }
    let segments: Vec<&str> = relative.split('/').collect();
    if segments.iter().any(|s| matches!(*s, "" | "." | "..")) {
        return Err(Refusal::Segment);
    }
    match *segments.as_slice() {
        ["blobs", prefix, name] => blob(prefix, name),
        ["assets", asset, name] => mutable(asset_id(asset)?, name),
        ["watch", asset] => Ok(Resource::WatchPage(asset_id(asset)?)),
        ["embed", asset] => Ok(Resource::EmbedPage(asset_id(asset)?)),
        ["player", "player.js"] => Ok(Resource::PlayerScript),
        ["player", "player.css"] => Ok(Resource::PlayerStyle),
        ["player", "hls.min.js"] => Ok(Resource::HlsScript),
        ["player", "icon.svg"] => Ok(Resource::Icon),
        _ => Err(Refusal::Nothing),
    }
}

fn blob(prefix: &str, name: &str) -> Result<Resource, Refusal> {
    let (hex, extension) = name.split_once('.').ok_or(Refusal::Nothing)?;
    let hash: BlobHash = hex.parse().map_err(|_| Refusal::Nothing)?;
    if hex.get(..2) != Some(prefix) {
        return Err(Refusal::Nothing);
    }
    let kind = BlobKind::from_extension(extension).ok_or(Refusal::Nothing)?;
    PublicBlob::new(hash, kind).map(Resource::Blob).ok_or(Refusal::Nothing)
}

fn mutable(asset: AssetId, name: &str) -> Result<Resource, Refusal> {
    let object = match name.split_once('.') {
        Some(("index", "m3u8")) => MutableObject::MultivariantPlaylist(asset),
        Some(("storyboard", "vtt")) => MutableObject::Storyboard(asset),
        Some(("presentation", "json")) => MutableObject::Presentation(asset),
        Some((rendition, "m3u8")) => {
            MutableObject::MediaPlaylist(asset, rendition.parse().map_err(|_| Refusal::Nothing)?)
        }
        Some(_) | None => return Err(Refusal::Nothing),
    };
    Ok(Resource::Mutable(object))
}

fn asset_id(text: &str) -> Result<AssetId, Refusal> {
    text.parse().map_err(|_| Refusal::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get(path: &str) -> Result<Resource, Refusal> {
        route(&Method::GET, path).map(|action| match action {
            Action::Get(resource) => resource,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn names_of_the_store_are_paths_of_the_edge() {
        let asset = AssetId::from_parts(1_700_000_000_000, 7);
        let rendition: RenditionId = "v720".parse().unwrap();
        let hash = BlobHash::of(b"x");
        for kind in BlobKind::ALL {
            let path = format!("/{}", keys::blob(&hash, kind));
            match PublicBlob::new(hash, kind) {
                Some(blob) => assert_eq!(get(&path), Ok(Resource::Blob(blob))),
                None => assert_eq!(get(&path), Err(Refusal::Nothing), "{kind:?} must not be served"),
            }
        }
        for object in [
            MutableObject::MultivariantPlaylist(asset),
            MutableObject::MediaPlaylist(asset, rendition),
            MutableObject::Presentation(asset),
        ] {
            assert_eq!(get(&format!("/{}", object.key())), Ok(Resource::Mutable(object)));
        }
        assert_eq!(get(&format!("/watch/{asset}")), Ok(Resource::WatchPage(asset)));
    }

    #[test]
    fn other_spellings_are_refused() {
        let hash = BlobHash::of(b"x").to_string();
        let hh = &hash[..2];
        for (path, refusal) in [
            (format!("/blobs/{hh}/{}.m4s", hash.to_uppercase()), Refusal::Nothing),
            (format!("/blobs/00/{hash}.m4s"), Refusal::Nothing),
            (format!("/blobs/{hh}/{hash}.block"), Refusal::Nothing),
            (format!("/blobs/{hh}/{hash}.record"), Refusal::Nothing),
            (format!("/blobs/{hh}/{hash}.m4s.m4s"), Refusal::Nothing),
            (format!("/blobs/{hh}/{hash}"), Refusal::Nothing),
            (format!("/blobs//{hh}/{hash}.m4s"), Refusal::Segment),
            (format!("/blobs/{hh}/../{hh}/{hash}.m4s"), Refusal::Segment),
            (format!("/blobs/{hh}/%2e%2e/{hash}.m4s"), Refusal::Spelling),
            ("/assets/../../etc/passwd".into(), Refusal::Segment),
            ("/watch/%zz".into(), Refusal::Spelling),
            ("/watch/\u{0}".into(), Refusal::Spelling),
            ("/a\\b".into(), Refusal::Spelling),
            ("*".into(), Refusal::NotAbsolute),
            ("".into(), Refusal::NotAbsolute),
            ("/".into(), Refusal::Nothing),
            (format!("/{}", "a".repeat(PATH_BYTES)), Refusal::PathTooLong),
        ] {
            assert_eq!(get(&path), Err(refusal), "{path}");
        }
    }

    #[test]
    fn only_reading_methods_are_answered() {
        for method in
            [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE, Method::CONNECT]
        {
            assert_eq!(route(&method, "/player/player.js"), Err(Refusal::Method));
        }
        assert_eq!(route(&Method::HEAD, "/player/player.js"), Ok(Action::Head(Resource::PlayerScript)));
        assert_eq!(route(&Method::OPTIONS, "*"), Ok(Action::Options));
    }

    /// The path that leads to a resource: the inverse of `get`.
    fn path_of(resource: &Resource) -> String {
        match resource {
            Resource::Blob(blob) => format!("/{}", keys::blob(&blob.hash(), blob.kind())),
            Resource::Mutable(object) => format!("/{}", object.key()),
            Resource::WatchPage(asset) => format!("/watch/{asset}"),
            Resource::EmbedPage(asset) => format!("/embed/{asset}"),
            Resource::PlayerScript => "/player/player.js".into(),
            Resource::PlayerStyle => "/player/player.css".into(),
            Resource::HlsScript => "/player/hls.min.js".into(),
            Resource::Icon => "/player/icon.svg".into(),
        }
    }

    /// Near misses: the pieces of real paths in any order, with noise between.
    fn near_path() -> impl Strategy<Value = String> {
        let hash = BlobHash::of(b"near").to_string();
        let asset = AssetId::from_parts(1, 2).to_string();
        let piece = prop_oneof![
            Just("/".to_owned()),
            Just("blobs".to_owned()),
            Just("assets".to_owned()),
            Just("watch".to_owned()),
            Just(".m4s".to_owned()),
            Just(".block".to_owned()),
            Just("index.m3u8".to_owned()),
            Just("..".to_owned()),
            Just(hash[..2].to_owned()),
            Just(hash),
            Just(asset),
            "[ -~]{0,4}",
        ];
        proptest::collection::vec(piece, 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn any_text_is_routed_or_refused_and_has_one_spelling(path in prop_oneof![".{0,80}", near_path()]) {
            if let Ok(resource) = get(&path) {
                prop_assert_eq!(path_of(&resource), path);
            }
        }

        #[test]
        fn every_blob_for_viewers_is_reachable(bytes: [u8; 32], asset_ms in 0u64..1 << 48, random: u128) {
            let hash = BlobHash::from_digest(bytes);
            for kind in BlobKind::ALL {
                if let Some(blob) = PublicBlob::new(hash, kind) {
                    prop_assert_eq!(get(&path_of(&Resource::Blob(blob))), Ok(Resource::Blob(blob)));
                }
            }
            let page = Resource::EmbedPage(AssetId::from_parts(asset_ms, random));
            prop_assert_eq!(get(&path_of(&page)), Ok(page));
        }
    }
}
