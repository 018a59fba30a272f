//! Where things lie in the object store.
//!
//! ```text
//! blobs/<hh>/<hash>.<ext>          immutable
//! blobs/<hh>/<hash>.<ext>.tree     hashes of its pieces, beside a large segment
//! assets/<asset>/index.m3u8        multivariant playlist
//! assets/<asset>/<rendition>.m3u8  media playlists
//! assets/<asset>/storyboard.vtt    which part of which sprite sheet shows which time
//! assets/<asset>/presentation.json all of the above, typed
//! twins/<tenant>/…                 which asset has been made of the same bytes
//! ```

use crate::ids::{AssetId, BlobHash, RenditionId, TenantId};

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
}

impl BlobKind {
    /// Every kind.
    pub const ALL: [BlobKind; 5] =
        [BlobKind::SourceBlock, BlobKind::Record, BlobKind::InitSegment, BlobKind::Segment, BlobKind::Image];

    /// File name extension, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            BlobKind::SourceBlock => "block",
            BlobKind::Record => "record",
            BlobKind::InitSegment => "mp4",
            BlobKind::Segment => "m4s",
            BlobKind::Image => "jpg",
        }
    }

    /// The media type an edge serves it with; `None` for what is not for viewers.
    pub const fn public_media_type(self) -> Option<&'static str> {
        match self {
            BlobKind::SourceBlock | BlobKind::Record => None,
            BlobKind::InitSegment => Some("video/mp4"),
            BlobKind::Segment => Some("video/iso.segment"),
            BlobKind::Image => Some("image/jpeg"),
        }
    }

    /// The kind with this extension.
    pub fn from_extension(extension: &str) -> Option<BlobKind> {
        Self::ALL.into_iter().find(|kind| kind.extension() == extension)
    }
}

/// Media type of both kinds of playlist (RFC 8216bis §10).
pub const PLAYLIST_MEDIA_TYPE: &str = "application/vnd.apple.mpegurl";

/// Media type of a storyboard (WebVTT §1.5).
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

/// A blob as an asset's playlist refers to it. Relative, so that any web server over the store's folder will do.
pub fn blob_from_playlist(hash: &BlobHash, kind: BlobKind) -> String {
    format!("../../{}", blob(hash, kind))
}

/// `assets/<asset>/index.m3u8`
pub fn multivariant_playlist(asset: AssetId) -> String {
    format!("assets/{asset}/index.m3u8")
}

/// `assets/<asset>/<rendition>.m3u8`
pub fn media_playlist(asset: AssetId, rendition: &RenditionId) -> String {
    format!("assets/{asset}/{rendition}.m3u8")
}

/// The name of a rendition's I-frame playlist among the asset's media playlists.
pub fn iframe_playlist_name(rendition: &RenditionId) -> String {
    format!("{rendition}-iframes.m3u8")
}

/// `assets/<asset>/<rendition>-iframes.m3u8`
pub fn iframe_playlist(asset: AssetId, rendition: &RenditionId) -> String {
    format!("assets/{asset}/{}", iframe_playlist_name(rendition))
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
