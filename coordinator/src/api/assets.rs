//! Reading and deleting assets.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use reelmill_media::ids::{AssetId, InvalidId, TenantId};
use reelmill_platform::kv::Revision;
use reelmill_platform::purge::Mark;
use serde::{Deserialize, Serialize};

use super::Api;
use super::body::{Object, Parameters};
use super::keyring::Caller;
use super::problem::{Code, Problem};
use super::view;
use crate::state::{AboutPatch, Asset, Input, StageName};

/// Assets on a page unless said otherwise.
const PAGE: u32 = 50;
/// Assets on a page at most.
const MAX_PAGE: u32 = 200;
/// Records read at once for a page.
const READS_AT_ONCE: usize = 16;

/// `?limit=&after=`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<u32>,
    after: Option<AssetId>,
}

/// A page of assets, newest first.
#[derive(Debug, Serialize)]
struct AssetsView<'a> {
    assets: Vec<view::AssetView<'a>>,
    /// Give it as `after` for the next page; absent on the last.
    next: Option<AssetId>,
}

/// One asset, and what would take too long to say of many.
#[derive(Debug, Serialize)]
struct AssetAlone<'a> {
    #[serde(flatten)]
    asset: view::AssetView<'a>,
    /// Since when no edge serves it.
    taken_down_at: Option<Timestamp>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Parameters(page): Parameters<Page>,
) -> Result<Response, Problem> {
    let limit = page.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE) as usize;
    let ids = api.engine.assets.page(&tenant, page.after, limit).await?;
    let next = (ids.len() == limit).then(|| ids.last().copied()).flatten();
    let read: Vec<_> = stream::iter(ids)
        .map(|id| {
            let assets = api.engine.assets.clone();
            async move { assets.get(id).await }
        })
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    let there = read.into_iter().flatten().map(|(asset, _)| asset);
    let assets: Vec<Asset> = there.filter(|asset| asset.stage.name() != StageName::Deleted).collect();
    let shown = assets.iter().map(|asset| view::show(asset, None, api.edge_url.as_deref())).collect();
    Ok(fresh(Json(AssetsView { assets: shown, next })))
}

pub(super) async fn get(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (asset, _) = find(&api, &tenant, &id).await?;
    let progress = api.progress(&asset, &api.catalog.running(asset.id)).await;
    let tombstone = api.tombstones.get(&Mark::Asset(asset.id).to_string()).await?;
    let taken_down_at = tombstone.map(|(tombstone, _)| tombstone.at);
    let asset = view::show(&asset, progress.as_ref(), api.edge_url.as_deref());
    Ok(fresh(Json(AssetAlone { asset, taken_down_at })))
}

/// Changes what its owner says of an asset, by JSON merge patch (RFC 7396).
pub(super) async fn patch(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
    Object(patch): Object<AboutPatch>,
) -> Result<Response, Problem> {
    let (asset, _) = find(&api, &tenant, &id).await?;
    let id = asset.id;
    // Said before anything changes; what another change makes too much between the two is not taken either.
    asset.described(&patch)?;
    let asset = api.engine.feed(id, Input::Described(patch)).await?;
    Ok(fresh(Json(view::show(&asset, None, api.edge_url.as_deref()))))
}

/// Takes an asset away: on return nothing of it is published any more. Again, it does the same again.
pub(super) async fn delete(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (asset, _) = owned(&api, &tenant, &id).await?;
    api.engine.feed(asset.id, Input::Deleted).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) fn fresh(body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The asset that a path names, if it is the caller's and not deleted.
pub(super) async fn find(api: &Api, tenant: &TenantId, id: &str) -> Result<(Asset, Revision), Problem> {
    let (asset, revision) = owned(api, tenant, id).await?;
    match asset.stage.name() {
        StageName::Deleted => {
            Err(Problem::new(Code::AssetGone, format!("The asset {} was deleted.", asset.id)))
        }
        StageName::Uploading
        | StageName::Queued
        | StageName::Indexing
        | StageName::Processing
        | StageName::Ready
        | StageName::Failed => Ok((asset, revision)),
    }
}

async fn owned(api: &Api, tenant: &TenantId, id: &str) -> Result<(Asset, Revision), Problem> {
    let id: AssetId = id.parse().map_err(|e: InvalidId| Problem::new(Code::InvalidId, format!("{e}.")))?;
    let found = api.engine.assets.get(id).await?;
    found
        .filter(|(asset, _)| asset.tenant == *tenant)
        .ok_or_else(|| Problem::new(Code::UnknownAsset, format!("There is no asset {id}.")))
}
