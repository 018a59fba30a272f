//! Resumable uploads by tus 1.0 with all its extensions but trailing checksums.

mod append;
mod concat;
mod headers;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use reelmill_media::ids::{InvalidId, TenantId, UploadId};
use reelmill_media::task::{Failure, FailureCode};
use reelmill_platform::kv::{Revision, Written};

use super::keyring::Caller;
use super::problem::{Code, Problem};
use super::profiles::Choice;
use super::{Api, intake};
use crate::state::{Arrival, Asset, Input};
use crate::uploads::{self, ALGORITHMS, AdvanceError, BlockList, Concat, Phase, UploadRecord};
use append::Incoming;

const EXTENSIONS: &str = "creation,creation-with-upload,creation-defer-length,termination,expiration,checksum,concatenation,\
                          concatenation-unfinished";
/// Times that a termination yields to bytes that come in.
const TERMINATION_TRIES: usize = 5;

/// Whether a request is meant in tus, of whichever version.
pub(super) fn speaks(headers: &HeaderMap) -> bool {
    headers.contains_key("tus-resumable")
}

/// Puts the version on every answer.
pub(super) async fn say_version(mut response: Response) -> Response {
    response.headers_mut().insert("tus-resumable", HeaderValue::from_static(headers::VERSION));
    response
}

