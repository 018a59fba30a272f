//! Who may watch what: policies of assets and tenants, and the keys that tokens are signed with.
//!
//! Both are records in buckets, which edges follow, so that a change counts within moments. Without a policy an asset is
//! for everyone. An asset's own policy stands in place of its tenant's.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use reelmill_media::ids::{AssetId, TenantId};
use serde::{Deserialize, Serialize};

use crate::jwk::Jwk;

/// A record in the bucket [`BucketName::Policies`](crate::topology::BucketName::Policies), under a [`Subject`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Whether a token is needed.
    #[serde(default)]
    pub private: bool,
    /// Where viewers may be.
    #[serde(default)]
    pub countries: Countries,
}

impl Policy {
    /// Whether anything is asked of viewers.
    pub fn is_open(&self) -> bool {
        !self.private && self.countries == Countries::All
    }
}

/// A set of countries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Countries {
    /// Everywhere, also where nobody knows.
    #[default]
    All,
    /// These only; a viewer whose country is not known is not in them.
    Only(BTreeSet<Country>),
    /// Everywhere else; a viewer whose country is not known may watch.
    AllBut(BTreeSet<Country>),
}

impl Countries {
    /// Whether a viewer there may watch.
    pub fn include(&self, country: Option<Country>) -> bool {
        match self {
            Countries::All => true,
            Countries::Only(these) => country.is_some_and(|country| these.contains(&country)),
            Countries::AllBut(these) => country.is_none_or(|country| !these.contains(&country)),
        }
    }
}

/// What a policy is about: its key in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// `asset.<asset>`
    Asset(AssetId),
    /// `tenant.<tenant>`: all its assets that have no policy of their own.
    Tenant(TenantId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Asset(asset) => write!(f, "asset.{asset}"),
            Subject::Tenant(tenant) => write!(f, "tenant.{tenant}"),
        }
    }
}

impl FromStr for Subject {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let subject = match text.split_once('.') {
            Some(("asset", asset)) => asset.parse().ok().map(Subject::Asset),
            Some(("tenant", tenant)) => tenant.parse().ok().map(Subject::Tenant),
            Some(_) | None => None,
        };
        subject.ok_or_else(|| Invalid { kind: "subject of a policy", text: text.to_owned() })
    }
}

/// A record in the bucket [`BucketName::TokenKeys`](crate::topology::BucketName::TokenKeys), under its [`KeyId`]. Taking
/// it away withdraws all tokens that were signed with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKey {
    /// Whose assets its tokens open; of all tenants where none is named.
    pub tenant: Option<TenantId>,
    /// What proves a token; never the private half.
    pub jwk: Jwk,
}

/// The part of an asset's record that edges read: whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Never changes.
    pub tenant: TenantId,
}

/// A text that is not what it claims to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}")]
pub struct Invalid {
    kind: &'static str,
    text: String,
}

/// Gives a type its text form in records.
macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Names a key: letters, digits, `-` and `_`, at most 64.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let shape = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if shape && (1..=64).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid { kind: "key id", text: text.chars().take(80).collect() })
        }
    }
}

as_text!(KeyId);

/// A country by its two letters (ISO 3166-1 alpha-2), in upper case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl FromStr for Country {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match *text.as_bytes() {
            [a @ b'A'..=b'Z', b @ b'A'..=b'Z'] => Ok(Self([a, b])),
            _ => Err(Invalid { kind: "country code", text: text.chars().take(16).collect() }),
        }
    }
}

as_text!(Country);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_written_and_short_ones_as_meant() {
        let country: Country = "DE".parse().unwrap();
        for countries in
            [Countries::All, Countries::Only([country].into()), Countries::AllBut([country].into())]
        {
            let policy = Policy { private: true, countries };
            let text = serde_json::to_string(&policy).unwrap();
            assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
        }
        let policy: Policy = serde_json::from_str(r#"{"countries":{"all_but":["DE"]}}"#).unwrap();
        assert!(!policy.private && !policy.is_open());
        assert!(
            serde_json::from_str::<Policy>(r#"{"privat":true}"#).is_err(),
            "a slip must not open anything"
        );
        for wrong in ["de", "D", "DEU", "D1", ""] {
            assert!(wrong.parse::<Country>().is_err());
        }
    }

    #[test]
    fn who_is_nowhere_known_is_in_no_list() {
        let (de, at): (Country, Country) = ("DE".parse().unwrap(), "AT".parse().unwrap());
        let (only, but) = (Countries::Only([de].into()), Countries::AllBut([de].into()));
        assert!(only.include(Some(de)) && !only.include(Some(at)) && !only.include(None));
        assert!(!but.include(Some(de)) && but.include(Some(at)) && but.include(None));
    }

    #[test]
    fn names_have_one_spelling() {
        let asset = AssetId::from_parts(1, 2);
        for subject in [Subject::Asset(asset), Subject::Tenant("acme".parse().unwrap())] {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
        for wrong in ["", "asset", "asset.x", "tenant.A B", "key.1"] {
            assert!(wrong.parse::<Subject>().is_err());
        }
        assert!("k.1".parse::<KeyId>().is_err() && "".parse::<KeyId>().is_err());
        assert!("k-1_A".parse::<KeyId>().is_ok());
    }
}
