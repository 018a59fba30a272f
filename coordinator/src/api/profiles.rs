//! What is made of an upload: by a profile that comes with it, by one of its tenant's that it names, or by the tenant's
//! default. An asset keeps the profile itself, so that a name may come to mean another one.

use std::collections::BTreeMap;
use std::fmt;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use reelmill_media::ids::{InvalidId, ProfileName, TenantId};
use reelmill_media::profile::Profile;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Api;
use super::assets::fresh;
use super::body::{self, Text};
use super::keyring::Caller;
use super::problem::{Code, Problem};

/// A profile is no longer than this, in bytes.
const MAX_BYTES: usize = 8 << 10;
/// Profiles of a tenant that have names.
const MAX_PROFILES: usize = 100;

/// What a caller wants made.
#[derive(Debug)]
pub(super) enum Choice {
    /// What its tenant calls so.
    Named(ProfileName),
    /// This.
    Given(Box<Profile>),
}

impl Choice {
    /// A name, or a profile in JSON.
    pub(super) fn of_text(text: &str) -> Result<Choice, Problem> {
        if text.len() > MAX_BYTES {
            let detail = format!("A profile has at most {MAX_BYTES} bytes.");
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
        if let Ok(name) = text.parse() {
            return Ok(Choice::Named(name));
        }
        if !text.trim_start().starts_with('{') {
            let detail =
                "The profile is neither a name (of lower-case letters, digits and -) nor a JSON object.";
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
        body::read("The profile", text.as_bytes()).map(Choice::Given)
    }
}

/// The same where all else is JSON as well: a name is a string then.
impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NameOrProfile;

        impl<'de> Visitor<'de> for NameOrProfile {
            type Value = Choice;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a profile or the name of one")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Choice, E> {
                name.parse().map(Choice::Named).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, profile: A) -> Result<Choice, A::Error> {
                Box::deserialize(MapAccessDeserializer::new(profile)).map(Choice::Given)
            }
        }

        from.deserialize_any(NameOrProfile)
    }
}

impl Api {
    /// The profile that is meant; the tenant's default where nothing was said.
    pub(super) async fn profile(
        &self,
        tenant: &TenantId,
        choice: Option<Choice>,
    ) -> Result<Profile, Problem> {
        match choice {
            Some(Choice::Given(profile)) => usable(*profile),
            Some(Choice::Named(name)) => self.named(tenant, &name).await,
            None => self.named(tenant, &ProfileName::default()).await,
        }
    }

    /// There is always a default: what was put under that name, what the keys file says, or our own.
    async fn named(&self, tenant: &TenantId, name: &ProfileName) -> Result<Profile, Problem> {
        match self.profiles.get(&key(tenant, name)).await? {
            Some((profile, _)) => Ok(profile),
            None if *name == ProfileName::default() => Ok(self.keyring.profile(tenant)),
            None => Err(Problem::new(Code::UnknownProfile, format!("There is no profile {name}."))),
        }
    }

    async fn all_named(&self, tenant: &TenantId) -> Result<BTreeMap<ProfileName, Profile>, Problem> {
        let all = self.profiles.list(&format!("{tenant}.*")).await?;
        let name = |key: String| key.split_once('.')?.1.parse().ok();
        Ok(all.into_iter().filter_map(|(key, profile)| Some((name(key)?, profile))).collect())
    }
}

/// All of a tenant.
#[derive(Debug, Serialize)]
struct List {
    profiles: BTreeMap<ProfileName, Profile>,
}

pub(super) async fn list(State(api): State<Api>, Caller(tenant): Caller) -> Result<Response, Problem> {
    let mut profiles = api.all_named(&tenant).await?;
    profiles.entry(ProfileName::default()).or_insert_with(|| api.keyring.profile(&tenant));
    Ok(fresh(Json(List { profiles })))
}

pub(super) async fn get(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    Ok(fresh(Json(api.named(&tenant, &parse(&name)?).await?)))
}

/// What is uploaded from now on, and names it, is made by it.
pub(super) async fn put(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(name): Path<String>,
    Text(text): Text,
) -> Result<Response, Problem> {
    let name = parse(&name)?;
    let profile = usable(body::read("The profile", &text)?)?;
    let there = api.all_named(&tenant).await?;
    if there.len() >= MAX_PROFILES && !there.contains_key(&name) {
        let detail = format!("There are {} profiles, as many as there may be: take one away.", there.len());
        return Err(Problem::new(Code::Conflict, detail));
    }
    api.profiles.put(&key(&tenant, &name), &profile).await?;
    tracing::info!(%tenant, %name, "profile");
    Ok(fresh(Json(profile)))
}

/// Takes it away. Again, it does the same again.
pub(super) async fn delete(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let name = parse(&name)?;
    api.profiles.remove(&key(&tenant, &name)).await?;
    tracing::info!(%tenant, %name, "no profile");
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn key(tenant: &TenantId, name: &ProfileName) -> String {
    format!("{tenant}.{name}")
}

fn parse(name: &str) -> Result<ProfileName, Problem> {
    name.parse().map_err(|e: InvalidId| Problem::new(Code::InvalidId, format!("{e}.")))
}

/// The profile, unless it cannot be used.
fn usable(profile: Profile) -> Result<Profile, Problem> {
    match profile.check() {
        Ok(()) => Ok(profile),
        Err(e) => Err(Problem::new(Code::InvalidRequest, format!("The profile cannot be used: {e}."))),
    }
}
