//! Where bytes are pulled from: an address, or a key of the store that the operator offers for imports.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_util::stream;
use http::{StatusCode, header};
use ipnet::IpNet;
use reelmill_media::ids::TenantId;
use reelmill_platform::store::{Store, StoreError};
use reqwest::{Client, Response, Url, redirect};
use serde::{Deserialize, Serialize};

use crate::reach::{OutOfReach, Reach};

/// Redirects that are followed, each checked like the first address.
const MAX_REDIRECTS: usize = 5;
/// A connection comes about within this.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// An answer's head comes within this.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Addresses and keys are no longer: they stand in records.
const MAX_CHARS: usize = 4096;

/// Where bytes are pulled from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A web address.
    Url(String),
    /// A key in the tenant's folder of the import store.
    Key(String),
}

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// It will not come later either.
    #[error("{0}")]
    Refused(String),
    /// It may come later.
    #[error("{0}")]
    Failed(String),
}

/// Bytes on their way.
pub struct Opened {
    /// The bytes.
    pub body: Body,
    /// Place of the first one.
    pub starts_at: u64,
    /// Length of the whole in bytes, if the origin says it.
    pub length: Option<u64>,
    /// Names this content: ranges of another one do not fit to it.
    pub etag: Option<String>,
}

/// Opens origins. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Opener {
    /// For addresses beyond TLS, which nobody on the way can change.
    secure: (Client, Arc<Reach>),
    /// For the networks that the operator allows.
    plain: (Client, Arc<Reach>),
    imports: Option<Store>,
}

impl Opener {
    /// Networks in `allow` are pulled from as well, also without TLS; keys name objects in `imports`.
    pub fn new(allow: Vec<IpNet>, imports: Option<Store>) -> reqwest::Result<Opener> {
        let client = |reach: Reach| {
            let reach = Arc::new(reach);
            let client = Client::builder()
                .connect_timeout(CONNECT_DEADLINE)
                .redirect(redirect::Policy::none())
                .referer(false)
                .no_proxy()
                .dns_resolver(reach.clone())
                .user_agent(concat!("reelmill/", env!("CARGO_PKG_VERSION")))
                .build();
            client.map(|client| (client, reach))
        };
        let (secure, plain) = (client(Reach::public_and(allow.clone()))?, client(Reach::only(allow))?);
        Ok(Opener { secure, plain, imports })
    }

    /// Refuses what can be seen to be of no use before anything is called.
    pub fn check(&self, origin: &Origin) -> Result<(), OriginError> {
        match origin {
            Origin::Url(url) => self.client_for(&parse(url)?).map(drop),
            Origin::Key(_) if self.imports.is_none() => {
                Err(refused("This Reelmill has no store that keys are imported from."))
            }
            Origin::Key(key) if key.is_empty() || key.len() > MAX_CHARS => {
                Err(refused(format!("A key has 1 to {MAX_CHARS} characters.")))
            }
            Origin::Key(_) => Ok(()),
        }
    }

    /// Bytes from `from` on where the origin still has what `etag` names; from 0 on otherwise.
    pub async fn open(
        &self,
        tenant: &TenantId,
        origin: &Origin,
        from: u64,
        etag: Option<&str>,
        limit: u64,
    ) -> Result<Opened, OriginError> {
        match origin {
            Origin::Url(url) => self.open_url(parse(url)?, from, etag).await,
            Origin::Key(key) => self.open_key(tenant, key, from, etag, limit).await,
        }
    }

