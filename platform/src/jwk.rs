//! Keys that sign and prove tokens, as JSON Web Keys have it (RFC 7517, RFC 8037).

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// Fewer bytes than a SHA-256 hash can be guessed (RFC 7518 §3.2).
const LEAST_SECRET_BYTES: usize = 32;

/// A key. `Debug` does not show secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kty")]
pub enum Jwk {
    /// A secret that both signs and proves, by HMAC with SHA-256 (`HS256`).
    #[serde(rename = "oct")]
    Secret {
        /// The secret, in base64url.
        k: String,
    },
    /// Ed25519 (`EdDSA`).
    #[serde(rename = "OKP")]
    Ed25519 {
        /// The curve: `Ed25519`.
        crv: Curve,
        /// The public half, in base64url.
        x: String,
        /// The private half, in base64url.
        #[serde(skip_serializing_if = "Option::is_none")]
        d: Option<String>,
    },
}

/// Curves that are spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Curve {
    /// RFC 8032.
    Ed25519,
}

/// How a token is signed, as it says itself (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
    /// Ed25519.
    EdDSA,
}

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not base64url, or of the wrong length.
    #[error("the key is not base64url of the right length; a secret has 32 bytes or more")]
    Shape,
    /// Only its public half is there.
    #[error("the private half of the key is needed")]
    Public,
    /// A secret, where a pair is needed.
    #[error("a key with a public half is needed")]
    Secret,
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

impl std::fmt::Debug for Jwk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Jwk::Secret { .. } => f.write_str("Jwk::Secret"),
            Jwk::Ed25519 { x, .. } => write!(f, "Jwk::Ed25519({x})"),
        }
    }
}

impl Jwk {
    /// Makes a new one with its private half.
    pub fn generate(algorithm: Algorithm) -> Result<Jwk, KeyError> {
        let mut secret = [0; 32];
        rand::fill(&mut secret).map_err(|_| KeyError::Random)?;
        let d = URL_SAFE_NO_PAD.encode(secret);
        match algorithm {
            Algorithm::HS256 => Ok(Jwk::Secret { k: d }),
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::from_seed_unchecked(&secret).map_err(|_| KeyError::Shape)?;
                let x = URL_SAFE_NO_PAD.encode(pair.public_key());
                Ok(Jwk::Ed25519 { crv: Curve::Ed25519, x, d: Some(d) })
            }
        }
    }

    /// What proves tokens: all of a secret, the public half of a pair.
    pub fn proving(&self) -> Jwk {
        match self {
            Jwk::Secret { k } => Jwk::Secret { k: k.clone() },
            Jwk::Ed25519 { crv, x, .. } => Jwk::Ed25519 { crv: *crv, x: x.clone(), d: None },
        }
    }

    /// The only algorithm it is for (RFC 8725 §3.1).
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Jwk::Secret { .. } => Algorithm::HS256,
            Jwk::Ed25519 { .. } => Algorithm::EdDSA,
        }
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self {
            Jwk::Secret { k } => Ok(hmac::sign(&secret(k)?, message).as_ref().to_vec()),
            Jwk::Ed25519 { x, d, .. } => {
                let (seed, public) = (bytes(d.as_deref().ok_or(KeyError::Public)?)?, bytes(x)?);
                let pair =
                    Ed25519KeyPair::from_seed_and_public_key(&seed, &public).map_err(|_| KeyError::Shape)?;
                Ok(pair.sign(message).as_ref().to_vec())
            }
        }
    }

    /// Whether the signature is this key's. Takes the same time for all wrong ones.
    pub fn proves(&self, message: &[u8], signature: &[u8]) -> Result<bool, KeyError> {
        match self {
            Jwk::Secret { k } => Ok(hmac::verify(&secret(k)?, message, signature).is_ok()),
            Jwk::Ed25519 { x, .. } => {
                let public = bytes(x)?;
                if public.len() != 32 {
                    return Err(KeyError::Shape);
                }
                Ok(UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok())
            }
        }
    }
}

fn secret(k: &str) -> Result<hmac::Key, KeyError> {
    let bytes = bytes(k)?;
    if bytes.len() < LEAST_SECRET_BYTES {
        return Err(KeyError::Shape);
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn bytes(text: &str) -> Result<Vec<u8>, KeyError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Shape)
}
