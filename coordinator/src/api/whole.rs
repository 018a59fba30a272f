//! `PUT /v1/uploads`: a whole upload in one request.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use reelmill_media::ids::AssetId;
use reelmill_media::source::{Block, ENDLESS_BYTES, Source};
use reelmill_media::task::Failure;
use serde::Deserialize;

use super::Api;
use super::intake;
use super::keyring::Caller;
use super::problem::{Code, Problem};
use super::profiles::Choice;
use super::view;
use crate::quotas::OverQuota;
use crate::state::{Arrival, Asset, Input, Stage};
use crate::uploads::overlap::{self, Durable};
use crate::uploads::{self, BlockReader, End, Event, FinishError, OnCut};

/// `?name=`, and `&profile=` with a profile's name or a profile in JSON.
#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    name: Option<String>,
    profile: Option<String>,
}

pub(super) async fn put(
    State(api): State<Api>,
    Caller(tenant): Caller,
    parameters: Result<Query<Parameters>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Query(parameters) =
        parameters.map_err(|e| Problem::new(Code::InvalidRequest, format!("{}.", e.body_text())))?;
    let name = intake::name(parameters.name)?;
    let choice = parameters.profile.as_deref().map(Choice::of_text).transpose()?;
    let profile = api.profile(&tenant, choice).await?;
    let length = intake::content_length(&headers);
    api.quotas.check_length(&tenant, length.unwrap_or(0))?;
    api.admit()?;
    let now = Timestamp::now();
    let id = intake::asset_id(now);
    let permit = api.quotas.take(&tenant, id).await?;
    api.quotas.begin(&tenant).await?;
    let limit = api.quotas.upload_bytes(&tenant);
    let asset = Asset::new(id, tenant, name, length, Arrival::Whole, now);
    let asset = Asset { profile, ..asset };
    let work = api.clone();
    let taken = api.outlive(permit.during(async move {
        work.engine.assets.create(&asset).await?;
        take(&work, asset.id, length, limit, body).await
    }));
    let asset = taken.await?;
    let location = format!("/v1/assets/{}", asset.id);
    let shown = Json(view::show(&asset, None, api.edge_url.as_deref()));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], shown).into_response())
}

/// Takes all bytes, or fails the asset.
async fn take(api: &Api, id: AssetId, length: Option<u64>, limit: u64, body: Body) -> Result<Asset, Problem> {
    let problem = match read(api, id, length, limit, body).await {
        Ok(asset) => return Ok(asset),
        Err(problem) => problem.with("reelmill-asset", view::header(&id)),
    };
    if let Some(code) = problem.failure_code() {
        let failure = Failure { code, reason: problem.detail().to_owned() };
        if let Err(error) = api.engine.feed(id, Input::UploadFailed(failure)).await {
            // The sweeper ends it in a few minutes.
            tracing::warn!(asset = %id, %error, "a broken upload is not yet marked as failed");
        }
    }
    Err(problem)
}

async fn read(api: &Api, id: AssetId, length: Option<u64>, limit: u64, body: Body) -> Result<Asset, Problem> {
    let store = api.engine.store.clone();
    let mut reader = BlockReader::new(body, store, 0, limit, OnCut::Drop, api.last_call.clone());
    let (mut blocks, mut durable) = (Vec::new(), 0);
    let end = loop {
        match reader.next().await? {
            Event::Received(bytes) => {
                // News only: without it the sweeper takes the upload for lost after a while.
                let news = api.engine.feed(id, Input::UploadProgress { bytes, length }).await;
                if let Err(error) = news {
                    tracing::debug!(asset = %id, %error, "progress of an upload was not noted");
                }
            }
            Event::Stored(block) => {
                durable += u64::from(block.bytes);
                blocks.push(block);
                if let Err(error) = begin(api, id, &blocks, durable, length).await {
                    tracing::debug!(asset = %id, %error, "nothing is begun before the upload is complete");
                }
            }
            Event::Ended(end) => break end,
        }
    };
    let received = reader.received();
    api.engine.metrics.upload_bytes.inc_by(received);
    match end {
        End::Whole if length.is_some_and(|length| length != received) => Err(cut(received, length)),
        End::Whole if received == 0 => Err(Problem::new(Code::Empty, "The upload holds no bytes.")),
        End::Whole => {
            let asset = uploads::complete(&api.engine, id, blocks).await?;
            match &asset.stage {
                Stage::Failed { failure, .. } => Err(Problem::new(Code::Incomplete, failure.reason.clone())),
                Stage::Deleted { .. } => {
                    Err(Problem::new(Code::AssetGone, format!("The asset {id} was deleted.")))
                }
                Stage::Uploading
                | Stage::Queued { .. }
                | Stage::Indexing { .. }
                | Stage::Processing { .. }
                | Stage::Ready { .. } => Ok(asset),
            }
        }
        // A wrong checksum is told of resumable uploads only: here nobody says one.
        End::Cut | End::Wrong => Err(cut(received, length)),
        End::Idle => Err(Problem::new(Code::Timeout, format!("No byte came for too long after {received}."))),
        End::TooLong => Err(OverQuota::TooLarge { limit }.into()),
        End::Draining => {
            Err(Problem::new(Code::Unavailable, "The server stopped before the upload was complete."))
        }
    }
}

/// Begins what needs no more than what is there.
async fn begin(
    api: &Api,
    id: AssetId,
    blocks: &[Block],
    durable: u64,
    length: Option<u64>,
) -> Result<(), FinishError> {
    let length = length.unwrap_or(ENDLESS_BYTES);
    if durable >= length {
        return Ok(());
    }
    let held = Durable { head: durable, tail: 0, length };
    let Some(due) = overlap::due(&api.engine, id, held).await? else { return Ok(()) };
    let source = Source::with_gap(blocks.to_vec(), length - durable, Vec::new());
    overlap::tell(&api.engine, id, source, due).await
}

fn cut(received: u64, length: Option<u64>) -> Problem {
    let detail = match length {
        Some(length) => format!("The upload was cut after {received} of {length} bytes."),
        None => format!("The upload was cut after {received} bytes."),
    };
    Problem::new(Code::Incomplete, detail)
}
