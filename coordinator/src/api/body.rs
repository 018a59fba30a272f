//! What callers send, read in one way everywhere.

use std::fmt;
use std::marker::PhantomData;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::request::Parts;
use http::{HeaderMap, Uri, header};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::problem::{Code, Problem};
use super::{Api, wrong};

/// Whether a request says that its body is JSON, of whatever kind (RFC 6839 §3.1).
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Reads a JSON object. Whoever wrote it hears what is wrong in a sentence that begins with `what` it is, and where.
pub(super) fn read<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice::<ByName<T>>(text).map(|ByName(object)| object).map_err(|_| {
        let detail = match serde_json::from_slice::<Value>(text) {
            Err(e) => {
                format!("{what} is not JSON: it goes wrong at line {}, column {}.", e.line(), e.column())
            }
            Ok(value) => unusable(what, wrong::with::<ByName<T>>(&value)),
        };
        Problem::new(Code::InvalidRequest, detail)
    })
}

/// Where each thing alone is right, one of them came again.
fn unusable(what: &str, why: Option<String>) -> String {
    format!("{what} cannot be used: {}.", why.as_deref().unwrap_or("it says something twice"))
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
        let read = Query::from_request_parts(parts, api).await;
        read.map(|Query(parameters)| Parameters(parameters)).map_err(|_| {
            let why = parts.uri.query().and_then(wrong_parameter::<T>);
            Problem::new(Code::InvalidRequest, unusable("The query", why))
        })
    }
}

/// What is wrong with the first parameter that cannot be read for itself.
fn wrong_parameter<T: DeserializeOwned>(query: &str) -> Option<String> {
    query.split('&').find_map(|parameter| {
        let alone: Uri = format!("/?{parameter}").parse().ok()?;
        Query::<T>::try_from_uri(&alone).err()?;
        let Query(said) = Query::<Map<String, Value>>::try_from_uri(&alone).ok()?;
        wrong::with::<T>(&Value::Object(said))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use reelmill_media::profile::Profile;
    use reelmill_platform::purge::Subject;

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
            ("No JSON", "is not JSON: it goes wrong at line 1, column 1."),
            ("{\n  \"video\": [", "is not JSON: it goes wrong at line 2, column 12."),
            ("{} {}", "is not JSON: it goes wrong at line 1, column 4."),
            ("[]", "cannot be used: it must be an object, not a list."),
            (r#"{"video": {}}"#, "cannot be used: video must be a list, not an object."),
            (r#"{"video": [{}]}"#, "cannot be used: video[0] lacks codec."),
            (
                r#"{"video": [{"codec": "vp6"}]}"#,
                "cannot be used: video[0].codec must be h264 or hevc or av1, not \"vp6\".",
            ),
            (r#"{"video": [{"codec": 6}]}"#, "cannot be used: video[0].codec must be a text, not 6."),
            (
                r#"{"video": [{"codec": "h264", "crf": 300}]}"#,
                "cannot be used: video[0].crf must be a whole number from 0 to 255, not 300.",
            ),
            (
                r#"{"video": [{"codec": "h264", "crf": "fine"}]}"#,
                "cannot be used: video[0].crf must be a whole number from 0 to 255, not \"fine\".",
            ),
            (r#"{"hardware": null}"#, "cannot be used: hardware must be true or false, not null."),
            (
                r#"{"audio": [{"codec": "aac", "rate": 1}]}"#,
                "cannot be used: audio[0].rate is not known here; what may be said is codec, kbps.",
            ),
            (r#"{"hardware": true, "hardware": false}"#, "cannot be used: it says something twice."),
        ] {
            let problem = read::<Profile>("The profile", text.as_bytes()).unwrap_err();
            assert_eq!(problem.detail(), format!("The profile {words}"), "{text}");
        }
        // The rest of a text, whatever is wrong with it, stays away.
        let long = format!(r#"{{"hardware": "{}"}}"#, "ä".repeat(1000));
        let said = read::<Profile>("It", long.as_bytes()).unwrap_err().detail().to_owned();
        assert_eq!(
            said,
            format!("It cannot be used: hardware must be true or false, not \"{}\"….", "ä".repeat(40))
        );
    }

    #[test]
    fn what_is_sent_by_kind_is_said_in_the_same_way() {
        for (text, words) in [
            ("{}", "it lacks subject"),
            (r#"{"subject": {}}"#, "subject lacks kind"),
            (
                r#"{"subject": {"kind": "else"}}"#,
                "subject.kind must be blob or asset or tenant or key, not \"else\"",
            ),
            (r#"{"subject": {"kind": "blob", "hash": "x"}}"#, "subject: \"x\" is not a valid content hash"),
            (r#"{"subject": 5}"#, "subject must be an object, not 5"),
        ] {
            #[derive(Debug, Deserialize)]
            struct Asked {
                #[allow(dead_code, reason = "only its errors matter")]
                subject: Subject,
            }
            let problem = read::<Asked>("The body", text.as_bytes()).unwrap_err();
            assert_eq!(problem.detail(), format!("The body cannot be used: {words}."), "{text}");
        }
    }

    #[test]
    fn parameters_are_named() {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "only its errors matter")]
        struct Page {
            limit: Option<u32>,
            name: Option<String>,
        }
        for (query, words) in [
            ("name=5&limit=many", Some("limit must be a whole number from 0 to 4294967295, not \"many\"")),
            ("limit=5&size=a%20b", Some("size is not known here; what may be said is limit, name")),
            ("limit=5&limit=6", None),
        ] {
            assert_eq!(wrong_parameter::<Page>(query).as_deref(), words, "{query}");
        }
    }
}
