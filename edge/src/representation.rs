//! Content that is there, and the response that a request for it gets: conditions, ranges and the fields that describe it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use prometheus::IntCounter;

use crate::body::{Body, Piece};
use crate::cache::Blob;
use crate::conditional::{self, EntityTag, Verdict};
use crate::multipart::Multipart;
use crate::player::PlayerFile;
use crate::playlists::Text;
use crate::problem::problem;
use crate::range::{self, ByteRange, Selection};

/// A hash names its content for ever (RFC 8246).
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// A growing playlist is worth nothing to a shared cache after a second.
const GROWING: &str = "public, max-age=1";
/// A closed one may still be taken down.
const CLOSED: &str = "public, max-age=60";

/// How many fields a response usually has.
const USUAL_FIELDS: usize = 14;

/// What is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
}

/// Content ready to be sent.
pub(crate) enum Representation {
    /// With what counts the bytes that are taken of it.
    Blob(Arc<Blob>, &'static str, IntCounter),
    Text(Arc<Text>, &'static str),
    Own(&'static PlayerFile),
}

impl Representation {
    /// Answers a request for it: conditions first, then ranges.
    pub(crate) fn respond(&self, request: &HeaderMap, method: Method) -> Response<Body> {
        let tag = self.tag();
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        // For all that are added here and by others, at once.
        headers.reserve(USUAL_FIELDS);
        headers.insert(header::ETAG, tag.header_value());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(self.cache_control()));
        match conditional::judge(request, &tag) {
            Verdict::Proceed => {}
            Verdict::NotModified => {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                return response;
            }
            Verdict::PreconditionFailed => {
                return problem(
                    StatusCode::PRECONDITION_FAILED,
                    "The content is not the one that If-Match names.",
                );
            }
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type()));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Self::Own(file) = self
            && let Some(policy) = file.content_security_policy
        {
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
            headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        }
        let length = self.length();
        // RFC 9110 §14.2: a range means something to GET only.
        let selection = if method == Method::Get && conditional::range_applies(request, &tag) {
            range::select(request, length)
        } else {
            Selection::Whole
        };
        let body = match selection {
            Selection::Whole => Body::of(self.piece(ByteRange::whole(length)), self.taken()),
            Selection::Part(part) => {
                if let Ok(value) = HeaderValue::try_from(part.content_range(length)) {
                    headers.insert(header::CONTENT_RANGE, value);
                }
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                Body::of(self.piece(part), self.taken())
            }
            Selection::Parts(parts) => {
                let media_type = self.media_type();
                let multipart = Multipart { boundary: tag.hash(), media_type, length };
                headers.insert(header::CONTENT_TYPE, multipart.content_type());
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let pieces = parts.into_iter().flat_map(|part| [multipart.head(part), self.piece(part)]);
                Body::several(pieces.chain([multipart.end()]).collect(), self.taken())
            }
            Selection::Unsatisfiable => return self.unsatisfiable(length),
        };
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.length()));
        if method == Method::Get {
            *response.body_mut() = body;
        }
        response
    }

    fn unsatisfiable(&self, length: u64) -> Response<Body> {
        let mut response = problem(
            StatusCode::RANGE_NOT_SATISFIABLE,
            &format!("The content has {length} bytes, none of them in that range."),
        );
        if let Ok(value) = HeaderValue::from_str(&format!("bytes */{length}")) {
            response.headers_mut().insert(header::CONTENT_RANGE, value);
        }
        response
    }

    fn tag(&self) -> EntityTag {
        match self {
            Self::Blob(blob, ..) => EntityTag::of(blob.hash()),
            Self::Text(text, _) => text.tag(),
            Self::Own(file) => file.tag(),
        }
    }

    fn media_type(&self) -> &'static str {
        match self {
            Self::Blob(_, media_type, _) | Self::Text(_, media_type) => media_type,
            Self::Own(file) => file.media_type,
        }
    }

    fn cache_control(&self) -> &'static str {
        match self {
            Self::Blob(..) => IMMUTABLE,
            Self::Text(text, _) if text.closed() => CLOSED,
            Self::Text(..) => GROWING,
            Self::Own(file) => file.cache_control,
        }
    }

    fn length(&self) -> u64 {
        match self {
            Self::Blob(blob, ..) => blob.length(),
            Self::Text(text, _) => text.bytes().len() as u64,
            Self::Own(file) => file.bytes.len() as u64,
        }
    }

    fn piece(&self, range: ByteRange) -> Piece {
        match self {
            Self::Blob(blob, ..) => Piece::blob(blob, range),
            Self::Text(text, _) => Piece::held(text.bytes(), range),
            Self::Own(file) => Piece::held(&Bytes::from_static(file.bytes), range),
        }
    }

    fn taken(&self) -> Option<IntCounter> {
        match self {
            Self::Blob(_, _, taken) => Some(taken.clone()),
            Self::Text(..) | Self::Own(_) => None,
        }
    }
}
