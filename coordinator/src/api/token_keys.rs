//! Keys that viewers' tokens are signed with. A tenant changes its key by adding another, signing with that one, and
//! withdrawing the first when its last token has run out.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use reelmill_media::ids::TenantId;
use reelmill_platform::access::{Invalid, KeyId, TokenKey};
use reelmill_platform::bus::BusError;
use reelmill_platform::jwk::{Algorithm, Jwk};
use reelmill_platform::kv::{Bucket, Written};
use reelmill_platform::purge::{Mark, Tombstone};
use reelmill_platform::topology::BucketName;
use serde::{Deserialize, Serialize};

use super::Api;
use super::assets::fresh;
use super::body::Object;
use super::keyring::Caller;
use super::problem::{Code, Problem};

/// Keys of a tenant: edges hold all of all tenants.
const MAX_KEYS: usize = 100;
/// A secret is no longer than this, in characters.
const MAX_SECRET_CHARS: usize = 1024;

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    jwk: Jwk,
    /// Its tokens open assets of all tenants, not of the caller only.
    #[serde(default)]
    all_tenants: bool,
}

/// A key as it is shown: what is secret is not.
#[derive(Debug, Serialize)]
struct View {
    kid: KeyId,
    /// Whose assets its tokens open; of all tenants where none is named.
    tenant: Option<TenantId>,
    algorithm: Algorithm,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwk: Option<Jwk>,
}

/// All keys of a tenant.
#[derive(Debug, Serialize)]
struct List {
    token_keys: Vec<View>,
}

impl View {
    fn of(kid: KeyId, TokenKey { tenant, jwk }: TokenKey) -> View {
        let algorithm = jwk.algorithm();
        let jwk = match jwk {
            Jwk::Secret { .. } => None,
            Jwk::Ed25519 { .. } => Some(jwk),
        };
        View { kid, tenant, algorithm, jwk }
    }
}

/// The caller's keys; all there are for the operator.
pub(super) async fn list(State(api): State<Api>, Caller(caller): Caller) -> Result<Response, Problem> {
    let keys = bucket(&api).await?.list("*").await?.into_iter();
    let own = keys.filter(|(_, key)| is_for(&api, &caller, key));
    let token_keys = own.filter_map(|(kid, key)| Some(View::of(kid.parse().ok()?, key))).collect();
    Ok(fresh(Json(List { token_keys })))
}

pub(super) async fn get(
    State(api): State<Api>,
    Caller(caller): Caller,
    Path(kid): Path<String>,
) -> Result<Response, Problem> {
    let kid = parse(&kid)?;
    let key = find(&api, &caller, &kid).await?;
    Ok(fresh(Json(View::of(kid, key))))
}

/// Has edges take tokens of a key. The same again does nothing more; an id never gets another key while it has one.
pub(super) async fn put(
    State(api): State<Api>,
    Caller(caller): Caller,
    Path(kid): Path<String>,
    Object(Given { jwk, all_tenants }): Object<Given>,
) -> Result<Response, Problem> {
    let kid = parse(&kid)?;
    check(&jwk)?;
    if all_tenants && api.operator.as_ref() != Some(&caller) {
        let detail = "Only the operator may have a key for the assets of all tenants.";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let tombstones = api.engine.bus.bucket::<Tombstone>(BucketName::Tombstones).await?;
    if tombstones.get(&Mark::Key(kid.clone()).to_string()).await?.is_some() {
        let detail = "A key of this id was taken down: take another id.";
        return Err(Problem::new(Code::Conflict, detail));
    }
    let keys = bucket(&api).await?;
    let key = TokenKey { tenant: (!all_tenants).then_some(caller), jwk };
    if let Some((there, _)) = keys.get(&kid.to_string()).await? {
        return existing(kid, key, there);
    }
    let own = keys.list("*").await?.into_iter().filter(|(_, other)| other.tenant == key.tenant).count();
    if own >= MAX_KEYS {
        let detail = format!("There are {own} token keys, which is as many as there may be: withdraw one.");
        return Err(Problem::new(Code::Conflict, detail));
    }
    match keys.create(&kid.to_string(), &key).await? {
        Written::Stored(_) => {
            tracing::info!(%kid, tenant = ?key.tenant, "token key");
            Ok(fresh((StatusCode::CREATED, Json(View::of(kid, key)))))
        }
        Written::Conflict => match keys.get(&kid.to_string()).await? {
            Some((there, _)) => existing(kid, key, there),
            None => Err(taken()),
        },
    }
}

/// Withdraws a key: its tokens open nothing any more, and what they opened ends.
pub(super) async fn delete(
    State(api): State<Api>,
    Caller(caller): Caller,
    Path(kid): Path<String>,
) -> Result<Response, Problem> {
    let kid = parse(&kid)?;
    find(&api, &caller, &kid).await?;
    bucket(&api).await?.remove(&kid.to_string()).await?;
    tracing::info!(%kid, by = %caller, "token key withdrawn");
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn bucket(api: &Api) -> Result<Bucket<TokenKey>, BusError> {
    api.engine.bus.bucket(BucketName::TokenKeys).await
}

fn parse(kid: &str) -> Result<KeyId, Problem> {
    kid.parse().map_err(|e: Invalid| Problem::new(Code::InvalidId, format!("{e}.")))
}

fn is_for(api: &Api, caller: &TenantId, key: &TokenKey) -> bool {
    key.tenant.as_ref() == Some(caller) || api.operator.as_ref() == Some(caller)
}

async fn find(api: &Api, caller: &TenantId, kid: &KeyId) -> Result<TokenKey, Problem> {
    let found = bucket(api).await?.get(&kid.to_string()).await?;
    let own = found.map(|(key, _)| key).filter(|key| is_for(api, caller, key));
    own.ok_or_else(|| Problem::new(Code::UnknownTokenKey, format!("There is no token key {kid}.")))
}

/// Something that proves tokens, and nothing that signs them for others to steal.
fn check(jwk: &Jwk) -> Result<(), Problem> {
    let refuse = |detail: String| Err(Problem::new(Code::InvalidRequest, detail));
    match jwk {
        Jwk::Ed25519 { d: Some(_), .. } => {
            return refuse("Send the public half only: leave out \"d\", and keep it.".to_owned());
        }
        Jwk::Secret { k } if k.len() > MAX_SECRET_CHARS => {
            return refuse(format!("A secret has at most {MAX_SECRET_CHARS} characters."));
        }
        Jwk::Ed25519 { d: None, .. } | Jwk::Secret { .. } => {}
    }
    match jwk.proves(b"", b"") {
        Ok(_) => Ok(()),
        Err(error) => refuse(format!("This key cannot be used: {error}.")),
    }
}

/// The answer where the id has a key already.
fn existing(kid: KeyId, wanted: TokenKey, there: TokenKey) -> Result<Response, Problem> {
    if wanted == there { Ok(fresh(Json(View::of(kid, there)))) } else { Err(taken()) }
}

fn taken() -> Problem {
    Problem::new(Code::Conflict, "This id has another key: withdraw that one, or take another id.")
}
