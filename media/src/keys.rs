//! Where things lie in the object store.
//!
//! ```text
//! blobs/<hh>/<hash>.<ext>          immutable
//! blobs/<hh>/<hash>.<ext>.tree     hashes of its pieces, beside a large segment
//! assets/<asset>/index.m3u8        multivariant playlist
//! assets/<asset>/<rendition>.m3u8  media playlists
//! assets/<asset>/c-<hash>.m3u8     captions of one language, by the beginning of their blob's hash
//! assets/<asset>/storyboard.vtt    which part of which sprite sheet shows which time
//! assets/<asset>/presentation.json all of the above, typed
//! assets/<asset>/past-<n>.json     the same of an earlier edition, for a while; its media playlists stay as long
//! twins/<tenant>/…                 which asset has been made of the same bytes
//! records/<asset>.json             what is known of an asset, should NATS be lost
//! settings/<bucket>/<key>.json     what people have said: policies, takedowns, profiles
//! trash/<hh>/<hash>.<ext>          blobs that nothing names, for a while
//! ```

use std::fmt;

use crate::ids::{AssetId, BlobHash, TenantId};
use crate::presentation::Edition;

/// What a blob holds; decides its extension and its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlobKind {
    /// A piece of an uploaded source. Never served by an edge.
    SourceBlock,
    /// A block list, source index or plan. Never served by an edge.
    Record,
    /// `ftyp` + `moov` of a rendition.
    InitSegment,
    /// A media segment.
    Segment,
    /// A poster, a thumbnail or a sprite sheet.
    Image,
    /// Captions in one language.
    Captions,
}

impl BlobKind {
    /// Every kind.
    pub const ALL: [BlobKind; 6] = [
        BlobKind::SourceBlock,
        BlobKind::Record,
        BlobKind::InitSegment,
        BlobKind::Segment,
        BlobKind::Image,
        BlobKind::Captions,
    ];

    /// File name extension, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            BlobKind::SourceBlock => "block",
            BlobKind::Record => "record",
            BlobKind::InitSegment => "mp4",
            BlobKind::Segment => "m4s",
            BlobKind::Image => "jpg",
            BlobKind::Captions => "vtt",
        }
    }

    /// The media type an edge serves it with; `None` for what is not for viewers.
    pub const fn public_media_type(self) -> Option<&'static str> {
        match self {
            BlobKind::SourceBlock | BlobKind::Record => None,
            BlobKind::InitSegment => Some("video/mp4"),
            BlobKind::Segment => Some("video/iso.segment"),
            BlobKind::Image => Some("image/jpeg"),
            BlobKind::Captions => Some(WEBVTT_MEDIA_TYPE),
        }
    }

    /// The kind with this extension.
    pub fn from_extension(extension: &str) -> Option<BlobKind> {
        Self::ALL.into_iter().find(|kind| kind.extension() == extension)
    }
}

/// Media type of both kinds of playlist (RFC 8216bis §10).
pub const PLAYLIST_MEDIA_TYPE: &str = "application/vnd.apple.mpegurl";

/// Media type of captions and of a storyboard (WebVTT §1.5).
pub const WEBVTT_MEDIA_TYPE: &str = "text/vtt";

/// `blobs/<hh>/<hash>.<ext>`
pub fn blob(hash: &BlobHash, kind: BlobKind) -> String {
    let hex = hash.to_string();
    format!("blobs/{}/{hex}.{}", &hex[..2], kind.extension())
}

/// `blobs/<hh>/<hash>.<ext>.tree`: what proves a blob piece by piece.
pub fn hash_tree(hash: &BlobHash, kind: BlobKind) -> String {
    format!("{}.tree", blob(hash, kind))
}

/// Folder of all blobs whose hash begins with this byte.
pub fn blobs_beginning(first: u8) -> String {
    format!("blobs/{first:02x}")
}

/// Folder of those of them that are in the trash.
pub fn trash_beginning(first: u8) -> String {
    format!("trash/{first:02x}")
}

/// `trash/<hh>.since`: put before anything is moved there, so that its age is that of the newest thing in it, or more.
pub fn trash_since(first: u8) -> String {
    format!("trash/{first:02x}.since")
}

/// `trash/last-collection.json`
pub const LAST_COLLECTION: &str = "trash/last-collection.json";

/// Where what lies at a blob's key, or beside it, goes when nothing names the blob.
pub fn in_trash(key: &str) -> Option<String> {
    key.strip_prefix("blobs/").map(|rest| format!("trash/{rest}"))
}

/// Where something in the trash came from.
pub fn out_of_trash(key: &str) -> Option<String> {
    key.strip_prefix("trash/").map(|rest| format!("blobs/{rest}"))
}

/// The blob that a key names, in its place or in the trash; also where the key is that of its hash tree.
pub fn hash_of(key: &str) -> Option<BlobHash> {
    let (_, name) = key.rsplit_once('/')?;
    name.split_once('.')?.0.parse().ok()
}

