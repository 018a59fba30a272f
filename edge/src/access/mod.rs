//! Who may have what: tokens, policies and countries.
//!
//! A policy limits an asset, and through it the asset's playlists and blobs. A request for a blob that a limited asset
//! names is answered when any asset that names it would be shown to the viewer.

mod follow;
mod geo;
mod naming;
mod owners;
mod reading;
mod saved;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use jiff::Timestamp;
use moka::sync::Cache;
use reelmill_media::ids::{AssetId, BlobHash, TenantId};
use reelmill_platform::access::{Country, KeyId, Policy, Subject, TokenKey};
use reelmill_platform::bus::Bus;
use reelmill_platform::token::{Claims, TokenError, Unproven};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) use follow::Follower;
pub(crate) use geo::Geo;
pub use geo::GeoError;
use naming::Naming;
use owners::Owners;

use crate::bells::Bells;
use crate::limits::{NAMING_WAITING, POLICIES_DEADLINE, TOKENS_REMEMBERED};
use crate::playlists::Text;
use crate::route::MutableObject;
use crate::takedown::Takedowns;

/// The first segment of a path with a token.
const PREFIX: &str = "/t/";

/// Everything that decides who may have what. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: RwLock<Rules>,
    /// Whether the rules have been heard of.
    known: watch::Sender<bool>,
    /// Tokens that were proven, and by which revision of their key.
    proven: Cache<String, (u64, Arc<Claims>)>,
    geo: RwLock<Option<Geo>>,
    takedowns: Takedowns,
    naming: Naming,
    /// Assets whose texts should be read.
    unread: mpsc::Sender<AssetId>,
    owners: Owners,
    /// Rung for whoever may now have less, or more.
    bells: Bells,
}

#[derive(Debug, Default)]
struct Rules {
    policies: HashMap<Subject, Policy>,
    keys: HashMap<KeyId, Key>,
}

#[derive(Debug)]
struct Key {
    revision: u64,
    record: TokenKey,
    /// Ends what its tokens opened.
    streams: CancellationToken,
}

impl Rules {
    /// Assets that a policy of their own keeps from some.
    fn limited_assets(&self) -> Vec<AssetId> {
        let limited = self.policies.iter().filter(|(_, policy)| !policy.is_open());
        limited
            .filter_map(|(subject, _)| match subject {
                Subject::Asset(asset) => Some(*asset),
                Subject::Tenant(_) => None,
            })
            .collect()
    }

    /// Tenants whose assets are not for everyone.
    fn limited_tenants(&self) -> BTreeSet<TenantId> {
        let limited = self.policies.iter().filter(|(_, policy)| !policy.is_open());
        limited
            .filter_map(|(subject, _)| match subject {
                Subject::Tenant(tenant) => Some(tenant.clone()),
                Subject::Asset(_) => None,
            })
            .collect()
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    country: Option<Country>,
    ticket: Option<Ticket>,
}

impl Viewer {
    /// Of what is for everyone: a token's own limits are this viewer's alone.
    fn reach(&self) -> Reach {
        if self.ticket.is_none() { Reach::Everyone } else { Reach::Few }
    }

    /// Fires when what the viewer has been given must end.
    pub(crate) fn withdrawn(&self) -> Option<CancellationToken> {
        self.ticket.as_ref().map(|ticket| ticket.withdrawn.clone())
    }

    /// How long the viewer's token counts yet.
    pub(crate) fn counts_for(&self) -> Option<Duration> {
        let seconds = self.ticket.as_ref()?.claims.exp.saturating_sub(Timestamp::now().as_second());
        Some(Duration::from_secs(seconds.try_into().unwrap_or_default()))
    }
}

/// What a proven token gives.
#[derive(Debug, Clone)]
struct Ticket {
    claims: Arc<Claims>,
    /// Whose assets only.
    tenant: Option<TenantId>,
    /// Fires when the token's key is withdrawn.
    withdrawn: CancellationToken,
}

/// Who else may have the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Everyone,
    /// No shared cache may keep it.
    Few,
}

/// Why a viewer gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    #[error("a token is needed: put it in the path, as /t/TOKEN/assets/…")]
    Missing,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the token is not for this asset or path")]
    Elsewhere,
    #[error("this asset is not available in this country")]
    Country,
    #[error("this edge does not know at the moment who may have this")]
    Unknown,
}

