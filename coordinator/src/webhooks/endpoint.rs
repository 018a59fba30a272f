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
    /// The one before, for as long as the receiver may still go by it.
    #[serde(default)]
    old_secret: Option<String>,
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
    /// The newest first.
    keys: Vec<hmac::Key>,
}

impl TryFrom<&EndpointEntry> for Endpoint {
    type Error = EndpointError;

    fn try_from(entry: &EndpointEntry) -> Result<Endpoint, EndpointError> {
        let url = reqwest::Url::parse(&entry.url).map_err(|_| EndpointError::Url)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(EndpointError::Url);
        }
        let secrets = [Some(&entry.secret), entry.old_secret.as_ref()];
        let keys = secrets.into_iter().flatten().map(|secret| key(secret)).collect::<Result<_, _>>()?;
        Ok(Endpoint { url, keys })
    }
}

fn key(secret: &str) -> Result<hmac::Key, EndpointError> {
    let secret = secret.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    let secret = secret.filter(|secret| SECRET_BYTES.contains(&secret.len())).ok_or(EndpointError::Secret)?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
}

impl Endpoint {
    /// The header `webhook-signature`: one for each secret, so that receivers may change theirs when they like.
    pub fn signature(&self, id: &str, timestamp: i64, body: &str) -> String {
        let signed = format!("{id}.{timestamp}.{body}");
        let sign = |key| format!("v1,{}", STANDARD.encode(hmac::sign(key, signed.as_bytes()).as_ref()));
        self.keys.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(url: &str, secret: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::try_from(&EndpointEntry { url: url.into(), secret: secret.into(), old_secret: None })
    }

    #[test]
    fn a_change_of_secrets_is_signed_by_both() {
        let (new, old) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX");
        let url = "https://example.com/hook";
        let both = EndpointEntry { url: url.into(), secret: new.into(), old_secret: Some(old.into()) };
        let signed = |endpoint: &Endpoint| endpoint.signature("msg_1", 1, "{}");
        let (new, old) = (entry(url, new).unwrap(), entry(url, old).unwrap());
        let both = signed(&Endpoint::try_from(&both).unwrap());
        assert_eq!(both, format!("{} {}", signed(&new), signed(&old)));
        let weak = EndpointEntry { url: url.into(), secret: "whsec_".into(), old_secret: None };
        assert_eq!(Endpoint::try_from(&weak).unwrap_err(), EndpointError::Secret);
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
