//! The API described for programs, by OpenAPI 3.1. It is written by hand; a test with schemathesis finds where it is not true.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

const DOCUMENT: &str = include_str!("openapi.json");

/// To everybody: it tells nothing that is not in the sources.
pub(super) async fn get() -> Response {
    let mut response = DOCUMENT.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
