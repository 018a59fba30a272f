//! Edges' words that a takedown is done there, signed, so that anybody who reads them can tell whose they are.
//!
//! Each edge has an Ed25519 key of its own. The public half stands in a bucket under the edge's name for ever, so that a
//! receipt is judged by it long after the edge is gone, or has another key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bus::BusError;
use crate::jwk::{Curve, Jwk, KeyError};
use crate::kv::Bucket;

/// What the signed text begins with, so that it is never taken for one of another kind.
const CONTEXT: &str = "reelmill receipt";

/// An edge's word that a takedown is done there; a record in the bucket [`crate::topology::BucketName::Receipts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Name of the edge.
    pub edge: String,
    /// Key of the tombstone.
    pub tombstone: String,
    /// Its revision.
    pub revision: u64,
    /// When it was done.
    pub at: Timestamp,
    /// Blobs that were in memory, on their way in or on their way out.
    pub dropped: u64,
    /// Over [`Receipt::text`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// An Ed25519 signature (RFC 8032) and who made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The public key, in base64url.
    pub key: String,
    /// The signature, in base64url.
    pub value: String,
}

/// That a key is an edge's; a record in the bucket [`crate::topology::BucketName::EdgeKeys`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeKey {
    /// Name of the edge.
    pub edge: String,
    /// The public key, in base64url.
    pub key: String,
    /// When the edge first showed it.
    pub since: Timestamp,
}

/// What a receipt is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Signed by a key of the edge that it names.
    Signed,
    /// Not signed.
    Unsigned,
    /// Not what was signed, or not under its own name.
    Wrong,
    /// Signed by a key that this edge has never shown.
    Foreign,
}

/// A receipt as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The receipt.
    #[serde(flatten)]
    pub receipt: Receipt,
    /// What it is worth.
    pub proof: Proof,
}

impl Receipt {
    /// `<tombstone>.<revision>.<edge>`. An edge has no dot in its name.
    pub fn key(&self) -> String {
        format!("{}.{}.{}", self.tombstone, self.revision, self.edge)
    }

    /// The receipts for one tombstone, as a pattern for [`Bucket::list`].
    pub fn all_for(mark: &str, revision: u64) -> String {
        format!("{mark}.{revision}.*")
    }

    /// What is signed: a JSON list of all that the receipt says, without white space.
    pub fn text(&self) -> String {
        let Self { edge, tombstone, revision, at, dropped, signature: _ } = self;
        // Numbers and texts always serialise.
        serde_json::to_string(&(CONTEXT, edge, tombstone, revision, at, dropped)).unwrap_or_default()
    }

    /// The same, signed by an edge's own key.
    pub fn signed(self, key: &Jwk) -> Result<Receipt, KeyError> {
        let value = URL_SAFE_NO_PAD.encode(key.sign(self.text().as_bytes())?);
        let signature = Some(Signature { key: public(key)?, value });
        Ok(Receipt { signature, ..self })
    }

    /// Judges what lies under `key` in the bucket of receipts.
    pub async fn judge(self, key: &str, keys: &Bucket<EdgeKey>) -> Result<Judged, BusError> {
        let proof = match self.signature_under(key) {
            Ok(signature) if keys.get(&EdgeKey::name(&self.edge, &signature.key)).await?.is_some() => {
                Proof::Signed
            }
            Ok(_) => Proof::Foreign,
            Err(proof) => proof,
        };
        Ok(Judged { receipt: self, proof })
    }

    /// The signature, if the text is what was signed and lies where it belongs.
    fn signature_under(&self, key: &str) -> Result<&Signature, Proof> {
        let signature = self.signature.as_ref().ok_or(Proof::Unsigned)?;
        let signer = Jwk::Ed25519 { crv: Curve::Ed25519, x: signature.key.clone(), d: None };
        let value = URL_SAFE_NO_PAD.decode(&signature.value).map_err(|_| Proof::Wrong)?;
        let holds = signer.proves(self.text().as_bytes(), &value).unwrap_or(false);
        if holds && self.key() == key { Ok(signature) } else { Err(Proof::Wrong) }
    }
}

impl EdgeKey {
    /// That `key` is this edge's from now on.
    pub fn of(edge: &str, key: &Jwk, now: Timestamp) -> Result<EdgeKey, KeyError> {
        Ok(EdgeKey { edge: edge.to_owned(), key: public(key)?, since: now })
    }

    /// Its key in the bucket.
    pub fn key(&self) -> String {
        Self::name(&self.edge, &self.key)
    }

    fn name(edge: &str, key: &str) -> String {
        format!("{edge}.{key}")
    }
}

fn public(key: &Jwk) -> Result<String, KeyError> {
    match key {
        Jwk::Ed25519 { x, .. } => Ok(x.clone()),
        // Whoever could prove such a signature could make it.
        Jwk::Secret { .. } => Err(KeyError::Secret),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwk::Algorithm;

    fn receipt() -> Receipt {
        Receipt {
            edge: "ams-1".into(),
            tombstone: "blob.00".into(),
            revision: 7,
            at: Timestamp::UNIX_EPOCH,
            dropped: 2,
            signature: None,
        }
    }

    #[test]
    fn a_signature_holds_for_what_was_signed_where_it_belongs() {
        let key = Jwk::generate(Algorithm::EdDSA).unwrap();
        assert_eq!(receipt().text(), r#"["reelmill receipt","ams-1","blob.00",7,"1970-01-01T00:00:00Z",2]"#);
        let signed = receipt().signed(&key).unwrap();
        let text = serde_json::to_string(&signed).unwrap();
        let read: Receipt = serde_json::from_str(&text).unwrap();
        assert!(read.signature_under("blob.00.7.ams-1").is_ok());

        let change = |change: fn(&mut Receipt)| {
            let mut changed = signed.clone();
            change(&mut changed);
            let key = changed.key();
            changed.signature_under(&key).map(drop)
        };
        assert_eq!(change(|_| {}), Ok(()));
        assert_eq!(change(|r| r.signature = None), Err(Proof::Unsigned));
        let forgeries: [fn(&mut Receipt); 9] = [
            |r| r.edge = "ams-2".into(),
            |r| r.tombstone = "blob.01".into(),
            |r| r.revision = 8,
            |r| r.at += jiff::SignedDuration::from_nanos(1),
            |r| r.dropped = 3,
            |r| r.signature.as_mut().unwrap().value.clear(),
            |r| r.signature.as_mut().unwrap().value.push('>'),
            |r| r.signature.as_mut().unwrap().key = "*".into(),
            |r| r.signature.as_mut().unwrap().key = ">".repeat(43),
        ];
        for forge in forgeries {
            assert_eq!(change(forge), Err(Proof::Wrong));
        }
        assert_eq!(signed.signature_under("blob.00.7.ams-2").map(drop), Err(Proof::Wrong));
    }

    #[test]
    fn only_a_pair_signs_receipts() {
        let secret = Jwk::generate(Algorithm::HS256).unwrap();
        assert_eq!(receipt().signed(&secret), Err(KeyError::Secret));
        let pair = Jwk::generate(Algorithm::EdDSA).unwrap();
        assert_eq!(receipt().signed(&pair.proving()), Err(KeyError::Public));
    }

    #[test]
    fn receipts_from_before_there_were_signatures_are_read() {
        let old = r#"{"edge":"a","tombstone":"key.k","revision":1,"at":"2026-11-20T00:00:00Z","dropped":0}"#;
        let receipt: Receipt = serde_json::from_str(old).unwrap();
        assert_eq!(receipt.signature_under("key.k.1.a").map(drop), Err(Proof::Unsigned));
    }
}
