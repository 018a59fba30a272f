//! Errors as viewers see them: one sentence in `application/problem+json` (RFC 9457).

use http::{HeaderValue, Response, StatusCode, header};
use reelmill_platform::token::TokenError;
use serde_json::json;

use crate::access::Denial;
use crate::body::Body;
use crate::cache::FillError;
use crate::playlists::TextError;
use crate::route::{ALLOW, Refusal};

/// Makes the response that says why there is none.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or("Error");
    let text = json!({ "title": title, "status": status.as_u16(), "detail": detail }).to_string();
    let mut response = Response::new(Body::problem(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    // What is missing or broken now may be there at the next try.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

impl Refusal {
    /// As a response.
    pub(crate) fn response(&self) -> Response<Body> {
        let status = match self {
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::PathTooLong => StatusCode::URI_TOO_LONG,
            Refusal::NotAbsolute | Refusal::Segment | Refusal::Spelling => StatusCode::BAD_REQUEST,
            Refusal::Nothing => StatusCode::NOT_FOUND,
        };
        let mut response = problem(status, &sentence(self));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(ALLOW));
        }
        response
    }
}

impl FillError {
    /// As a response.
    pub(crate) fn response(&self) -> Response<Body> {
        let status = match self {
            FillError::Absent => StatusCode::NOT_FOUND,
            FillError::Purged => StatusCode::GONE,
            FillError::Corrupt => StatusCode::BAD_GATEWAY,
            // These three are for peers.
            FillError::NotHeld => StatusCode::GATEWAY_TIMEOUT,
            FillError::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            FillError::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            FillError::Unavailable
            | FillError::Deadline
            | FillError::Ended
            | FillError::Unwanted
            | FillError::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
        };
        problem(status, &sentence(self))
    }
}

impl TextError {
    /// As a response.
    pub(crate) fn response(&self) -> Response<Body> {
        let status = match self {
            TextError::Absent => StatusCode::NOT_FOUND,
            TextError::Purged => StatusCode::GONE,
            TextError::TooLarge => StatusCode::BAD_GATEWAY,
            // These two are for peers.
            TextError::NotHeld => StatusCode::GATEWAY_TIMEOUT,
            TextError::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            TextError::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        problem(status, &sentence(self))
    }
}

impl Denial {
    /// As a response.
    pub(crate) fn response(&self) -> Response<Body> {
        let status = match self {
            Denial::Missing
            | Denial::Token(
                TokenError::Malformed | TokenError::Signature | TokenError::Expired | TokenError::NotYet,
            ) => StatusCode::UNAUTHORIZED,
            Denial::Token(TokenError::Country | TokenError::Network)
            | Denial::Elsewhere
            | Denial::Country => StatusCode::FORBIDDEN,
            Denial::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = problem(status, &sentence(self));
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §11.6.1 wants a scheme, and none is registered for tokens in paths.
            let challenge = HeaderValue::from_static("Path-Token realm=\"reelmill\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Error texts start in lower case and have no full stop, as is usual in Rust; people get a sentence.
fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => text,
    }
}
