//! Tokens for viewers: JSON Web Tokens (RFC 7519) whose claims limit what they open, as the Common Access Token has it
//! (CTA-5007): time, asset or path, countries, networks. Pure: the time is an argument.
//!
//! A token stands in the path, `/t/<token>/assets/<asset>/index.m3u8`, so that a playlist's relative addresses keep it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ipnet::IpNet;
use jiff::Timestamp;
use reelmill_media::ids::AssetId;
use serde::{Deserialize, Serialize};

use crate::access::{Country, KeyId};
use crate::jwk::{Algorithm, Jwk, KeyError};

/// Longest token, in bytes.
pub const MAX_BYTES: usize = 4096;

/// What a token says. A claim that is not known here might be a limit, so it makes the token worthless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Worthless from then on, in seconds since the Unix epoch.
    pub exp: i64,
    /// Worthless before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Opens this asset only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset: Option<AssetId>,
    /// Opens only playlists whose path begins so (`/assets/<asset>/v480`), and blobs of their assets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Opens in these countries only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub countries: Option<BTreeSet<Country>>,
    /// Opens for addresses in these networks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<IpNet>>,
    /// Who is meant; not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// When it was made; not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
}

/// RFC 7515 §4.1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: Algorithm,
    kid: KeyId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    typ: Option<String>,
}

/// Why a token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token at all.
    #[error("the token is malformed or says what this server does not know")]
    Malformed,
    /// Not of any present key, or not signed by it.
    #[error("the token is not signed with a key that is valid here")]
    Signature,
    /// After its time.
    #[error("the token has expired")]
    Expired,
    /// Before its time.
    #[error("the token is not valid yet")]
    NotYet,
    /// The viewer is elsewhere.
    #[error("the token is not valid in this country")]
    Country,
    /// The viewer's address is another.
    #[error("the token is not valid for this network address")]
    Network,
}

/// Signs claims.
pub fn sign(claims: &Claims, kid: &KeyId, key: &Jwk) -> Result<String, KeyError> {
    let header = Header { alg: key.algorithm(), kid: kid.clone(), typ: Some("JWT".to_owned()) };
    // Texts and numbers always serialise.
    let part = |json: Result<Vec<u8>, serde_json::Error>| URL_SAFE_NO_PAD.encode(json.unwrap_or_default());
    let message = format!("{}.{}", part(serde_json::to_vec(&header)), part(serde_json::to_vec(claims)));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())?);
    Ok(format!("{message}.{signature}"))
}

/// A token taken apart, not yet proven.
#[derive(Debug)]
pub struct Unproven<'a> {
    header: Header,
    message: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

