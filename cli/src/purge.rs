//! `reelmill purge` and `reelmill purges`: take something down everywhere, and see who did.

use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;
use reelmill_media::ids::{AssetId, BlobHash, TenantId};
use reelmill_platform::access::KeyId;
use reelmill_platform::purge::Subject;
use reelmill_platform::receipt::{Judged, Proof, Receipt};
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use crate::api::Api;
use crate::count::count;

/// Edges answer in milliseconds; after this whoever has not is away.
const RECEIPTS_AFTER: Duration = Duration::from_secs(1);

/// What is taken down.
#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// One blob, whatever names it (operator only)
    Blob {
        /// Its BLAKE3 hash
        hash: BlobHash,
    },
    /// An asset; for the operator, with its blobs
    Asset {
        /// Its id
        asset: AssetId,
    },
    /// All assets that a tenant has now
    Tenant {
        /// Its name
        tenant: TenantId,
    },
    /// A token key, and whatever its tokens opened
    Key {
        /// Its id
        kid: KeyId,
    },
}

impl From<What> for Subject {
    fn from(what: What) -> Subject {
        match what {
            What::Blob { hash } => Subject::Blob { hash },
            What::Asset { asset } => Subject::Asset { asset },
            What::Tenant { tenant } => Subject::Tenant { tenant },
            What::Key { kid } => Subject::Key { kid },
        }
    }
}

/// A purge as the API shows it.
#[derive(Debug, Deserialize)]
struct Purge {
    id: String,
    subject: Subject,
    reason: String,
    by: String,
    at: Timestamp,
    tombstones: u64,
    #[serde(default)]
    receipts: Vec<Judged>,
}

#[derive(Debug, Deserialize)]
struct Trail {
    purges: Vec<Purge>,
}

/// Takes down, and says which edges have confirmed it.
pub async fn run(api: &Api, what: What, reason: &str) -> anyhow::Result<()> {
    let body = json!({ "subject": Subject::from(what), "reason": reason });
    let request = api.request(reqwest::Method::POST, "/v1/purges").json(&body);
    let purge: Purge = api.send(request).await?.json().await?;
    sleep(RECEIPTS_AFTER).await;
    let request = api.request(reqwest::Method::GET, &format!("/v1/purges/{}", purge.id));
    let purge: Purge = api.send(request).await?.json().await?;
    let signed = purge.receipts.iter().filter(|judged| judged.proof == Proof::Signed).count();
    let (tombstones, receipts) =
        (count(purge.tombstones, "tombstone"), count(signed as u64, "signed receipt"));
    println!("{}  {tombstones}, {receipts}", purge.id);
    for judged in &purge.receipts {
        let Receipt { at, edge, tombstone, .. } = &judged.receipt;
        println!("  {at:.0}  {edge}  {tombstone}  {}", worth(judged));
    }
    Ok(())
}

/// What a receipt is worth, in words.
fn worth(Judged { receipt, proof }: &Judged) -> String {
    let key = receipt.signature.as_ref().map_or("", |signature| &signature.key);
    match proof {
        Proof::Signed => format!("signed by {}, key {key}", receipt.edge),
        Proof::Unsigned => "NOT SIGNED".to_owned(),
        Proof::Wrong => "SIGNATURE WRONG".to_owned(),
        Proof::Foreign => format!("SIGNED BY ANOTHER, key {key}"),
    }
}

/// The trail, newest first.
pub async fn list(api: &Api) -> anyhow::Result<()> {
    let request = api.request(reqwest::Method::GET, "/v1/purges");
    let trail: Trail = api.send(request).await?.json().await?;
    for purge in trail.purges {
        let subject = match purge.subject {
            Subject::Blob { hash } => format!("blob {hash}"),
            Subject::Asset { asset } => format!("asset {asset}"),
            Subject::Tenant { tenant } => format!("tenant {tenant}"),
            Subject::Key { kid } => format!("key {kid}"),
        };
        println!("{:.0}  {}  {}  {subject}: {}", purge.at, purge.id, purge.by, purge.reason);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_says_what_it_is_worth() {
        let said = |proof: &str| {
            let receipt = json!({
                "edge": "ams-1", "tombstone": "key.k", "revision": 1, "at": "2026-11-20T00:00:00Z", "dropped": 0,
                "signature": { "key": "XYZ", "value": "" }, "proof": proof,
            });
            worth(&serde_json::from_value(receipt).unwrap())
        };
        assert_eq!(
            ["signed", "unsigned", "wrong", "foreign"].map(said),
            ["signed by ams-1, key XYZ", "NOT SIGNED", "SIGNATURE WRONG", "SIGNED BY ANOTHER, key XYZ"]
        );
    }
}
