//! Where a tenant wants to be told, and the secret that proves who tells: the Standard Webhooks scheme.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Shorter secrets can be guessed, by the scheme; in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// As it stands in the keys file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointEntry {
    url: String,
    /// `whsec_` and 24 to 64 bytes in base64.
    secret: String,
}

/// Why an entry is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not an address that can be told.
    #[error("its url is not an http or https address")]
    Url,
    /// Not a secret of the scheme.
    #[error("its secret is not whsec_ and 24 to 64 bytes in base64")]
    Secret,
}

/// A receiver.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its address.
    pub url: reqwest::Url,
    key: hmac::Key,
}

impl TryFrom<&EndpointEntry> for Endpoint {
    type Error = EndpointError;

    fn try_from(entry: &EndpointEntry) -> Result<Endpoint, EndpointError> {
        let url = reqwest::Url::parse(&entry.url).map_err(|_| EndpointError::Url)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(EndpointError::Url);
        }
        let secret = entry.secret.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
        let secret =
            secret.filter(|secret| SECRET_BYTES.contains(&secret.len())).ok_or(EndpointError::Secret)?;
        Ok(Endpoint { url, key: hmac::Key::new(hmac::HMAC_SHA256, &secret) })
    }
}

impl Endpoint {
    /// The header `webhook-signature`.
    pub fn signature(&self, id: &str, timestamp: i64, body: &str) -> String {
        let signed = hmac::sign(&self.key, format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(signed.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(url: &str, secret: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::try_from(&EndpointEntry { url: url.into(), secret: secret.into() })
    }

    #[test]
    fn signs_as_the_published_example_does() {
        let endpoint = entry("https://example.com/hook", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            endpoint.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn refuses_what_it_cannot_tell_or_sign_for() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(entry("file:///etc/passwd", secret).unwrap_err(), EndpointError::Url);
        assert_eq!(entry("nowhere", secret).unwrap_err(), EndpointError::Url);
        for weak in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert_eq!(entry("https://example.com", weak).unwrap_err(), EndpointError::Secret);
        }
    }
}
