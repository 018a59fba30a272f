//! What callers send, read in one way everywhere.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Api;
use super::problem::{Code, Problem};

/// A JSON object as a request's body.
pub(super) struct Object<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for Object<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        // Of an object by its names alone: structs are read from lists as well.
        let read = Json::<Map<String, Value>>::from_request(request, api).await;
        let Json(object) = read.map_err(|rejection| {
            let code = match rejection {
                JsonRejection::MissingJsonContentType(_) => Code::UnsupportedMediaType,
                _ => Code::InvalidRequest,
            };
            Problem::new(code, format!("{}.", rejection.body_text()))
        })?;
        let object = serde_json::from_value(Value::Object(object));
        let object = object.map_err(|e| Problem::new(Code::InvalidRequest, format!("The body: {e}.")))?;
        Ok(Object(object))
    }
}

/// What stands behind the question mark.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let read: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, api).await;
        let Query(parameters) =
            read.map_err(|e| Problem::new(Code::InvalidRequest, format!("{}.", e.body_text())))?;
        Ok(Parameters(parameters))
    }
}
