//! `reelmill publish`: another edition of an asset, by another profile.

use std::path::Path;

use anyhow::{Context, bail};
use reelmill_media::ids::AssetId;
use reqwest::{Method, header};

use crate::api::Api;
use crate::watch;

/// Asks for it, and watches it being made.
pub async fn run(api: &Api, asset: AssetId, profile: &Path) -> anyhow::Result<()> {
    let text =
        tokio::fs::read(profile).await.with_context(|| format!("cannot read {}", profile.display()))?;
    let request = api.request(Method::PUT, &format!("/v1/assets/{asset}/profile"));
    api.send(request.header(header::CONTENT_TYPE, "application/json").body(text)).await?;
    let asset = watch::run(api, asset).await?;
    if let Some(abandoned) = asset.abandoned {
        let error = abandoned.error;
        bail!("viewers keep what they had: {} ({})", error.reason, error.code);
    }
    Ok(())
}
