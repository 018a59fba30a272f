//! Resumable uploads by tus 1.0 (core, creation, creation-with-upload, creation-defer-length, termination, expiration).

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use rand::RngExt;
use reelmill_media::ids::{InvalidId, TenantId, UploadId};
use reelmill_media::task::{Failure, FailureCode};
use reelmill_platform::kv::{Revision, Written};

use super::keyring::Caller;
use super::problem::{Code, Problem};
use super::{Api, intake, view};
use crate::state::{Arrival, Asset, Input, UPLOAD_EXPIRES_AFTER};
use crate::uploads::{self, AdvanceError, BlockList, BlockReader, End, Event, OnCut, Phase, UploadRecord};

const VERSION: &str = "1.0.0";
const EXTENSIONS: &str = "creation,creation-with-upload,creation-defer-length,termination,expiration";
/// Media type of bytes to be appended.
const OFFSET_STREAM: &str = "application/offset+octet-stream";
/// `Upload-Metadata` is no longer than this: it stands in the record.
const MAX_METADATA_BYTES: usize = 4 << 10;
/// An upload in more pieces than this would have an unwieldy block list.
const MAX_BLOCKS: u32 = 1 << 18;
/// The asset hears of progress at most this often.
const NEWS_EVERY: std::time::Duration = std::time::Duration::from_millis(500);
/// Times that a termination yields to bytes that come in.
const TERMINATION_TRIES: usize = 5;

/// Puts the version on every answer.
pub(super) async fn say_version(mut response: Response) -> Response {
    response.headers_mut().insert("tus-resumable", HeaderValue::from_static(VERSION));
    response
}

