//! What callers send, read in one way everywhere.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::request::Parts;
use http::{HeaderMap, header};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Api;
use super::problem::{Code, Problem};

/// Whether a request says that its body is JSON, of whatever kind (RFC 6839 §3.1).
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Reads a JSON object. Whoever wrote it hears what is wrong in a sentence that begins with `what` it is, and where.
pub(super) fn read<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, Problem> {
    let read = Json::<ByName<T>>::from_bytes(text);
    read.map(|Json(ByName(object))| object).map_err(|rejection| {
        let detail = match (serde_json::from_slice::<IgnoredAny>(text), &rejection) {
            (Err(e), _) => {
                format!("{what} is not JSON: it goes wrong at line {}, column {}.", e.line(), e.column())
            }
            // Its source says in which field.
            (Ok(_), JsonRejection::JsonDataError(e)) => {
                let why = e.source().map_or_else(|| e.body_text(), ToString::to_string);
                format!("{what} cannot be used: {why}.")
            }
            (Ok(_), rejection) => format!("{what} cannot be used: {}.", rejection.body_text()),
        };
        Problem::new(Code::InvalidRequest, detail)
    })
}

/// What is read of an object by its names alone: structs are read from lists as well.
struct ByName<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ByName<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Names<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Names<T> {
            type Value = ByName<T>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ByName<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(ByName)
            }
        }

        from.deserialize_map(Names(PhantomData))
    }
}

/// A request's body that is said to be JSON, as it came.
pub(super) struct Text(pub(super) Bytes);

impl FromRequest<Api> for Text {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "Send JSON, and say so: Content-Type: application/json.";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        let text = Bytes::from_request(request, api).await;
        text.map(Text).map_err(|e| Problem::new(Code::InvalidRequest, format!("{}.", e.body_text())))
    }
}

/// A JSON object as a request's body.
pub(super) struct Object<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for Object<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let Text(text) = Text::from_request(request, api).await?;
        read("The body", &text).map(Object)
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use reelmill_media::profile::Profile;

    use super::*;

    #[test]
    fn json_is_told_by_its_name() {
        let told = |kind: &'static str| {
            is_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]))
        };
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
            assert!(told(json), "{json}");
        }
        for other in ["", "text/json", "application/x-www-form-urlencoded", "image/svg+xml"] {
            assert!(!told(other), "{other}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, words) in [
            ("No JSON", "The profile is not JSON: it goes wrong at line 1, column 1."),
            ("{\n  \"video\": [", "The profile is not JSON: it goes wrong at line 2, column 12."),
            ("{} {}", "The profile is not JSON: it goes wrong at line 1, column 4."),
            ("[]", "The profile cannot be used: invalid type: sequence, expected an object"),
            (
                r#"{"video": [{"codec": "vp6"}]}"#,
                "The profile cannot be used: video[0].codec: unknown variant `vp6`",
            ),
        ] {
            let problem = read::<Profile>("The profile", text.as_bytes()).unwrap_err();
            assert!(problem.detail().starts_with(words), "{text}: {}", problem.detail());
        }
    }
}
