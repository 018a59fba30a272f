//! `reelmill rm`: an asset goes.

use reelmill_media::ids::AssetId;
use reqwest::Method;

use crate::api::Api;

/// Deletes it, and says what becomes of it.
pub async fn run(api: &Api, asset: AssetId) -> anyhow::Result<()> {
    api.send(api.request(Method::DELETE, &format!("/v1/assets/{asset}"))).await?;
    println!("deleted: nobody can play it any more; what it alone has goes some days later");
    Ok(())
}
