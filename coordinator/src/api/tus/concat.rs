//! Final uploads: several partial ones made into one.

use reelmill_media::ids::{TenantId, UploadId};

use super::super::Api;
use super::super::problem::{Code, Problem};
use super::find;
use crate::uploads::{self, BlockList, Concat, MAX_BLOCKS};

/// The bytes of all parts, in order. They must all be there.
pub(super) async fn join(api: &Api, tenant: &TenantId, parts: &[UploadId]) -> Result<BlockList, Problem> {
    let mut joined = BlockList::default();
    for part in parts {
        let (id, record, _) = find(api, tenant, &part.to_string()).await?;
        if record.concat != Some(Concat::Partial) {
            let detail = format!("Upload {id} was not created with Upload-Concat: partial.");
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
        if !record.is_full() {
            let detail = format!("Upload {id} is not finished; the final upload comes after its parts.");
            return Err(Problem::new(Code::UnfinishedPart, detail));
        }
        api.quotas.check_length(tenant, joined.bytes.saturating_add(record.blocks.bytes))?;
        if joined.count.saturating_add(record.blocks.count) > MAX_BLOCKS {
            let detail = format!("An upload comes in at most {MAX_BLOCKS} pieces; send larger ones.");
            return Err(Problem::new(Code::TooLarge, detail));
        }
        for block in uploads::unfold(&api.engine.store, &record.blocks).await? {
            joined.push(block);
            uploads::fold(&api.engine.store, &mut joined).await?;
        }
    }
    Ok(joined)
}
