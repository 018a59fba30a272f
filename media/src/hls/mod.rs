//! HLS texts (RFC 8216bis): a presentation's multivariant playlist and one media playlist per track and
//! per language of captions.

mod bandwidth;
mod media_playlist;
mod multivariant;
mod storyboard;
mod subtitles;

pub use media_playlist::{iframe_playlist, media_playlist};
pub use multivariant::multivariant_playlist;
pub use storyboard::storyboard;
pub use subtitles::captions_playlist;

/// EXT-X-MAP outside I-frame playlists needs 6 (RFC 8216bis §8); nothing here needs more.
const VERSION: u8 = 6;
