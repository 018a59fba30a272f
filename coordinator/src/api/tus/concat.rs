//! Final uploads: several partial ones made into one.

use reelmill_media::ids::{TenantId, UploadId};

use super::super::Api;
use super::super::problem::{Code, Problem};
use super::find;
use crate::uploads::{BlockList, Concat, MAX_BLOCKS, UploadRecord, parts};

/// The length of all parts, and their blocks in order where all are there.
pub(super) async fn join(api: &Api, tenant: &TenantId, of: &[UploadId]) -> Result<(u64, BlockList), Problem> {
    let (mut length, mut count) = (0u64, 0u32);
    let mut records = Vec::with_capacity(of.len());
    for part in of {
        let (id, record, _) = find(api, tenant, &part.to_string()).await?;
        if record.concat != Some(Concat::Partial) {
            let detail = format!("Upload {id} was not created with Upload-Concat: partial.");
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
        let Some(part_length) = record.length else {
            let detail = format!("The length of upload {id} is not known; the final upload comes after it.");
            return Err(Problem::new(Code::UnfinishedPart, detail));
        };
        length = length.saturating_add(part_length);
        count = count.saturating_add(record.blocks.count);
        api.quotas.check_length(tenant, length)?;
        if count > MAX_BLOCKS {
            let detail = format!("An upload comes in at most {MAX_BLOCKS} pieces; send larger ones.");
            return Err(Problem::new(Code::TooLarge, detail));
        }
        records.push(record);
    }
    let blocks = if records.iter().all(UploadRecord::is_full) {
        parts::join(&api.engine, &records).await?
    } else {
        BlockList::default()
    };
    Ok((length, blocks))
}
