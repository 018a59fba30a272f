//! `reelmill publish`: another edition of an asset, by another profile.

use anyhow::bail;
use reelmill_media::ids::AssetId;
use reqwest::{Method, StatusCode, header};
use serde_json::json;

use crate::api::{Api, Asset, AssetState};
use crate::profile::Choice;
use crate::watch;

/// Asks for it, and watches it being made.
pub async fn run(api: &Api, asset: AssetId, profile: &Choice) -> anyhow::Result<()> {
    let text = match profile {
        Choice::Named(name) => json!({ "profile": name }).to_string(),
        Choice::File(_) => profile.text().await?,
    };
    let request = api.request(Method::PUT, &format!("/v1/assets/{asset}/profile"));
    let answer = api.send(request.header(header::CONTENT_TYPE, "application/json").body(text)).await?;
    let is_known = answer.status() == StatusCode::OK;
    if is_known && answer.json::<Asset>().await?.state == AssetState::Ready {
        println!("this profile is what it is made by");
        println!("{}", api.player(asset));
        return Ok(());
    }
    let asset = watch::run(api, asset).await?;
    if let Some(abandoned) = asset.abandoned {
        let error = abandoned.error;
        bail!("viewers keep what they had: {} ({})", error.reason, error.code);
    }
    Ok(())
}