/// Takes the token out of a path; a path of nothing else is that of the root.
pub(crate) fn split_token(path: &str) -> (Option<&str>, &str) {
    match path.strip_prefix(PREFIX) {
        Some(after) => match after.find('/').map(|end| after.split_at(end)) {
            Some((token, rest)) => (Some(token), rest),
            None => (Some(after), "/"),
        },
        None => (None, path),
    }
}

/// A text for people to read, in which any tokens are left out that paths within it have, spelt out or percent-encoded.
pub(crate) fn without_tokens(text: &str) -> String {
    const SLASHES: [&str; 3] = ["/", "%2F", "%2f"];
    let slash = |text: &str| SLASHES.into_iter().find(|slash| text.starts_with(slash)).map(str::len);
    let (mut kept, mut rest) = (String::new(), text);
    while let Some(next) = rest.chars().next() {
        let token = slash(rest).and_then(|first| {
            let after = rest[first..].strip_prefix('t')?;
            let second = slash(after)?;
            Some(first + 1 + second)
        });
        let Some(head) = token else {
            kept.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        kept.push_str(&rest[..head]);
        kept.push('-');
        let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '~');
        rest = rest[head..].trim_start_matches(is_token);
    }
    kept
}

impl Access {
    /// Without a bus everything is for everyone, and no token is proven. `unread` gets the assets that a [`Follower`]
    /// should read.
    pub(crate) fn new(
        bus: Option<Bus>,
        takedowns: Takedowns,
        geo: Option<&Path>,
        bells: Bells,
    ) -> Result<(Self, mpsc::Receiver<AssetId>), GeoError> {
        let (unread, to_read) = mpsc::channel(NAMING_WAITING);
        let access = Self(Arc::new(Inner {
            rules: RwLock::default(),
            known: watch::Sender::new(bus.is_none()),
            proven: Cache::new(TOKENS_REMEMBERED),
            geo: RwLock::new(geo.map(Geo::open).transpose()?),
            takedowns,
            naming: Naming::new(),
            unread,
            owners: Owners::new(bus),
            bells,
        }));
        Ok((access, to_read))
    }

    /// Who asks, by token and address.
    pub(crate) async fn viewer(&self, token: Option<&str>, from: IpAddr) -> Result<Viewer, Denial> {
        self.until_known().await?;
        let country = self.country(from);
        let ticket = match token {
            Some(token) => {
                let ticket = self.prove(token)?;
                ticket.claims.judge(Timestamp::now(), from, country)?;
                Some(ticket)
            }
            None => None,
        };
        Ok(Viewer { country, ticket })
    }

    /// Whether the viewer may have an asset's object at `path`, or its blobs.
    pub(crate) async fn asset(
        &self,
        viewer: &Viewer,
        asset: AssetId,
        path: Option<&str>,
    ) -> Result<Reach, Denial> {
        let policy = self.policy(asset);
        if let Some(ticket) = &viewer.ticket
            && !ticket.claims.open(asset, path)
        {
            return Err(Denial::Elsewhere);
        }
        if policy.private {
            let ticket = viewer.ticket.as_ref().ok_or(Denial::Missing)?;
            if let Some(tenant) = &ticket.tenant
                && !self.0.owners.is_of(asset, tenant).await?
            {
                return Err(Denial::Elsewhere);
            }
        }
        if !policy.countries.include(viewer.country) {
            return Err(Denial::Country);
        }
        Ok(if policy.is_open() { viewer.reach() } else { Reach::Few })
    }

    /// Whether the viewer may have a blob.
    pub(crate) async fn blob(&self, viewer: &Viewer, blob: BlobHash) -> Result<Reach, Denial> {
        let mut denial = None;
        for asset in self.0.naming.of(blob) {
            match self.asset(viewer, asset, None).await {
                Ok(reach) => return Ok(reach),
                Err(error) => denial = denial.or(Some(error)),
            }
        }
        denial.map_or(Ok(viewer.reach()), Err)
    }

