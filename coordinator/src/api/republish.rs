//! `PUT /v1/assets/{id}/profile`: an asset made again by another profile, in place of what viewers have.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use reelmill_media::ids::ProfileName;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::body::{self, Text};
use super::keyring::Caller;
use super::problem::{Code, Problem};
use super::profiles::Choice;
use super::{Api, assets, view};
use crate::state::{Input, Stage};

/// A profile that the tenant has given a name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    profile: ProfileName,
}

/// Has another edition made, by a profile or by one that the tenant has given a name: `{"profile": "thorough"}`. By that
/// which it has, or is being made by, nothing is begun.
pub(super) async fn put(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
    Text(text): Text,
) -> Result<Response, Problem> {
    let said: Map<String, Value> = body::read("The profile", &text)?;
    let choice = if said.contains_key("profile") {
        Choice::Named(body::read::<Named>("The body", &text)?.profile)
    } else {
        Choice::Given(body::read("The profile", &text)?)
    };
    let profile = api.profile(&tenant, Some(choice)).await?;
    let (asset, _) = assets::find(&api, &tenant, &id).await?;
    let answer = |status: StatusCode, asset| {
        let shown = Json(view::show(asset, None, api.edge_url.as_deref())).into_response();
        assets::fresh((status, shown))
    };
    if asset.profile == profile {
        return Ok(answer(StatusCode::OK, &asset));
    }
    let Stage::Ready { recipe, .. } = &asset.stage else {
        return Err(Problem::new(Code::Conflict, "Only what is ready can be made again by another profile."));
    };
    api.admit()?;
    let plan = Box::new(api.engine.plans.make(recipe.index, &profile, api.engine.fleet.slots()).await?);
    let asset = api.engine.feed(asset.id, Input::Republish { profile: profile.clone(), plan }).await?;
    if asset.profile != profile {
        return Err(Problem::new(Code::Conflict, "Another profile came at the same time, and was first."));
    }
    Ok(answer(StatusCode::ACCEPTED, &asset))
}