pub(super) async fn options(State(api): State<Api>) -> Response {
    let maximum = api.quotas.largest_upload().to_string();
    let headers = [
        ("tus-version", headers::VERSION),
        ("tus-extension", EXTENSIONS),
        ("tus-checksum-algorithm", ALGORITHMS),
        ("tus-max-size", &maximum),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// For clients that can only POST.
pub(super) async fn overridden(
    state: State<Api>,
    caller: Caller,
    path: Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    match headers::text(&headers, "x-http-method-override")? {
        Some("PATCH") => patch(state, caller, path, headers, body).await,
        Some("DELETE") => delete(state, caller, path, headers).await,
        Some("HEAD") => head(state, caller, path, headers).await,
        Some(_) | None => Err(Problem::new(Code::MethodNotAllowed, "This path does not do POST.")),
    }
}

pub(super) async fn create(
    State(api): State<Api>,
    Caller(tenant): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    headers::check_version(&headers)?;
    let concat = headers::concat(&headers)?;
    let joins = matches!(concat, Some(Concat::Final { .. }));
    let length = declared_length(&headers, joins)?;
    api.quotas.check_length(&tenant, length.unwrap_or(0))?;
    let metadata = headers::text(&headers, "upload-metadata")?.map(str::to_owned);
    let said = headers::metadata_in(metadata.as_deref().unwrap_or_default())?;
    let name = intake::name(said.name)?;
    let choice = said.profile.as_deref().map(Choice::of_text).transpose()?;
    let profile = api.profile(&tenant, choice).await?;
    let incoming = headers::is_offset_stream(&headers).then_some(Incoming {
        declared: intake::content_length(&headers),
        checksum: headers::checksum(&headers)?,
        body,
    });
    if joins && incoming.is_some() {
        let detail = "A final upload consists of its parts, and takes no bytes of its own.";
        return Err(Problem::new(Code::FinalUpload, detail));
    }
    if !joins {
        api.admit()?;
    }
    let now = Timestamp::now();
    let (unix_ms, random) = intake::seed(now);
    let id = UploadId::from_parts(unix_ms, random);
    let permit = api.quotas.take(&tenant, id).await?;
    api.quotas.begin(&tenant).await?;

    let asset = (concat != Some(Concat::Partial)).then(|| {
        let arrival = Arrival::Resumable { upload: id };
        let asset = Asset::new(intake::asset_id(now), tenant.clone(), name, length, arrival, now);
        Asset { profile, ..asset }
    });
    let record = UploadRecord {
        asset: asset.as_ref().map(|asset| asset.id),
        concat,
        part_of: None,
        pull: None,
        tenant,
        created_at: now,
        touched_at: now,
        metadata,
        length,
        blocks: BlockList::default(),
        phase: Phase::Open,
        writer: rand::random(),
    };
    let made = api.outlive(permit.during(make(api.clone(), id, record, asset, incoming)));
    let record = made.await?;
    let mut response = StatusCode::CREATED.into_response();
    headers::put(response.headers_mut(), header::LOCATION, headers::address(&id));
    headers::describe(response.headers_mut(), &record);
    Ok(response)
}

/// The length that an upload says it will have; none where it is said later, or that of the parts it joins.
fn declared_length(headers: &HeaderMap, joins: bool) -> Result<Option<u64>, Problem> {
    let length = headers::number(headers, "upload-length")?;
    match (joins, length, headers::text(headers, "upload-defer-length")?) {
        (false, Some(_), None) | (false, None, Some("1")) | (true, None, None) => Ok(length),
        (true, _, _) => {
            let detail = "The length of a final upload is that of its parts, and is not said.";
            Err(Problem::new(Code::InvalidRequest, detail))
        }
        (false, Some(_), Some(_)) | (false, None, Some(_) | None) => {
            let detail = "Say either Upload-Length in bytes or Upload-Defer-Length: 1.";
            Err(Problem::new(Code::InvalidRequest, detail))
        }
    }
}

/// Makes the records of an upload and of its asset, if it has one, and takes the bytes that came with it.
async fn make(
    api: Api,
    id: UploadId,
    mut record: UploadRecord,
    asset: Option<Asset>,
    incoming: Option<Incoming>,
) -> Result<UploadRecord, Problem> {
    if let Some(Concat::Final { of }) = &record.concat {
        let (length, blocks) = concat::join(&api, &record.tenant, of).await?;
        (record.length, record.blocks) = (Some(length), blocks);
    }
    if let Some(mut asset) = asset {
        asset.upload.length = record.length;
        api.engine.assets.create(&asset).await?;
    }
    let revision = match api.engine.uploads.create(&id.to_string(), &record).await? {
        Written::Stored(revision) => revision,
        Written::Conflict => {
            return Err(Problem::new(Code::Unavailable, "The upload was not created; try again."));
        }
    };
    if let Some(incoming) = incoming {
        let turn = api.writers.take_over(id).await;
        let appended = append::append(&api, &turn, id, record, revision, incoming).await;
        // It is there, and can be gone on with.
        let location = HeaderValue::try_from(headers::address(&id));
        return appended.map_err(|problem| match location {
            Ok(location) => problem.with("location", location),
            Err(_) => problem,
        });
    }
    match &record.concat {
        Some(Concat::Final { of }) if !record.is_full() => {
            uploads::parts::mark(&api.engine, id, of).await?;
            // The last byte may have come before the mark.
            uploads::look_after(&api.engine, id).await?;
        }
        Some(Concat::Final { .. } | Concat::Partial) | None => {
            uploads::finish(&api.engine, id, record.clone(), revision).await?;
        }
    }
    Ok(record)
}

pub(super) async fn head(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    headers::check_version(&headers)?;
    let (id, record, revision) = find(&api, &tenant, &id).await?;
    // Whoever took the last byte may have died before saying so.
    uploads::finish(&api.engine, id, record.clone(), revision).await?;
    let mut response = StatusCode::OK.into_response();
    headers::describe_fully(response.headers_mut(), &record);
    Ok(response)
}

pub(super) async fn patch(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    headers::check_version(&headers)?;
    if !headers::is_offset_stream(&headers) {
        let detail = format!("Send bytes as {}.", headers::OFFSET_STREAM);
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let offset = headers::number(&headers, "upload-offset")?
        .ok_or_else(|| Problem::new(Code::InvalidRequest, "Say where the bytes belong by Upload-Offset."))?;
    let length = headers::number(&headers, "upload-length")?;
    let incoming =
        Incoming { declared: intake::content_length(&headers), checksum: headers::checksum(&headers)?, body };
    api.quotas.check_length(&tenant, length.unwrap_or(0))?;
    let (upload, _, _) = append::writable(&api, &tenant, &id, offset).await?;
    let work = api.clone();
    let taken = api.outlive(async move {
        // Whoever hangs in there gives back the right to take bytes as well.
        let turn = work.writers.take_over(upload).await;
        let permit = work.quotas.take(&tenant, upload).await?;
        let taken = permit.during(async {
            let (upload, record, revision) = append::claim(&work, &tenant, &id, offset, length).await?;
            append::append(&work, &turn, upload, record, revision, incoming).await
        });
        taken.await
    });
    let record = taken.await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    headers::describe(response.headers_mut(), &record);
    Ok(response)
}

pub(super) async fn delete(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    headers::check_version(&headers)?;
    let (upload, _, _) = find(&api, &tenant, &id).await?;
    let _turn = api.writers.take_over(upload).await;
    for _ in 0..TERMINATION_TRIES {
        let (id, record, revision) = find(&api, &tenant, &id).await?;
        let (asset, last) = (record.asset, record.part_of);
        let gone = UploadRecord { phase: Phase::Gone, blocks: BlockList::default(), ..record };
        match uploads::advance(&api.engine.uploads, id, &gone, revision).await {
            Ok(_) => {
                let reason = "The upload was terminated by its owner.".to_owned();
                let failure = Failure { code: FailureCode::Incomplete, reason };
                if let Some(asset) = asset {
                    api.engine.feed(asset, Input::UploadFailed(failure)).await?;
                }
                if let Some(last) = last {
                    uploads::look_after(&api.engine, last).await?;
                }
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
            Err(AdvanceError::Raced) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AdvanceError::Raced.into())
}

/// The upload that a path names, if it is the caller's and not over.
async fn find(api: &Api, tenant: &TenantId, id: &str) -> Result<(UploadId, UploadRecord, Revision), Problem> {
    let id: UploadId = id.parse().map_err(|e: InvalidId| Problem::new(Code::InvalidId, format!("{e}.")))?;
    let found = api.engine.uploads.get(&id.to_string()).await?;
    let (record, revision) = found
        .filter(|(record, _)| record.tenant == *tenant && record.pull.is_none())
        .ok_or_else(|| Problem::new(Code::UnknownUpload, format!("There is no upload {id}.")))?;
    let gone = match (record.phase, record.asset) {
        // Its asset may have been given up meanwhile.
        (Phase::Open, Some(asset)) => !record.is_full() && !api.engine.takes_bytes(asset).await?,
        (Phase::Open, None) => !record.is_full() && is_void(api, record.part_of).await?,
        (Phase::Complete, _) => false,
        (Phase::Gone, _) => true,
    };
    if gone {
        return Err(Problem::new(Code::UploadGone, format!("Upload {id} is over and takes no more bytes.")));
    }
    Ok((id, record, revision))
}

/// Whether an open part is of no more use: the asset of the final upload that it belongs to takes no more bytes.
async fn is_void(api: &Api, last: Option<UploadId>) -> Result<bool, Problem> {
    let Some(last) = last else { return Ok(false) };
    match api.engine.uploads.get(&last.to_string()).await? {
        Some((UploadRecord { asset: Some(asset), .. }, _)) => Ok(!api.engine.takes_bytes(asset).await?),
        Some(_) | None => Ok(false),
    }
}
