//! `POST /v1/uploads` with JSON: an upload that we fetch ourselves.

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use http_body::Body as _;
use jiff::Timestamp;
use reelmill_media::ids::UploadId;
use reelmill_platform::kv::Written;
use reqwest::Url;
use serde::Deserialize;

use super::keyring::Caller;
use super::problem::{Code, Problem};
use super::profiles::Choice;
use super::{Api, body, intake, tus, view};
use crate::pulls::{Origin, Pull};
use crate::state::{Arrival, Asset};
use crate::uploads::{BlockList, Phase, UploadRecord};

/// A request's body is no longer than this, in bytes.
const MAX_BODY_BYTES: usize = 16 << 10;

/// `{"url": "https://…"}` or `{"key": "…"}`, with a name and a profile if there are any.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    url: Option<String>,
    key: Option<String>,
    name: Option<String>,
    profile: Option<Choice>,
}

/// What is posted is either a pull or the creation of a tus upload. A body that says neither is most likely JSON from a client
/// that calls everything a form.
pub(super) async fn post(
    state: State<Api>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if body::is_json(&headers) {
        return create(state, caller, body).await;
    }
    if !tus::speaks(&headers) && !body.is_end_stream() {
        let detail = "Send {\"url\": …} or {\"key\": …} as Content-Type: application/json to have an upload pulled, or begin a \
                      resumable one with Tus-Resumable: 1.0.0.";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    tus::create(state, caller, headers, body).await
}

async fn create(State(api): State<Api>, Caller(tenant): Caller, body: Body) -> Result<Response, Problem> {
    let refuse = |detail: &str| Problem::new(Code::InvalidRequest, detail);
    let body =
        to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| refuse("The body is too long, or was cut."))?;
    let wanted: Wanted = body::read("The body", &body)?;
    let origin = match (wanted.url, wanted.key) {
        (Some(url), None) => Origin::Url(url),
        (None, Some(key)) => Origin::Key(key),
        (Some(_), Some(_)) | (None, None) => return Err(refuse("Say either a url or a key.")),
    };
    api.puller.check(&origin).map_err(|error| Problem::new(Code::OriginRefused, error.to_string()))?;
    let profile = api.profile(&tenant, wanted.profile).await?;
    let name = match wanted.name {
        Some(name) => intake::name(Some(name))?,
        // Nobody said it: one that cannot be used is none.
        None => intake::name(last_part(&origin)).unwrap_or_default(),
    };
    api.admit()?;
    api.quotas.begin(&tenant).await?;

    let now = Timestamp::now();
    let (unix_ms, random) = intake::seed(now);
    let (upload, id) = (UploadId::from_parts(unix_ms, random), intake::asset_id(now));
    let record = UploadRecord {
        asset: Some(id),
        concat: None,
        part_of: None,
        pull: Some(Pull { origin, etag: None, failures: 0 }),
        tenant: tenant.clone(),
        created_at: now,
        touched_at: now,
        metadata: None,
        length: None,
        blocks: BlockList::default(),
        phase: Phase::Open,
        writer: rand::random(),
    };
    match api.engine.uploads.create(&upload.to_string(), &record).await? {
        Written::Stored(_) => {}
        Written::Conflict => {
            return Err(Problem::new(Code::Unavailable, "The upload was not created; try again."));
        }
    }
    let asset = Asset::new(id, tenant, name, None, Arrival::Pulled { upload }, now);
    let asset = Asset { profile, ..asset };
    api.engine.assets.create(&asset).await?;
    api.puller.begin(id, upload, &asset.tenant);
    let shown = Json(view::show(&asset, None, api.edge_url.as_deref()));
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/v1/assets/{id}"))], shown).into_response())
}

/// What files are called at their origin.
fn last_part(origin: &Origin) -> Option<String> {
    let path = match origin {
        Origin::Url(url) => Url::parse(url).ok()?.path().to_owned(),
        Origin::Key(key) => key.clone(),
    };
    path.rsplit('/').next().map(str::to_owned)
}
