//! Who may have what: tokens, policies and countries.
//!
//! A policy limits an asset, and through it the asset's playlists and blobs. A request for a blob that a limited asset
//! names is answered when any asset that names it would be shown to the viewer.

mod follow;
mod geo;
mod naming;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use moka::sync::Cache;
use reelmill_media::ids::{AssetId, BlobHash, TenantId};
use reelmill_platform::access::{Country, KeyId, Owner, Policy, Subject, TokenKey};
use reelmill_platform::bus::Bus;
use reelmill_platform::kv::Bucket;
use reelmill_platform::token::{Claims, TokenError, Unproven};
use reelmill_platform::topology::BucketName;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) use follow::Follower;
pub(crate) use geo::Geo;
pub use geo::GeoError;
use naming::Naming;

use crate::limits::{NAMING_WAITING, OWNERLESS_FOR, OWNERS_REMEMBERED, POLICIES_DEADLINE, TOKENS_REMEMBERED};
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
    fn of(&self, subject: &Subject) -> Option<&Policy> {
        self.policies.get(subject)
    }

    fn limit_tenants(&self) -> bool {
        self.policies.iter().any(|(subject, policy)| match subject {
            Subject::Tenant(_) => !policy.is_open(),
            Subject::Asset(_) => false,
        })
    }
}

/// Whose assets are, asked of the coordinators' records once.
#[derive(Debug)]
struct Owners {
    bus: Option<Bus>,
    bucket: OnceCell<Bucket<Owner>>,
    known: Cache<AssetId, TenantId>,
    unknown: Cache<AssetId, ()>,
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

/// Takes the token out of a path.
pub(crate) fn split_token(path: &str) -> (Option<&str>, &str) {
    let after = path.strip_prefix(PREFIX);
    match after.and_then(|after| after.find('/').map(|end| after.split_at(end))) {
        Some((token, rest)) => (Some(token), rest),
        None => (None, path),
    }
}

impl Access {
    /// Without a bus everything is for everyone, and no token is proven. `unread` gets the assets that a [`Follower`]
    /// should read.
    pub(crate) fn new(
        bus: Option<Bus>,
        takedowns: Takedowns,
        geo: Option<&Path>,
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
            owners: Owners {
                bus,
                bucket: OnceCell::new(),
                known: Cache::new(OWNERS_REMEMBERED),
                unknown: Cache::builder().max_capacity(OWNERS_REMEMBERED).time_to_live(OWNERLESS_FOR).build(),
            },
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
        let policy = self.policy(asset).await?;
        if let Some(ticket) = &viewer.ticket
            && !ticket.claims.open(asset, path)
        {
            return Err(Denial::Elsewhere);
        }
        if policy.private {
            let ticket = viewer.ticket.as_ref().ok_or(Denial::Missing)?;
            if let Some(tenant) = &ticket.tenant
                && self.0.owners.of(asset).await?.as_ref() != Some(tenant)
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
    pub(crate) async fn note(&self, object: &MutableObject, text: &Text) -> Result<(), Denial> {
        let limited = !self.policy(object.asset()).await?.is_open();
        let new = self.0.naming.read(object, text, limited);
        if new && limited {
            // Full: it is read when it is next asked for.
            let _ = self.0.unread.try_send(object.asset());
        }
        Ok(())
    }

    fn country(&self, from: IpAddr) -> Option<Country> {
        self.0.geo.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.country(from)
    }

    /// Knows countries by another file from now on.
    pub(crate) fn set_geo(&self, geo: Option<Geo>) {
        *self.0.geo.write().unwrap_or_else(PoisonError::into_inner) = geo;
    }

    async fn until_known(&self) -> Result<(), Denial> {
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
    }

    /// The policy that counts for an asset.
    async fn policy(&self, asset: AssetId) -> Result<Policy, Denial> {
        {
            let rules = self.rules();
            if let Some(policy) = rules.of(&Subject::Asset(asset)) {
                return Ok(policy.clone());
            }
            if !rules.limit_tenants() {
                return Ok(Policy::default());
            }
        }
        let Some(tenant) = self.0.owners.of(asset).await? else { return Ok(Policy::default()) };
        Ok(self.rules().of(&Subject::Tenant(tenant)).cloned().unwrap_or_default())
    }

    fn rules(&self) -> RwLockReadGuard<'_, Rules> {
        self.0.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules_mut(&self) -> RwLockWriteGuard<'_, Rules> {
        self.0.rules.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owners {
    async fn of(&self, asset: AssetId) -> Result<Option<TenantId>, Denial> {
        let Some(bus) = &self.bus else { return Ok(None) };
        if let Some(tenant) = self.known.get(&asset) {
            return Ok(Some(tenant));
        }
        if self.unknown.contains_key(&asset) {
            return Ok(None);
        }
        let asking = async {
            let bucket = self.bucket.get_or_try_init(|| bus.bucket(BucketName::Assets)).await?;
            bucket.get(&asset.to_string()).await
        };
        match timeout(POLICIES_DEADLINE, asking).await {
            Ok(Ok(Some((Owner { tenant }, _)))) => {
                self.known.insert(asset, tenant.clone());
                Ok(Some(tenant))
            }
            Ok(Ok(None)) => {
                self.unknown.insert(asset, ());
                Ok(None)
            }
            Ok(Err(error)) => {
                tracing::warn!(%asset, %error, "cannot learn whose asset this is");
                Err(Denial::Unknown)
            }
            Err(_) => Err(Denial::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_second_segment_after_t() {
        assert_eq!(split_token("/t/a.b.c/assets/x/index.m3u8"), (Some("a.b.c"), "/assets/x/index.m3u8"));
        assert_eq!(split_token("/assets/x/index.m3u8"), (None, "/assets/x/index.m3u8"));
        assert_eq!(split_token("/t/abc"), (None, "/t/abc"));
        assert_eq!(split_token("/t//x"), (Some(""), "/x"));
    }
}