    /// Notes which blobs a text names before a viewer can learn of them from it.
    pub(crate) fn note(&self, object: &MutableObject, text: &Text) {
        let limited = !self.policy(object.asset()).is_open();
        let new = self.0.naming.read(object, text, limited);
        if new && limited {
            // Full: it is read when it is next asked for.
            let _ = self.0.unread.try_send(object.asset());
        }
    }

    fn country(&self, from: IpAddr) -> Option<Country> {
        self.0.geo.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.country(from)
    }

    /// Knows countries by another file from now on.
    pub(crate) fn set_geo(&self, geo: Option<Geo>) {
        *self.0.geo.write().unwrap_or_else(PoisonError::into_inner) = geo;
        self.0.bells.ring_all();
    }

    /// Waits, for a while, until it has heard who may have what.
    pub(crate) async fn until_known(&self) -> Result<(), Denial> {
        if *self.0.known.borrow() {
            return Ok(());
        }
        let mut known = self.0.known.subscribe();
        let heard = timeout(POLICIES_DEADLINE, known.wait_for(|known| *known)).await;
        heard.map_err(|_| Denial::Unknown)?.map(drop).map_err(|_| Denial::Unknown)
    }

    fn prove(&self, token: &str) -> Result<Ticket, Denial> {
        let unproven = Unproven::read(token)?;
        let rules = self.rules();
        let key = rules.keys.get(unproven.kid()).ok_or(TokenError::Signature)?;
        let remembered = self.0.proven.get(token).filter(|(by, _)| *by == key.revision);
        let claims = match remembered {
            Some((_, claims)) => claims,
            None => {
                let claims = Arc::new(unproven.prove(&key.record.jwk)?);
                self.0.proven.insert(token.to_owned(), (key.revision, claims.clone()));
                claims
            }
        };
        let ticket = Ticket { claims, tenant: key.record.tenant.clone(), withdrawn: key.streams.clone() };
        // Last: a takedown either ends this ticket's streams, or is seen here.
        if self.0.takedowns.key_is_down(unproven.kid()) {
            return Err(TokenError::Signature.into());
        }
        Ok(ticket)
    }

    /// Ends what a key's tokens opened. It must be marked in the [`Takedowns`] before.
    pub(crate) fn end_streams(&self, kid: &KeyId) {
        if let Some(key) = self.rules_mut().keys.get_mut(kid) {
            std::mem::take(&mut key.streams).cancel();
        }
        self.0.bells.ring_all();
    }

    /// The policy that counts for an asset.
    fn policy(&self, asset: AssetId) -> Policy {
        let rules = self.rules();
        let own = rules.policies.get(&Subject::Asset(asset));
        let of_tenant = || {
            let tenant = self.0.owners.limited(asset)?;
            rules.policies.get(&Subject::Tenant(tenant))
        };
        own.or_else(of_tenant).cloned().unwrap_or_default()
    }

    fn rules(&self) -> RwLockReadGuard<'_, Rules> {
        self.0.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules_mut(&self) -> RwLockWriteGuard<'_, Rules> {
        self.0.rules.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_second_segment_after_t() {
        assert_eq!(split_token("/t/a.b.c/assets/x/index.m3u8"), (Some("a.b.c"), "/assets/x/index.m3u8"));
        assert_eq!(split_token("/assets/x/index.m3u8"), (None, "/assets/x/index.m3u8"));
        assert_eq!(split_token("/t/abc"), (Some("abc"), "/"));
        assert_eq!(split_token("/t//x"), (Some(""), "/x"));
    }

    #[test]
    fn no_token_is_left_in_what_is_written_down() {
        for (text, written) in [
            ("https://cdn.example/t/aA0.b-c.d_e/assets/x?y=1", "https://cdn.example/t/-/assets/x?y=1"),
            ("/t/abc", "/t/-"),
            ("nor=\"%2Ft%2Fabc%2fassets%2Fx\"", "nor=\"%2Ft%2F-%2fassets%2Fx\""),
            ("/t/one/t/two?z=/t/three#/t/four", "/t/-/t/-?z=/t/-#/t/-"),
            ("/assets/t.m3u8 über /tt/x", "/assets/t.m3u8 über /tt/x"),
            ("", ""),
        ] {
            assert_eq!(without_tokens(text), written);
        }
    }
}
