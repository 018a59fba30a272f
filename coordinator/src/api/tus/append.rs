//! Bytes that come to an upload.

use axum::body::Body;
use jiff::Timestamp;
use reelmill_media::ids::{TenantId, UploadId};
use reelmill_platform::kv::Revision;

use super::super::Api;
use super::super::problem::{Code, Problem};
use super::find;
use crate::state::Input;
use crate::uploads::{self, AdvanceError, Checksum, Concat, End, Event, OnCut, Turn, UploadRecord};
use crate::uploads::{BlockReader, MAX_BLOCKS};

/// The asset hears of progress at most this often.
const NEWS_EVERY: std::time::Duration = std::time::Duration::from_millis(500);
/// Times that a newer connection tries to fence off the ones before.
const CLAIM_TRIES: usize = 5;

/// The bytes of a request, and what it says of them.
pub(super) struct Incoming {
    /// Length of these bytes.
    pub(super) declared: Option<u64>,
    pub(super) checksum: Option<Checksum>,
    pub(super) body: Body,
}

/// Takes over from whoever writes to the upload: from here on, what others write to it is refused. `length` is that of the
/// whole upload, where it is said only now.
pub(super) async fn claim(
    api: &Api,
    tenant: &TenantId,
    id: &str,
    offset: u64,
    length: Option<u64>,
) -> Result<(UploadId, UploadRecord, Revision), Problem> {
    for _ in 0..CLAIM_TRIES {
        let (id, mut record, seen) = writable(api, tenant, id, offset).await?;
        if let Some(length) = length.filter(|length| record.length != Some(*length)) {
            if record.length.is_some() || length < offset {
                let detail = "Upload-Length is said already, and cannot be changed.";
                return Err(Problem::new(Code::InvalidRequest, detail));
            }
            record.length = Some(length);
        }
        record.writer = rand::random();
        record.touched_at = Timestamp::now();
        match uploads::advance(&api.engine.uploads, id, &record, seen).await {
            Ok(revision) => return Ok((id, record, revision)),
            Err(AdvanceError::Raced) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AdvanceError::Raced.into())
}

/// The upload, if bytes may be appended to it at `offset`.
pub(super) async fn writable(
    api: &Api,
    tenant: &TenantId,
    id: &str,
    offset: u64,
) -> Result<(UploadId, UploadRecord, Revision), Problem> {
    let (id, record, revision) = find(api, tenant, id).await?;
    if matches!(record.concat, Some(Concat::Final { .. })) {
        let detail = "A final upload consists of its parts, and takes no bytes of its own.";
        return Err(Problem::new(Code::FinalUpload, detail));
    }
    if offset != record.blocks.bytes {
        let detail = format!("The upload goes on at byte {}, not at {offset}.", record.blocks.bytes);
        return Err(Problem::new(Code::OffsetMismatch, detail));
    }
    Ok((id, record, revision))
}

/// Appends a body at the end of what is there, as long as it is our turn. What came before a cut is kept, unless there is a
/// checksum that only the whole body can prove.
pub(super) async fn append(
    api: &Api,
    turn: &Turn,
    id: UploadId,
    record: UploadRecord,
    revision: Revision,
    incoming: Incoming,
) -> Result<UploadRecord, Problem> {
    tokio::select! {
        ended = append_all(api, id, record, revision, incoming) => ended,
        () = turn.is_over() => Err(AdvanceError::Raced.into()),
    }
}

async fn append_all(
    api: &Api,
    id: UploadId,
    mut record: UploadRecord,
    mut revision: Revision,
    Incoming { declared, checksum, body, .. }: Incoming,
) -> Result<UploadRecord, Problem> {
    let engine = &api.engine;
    let room =
        record.length.unwrap_or(api.quotas.upload_bytes(&record.tenant)).saturating_sub(record.blocks.bytes);
    if declared.is_some_and(|declared| declared > room) {
        return Err(too_long(room));
    }
    let begun_at = record.blocks.bytes;
    let at_once = checksum.is_none();
    let on_cut = if at_once { OnCut::Keep } else { OnCut::Drop };
    let mut reader =
        BlockReader::new(body, engine.store.clone(), begun_at, room, on_cut, engine.drain.clone())
            .checked(checksum);
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
                engine.metrics.upload_bytes.inc_by(u64::from(block.bytes));
                if at_once {
                    record.touched_at = Timestamp::now();
                    revision = uploads::advance(&engine.uploads, id, &record, revision).await?;
                    if let Err(error) = uploads::overlap::grown(engine, id, &record).await {
                        // The next block tells it, or the sweep.
                        tracing::debug!(upload = %id, %error, "what came is not made use of yet");
                    }
                    if told_at.elapsed() >= NEWS_EVERY {
                        told_at = std::time::Instant::now();
                        tell(api, &record).await;
                    }
                }
            }
            Event::Ended(end) => break end,
        }
    };
    if !at_once {
        if end != End::Whole {
            return Err(ended_early(end, begun_at, room));
        }
        record.touched_at = Timestamp::now();
        revision = uploads::advance(&engine.uploads, id, &record, revision).await?;
    }
    match record.part_of {
        Some(last) => uploads::look_after(engine, last).await?,
        None if record.is_full() => uploads::finish(engine, id, record.clone(), revision).await?,
        None => tell(api, &record).await,
    }
    match end {
        End::Whole => Ok(record),
        End::Cut | End::Idle | End::TooLong | End::Wrong | End::Draining => {
            Err(ended_early(end, record.blocks.bytes, room))
        }
    }
}

fn ended_early(end: End, bytes: u64, room: u64) -> Problem {
    match end {
        End::Whole | End::Cut => {
            Problem::new(Code::Incomplete, format!("The connection was cut; go on at byte {bytes}."))
        }
        End::Idle => {
            Problem::new(Code::Timeout, format!("No byte came for too long; go on at byte {bytes}."))
        }
        End::TooLong => too_long(room),
        End::Wrong => {
            let detail =
                format!("The bytes are not those of Upload-Checksum; send them again at byte {bytes}.");
            Problem::new(Code::ChecksumMismatch, detail)
        }
        End::Draining => {
            Problem::new(Code::Unavailable, format!("This server stops; go on at byte {bytes}."))
        }
    }
}

fn too_long(room: u64) -> Problem {
    Problem::new(Code::TooLarge, format!("The upload has room for {room} more bytes only."))
}

/// Tells the asset how many bytes are durable. News only.
async fn tell(api: &Api, record: &UploadRecord) {
    let Some(asset) = record.asset else { return };
    let news = Input::UploadProgress { bytes: record.blocks.bytes, length: record.length };
    if let Err(error) = api.engine.feed(asset, news).await {
        tracing::debug!(%asset, %error, "progress of an upload was not noted");
    }
}