impl<'a> Unproven<'a> {
    /// Takes a token apart.
    pub fn read(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_BYTES {
            return Err(TokenError::Malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        Ok(Self { header, message, payload, signature: decode(signature)? })
    }

    /// The key that it claims to be signed with.
    pub fn kid(&self) -> &KeyId {
        &self.header.kid
    }

    /// Its claims, if it is signed with `key`.
    pub fn prove(&self, key: &Jwk) -> Result<Claims, TokenError> {
        let proven = key.algorithm() == self.header.alg
            && key.proves(self.message.as_bytes(), &self.signature).unwrap_or(false);
        if !proven {
            return Err(TokenError::Signature);
        }
        serde_json::from_slice(&decode(self.payload)?).map_err(|_| TokenError::Malformed)
    }
}

impl Claims {
    /// Whether they count now, for a viewer at this address and in this country.
    pub fn judge(&self, now: Timestamp, from: IpAddr, country: Option<Country>) -> Result<(), TokenError> {
        let now = now.as_second();
        if now >= self.exp {
            return Err(TokenError::Expired);
        }
        if self.nbf.is_some_and(|nbf| now < nbf) {
            return Err(TokenError::NotYet);
        }
        if let Some(countries) = &self.countries
            && !country.is_some_and(|country| countries.contains(&country))
        {
            return Err(TokenError::Country);
        }
        let from = from.to_canonical();
        if let Some(networks) = &self.networks
            && !networks.iter().any(|network| network.contains(&from))
        {
            return Err(TokenError::Network);
        }
        Ok(())
    }

    /// Whether they open an asset's object at `path`; its blobs, where there is no path.
    pub fn open(&self, asset: AssetId, path: Option<&str>) -> bool {
        if self.asset.is_some_and(|only| only != asset) {
            return false;
        }
        let Some(prefix) = &self.path else { return true };
        match path {
            Some(path) => path.starts_with(prefix),
            None => {
                let folder = format!("/assets/{asset}/");
                folder.starts_with(prefix) || prefix.starts_with(&folder)
            }
        }
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            exp: 1000,
            nbf: None,
            asset: None,
            path: None,
            countries: None,
            networks: None,
            sub: None,
            iat: None,
        }
    }

    fn prove(token: &str, key: &Jwk) -> Result<Claims, TokenError> {
        Unproven::read(token)?.prove(key)
    }

    #[test]
    fn only_the_key_that_signed_proves() {
        let kid: KeyId = "k1".parse().unwrap();
        let keys = [Algorithm::HS256, Algorithm::EdDSA, Algorithm::HS256, Algorithm::EdDSA];
        let keys = keys.map(|algorithm| Jwk::generate(algorithm).unwrap());
        for (signer, key) in keys.iter().enumerate() {
            let token = sign(&claims(), &kid, key).unwrap();
            for (prover, key) in keys.iter().enumerate() {
                let expected = if prover == signer { Ok(claims()) } else { Err(TokenError::Signature) };
                assert_eq!(prove(&token, &key.proving()), expected);
            }
            for at in 0..token.len() {
                let mut bent = token.clone().into_bytes();
                bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
                let bent = String::from_utf8(bent).unwrap();
                // The last character of a part may have bits that mean nothing; base64 refuses those too.
                assert!(prove(&bent, &key.proving()).is_err(), "{at}");
            }
        }
        assert_eq!(keys[1].proving().sign(b"x"), Err(KeyError::Public));
    }

    /// RFC 8725 §2.1: "none", and an Ed25519 public key used as an HMAC secret.
    #[test]
    fn the_key_decides_the_algorithm() {
        let key = Jwk::generate(Algorithm::EdDSA).unwrap().proving();
        let Jwk::Ed25519 { x, .. } = key.clone() else { unreachable!() };
        let forged = sign(&claims(), &"k".parse().unwrap(), &Jwk::Secret { k: x }).unwrap();
        assert_eq!(prove(&forged, &key), Err(TokenError::Signature));
        let none = format!("{}.e30.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"k"}"#));
        assert_eq!(prove(&none, &key), Err(TokenError::Malformed));
        let critical = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"k","crit":["x"]}"#);
        assert_eq!(prove(&format!("{critical}.e30.e30"), &key), Err(TokenError::Malformed));
        let short = Jwk::Secret { k: "AAAA".into() };
        assert_eq!(short.sign(b"x"), Err(KeyError::Shape));
    }

    /// The example of RFC 8037 appendix A: our reading of keys is everyone's.
    #[test]
    fn keys_of_others_are_read() {
        let key: Jwk = serde_json::from_str(
            r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
                "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        )
        .unwrap();
        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature =
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert_eq!(URL_SAFE_NO_PAD.encode(key.sign(message).unwrap()), signature);
        assert!(!format!("{key:?}").contains("nWGxne"));
    }

    #[test]
    fn each_claim_limits() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (here, there): (IpAddr, IpAddr) =
            ("::ffff:192.0.2.7".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let country = |code: &str| Some(code.parse::<Country>().unwrap());
        let claims = Claims {
            nbf: Some(500),
            countries: Some(["DE".parse().unwrap()].into()),
            networks: Some(vec!["192.0.2.0/24".parse().unwrap()]),
            ..claims()
        };
        assert_eq!(claims.judge(at(500), here, country("DE")), Ok(()));
        assert_eq!(claims.judge(at(499), here, country("DE")), Err(TokenError::NotYet));
        assert_eq!(claims.judge(at(1000), here, country("DE")), Err(TokenError::Expired));
        assert_eq!(claims.judge(at(600), here, country("AT")), Err(TokenError::Country));
        assert_eq!(claims.judge(at(600), here, None), Err(TokenError::Country));
        assert_eq!(claims.judge(at(600), there, country("DE")), Err(TokenError::Network));
    }

    #[test]
    fn a_path_opens_what_begins_so_and_its_assets_blobs() {
        let (a, b) = (AssetId::from_parts(1, 1), AssetId::from_parts(2, 2));
        let low = Claims { path: Some(format!("/assets/{a}/v480")), ..claims() };
        assert!(low.open(a, Some(&format!("/assets/{a}/v480.m3u8"))));
        assert!(!low.open(a, Some(&format!("/assets/{a}/v720.m3u8"))));
        assert!(low.open(a, None) && !low.open(b, None));
        let one = Claims { asset: Some(a), ..claims() };
        assert!(one.open(a, None) && !one.open(b, None) && !one.open(b, Some("/assets/")));
        assert!(claims().open(b, None));
    }
}
