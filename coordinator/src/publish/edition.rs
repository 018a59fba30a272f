//! What stands: the presentation that viewers have, and how another edition takes its place.
//!
//! The playlists of an edition have names of their own, and the multivariant one, which all editions share, is written when
//! they are there: so players have one edition or the other. That of before is put aside as it was, and what it names
//! stays until it is collected, for those who are watching it.

use bytes::Bytes;
use reelmill_media::ids::AssetId;
use reelmill_media::keys;
use reelmill_media::presentation::{Edition, Past, Presentation, Track};
use reelmill_platform::store::StoreError;

use super::{MAX_PRESENTATION_BYTES, PublishError, Publisher, Shown, Turn};
use crate::state::Asset;

/// Whether more is published than this: by a later edition, or of a job that is done again because NATS was lost. Players
/// keep what they have until as much is there.
pub(super) fn has_more(standing: &Presentation, presentation: &Presentation) -> bool {
    if standing.edition != presentation.edition {
        return standing.edition > presentation.edition || !presentation.complete;
    }
    let has = |track: &Track| {
        presentation.tracks().any(|t| t.id == track.id && t.segments.len() >= track.segments.len())
    };
    !standing.tracks().all(has) || (standing.complete && !presentation.complete)
}

impl Publisher {
    /// What is published of an asset.
    pub(super) async fn standing(&self, id: AssetId) -> Result<Option<Presentation>, PublishError> {
        let text = match self.store.get_object(&keys::presentation(id), MAX_PRESENTATION_BYTES).await {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            text => text?,
        };
        let presentation = serde_json::from_slice::<Presentation>(&text).ok();
        Ok(presentation.filter(|presentation| presentation.asset == id))
    }

    /// The same, if it is this edition and every segment of it is there.
    async fn whole(&self, id: AssetId, edition: Edition) -> Result<Option<Presentation>, PublishError> {
        let standing = self.standing(id).await?;
        Ok(standing.filter(|standing| standing.complete && standing.edition == edition))
    }

    /// Makes room for an edition. Gives those before it that are still there.
    pub(super) async fn put_aside(
        &self,
        standing: Presentation,
        edition: Edition,
    ) -> Result<Vec<Past>, PublishError> {
        if standing.edition == edition {
            return Ok(standing.past);
        }
        let id = standing.asset;
        let text = Bytes::from(serde_json::to_vec(&standing)?);
        self.store.put_object(&keys::past(id, standing.edition), text).await?;
        let newest = standing.as_past();
        let mut past = Vec::new();
        for earlier in standing.past {
            if self.store.modified(&keys::past(id, earlier.edition)).await?.is_some() {
                past.push(earlier);
            }
        }
        past.push(newest);
        Ok(past)
    }

    /// Writes what names captions, of an asset of which all else was published for good.
    pub(super) async fn write_captions(&self, asset: &Asset, turn: &mut Turn) -> Result<Shown, PublishError> {
        let complete = asset.standing.is_none();
        if let Some(presentation) = self.whole(asset.id, asset.shown_edition()).await? {
            let presentation = Presentation { captions: asset.captions.clone(), ..presentation };
            if self.write_index(&presentation, turn).await? {
                self.announce(asset.id).await;
            }
        }
        Ok(Shown { playable: true, complete })
    }

    /// Publishes under another asset what was made of the same bytes. Says whether there was anything whole.
    pub async fn publish_again(&self, from: &Asset, to: &Asset) -> Result<bool, PublishError> {
        let Some(presentation) = self.whole(from.id, from.edition).await? else { return Ok(false) };
        let presentation = Presentation {
            asset: to.id,
            edition: to.edition,
            past: Vec::new(),
            captions: to.captions.clone(),
            ..presentation
        };
        let active = self.active.get_with(to.id, async { Default::default() }).await;
        self.write_texts(&presentation, true, &mut *active.turn.lock().await).await?;
        Ok(true)
    }
}