pub(super) async fn options(State(api): State<Api>) -> Response {
    let maximum = api.limits.upload_bytes.to_string();
    let headers = [("tus-version", VERSION), ("tus-extension", EXTENSIONS), ("tus-max-size", &maximum)];
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
    match text(&headers, "x-http-method-override")? {
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
    check_version(&headers)?;
    let length = number(&headers, "upload-length")?;
    match (length, text(&headers, "upload-defer-length")?) {
        (Some(length), None) => api.check_length(length)?,
        (None, Some("1")) => {}
        (Some(_), Some(_)) | (None, Some(_) | None) => {
            let detail = "Say either Upload-Length in bytes or Upload-Defer-Length: 1.";
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
    }
    let metadata = text(&headers, "upload-metadata")?.map(str::to_owned);
    let name = intake::name(name_in(metadata.as_deref().unwrap_or_default())?)?;
    let with_bytes = media_type(&headers) == Some(OFFSET_STREAM);
    let declared = intake::content_length(&headers);
    let permit = api.permit()?;

    let now = Timestamp::now();
    let (unix_ms, random) = intake::seed(now);
    let id = UploadId::from_parts(unix_ms, random);
    let asset = intake::asset_id(now);
    let arrival = Arrival::Resumable { upload: id };
    let work = api.clone();
    let record = api
        .outlive(async move {
            let _permit = permit;
            let record = UploadRecord {
                asset,
                tenant: tenant.clone(),
                created_at: now,
                metadata,
                length,
                blocks: BlockList::default(),
                phase: Phase::Open,
                writer: 0,
            };
            work.engine.assets.create(&Asset::new(asset, tenant, name, length, arrival, now)).await?;
            let revision = match work.engine.uploads.create(&id.to_string(), &record).await? {
                Written::Stored(revision) => revision,
                Written::Conflict => {
                    return Err(Problem::new(Code::Unavailable, "The upload was not created; try again."));
                }
            };
            if with_bytes {
                return append(&work, id, record, revision, declared, body).await;
            }
            uploads::finish(&work.engine, id, record.clone(), revision).await?;
            Ok(record)
        })
        .await?;
    let mut response = StatusCode::CREATED.into_response();
    let headers = response.headers_mut();
    put_header(headers, header::LOCATION, format!("/v1/uploads/{id}"));
    describe(headers, &record);
    Ok(response)
}

pub(super) async fn head(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check_version(&headers)?;
    let (id, record, revision) = find(&api, &tenant, &id).await?;
    // Whoever took the last byte may have died before saying so.
    uploads::finish(&api.engine, id, record.clone(), revision).await?;
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match record.length {
        Some(length) => put_header(headers, HeaderName::from_static("upload-length"), length.to_string()),
        None => put_header(headers, HeaderName::from_static("upload-defer-length"), "1".to_owned()),
    }
    if let Some(metadata) = record.metadata.clone() {
        put_header(headers, HeaderName::from_static("upload-metadata"), metadata);
    }
    describe(headers, &record);
    Ok(response)
}

pub(super) async fn patch(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    check_version(&headers)?;
    if media_type(&headers) != Some(OFFSET_STREAM) {
        return Err(Problem::new(Code::UnsupportedMediaType, format!("Send bytes as {OFFSET_STREAM}.")));
    }
    let offset = number(&headers, "upload-offset")?
        .ok_or_else(|| Problem::new(Code::InvalidRequest, "Say where the bytes belong by Upload-Offset."))?;
    let length = number(&headers, "upload-length")?;
    let declared = intake::content_length(&headers);
    let permit = api.permit()?;
    let (id, mut record, mut revision) = find(&api, &tenant, &id).await?;
    if offset != record.blocks.bytes {
        let detail = format!("The upload goes on at byte {}, not at {offset}.", record.blocks.bytes);
        return Err(Problem::new(Code::OffsetMismatch, detail));
    }
    let work = api.clone();
    let record = api
        .outlive(async move {
            let _permit = permit;
            if let Some(length) = length.filter(|length| record.length != Some(*length)) {
                if record.length.is_some() || length < offset {
                    let detail = "Upload-Length is said already, and cannot be changed.";
                    return Err(Problem::new(Code::InvalidRequest, detail));
                }
                work.check_length(length)?;
                record.length = Some(length);
                revision = uploads::advance(&work.engine.uploads, id, &record, revision).await?;
            }
            append(&work, id, record, revision, declared, body).await
        })
        .await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    describe(response.headers_mut(), &record);
    Ok(response)
}

pub(super) async fn delete(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check_version(&headers)?;
    for _ in 0..TERMINATION_TRIES {
        let (id, record, revision) = find(&api, &tenant, &id).await?;
        let asset = record.asset;
        let gone = UploadRecord { phase: Phase::Gone, blocks: BlockList::default(), ..record };
        match uploads::advance(&api.engine.uploads, id, &gone, revision).await {
            Ok(_) => {
                let reason = "The upload was terminated by its owner.".to_owned();
                let failure = Failure { code: FailureCode::Incomplete, reason };
                api.engine.feed(asset, Input::UploadFailed(failure)).await?;
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
            Err(AdvanceError::Raced) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AdvanceError::Raced.into())
}

/// Appends a body at the end of what is there. What came before a cut is kept.
async fn append(
    api: &Api,
    id: UploadId,
    mut record: UploadRecord,
    mut revision: Revision,
    declared: Option<u64>,
    body: Body,
) -> Result<UploadRecord, Problem> {
    let engine = &api.engine;
    let room = record.length.unwrap_or(api.limits.upload_bytes).saturating_sub(record.blocks.bytes);
    if declared.is_some_and(|declared| declared > room) {
        return Err(too_long(room));
    }
    record.writer = rand::rng().random();
    let mut reader = BlockReader::new(body, engine.store.clone(), room, OnCut::Keep, engine.drain.clone());
    let mut told_at = std::time::Instant::now();
    let end = loop {
        match reader.next().await? {
            Event::Received(_) => {}
            Event::Stored(block) => {
                if record.blocks.count >= MAX_BLOCKS {
                    let detail = format!("An upload comes in at most {MAX_BLOCKS} pieces; send larger ones.");
                    return Err(Problem::new(Code::TooLarge, detail));
                }
                record.blocks.push(block);
                uploads::fold(&engine.store, &mut record.blocks).await?;
                revision = uploads::advance(&engine.uploads, id, &record, revision).await?;
                engine.metrics.upload_bytes.inc_by(u64::from(block.bytes));
                if told_at.elapsed() >= NEWS_EVERY {
                    told_at = std::time::Instant::now();
                    tell(api, &record).await;
                }
            }
            Event::Ended(end) => break end,
        }
    };
    if record.length == Some(record.blocks.bytes) {
        uploads::finish(engine, id, record.clone(), revision).await?;
    } else {
        tell(api, &record).await;
    }
    let bytes = record.blocks.bytes;
    match end {
        End::Whole => Ok(record),
        End::Cut => {
            Err(Problem::new(Code::Incomplete, format!("The connection was cut; go on at byte {bytes}.")))
        }
        End::Idle => {
            Err(Problem::new(Code::Timeout, format!("No byte came for too long; go on at byte {bytes}.")))
        }
        End::TooLong => Err(too_long(room)),
        End::Draining => {
            Err(Problem::new(Code::Unavailable, format!("This server stops; go on at byte {bytes}.")))
        }
    }
}

fn too_long(room: u64) -> Problem {
    Problem::new(Code::TooLarge, format!("The upload has room for {room} more bytes only."))
}

/// Tells the asset how many bytes are durable. News only.
async fn tell(api: &Api, record: &UploadRecord) {
    let news = Input::UploadProgress { bytes: record.blocks.bytes, length: record.length };
    if let Err(error) = api.engine.feed(record.asset, news).await {
        tracing::debug!(asset = %record.asset, %error, "progress of an upload was not noted");
    }
}

/// The upload that a path names, if it is the caller's and not over.
async fn find(api: &Api, tenant: &TenantId, id: &str) -> Result<(UploadId, UploadRecord, Revision), Problem> {
    let id: UploadId = id.parse().map_err(|e: InvalidId| Problem::new(Code::InvalidId, format!("{e}.")))?;
    let found = api.engine.uploads.get(&id.to_string()).await?;
    let (record, revision) = found
        .filter(|(record, _)| record.tenant == *tenant)
        .ok_or_else(|| Problem::new(Code::UnknownUpload, format!("There is no upload {id}.")))?;
    let gone = match record.phase {
        // Its asset may have been given up meanwhile.
        Phase::Open => {
            record.length != Some(record.blocks.bytes) && !api.engine.takes_bytes(record.asset).await?
        }
        Phase::Complete => false,
        Phase::Gone => true,
    };
    if gone {
        return Err(Problem::new(Code::UploadGone, format!("Upload {id} is over and takes no more bytes.")));
    }
    Ok((id, record, revision))
}

/// What every answer about an upload says of it.
fn describe(headers: &mut HeaderMap, record: &UploadRecord) {
    let bytes = record.blocks.bytes;
    put_header(headers, HeaderName::from_static("upload-offset"), bytes.to_string());
    headers.insert("reelmill-asset", view::header(&record.asset));
    if record.length != Some(bytes) {
        let expires = Timestamp::now() + UPLOAD_EXPIRES_AFTER;
        if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&expires) {
            put_header(headers, HeaderName::from_static("upload-expires"), date);
        }
    }
}

fn put_header(headers: &mut HeaderMap, name: HeaderName, value: String) {
    // Our own texts, and metadata that came in a header.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

fn check_version(headers: &HeaderMap) -> Result<(), Problem> {
    if text(headers, "tus-resumable")? == Some(VERSION) {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedVersion, format!("Say Tus-Resumable: {VERSION}.")))
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Problem> {
    let unreadable = |_| Problem::new(Code::InvalidRequest, format!("Header {name} is not plain text."));
    headers.get(name).map(|value| value.to_str().map_err(unreadable)).transpose()
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, Problem> {
    let Some(text) = text(headers, name)? else { return Ok(None) };
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parsed = text.parse().ok().filter(|_| plain);
    parsed
        .map(Some)
        .ok_or_else(|| Problem::new(Code::InvalidRequest, format!("Header {name} is not a number of bytes.")))
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim())
}

/// The file's name in `Upload-Metadata`: pairs of a key and a base64 text, comma-separated.
fn name_in(metadata: &str) -> Result<Option<String>, Problem> {
    let refuse = |detail: &str| Problem::new(Code::InvalidRequest, detail);
    if metadata.len() > MAX_METADATA_BYTES {
        return Err(refuse("Upload-Metadata is too long."));
    }
    let mut found = None;
    for pair in metadata.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
        let value = STANDARD
            .decode(value.trim())
            .map_err(|_| refuse("Upload-Metadata holds a value that is not base64."))?;
        if key == "name" || (key == "filename" && found.is_none()) {
            found = Some(String::from_utf8(value).map_err(|_| refuse("The name is not UTF-8."))?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_metadata() {
        let name = |text: &str| name_in(text).map_err(|problem| problem.detail().to_owned());
        assert_eq!(name(""), Ok(None));
        assert_eq!(name("filename eC5tcDQ=,filetype dmlkZW8vbXA0"), Ok(Some("x.mp4".into())));
        assert_eq!(name("filename eC5tcDQ=, name Zm9v,is_confidential"), Ok(Some("foo".into())));
        assert_eq!(name("filename ???"), Err("Upload-Metadata holds a value that is not base64.".into()));
    }
}
