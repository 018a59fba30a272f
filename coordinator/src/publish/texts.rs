//! The texts of a presentation, written and taken away.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use reelmill_media::hls;
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_media::keys;
use reelmill_media::presentation::{Presentation, Storyboard};
use reelmill_platform::store::StoreError;

use super::{PARALLEL, PublishError, Publisher, Turn};
use crate::storyboard::StoryboardError;

impl Publisher {
    pub(super) async fn write_texts(
        &self,
        presentation: &Presentation,
        playable: bool,
        turn: &mut Turn,
    ) -> Result<(), PublishError> {
        let id = presentation.asset;
        let target = presentation.target_duration;
        let named = |track| presentation.playlist_of(track);
        let media = presentation
            .tracks()
            .map(|track| (keys::media_playlist(id, named(track)), hls::media_playlist(track, target)));
        let iframes = presentation.lowest().map(|rendition| {
            let track = &rendition.track;
            (keys::iframe_playlist(id, named(track)), hls::iframe_playlist(track, target))
        });
        let storyboard = hls::storyboard(presentation).map(|text| (keys::storyboard(id), text));
        let texts = media.chain(iframes).chain(storyboard).map(|(key, text)| (key, Bytes::from(text)));
        let mut changed = self.put_changed(turn, texts.collect()).await?;
        if playable {
            changed |= self.write_index(presentation, turn).await?;
        }
        if changed {
            self.announce(id).await;
        }
        Ok(())
    }

    /// Writes what leads to the media playlists. Says whether there was anything to write.
    pub(super) async fn write_index(
        &self,
        presentation: &Presentation,
        turn: &mut Turn,
    ) -> Result<bool, PublishError> {
        let id = presentation.asset;
        let captions = presentation.captions.iter().map(|captions| {
            let text = hls::captions_playlist(captions, presentation.duration_micros);
            (keys::captions_playlist(id, &captions.hash), Bytes::from(text))
        });
        let index = Bytes::from(hls::multivariant_playlist(presentation));
        let described = Bytes::from(serde_json::to_vec::<Presentation>(presentation)?);
        let mut changed = self.put_changed(turn, captions.collect()).await?;
        changed |= self.put_changed(turn, vec![(keys::multivariant_playlist(id), index)]).await?;
        changed |= self.put_changed(turn, vec![(keys::presentation(id), described)]).await?;
        Ok(changed)
    }

    /// Whether there was anything to write.
    async fn put_changed(&self, turn: &mut Turn, texts: Vec<(String, Bytes)>) -> Result<bool, PublishError> {
        let changed: Vec<(String, BlobHash, Bytes)> = texts
            .into_iter()
            .map(|(key, text)| (key, BlobHash::of(&text), text))
            .filter(|(key, hash, _)| turn.written.get(key) != Some(hash))
            .collect();
        let any = !changed.is_empty();
        // Until the store says otherwise it is unknown what lies there.
        for (key, _, _) in &changed {
            turn.written.remove(key);
        }
        let mut puts =
            stream::iter(changed)
                .map(|(key, hash, text)| async move {
                    self.store.put_object(&key, text).await.map(|()| (key, hash))
                })
                .buffer_unordered(PARALLEL);
        while let Some((key, hash)) = puts.try_next().await? {
            turn.written.insert(key, hash);
        }
        Ok(any)
    }

    /// Tells edges to look again; without that they do so a little later.
    pub(super) async fn announce(&self, id: AssetId) {
        if let Err(error) = self.bus.publish_published(id).await {
            tracing::debug!(asset = %id, %error, "nobody was told of new playlists");
        }
    }

    /// A presentation without a storyboard plays as well as one with it: only a failing store is worth another try.
    pub(super) async fn draw(
        &self,
        id: AssetId,
        presentation: &Presentation,
    ) -> Result<Option<Storyboard>, PublishError> {
        match self.storyboards.draw(&presentation.thumbnails).await {
            Ok(drawn) => Ok(drawn),
            Err(
                error @ (StoryboardError::Store(
                    StoreError::NotFound { .. } | StoreError::Corrupt(_) | StoreError::TooLarge { .. },
                )
                | StoryboardError::Image(_)
                | StoryboardError::Size
                | StoryboardError::BrokeOff),
            ) => {
                tracing::warn!(asset = %id, %error, "there is no storyboard");
                Ok(None)
            }
            Err(StoryboardError::Store(error)) => Err(error.into()),
        }
    }

    /// Takes all texts about an asset away, those of earlier editions too.
    pub async fn withdraw(&self, id: AssetId) -> Result<(), PublishError> {
        self.store.delete_object(&keys::multivariant_playlist(id)).await?;
        let texts: Vec<_> = self.store.list(&keys::published(id)).try_collect().await?;
        stream::iter(texts)
            .map(async |text| self.store.delete_object(&text.key).await)
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await?;
        self.announce(id).await;
        Ok(())
    }
}
