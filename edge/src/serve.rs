//! From a request's head to a response, whatever protocol carries them.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};

use crate::access::{self, Access, Denial, Reach};
use crate::body::Body;
use crate::cache::{BlobCache, Lookup};
use crate::cmcd::{self, Report};
use crate::conditional::{self, Verdict};
use crate::head;
use crate::holds::{self, Hold, Holds};
use crate::metrics::Metrics;
use crate::player;
use crate::playlists::Playlists;
use crate::pop::Asked;
use crate::pop::answer::answer;
use crate::prefetch::Prefetch;
use crate::problem::problem;
use crate::representation::{Method, Representation};
use crate::route::{self, ALLOW, Action, MutableObject, Resource};
use crate::sessions::Sessions;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Answers requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Edge {
    blobs: BlobCache,
    playlists: Playlists,
    access: Access,
    holds: Holds,
    prefetch: Prefetch,
    sessions: Sessions,
    metrics: Metrics,
    /// Who comes in here.
    side: Side,
}

/// Who comes in at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Viewers,
    Peers,
}

impl Edge {
    /// An edge over these caches.
    pub(crate) fn new(
        blobs: BlobCache,
        playlists: Playlists,
        access: Access,
        holds: Holds,
        prefetch: Prefetch,
        metrics: Metrics,
    ) -> Self {
        let sessions = Sessions::new(metrics.clone());
        Self { blobs, playlists, access, holds, prefetch, sessions, metrics, side: Side::Viewers }
    }

    /// The same edge as its peers see it, on the port that is theirs alone.
    pub(crate) fn for_peers(&self) -> Self {
        Self { side: Side::Peers, ..self.clone() }
    }

    /// Answers one request of a client at `from`. Where the content was found is in the response's extensions as a [`Lookup`].
    pub async fn answer(&self, request: &Parts, from: IpAddr) -> Response<Body> {
        match self.side {
            Side::Viewers => finish(&request.method, self.dispatch(request, from).await),
            Side::Peers => answer(request, &self.blobs, &self.playlists).await,
        }
    }

    /// Whether it may be answered before the handshake is over: to read what never changes does nothing, however often.
    pub(crate) fn takes_early(&self, request: &Parts) -> bool {
        let (_, path) = access::split_token(request.uri.path());
        match route::route(&request.method, path) {
            Ok(Action::Get(resource) | Action::Head(resource)) => match resource {
                Resource::Blob(_)
                | Resource::WatchPage(_)
                | Resource::EmbedPage(_)
                | Resource::PlayerScript
                | Resource::PlayerStyle
                | Resource::HlsScript
                | Resource::Icon => true,
                Resource::Mutable(_) => false,
            },
            Ok(Action::Options) | Err(_) => false,
        }
    }

    /// The answer to what does not count before the handshake is over.
    pub(crate) fn too_early(&self, request: &Parts) -> Response<Body> {
        let sentence = "It may be asked for again once the handshake is over.";
        finish(&request.method, problem(StatusCode::TOO_EARLY, sentence))
    }

    /// The answer to one request too many.
    pub(crate) fn too_many(&self, request: &Parts) -> Response<Body> {
        let sentence = "This address asks for more than its share; it may ask again in a moment.";
        let mut response = problem(StatusCode::TOO_MANY_REQUESTS, sentence);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        finish(&request.method, response)
    }

