//! Takedowns, and the trail of who asked for which.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use reelmill_media::ids::{AssetId, BlobHash, TenantId};
use reelmill_media::keys::{self, BlobKind};
use reelmill_platform::access::{KeyId, TokenKey};
use reelmill_platform::named;
use reelmill_platform::purge::{Purge, Standing, Subject, Target, Tombstone};
use reelmill_platform::receipt::{EdgeKey, Judged, Receipt};
use reelmill_platform::store::StoreError;
use reelmill_platform::topology::BucketName;
use serde::{Deserialize, Serialize};

use super::Api;
use super::body::Object;
use super::keyring::Caller;
use super::problem::{Code, Problem};
use crate::publish::MAX_PRESENTATION_BYTES;

/// Longest reason, in characters.
const MAX_REASON_CHARS: usize = 250;
/// Tombstones put up at once.
const AT_ONCE: usize = 16;
/// A tenant's assets, asked for page by page.
const PAGE: usize = 1000;
/// Receipts are shown of so many tombstones.
const MAX_SHOWN: usize = 100;

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    subject: Subject,
    reason: String,
}

/// A purge with what edges say of it.
#[derive(Debug, Serialize)]
struct View {
    #[serde(flatten)]
    purge: Purge,
    receipts: Vec<Judged>,
}

/// The trail, newest first.
#[derive(Debug, Serialize)]
struct Trail {
    purges: Vec<Purge>,
}

