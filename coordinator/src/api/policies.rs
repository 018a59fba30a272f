//! Who may watch what: the policy of a tenant, and of an asset in place of its tenant's. Edges follow both.

use axum::Json;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use reelmill_media::ids::TenantId;
use reelmill_platform::access::{Policy, Subject};
use reelmill_platform::bus::BusError;
use reelmill_platform::kv::Bucket;
use reelmill_platform::topology::BucketName;

use super::body::Object;
use super::keyring::Caller;
use super::problem::{Code, Problem};
use super::{Api, assets};

/// What the policy at a path is about, where the caller may say who watches it: an asset (`{id}`) or a tenant (`{tenant}`).
pub(super) struct Of(Subject);

impl FromRequestParts<Api> for Of {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Of, Problem> {
        let Caller(caller) = Caller::from_request_parts(parts, api).await?;
        let named = RawPathParams::from_request_parts(parts, api).await;
        let named = named.map_err(|e| Problem::new(Code::InvalidId, format!("{}.", e.body_text())))?;
        let named = |wanted: &str| named.iter().find(|(name, _)| *name == wanted).map(|(_, text)| text);
        if let Some(id) = named("id") {
            let (asset, _) = assets::find(api, &caller, id).await?;
            return Ok(Of(Subject::Asset(asset.id)));
        }
        let tenant = named("tenant").unwrap_or_default().parse::<TenantId>();
        let tenant = tenant.map_err(|e| Problem::new(Code::InvalidId, format!("{e}.")))?;
        if tenant == caller || api.operator.as_ref() == Some(&caller) {
            return Ok(Of(Subject::Tenant(tenant)));
        }
        Err(Problem::new(Code::Forbidden, "Only the operator may do this for another tenant."))
    }
}

/// What was said; not what follows from it for an asset of which nothing was.
pub(super) async fn get(State(api): State<Api>, Of(subject): Of) -> Result<Response, Problem> {
    let found = bucket(&api).await?.get(&subject.to_string()).await?;
    let (policy, _) = found.ok_or_else(|| {
        let detail = match subject {
            Subject::Asset(_) => "This asset has no policy of its own: its tenant's counts.",
            Subject::Tenant(_) => "This tenant has no policy: its assets are for everyone.",
        };
        Problem::new(Code::UnknownPolicy, detail)
    })?;
    Ok(assets::fresh(Json(policy)))
}

/// Edges go by it within moments; so do streams that they are sending.
pub(super) async fn put(
    State(api): State<Api>,
    Of(subject): Of,
    Object(policy): Object<Policy>,
) -> Result<Response, Problem> {
    bucket(&api).await?.put(&subject.to_string(), &policy).await?;
    tracing::info!(%subject, ?policy, "policy");
    Ok(assets::fresh(Json(policy)))
}

/// Takes it away. Again, it does the same again.
pub(super) async fn delete(State(api): State<Api>, Of(subject): Of) -> Result<Response, Problem> {
    bucket(&api).await?.remove(&subject.to_string()).await?;
    tracing::info!(%subject, "no policy");
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn bucket(api: &Api) -> Result<Bucket<Policy>, BusError> {
    api.engine.bus.bucket(BucketName::Policies).await
}