    fn client_for(&self, url: &Url) -> Result<&Client, OriginError> {
        let (client, reach) = match url.scheme() {
            "https" => &self.secure,
            "http" => &self.plain,
            other => return Err(refused(format!("Only https addresses are pulled from, not {other}."))),
        };
        if url.as_str().len() > MAX_CHARS {
            return Err(refused(format!("An address has at most {MAX_CHARS} characters.")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("Addresses with a user name or a password in them are not pulled from."));
        }
        if url.scheme() == "http" && reach.is_empty() {
            return Err(refused("Only https addresses are pulled from, not http."));
        }
        if !reach.allows_url(url) {
            return Err(refused("The address is not one that is pulled from: it is not public."));
        }
        Ok(client)
    }

    async fn open_url(&self, mut url: Url, from: u64, etag: Option<&str>) -> Result<Opened, OriginError> {
        // A weak name says nothing about bytes.
        let known = etag.filter(|etag| from > 0 && !etag.starts_with("W/"));
        for _ in 0..=MAX_REDIRECTS {
            let mut request =
                self.client_for(&url)?.get(url.clone()).header(header::ACCEPT_ENCODING, "identity");
            if let Some(etag) = known {
                request = request.header(header::RANGE, format!("bytes={from}-"));
                request = request.header(header::IF_RANGE, etag);
            }
            let answer = tokio::time::timeout(HEAD_DEADLINE, request.send()).await;
            let answer = answer.map_err(|_| failed("The origin does not answer."))?.map_err(cannot_call)?;
            match answer.status() {
                StatusCode::OK => return opened(answer, 0, None),
                StatusCode::PARTIAL_CONTENT => {
                    let total = content_range(&answer).filter(|(start, _)| *start == from);
                    let same = known.is_some_and(|etag| etag_of(&answer).is_none_or(|now| now == etag));
                    let Some((_, total)) = total.filter(|_| same) else {
                        return Err(failed("The origin answered with a range that was not asked for."));
                    };
                    return opened(answer, from, Some(total));
                }
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    let to = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
                    let to = to.and_then(|to| url.join(to).ok());
                    url = to.ok_or_else(|| refused("The origin redirects to no address."))?;
                }
                status if may_pass(status) => return Err(failed(format!("The origin answered {status}."))),
                status => return Err(refused(format!("The origin answered {status}."))),
            }
        }
        Err(refused(format!("The origin redirects more than {MAX_REDIRECTS} times.")))
    }

    async fn open_key(
        &self,
        tenant: &TenantId,
        key: &str,
        from: u64,
        etag: Option<&str>,
        limit: u64,
    ) -> Result<Opened, OriginError> {
        let imports = self.imports.as_ref().ok_or_else(|| failed("There is no store to import from."))?;
        // Tenants see their own folder only; the store takes no step out of it.
        let path = format!("{tenant}/{key}");
        let open =
            async |from| imports.open_object(&path, from, limit).await.map_err(|e| cannot_read(key, e));
        let mut starts_at = if etag.is_some() { from } else { 0 };
        let mut object = open(starts_at).await?;
        if starts_at > 0 && object.e_tag() != etag {
            starts_at = 0;
            object = open(0).await?;
        }
        let (length, etag) = (Some(object.length()), object.e_tag().map(str::to_owned));
        let pieces = stream::try_unfold(object, async |mut object| {
            Ok::<_, StoreError>(object.next().await?.map(|piece| (piece, object)))
        });
        Ok(Opened { body: Body::from_stream(pieces), starts_at, length, etag })
    }
}

fn parse(url: &str) -> Result<Url, OriginError> {
    Url::parse(url).map_err(|error| refused(format!("The url is not an address: {error}.")))
}

fn refused(why: impl Into<String>) -> OriginError {
    OriginError::Refused(why.into())
}

fn failed(why: impl Into<String>) -> OriginError {
    OriginError::Failed(why.into())
}

fn opened(answer: Response, starts_at: u64, total: Option<u64>) -> Result<Opened, OriginError> {
    if answer.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(refused("The origin sends its bytes encoded, though it was asked not to."));
    }
    let length = total.or_else(|| answer.content_length());
    let etag = etag_of(&answer).map(str::to_owned);
    Ok(Opened { body: Body::from_stream(answer.bytes_stream()), starts_at, length, etag })
}

fn etag_of(answer: &Response) -> Option<&str> {
    answer.headers().get(header::ETAG)?.to_str().ok().filter(|etag| etag.len() <= 256)
}

/// First byte and total length in `bytes 5-9/10`.
fn content_range(answer: &Response) -> Option<(u64, u64)> {
    let (range, total) = answer.headers().get(header::CONTENT_RANGE)?.to_str().ok()?.split_once('/')?;
    let (start, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()?))
}

fn may_pass(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
        || status.is_server_error()
}

fn cannot_call(error: reqwest::Error) -> OriginError {
    let mut cause: Option<&dyn Error> = error.source();
    while let Some(inner) = cause {
        if inner.is::<OutOfReach>() {
            return refused(
                "The address is not one that is pulled from: its name leads to no public address.",
            );
        }
        cause = inner.source();
    }
    tracing::debug!(error = %error.without_url(), "an origin cannot be called");
    failed("The origin cannot be reached.")
}

fn cannot_read(key: &str, error: StoreError) -> OriginError {
    match error {
        StoreError::NotFound { .. } => refused(format!("There is no {key:?} to import.")),
        StoreError::TooLarge { limit, .. } => refused(format!("An upload has at most {limit} bytes.")),
        StoreError::Open { .. }
        | StoreError::Corrupt(_)
        | StoreError::Deadline { .. }
        | StoreError::Unavailable { .. } => failed("The store to import from does not answer."),
    }
}