/// Takes down. Asked again, it does the same again, under another id.
pub(super) async fn create(
    State(api): State<Api>,
    Caller(caller): Caller,
    Object(Asked { subject, reason }): Object<Asked>,
) -> Result<Response, Problem> {
    let says_something = reason.chars().any(|char| char > ' ');
    if !says_something || reason.chars().count() > MAX_REASON_CHARS {
        let detail = format!("Say why, in at most {MAX_REASON_CHARS} characters.");
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    let whole = api.operator.as_ref() == Some(&caller);
    if !whole {
        check_right(&api, &caller, &subject).await?;
    }
    let trail = api.engine.bus.bucket::<Purge>(BucketName::Purges).await?;
    let mut purge = Purge::begin(subject, reason.trim().to_owned(), caller, Timestamp::now());
    // First of all, so that nothing is ever taken down without a trace.
    trail.put(&purge.id, &purge).await?;
    let targets = targets(&api, &purge.subject, whole).await?;
    let standing: Vec<Standing> = stream::iter(targets)
        .map(|target| put_up(&api, target, purge.reason.clone()))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    // Numbers and texts always serialise.
    let list = serde_json::to_vec(&standing).unwrap_or_default();
    purge.tombstones = standing.len() as u64;
    purge.list = Some(api.engine.store.put_blob(BlobKind::Record, list.into()).await?);
    trail.put(&purge.id, &purge).await?;
    tracing::info!(id = purge.id, by = %purge.by, subject = ?purge.subject, "purged");
    let mut response = (StatusCode::CREATED, Json(&purge)).into_response();
    let location = HeaderValue::try_from(format!("/v1/purges/{}", purge.id));
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The trail: all of it for the operator, a tenant's own part for the tenant.
pub(super) async fn list(State(api): State<Api>, Caller(caller): Caller) -> Result<Response, Problem> {
    let trail = api.engine.bus.bucket::<Purge>(BucketName::Purges).await?;
    let all = api.operator.as_ref() == Some(&caller);
    let mut purges: Vec<Purge> = trail.list("*").await?.into_iter().map(|(_, purge)| purge).collect();
    purges.retain(|purge| all || purge.by == caller);
    purges.reverse();
    Ok(fresh(Json(Trail { purges })))
}

/// One purge and the receipts for it.
pub(super) async fn get(
    State(api): State<Api>,
    Caller(caller): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let unknown = || Problem::new(Code::UnknownPurge, "There is no such purge.");
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(unknown());
    }
    let trail = api.engine.bus.bucket::<Purge>(BucketName::Purges).await?;
    let all = api.operator.as_ref() == Some(&caller);
    let found = trail.get(&id).await?.map(|(purge, _)| purge).filter(|purge| all || purge.by == caller);
    let purge = found.ok_or_else(unknown)?;
    let mut receipts = Vec::new();
    if let Some(list) = purge.list {
        let record = api.engine.store.get_blob(BlobKind::Record, list).await?;
        let standing: Vec<Standing> = serde_json::from_slice(record.bytes())
            .map_err(|_| Problem::new(Code::Internal, "The list of tombstones cannot be read."))?;
        let bucket = api.engine.bus.bucket::<Receipt>(BucketName::Receipts).await?;
        let keys = api.engine.bus.bucket::<EdgeKey>(BucketName::EdgeKeys).await?;
        for Standing { mark, revision } in standing.iter().take(MAX_SHOWN) {
            for (key, receipt) in bucket.list(&Receipt::all_for(mark, *revision)).await? {
                receipts.push(receipt.judge(&key, &keys).await?);
            }
        }
    }
    Ok(fresh(Json(View { purge, receipts })))
}

/// What anybody but the operator may take down: what is theirs.
async fn check_right(api: &Api, caller: &TenantId, subject: &Subject) -> Result<(), Problem> {
    match subject {
        Subject::Asset { asset } => {
            let found = api.engine.assets.get(*asset).await?;
            let own = found.is_some_and(|(asset, _)| asset.tenant == *caller);
            own.then_some(())
                .ok_or_else(|| Problem::new(Code::UnknownAsset, format!("There is no asset {asset}.")))
        }
        Subject::Tenant { tenant } if tenant == caller => Ok(()),
        Subject::Key { kid } => {
            let keys = api.engine.bus.bucket::<TokenKey>(BucketName::TokenKeys).await?;
            let found = keys.get(&kid.to_string()).await?;
            let own = found.is_some_and(|(key, _)| key.tenant.as_ref() == Some(caller));
            own.then_some(())
                .ok_or_else(|| Problem::new(Code::Forbidden, "This token key is not one of this tenant's."))
        }
        Subject::Blob { .. } | Subject::Tenant { .. } => {
            Err(Problem::new(Code::Forbidden, "Only the operator may take this down."))
        }
    }
}

/// What edges are to be told. `whole`: assets go with their blobs, also where another asset has the same bytes, so that
/// only the operator may say so.
async fn targets(api: &Api, subject: &Subject, whole: bool) -> Result<Vec<Target>, Problem> {
    match subject {
        Subject::Blob { hash } => Ok(vec![Target::Blob { hash: *hash }]),
        Subject::Asset { asset } => Ok(vec![asset_target(api, *asset, whole).await?]),
        Subject::Tenant { tenant } => {
            let mut assets: Vec<AssetId> = Vec::new();
            loop {
                let page = api.engine.assets.page(tenant, assets.last().copied(), PAGE).await?;
                let last = page.len() < PAGE;
                assets.extend(page);
                if last {
                    break;
                }
            }
            let targets = stream::iter(assets).map(|asset| asset_target(api, asset, whole));
            targets.buffered(AT_ONCE).try_collect().await
        }
        Subject::Key { kid } => {
            withdraw(api, kid).await?;
            Ok(vec![Target::Key { kid: kid.clone() }])
        }
    }
}

async fn withdraw(api: &Api, kid: &KeyId) -> Result<(), Problem> {
    let keys = api.engine.bus.bucket::<TokenKey>(BucketName::TokenKeys).await?;
    Ok(keys.remove(&kid.to_string()).await?)
}

async fn asset_target(api: &Api, asset: AssetId, whole: bool) -> Result<Target, Problem> {
    let blobs = if whole { named_by(api, asset).await? } else { None };
    Ok(Target::Asset { asset, blobs })
}

/// Stores the list of blobs that an asset's texts name; `None` where there is no text any more, so that a tombstone from
/// when there were some stays as it is.
async fn named_by(api: &Api, asset: AssetId) -> Result<Option<BlobHash>, Problem> {
    let mut blobs: Vec<BlobHash> = Vec::new();
    let mut texts = std::pin::pin!(api.engine.store.list(&keys::published(asset)));
    while let Some(listed) = texts.try_next().await? {
        blobs.extend(named::blobs(&text(api, &listed.key).await?));
    }
    if blobs.is_empty() {
        return Ok(None);
    }
    blobs.sort();
    blobs.dedup();
    let list = serde_json::to_vec(&blobs).unwrap_or_default();
    Ok(Some(api.engine.store.put_blob(BlobKind::Record, list.into()).await?))
}

/// A text of an asset; empty where there is none.
async fn text(api: &Api, key: &str) -> Result<Bytes, Problem> {
    match api.engine.store.get_object(key, MAX_PRESENTATION_BYTES).await {
        Ok(text) => Ok(text),
        Err(StoreError::NotFound { .. }) => Ok(Bytes::new()),
        Err(error) => Err(error.into()),
    }
}

async fn put_up(api: &Api, target: Target, reason: String) -> Result<Standing, Problem> {
    let tombstone = Tombstone { target, reason, at: Timestamp::now() };
    let mark = tombstone.mark().to_string();
    let revision = match &tombstone.target {
        // One that stands already may take blobs with it.
        Target::Asset { blobs: None, .. } => tombstone.publish_first(&api.engine.bus).await?,
        Target::Asset { blobs: Some(_), .. } | Target::Blob { .. } | Target::Key { .. } => {
            tombstone.publish(&api.engine.bus).await?
        }
    };
    Ok(Standing { mark, revision: revision.0 })
}

fn fresh(body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