    async fn dispatch(&self, request: &Parts, from: IpAddr) -> Response<Body> {
        if let Some(sentence) = head::fault(request) {
            let mut response = problem(StatusCode::BAD_REQUEST, sentence);
            if request.version <= Version::HTTP_11 {
                // Where the next request would begin is in doubt.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            return response;
        }
        let (token, path) = access::split_token(request.uri.path());
        let (resource, method) = match route::route(&request.method, path) {
            Ok(Action::Get(resource)) => (resource, Method::Get),
            Ok(Action::Head(resource)) => (resource, Method::Head),
            Ok(Action::Options) => return options(),
            Err(refusal) => return refusal.response(),
        };
        let mut held = None;
        if let Resource::Mutable(object) = &resource
            && let Some(hold) = self.holds.begin(&request.headers, object, from)
        {
            held = Some(hold.applied());
            // Boxed, so that other requests need not have room for it.
            Box::pin(self.hold(hold, request, object, from)).await;
        }
        let (reach, admitted) = match self.admit(&resource, token, path, from).await {
            Ok(admitted) => admitted,
            Err(denial) => return denial.response(),
        };
        let report = cmcd::read(&request.headers, request.uri.query());
        if let Some(report) = &report {
            self.sessions.note(report);
        }
        let viewer = Viewer { from, report: report.as_ref() };
        let response = self.represent(&request.headers, resource, method, viewer).await;
        let withdrawn = admitted.and_then(|viewer| viewer.withdrawn());
        let mut response = response.map(|body| body.until(withdrawn));
        if let Some(applied) = held {
            response.headers_mut().insert(holds::PREFERENCE_APPLIED, applied);
        }
        match reach {
            Reach::Everyone => {}
            Reach::Few => for_few(response.headers_mut()),
        }
        response
    }

    /// Holds a request for as long as its answer would be 304.
    async fn hold(&self, hold: Hold, request: &Parts, object: &MutableObject, from: IpAddr) {
        let (token, path) = access::split_token(request.uri.path());
        loop {
            let news = hold.news();
            let Ok((_, viewer)) = self.admit_to(object, token, path, from).await else { return };
            let Ok(text) = self.playlists.get(object).await.0 else { return };
            match conditional::judge(&request.headers, &text.tag()) {
                Verdict::NotModified if hold.goes_on(news, viewer.counts_for()).await => {}
                Verdict::NotModified | Verdict::Proceed | Verdict::PreconditionFailed => return,
            }
        }
    }

    /// Whether the client may have it, who else, and as whom.
    async fn admit(
        &self,
        resource: &Resource,
        token: Option<&str>,
        path: &str,
        from: IpAddr,
    ) -> Result<(Reach, Option<access::Viewer>), Denial> {
        match resource {
            Resource::Blob(blob) => {
                let viewer = self.access.viewer(token, from).await?;
                Ok((self.access.blob(&viewer, blob.hash()).await?, Some(viewer)))
            }
            Resource::Mutable(object) => {
                let (reach, viewer) = self.admit_to(object, token, path, from).await?;
                Ok((reach, Some(viewer)))
            }
            // Of the edge itself, the same for all.
            Resource::WatchPage(_)
            | Resource::EmbedPage(_)
            | Resource::PlayerScript
            | Resource::PlayerStyle
            | Resource::HlsScript
            | Resource::Icon => Ok((Reach::Everyone, None)),
        }
    }

    async fn admit_to(
        &self,
        object: &MutableObject,
        token: Option<&str>,
        path: &str,
        from: IpAddr,
    ) -> Result<(Reach, access::Viewer), Denial> {
        let viewer = self.access.viewer(token, from).await?;
        Ok((self.access.asset(&viewer, object.asset(), Some(path)).await?, viewer))
    }

    async fn represent(
        &self,
        headers: &HeaderMap,
        resource: Resource,
        method: Method,
        viewer: Viewer<'_>,
    ) -> Response<Body> {
        let (representation, lookup) = match resource {
            Resource::Blob(blob) => {
                let (outcome, lookup) = self.blobs.get(blob, Asked::ByViewer).await;
                if outcome.is_ok() {
                    self.prefetch.watched(viewer.from, viewer.report, blob);
                }
                (
                    outcome
                        .map(|found| {
                            let tier = if lookup == Lookup::Joined { found.source() } else { lookup };
                            Representation::Blob(found, blob.media_type(), self.metrics.blob_bytes(tier))
                        })
                        .map_err(|e| e.response()),
                    lookup,
                )
            }
            Resource::Mutable(object) => {
                let (outcome, lookup) = self.playlists.get(&object).await;
                if let Ok(text) = &outcome {
                    self.access.note(&object, text);
                    self.prefetch.listed(viewer.from, viewer.report, &object, text);
                }
                (
                    outcome
                        .map(|text| Representation::Text(text, object.media_type()))
                        .map_err(|e| e.response()),
                    lookup,
                )
            }
            Resource::WatchPage(_) => {
                return Representation::Own(&player::WATCH_PAGE).respond(headers, method);
            }
            Resource::EmbedPage(_) => {
                return Representation::Own(&player::EMBED_PAGE).respond(headers, method);
            }
            Resource::PlayerScript => return Representation::Own(&player::SCRIPT).respond(headers, method),
            Resource::PlayerStyle => return Representation::Own(&player::STYLE).respond(headers, method),
            Resource::HlsScript => return Representation::Own(&player::HLS_SCRIPT).respond(headers, method),
            Resource::Icon => return Representation::Own(&player::ICON).respond(headers, method),
        };
        let mut response = match representation {
            Ok(representation) => representation.respond(headers, method),
            Err(response) => response,
        };
        response.extensions_mut().insert(lookup);
        response
    }
}

/// Adds what every response has, and takes away what an answer to HEAD has not, whatever it says (RFC 9110 §9.3.2).
fn finish(method: &http::Method, mut response: Response<Body>) -> Response<Body> {
    let length = response.body().length();
    let headers = response.headers_mut();
    if !headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    for_everyone(headers);
    let without_length = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if without_length {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    if let Some(lookup) = response.extensions().get::<Lookup>().copied() {
        let status = HeaderValue::from_static(lookup.cache_status());
        response.headers_mut().insert(CACHE_STATUS, status);
    }
    if method == http::Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

/// Who asks, as far as it is known.
#[derive(Debug, Clone, Copy)]
struct Viewer<'a> {
    from: IpAddr,
    report: Option<&'a Report>,
}

/// What a browser asks before a script of another site may send unusual fields.
fn options() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(ALLOW));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(ALLOW));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// A shared cache would give it to others.
fn for_few(headers: &mut HeaderMap) {
    let control = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok());
    let rest = control.and_then(|control| control.strip_prefix("public"));
    if let Some(value) = rest.and_then(|rest| HeaderValue::try_from(format!("private{rest}")).ok()) {
        headers.insert(header::CACHE_CONTROL, value);
    }
}

/// Fields of every response: any site's player may read it, with its timing.
fn for_everyone(headers: &mut HeaderMap) {
    const EXPOSED: &str =
        "Accept-Ranges, Age, Cache-Status, Content-Length, Content-Range, Date, ETag, Preference-Applied";
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.insert(TIMING_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::SERVER, HeaderValue::from_static("reelmill"));
    let now = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now());
    if let Some(date) = now.ok().and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(header::DATE, date);
    }
}
