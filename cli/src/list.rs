//! Lists assets.

use console::{Alignment, pad_str, style};
use reqwest::Method;

use crate::api::{Api, Asset, AssetState, Page};
use crate::length::length;

/// One line an asset, newest first.
pub async fn run(api: &Api) -> anyhow::Result<()> {
    let page: Page = api.send(api.request(Method::GET, "/v1/assets?limit=100")).await?.json().await?;
    if page.assets.is_empty() {
        println!("nothing here yet: reelmill upload FILE");
    }
    for asset in &page.assets {
        let length = asset.duration_seconds.map(length).unwrap_or_default();
        let state = state(asset);
        // Colours take no room.
        let state = pad_str(&state, 16, Alignment::Left, None);
        let name = asset.name.as_deref().unwrap_or("-");
        println!("{}  {}  {length:>8}  {state}  {name}", asset.id, asset.begun());
    }
    Ok(())
}

/// Where an asset is on its way, in a word or two.
pub fn state(asset: &Asset) -> String {
    let percent = (asset.progress * 100.0) as u32;
    match asset.state {
        AssetState::Uploading => "uploading".to_owned(),
        AssetState::Queued => "queued".to_owned(),
        AssetState::Indexing => "indexing".to_owned(),
        AssetState::Processing => format!("processing {percent} %"),
        AssetState::Ready => style("ready").green().to_string(),
        AssetState::Deleted => style("deleted").dim().to_string(),
        AssetState::Failed => {
            let code = asset.error.as_ref().map(|e| e.code.as_str()).unwrap_or_default();
            style(format!("failed {code}")).red().to_string()
        }
    }
}
