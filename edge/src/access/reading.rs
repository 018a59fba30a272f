//! Reads the texts of assets that are not for everyone, to know which blobs are theirs.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reelmill_media::ids::AssetId;
use reelmill_platform::named;

use super::Access;
use crate::limits::NAMING_AT_ONCE;
use crate::playlists::{Playlists, TextError};
use crate::route::MutableObject;

/// Reads them, of all these assets; gives those of which they could not be read.
pub(super) async fn read(
    access: Access,
    playlists: Playlists,
    assets: BTreeSet<AssetId>,
) -> BTreeSet<AssetId> {
    let (access, playlists) = (&access, &playlists);
    stream::iter(assets)
        .map(|asset| async move { read_one(access, playlists, asset).await.err().map(|_| asset) })
        .buffer_unordered(NAMING_AT_ONCE)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .flatten()
        .collect()
}

async fn read_one(access: &Access, playlists: &Playlists, asset: AssetId) -> Result<(), TextError> {
    let index = read_text(access, playlists, MutableObject::MultivariantPlaylist(asset)).await?;
    let presentation = read_text(access, playlists, MutableObject::Presentation(asset)).await?;
    // The presentation names the playlists of earlier editions, which some may still be watching.
    for playlist in named::media_playlists(&index).chain(named::media_playlists(&presentation)) {
        read_text(access, playlists, MutableObject::MediaPlaylist(asset, playlist)).await?;
    }
    Ok(())
}

async fn read_text(
    access: &Access,
    playlists: &Playlists,
    object: MutableObject,
) -> Result<Bytes, TextError> {
    match playlists.get(&object).await.0 {
        Ok(text) => {
            access.0.naming.read(&object, &text, true);
            Ok(text.bytes().clone())
        }
        // Not yet, or not any more: nobody can learn a name from it.
        Err(TextError::Absent | TextError::Purged) => Ok(Bytes::new()),
        Err(error) => {
            tracing::warn!(key = object.key(), %error, "cannot read which blobs are not for everyone");
            Err(error)
        }
    }
}