/// Folder of the records.
pub const RECORDS: &str = "records";

/// `records/<asset>.json`
pub fn record(asset: AssetId) -> String {
    format!("{RECORDS}/{asset}.json")
}

/// `settings/<bucket>`
pub fn settings(bucket: &str) -> String {
    format!("settings/{bucket}")
}

/// `settings/<bucket>/<key>.json`
pub fn setting(bucket: &str, key: &str) -> String {
    format!("settings/{bucket}/{key}.json")
}

/// The key of a setting in its bucket.
pub fn setting_of(key: &str) -> Option<&str> {
    key.split('/').nth(2)?.strip_suffix(".json")
}

/// Folder of what is published.
pub const ASSETS: &str = "assets";

/// `assets/<asset>`: folder of what is published of an asset.
pub fn published(asset: AssetId) -> String {
    format!("{ASSETS}/{asset}")
}

/// The asset that a key in [`RECORDS`] or [`ASSETS`] is about.
pub fn asset_of(key: &str) -> Option<AssetId> {
    key.split('/').nth(1)?.trim_end_matches(".json").parse().ok()
}

/// A blob as an asset's playlist refers to it. Relative, so that any web server over the store's folder will do.
pub fn blob_from_playlist(hash: &BlobHash, kind: BlobKind) -> String {
    format!("../../{}", blob(hash, kind))
}

/// `assets/<asset>/index.m3u8`
pub fn multivariant_playlist(asset: AssetId) -> String {
    format!("assets/{asset}/index.m3u8")
}

/// The file name of a media playlist, from the rendition's name among the asset's playlists.
pub fn media_playlist_name(playlist: impl fmt::Display) -> String {
    format!("{playlist}.m3u8")
}

/// `assets/<asset>/<rendition>.m3u8`
pub fn media_playlist(asset: AssetId, playlist: impl fmt::Display) -> String {
    format!("assets/{asset}/{}", media_playlist_name(playlist))
}

/// The file name of a rendition's I-frame playlist.
pub fn iframe_playlist_name(playlist: impl fmt::Display) -> String {
    format!("{playlist}-iframes.m3u8")
}

/// `assets/<asset>/<rendition>-iframes.m3u8`
pub fn iframe_playlist(asset: AssetId, playlist: impl fmt::Display) -> String {
    format!("assets/{asset}/{}", iframe_playlist_name(playlist))
}

/// The name of the playlist of captions among the asset's media playlists: another one for other words, so that no cache
/// ever holds an old one.
pub fn captions_playlist_name(captions: &BlobHash) -> String {
    /// Enough to tell the captions of one asset apart.
    const DIGITS: usize = 16;
    format!("c-{}.m3u8", &captions.to_string()[..DIGITS])
}

/// `assets/<asset>/c-<hash>.m3u8`
pub fn captions_playlist(asset: AssetId, captions: &BlobHash) -> String {
    format!("assets/{asset}/{}", captions_playlist_name(captions))
}

/// `assets/<asset>/storyboard.vtt`
pub fn storyboard(asset: AssetId) -> String {
    format!("assets/{asset}/storyboard.vtt")
}

/// `twins/<tenant>/<source>-<profile>.json`: which asset has been made of this block list by this profile.
pub fn twin(tenant: &TenantId, source: &BlobHash, profile: &BlobHash) -> String {
    format!("twins/{tenant}/{source}-{profile}.json")
}

/// `assets/<asset>/presentation.json`
pub fn presentation(asset: AssetId) -> String {
    format!("assets/{asset}/presentation.json")
}

/// `assets/<asset>/past-<n>.json`
pub fn past(asset: AssetId, edition: Edition) -> String {
    format!("assets/{asset}/past-{}.json", edition.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_what_they_are_about() {
        let (hash, asset) = (BlobHash::of(b"x"), AssetId::from_parts(1, 2));
        let blob = blob(&hash, BlobKind::Segment);
        assert!(blob.starts_with(&format!("{}/", blobs_beginning(hash.digest()[0]))));
        for key in [blob.clone(), hash_tree(&hash, BlobKind::Segment)] {
            assert_eq!(hash_of(&key), Some(hash));
            let trash = in_trash(&key).unwrap();
            assert!(trash.starts_with(&format!("{}/", trash_beginning(hash.digest()[0]))));
            assert_eq!((hash_of(&trash), out_of_trash(&trash)), (Some(hash), Some(key)));
        }
        for strange in ["", "blobs/aa/x.m4s", "blobs/aa", "health"] {
            assert_eq!(hash_of(strange), None);
        }
        assert_eq!(asset_of(&record(asset)), Some(asset));
        assert_eq!(asset_of(&presentation(asset)), Some(asset));
        assert_eq!(asset_of("records/x.json"), None);
        assert_eq!(setting_of(&setting("policies", "asset.x")), Some("asset.x"));
    }
}
