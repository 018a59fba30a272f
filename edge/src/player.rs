//! The built-in player: two static pages, one script, one style sheet and hls.js, all part of the program.
//!
//! The pages hold nothing of the asset they show; the script reads its id from the address. So there is no template,
//! and nothing a name could inject.

use std::sync::OnceLock;

use reelmill_media::ids::BlobHash;

use crate::conditional::EntityTag;

/// A file of the player.
#[derive(Debug)]
pub struct PlayerFile {
    /// Its content.
    pub bytes: &'static [u8],
    /// Its `Content-Type`.
    pub media_type: &'static str,
    /// Its `Cache-Control`.
    pub cache_control: &'static str,
    /// For pages, what they may load (CSP level 3).
    pub content_security_policy: Option<&'static str>,
    tag: OnceLock<EntityTag>,
}

impl PlayerFile {
    /// Its entity tag.
    pub fn tag(&self) -> EntityTag {
        *self.tag.get_or_init(|| EntityTag::of(BlobHash::of(self.bytes)))
    }
}

/// hls.js runs its demuxer in a worker made from a blob, and feeds the video element through one.
macro_rules! policy {
    ($ancestors:literal) => {
        concat!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; ",
            "media-src 'self' blob:; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors ",
            $ancestors
        )
    };
}

/// A browser asks again each time and is told 304: a new version of the edge shows at once.
const REVALIDATED: &str = "public, no-cache";

/// `/watch/<asset>`
pub static WATCH_PAGE: PlayerFile = PlayerFile {
    bytes: include_bytes!("../player/watch.html"),
    media_type: "text/html; charset=utf-8",
    cache_control: REVALIDATED,
    content_security_policy: Some(policy!("'none'")),
    tag: OnceLock::new(),
};

/// `/embed/<asset>`
pub static EMBED_PAGE: PlayerFile = PlayerFile {
    bytes: include_bytes!("../player/embed.html"),
    media_type: "text/html; charset=utf-8",
    cache_control: REVALIDATED,
    content_security_policy: Some(policy!("*")),
    tag: OnceLock::new(),
};

/// `/player/player.js`
pub static SCRIPT: PlayerFile = PlayerFile {
    bytes: include_bytes!("../player/player.js"),
    media_type: "text/javascript; charset=utf-8",
    cache_control: REVALIDATED,
    content_security_policy: None,
    tag: OnceLock::new(),
};

/// `/player/player.css`
pub static STYLE: PlayerFile = PlayerFile {
    bytes: include_bytes!("../player/player.css"),
    media_type: "text/css; charset=utf-8",
    cache_control: REVALIDATED,
    content_security_policy: None,
    tag: OnceLock::new(),
};

/// `/player/hls.min.js`
pub static HLS_SCRIPT: PlayerFile = PlayerFile {
    bytes: include_bytes!("../player/node_modules/hls.js/dist/hls.min.js"),
    media_type: "text/javascript; charset=utf-8",
    cache_control: REVALIDATED,
    content_security_policy: None,
    tag: OnceLock::new(),
};

/// `/player/icon.svg`
pub static ICON: PlayerFile = PlayerFile {
    bytes: include_bytes!("../player/icon.svg"),
    media_type: "image/svg+xml",
    cache_control: REVALIDATED,
    content_security_policy: None,
    tag: OnceLock::new(),
};
