//! Captions of an asset, one text for each language.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reelmill_media::captions::{Captions, CaptionsKind, InvalidLanguage, Language};
use reelmill_media::ids::{AssetId, TenantId};
use reelmill_media::keys::{BlobKind, WEBVTT_MEDIA_TYPE};
use serde::Deserialize;

use super::body::Parameters;
use super::keyring::Caller;
use super::problem::{Code, Problem};
use super::{Api, assets, intake, view};
use crate::captions;
use crate::quotas::OverQuota;
use crate::state::Input;

/// A text is no longer than this, in bytes: ten hours of talk are about 1 MiB.
const MAX_BYTES: u64 = 4 << 20;
/// A text comes within this.
const BODY_DEADLINE: Duration = Duration::from_secs(60);

/// `?name=&default=&kind=`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    /// What viewers choose it by; the language tag unless said
    name: Option<String>,
    /// Whether it is shown unless the viewer chooses otherwise
    #[serde(default)]
    default: bool,
    /// What it tells: what is spoken, or all that is to be heard
    #[serde(default)]
    kind: CaptionsKind,
}

/// Gives an asset captions in a language, instead of those it had. On return players get them.
pub(super) async fn put(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path((id, language)): Path<(String, String)>,
    Parameters(Said { name, default, kind }): Parameters<Said>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let language = parse(&language)?;
    let name = intake::name(name)?.unwrap_or_else(|| language.to_string());
    if name.contains('"') {
        // Nothing can say it in a playlist (RFC 8216bis §4.2).
        return Err(Problem::new(Code::InvalidRequest, "A name of captions has no double quotes."));
    }
    let (asset, _) = assets::find(&api, &tenant, &id).await?;
    let limit = api.quotas.upload_bytes(&tenant).min(MAX_BYTES);
    if intake::content_length(&headers).is_some_and(|length| length > limit) {
        return Err(OverQuota::TooLarge { limit }.into());
    }
    let _permit = api.quotas.take(&tenant, rand::random::<u64>()).await?;
    let text = read(body, limit).await?;
    let segment = captions::segment(&text)
        .map_err(|error| Problem::new(Code::NotCaptions, format!("These are no captions: {error}.")))?;
    let segment = Bytes::from(segment);
    let bytes = segment.len() as u64;
    let hash = api.engine.store.put_blob(BlobKind::Captions, segment).await?;
    let wanted = Captions { language, name, default, kind, bytes, hash };
    let replaced = asset.captions_in(&wanted.language).is_some();
    // Said before anything changes; by who is faster between the two, it is not taken either.
    let id = asset.captioned(wanted.clone())?.id;
    let asset = api.engine.feed(id, Input::Captioned(wanted.clone())).await?;
    let taken = asset.captions_in(&wanted.language).filter(|there| there.hash == wanted.hash);
    let taken = taken.ok_or_else(|| {
        Problem::new(Code::Conflict, "These captions were not taken: others came at the same time.")
    })?;
    let status = if replaced { StatusCode::OK } else { StatusCode::CREATED };
    Ok(assets::fresh((status, Json(view::CaptionsView::of(asset.id, taken)))))
}

/// The captions in a language, as players get them.
pub(super) async fn get(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path((id, language)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (_, captions) = find(&api, &tenant, &id, &language).await?;
    let text = api.engine.store.get_blob(BlobKind::Captions, captions.hash).await?;
    let mut response = assets::fresh(Bytes::copy_from_slice(text.bytes()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(WEBVTT_MEDIA_TYPE));
    Ok(response)
}

/// Takes the captions in a language away.
pub(super) async fn delete(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path((id, language)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (id, captions) = find(&api, &tenant, &id, &language).await?;
    api.engine.feed(id, Input::Uncaptioned(captions.language)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn parse(language: &str) -> Result<Language, Problem> {
    language.parse().map_err(|e: InvalidLanguage| Problem::new(Code::InvalidRequest, format!("{e}.")))
}

/// The caller's asset that a path names, and its captions in the language that the path names.
async fn find(
    api: &Api,
    tenant: &TenantId,
    id: &str,
    language: &str,
) -> Result<(AssetId, Captions), Problem> {
    let language = parse(language)?;
    let (asset, _) = assets::find(api, tenant, id).await?;
    let captions = asset.captions_in(&language).cloned().ok_or_else(|| {
        Problem::new(Code::UnknownCaptions, format!("This asset has no captions in {language}."))
    })?;
    Ok((asset.id, captions))
}

async fn read(body: Body, limit: u64) -> Result<Bytes, Problem> {
    let body = to_bytes(body, usize::try_from(limit).unwrap_or(usize::MAX));
    match tokio::time::timeout(BODY_DEADLINE, body).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error))
            if std::error::Error::source(&error)
                .is_some_and(|e| e.is::<http_body_util::LengthLimitError>()) =>
        {
            Err(OverQuota::TooLarge { limit }.into())
        }
        Ok(Err(_)) => Err(Problem::new(Code::Incomplete, "The text was cut.")),
        Err(_) => Err(Problem::new(Code::Timeout, "The text did not come in time.")),
    }
}
