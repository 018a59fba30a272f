//! Which assets name a blob, as far as that limits who may have it.
//!
//! Blobs are named by content, so nothing in a blob's address says whose it is. An edge therefore reads the texts of every
//! asset that is not for everyone and remembers the blobs named there, at about 100 bytes each. An asset for everyone is
//! remembered only beside such a blob: what one asset shows to all is no secret of another.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use moka::sync::Cache;
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_platform::named;

use crate::conditional::EntityTag;
use crate::limits::NAMING_TEXTS;
use crate::playlists::Text;
use crate::route::MutableObject;

#[derive(Debug)]
pub(super) struct Naming {
    by_blob: RwLock<HashMap<BlobHash, Vec<AssetId>>>,
    /// Texts that were read, and whether as a limited asset's, so that each is read once.
    read: Cache<MutableObject, (EntityTag, bool)>,
}

impl Naming {
    pub(super) fn new() -> Self {
        Self { by_blob: RwLock::default(), read: Cache::new(NAMING_TEXTS) }
    }

    /// The assets that name a blob; none when no limited one does.
    pub(super) fn of(&self, blob: BlobHash) -> Vec<AssetId> {
        let by_blob = self.by_blob.read().unwrap_or_else(PoisonError::into_inner);
        by_blob.get(&blob).cloned().unwrap_or_default()
    }

    /// Reads a text, unless it is known. Says whether it was new.
    pub(super) fn read(&self, object: &MutableObject, text: &Text, limited: bool) -> bool {
        if self.read.get(object) == Some((text.tag(), limited)) {
            return false;
        }
        let asset = object.asset();
        {
            let mut by_blob = self.by_blob.write().unwrap_or_else(PoisonError::into_inner);
            for blob in named::blobs(text.bytes()) {
                let assets = match limited {
                    true => Some(by_blob.entry(blob).or_default()),
                    false => by_blob.get_mut(&blob),
                };
                if let Some(assets) = assets
                    && !assets.contains(&asset)
                {
                    assets.push(asset);
                }
            }
        }
        // Last: until then the text counts as not read.
        self.read.insert(object.clone(), (text.tag(), limited));
        true
    }

    /// What limits assets has changed: texts of others may name the same blobs, or their own may count from now on.
    pub(super) fn read_again(&self) {
        self.read.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn text(blobs: &[BlobHash]) -> Text {
        let lines = blobs.iter().map(|blob| format!("../../blobs/{}/{blob}.m4s\n", &blob.to_string()[..2]));
        Text::new(Bytes::from(lines.collect::<String>()))
    }

    #[test]
    fn a_text_that_was_read_as_everyones_is_read_again_when_it_is_limited() {
        let naming = Naming::new();
        let (asset, blob) = (AssetId::from_parts(1, 1), BlobHash::of(b"blob"));
        let (object, text) = (MutableObject::Presentation(asset), text(&[blob]));
        naming.read(&object, &text, false);
        naming.read(&object, &text, true);
        assert_eq!(naming.of(blob), [asset]);
    }

    #[test]
    fn blobs_of_limited_assets_are_known_and_shared_ones_with_all_who_show_them() {
        let naming = Naming::new();
        let (limited, open) = (AssetId::from_parts(1, 1), AssetId::from_parts(2, 2));
        let (own, shared, other) = (BlobHash::of(b"own"), BlobHash::of(b"shared"), BlobHash::of(b"other"));
        let (a, b) = (MutableObject::Presentation(limited), MutableObject::Presentation(open));
        naming.read(&b, &text(&[shared, other]), false);
        assert!(naming.of(shared).is_empty());
        naming.read(&a, &text(&[own, shared]), true);
        naming.read_again();
        naming.read(&b, &text(&[shared, other]), false);
        assert_eq!(naming.of(own), [limited]);
        assert_eq!(naming.of(shared), [limited, open]);
        assert!(naming.of(other).is_empty());
    }
}
