//! From a field section to a request's head, where it is well formed (RFC 9114 §4.1.2 to §4.3.1).

use http::request::Parts;
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header};

use super::fault::{Code, Fault};
use super::qpack::Fields;
use crate::limits::HEADER_SECTION_BYTES;

const MALFORMED: Fault = Fault::Request(Code::MessageError);

/// Fields that a request usually has; the map grows with more.
const USUAL_FIELDS: usize = 12;

/// What a client asks for.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) parts: Parts,
    /// How long it says that its content is.
    pub(super) content_length: Option<u64>,
}

/// What stands before the fields (§4.3.1), each at most once.
#[derive(Debug, Default)]
struct Pseudo {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
}

impl RequestHead {
    /// Reads a whole field section.
    pub(super) fn read(section: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::new(section, HEADER_SECTION_BYTES as usize)?;
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.version = Version::HTTP_3;
        parts.headers.reserve(USUAL_FIELDS);
        let mut pseudo = Pseudo::default();
        let mut content_length = None;
        while let Some((name, value)) = fields.next()? {
            if let [b':', name @ ..] = name {
                // §4.3: all of them come before other fields.
                if !parts.headers.is_empty() {
                    return Err(MALFORMED);
                }
                pseudo.take(name, value)?;
                continue;
            }
            match name {
                // §4.2: of a connection, and here are none of that kind.
                b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                    return Err(MALFORMED);
                }
                b"te" if value != b"trailers" => return Err(MALFORMED),
                b"content-length" => {
                    let length = length(value).ok_or(MALFORMED)?;
                    if content_length.is_some_and(|other| other != length) {
                        return Err(MALFORMED);
                    }
                    content_length = Some(length);
                }
                _ => {}
            }
            // No upper case.
            let name = HeaderName::from_lowercase(name).map_err(|_| MALFORMED)?;
            // No line breaks, no zeros.
            parts.headers.append(name, HeaderValue::from_bytes(value).map_err(|_| MALFORMED)?);
        }
        if pseudo.authority.is_none()
            && let Some(host) = parts.headers.get(header::HOST)
        {
            pseudo.authority = Some(host.as_bytes().try_into().map_err(|_| MALFORMED)?);
        }
        (parts.method, parts.uri) = pseudo.into_target()?;
        Ok(Self { parts, content_length })
    }
}

impl Pseudo {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        match name {
            b"method" => once(&mut self.method, Method::from_bytes(value)),
            b"scheme" => once(&mut self.scheme, value.try_into()),
            // Nobody's name and password stand in it.
            b"authority" if !value.contains(&b'@') => once(&mut self.authority, value.try_into()),
            // Empty it may not be, and `*` is for OPTIONS alone. A fragment, which is no part of it, would be cut off unseen.
            b"path" if (value.starts_with(b"/") && !value.contains(&b'#')) || value == b"*" => {
                once(&mut self.path, value.try_into())
            }
            _ => Err(MALFORMED),
        }
    }

    /// Method and target. Whether a `host` field says the same as `:authority` is judged for all protocols alike.
    fn into_target(self) -> Result<(Method, Uri), Fault> {
        let method = self.method.ok_or(MALFORMED)?;
        let is_whole = match method {
            // §4.4
            Method::CONNECT => self.scheme.is_none() && self.path.is_none(),
            Method::OPTIONS => self.scheme.is_some() && self.path.is_some(),
            _ => self.scheme.is_some() && self.path.as_ref().is_some_and(|path| path != "*"),
        };
        if !is_whole || self.authority.is_none() {
            return Err(MALFORMED);
        }
        let mut target = uri::Parts::default();
        (target.scheme, target.authority, target.path_and_query) = (self.scheme, self.authority, self.path);
        Ok((method, Uri::from_parts(target).map_err(|_| MALFORMED)?))
    }
}

fn once<T, E>(place: &mut Option<T>, value: Result<T, E>) -> Result<(), Fault> {
    match place.replace(value.map_err(|_| MALFORMED)?) {
        None => Ok(()),
        Some(_) => Err(MALFORMED),
    }
}

/// Digits and nothing else (RFC 9110 §8.6).
fn length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "cdn.example"), (":path", "/x?y")];

    fn section(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut section = vec![0, 0];
        for (name, value) in fields {
            // RFC 9204 §4.5.6: names of up to 6 bytes, or of up to 133.
            match name.len() {
                length @ 0..7 => section.push(0x20 | length as u8),
                length => section.extend([0x27, length as u8 - 7]),
            }
            section.extend(name.as_bytes());
            section.push(value.len() as u8);
            section.extend(value.as_bytes());
        }
        section
    }

    fn get_with(fields: &[(&str, &str)]) -> Result<RequestHead, Fault> {
        RequestHead::read(&section(&[&GET, fields].concat()))
    }

    #[test]
    fn a_head_is_read() {
        let RequestHead { parts, content_length } =
            get_with(&[("accept", "a"), ("accept", "b"), ("content-length", "5"), ("te", "trailers")])
                .unwrap();
        assert_eq!((parts.method, parts.version), (Method::GET, Version::HTTP_3));
        assert_eq!(parts.uri, "https://cdn.example/x?y");
        assert_eq!(parts.headers.get_all("accept").iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(content_length, Some(5));
        let by_host = section(&[GET[0], GET[1], GET[3], ("host", "else.example")]);
        assert_eq!(RequestHead::read(&by_host).unwrap().parts.uri.authority().unwrap(), "else.example");
    }

    #[test]
    fn methods_decide_on_targets() {
        let read = |method, path: Option<&'static str>| {
            let mut fields = vec![(":method", method), (":authority", "cdn.example")];
            if let Some(path) = path {
                fields.extend([(":scheme", "https"), (":path", path)]);
            }
            RequestHead::read(&section(&fields)).map(|head| head.parts.uri.path().to_owned())
        };
        assert_eq!(read("OPTIONS", Some("*")).unwrap(), "*");
        assert_eq!(read("OPTIONS", Some("/x")).unwrap(), "/x");
        assert!(read("CONNECT", None).is_ok());
        for (method, path) in [
            ("CONNECT", Some("/x")),
            ("GET", Some("*")),
            ("GET", Some("x")),
            ("GET", Some("/x#y")),
            ("GET", None),
        ] {
            assert_eq!(read(method, path), Err(MALFORMED), "{method} {path:?}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_malformed() {
        for (name, value) in [
            (":path", "/y"),
            (":method", "GET"),
            (":status", "200"),
            (":protocol", "websocket"),
            ("content-length", "+5"),
            ("content-length", ""),
            ("content-length", "99999999999999999999"),
            ("connection", "close"),
            ("te", "gzip"),
            ("X-A", "b"),
            ("", "b"),
            ("a", "b\0"),
        ] {
            assert_eq!(get_with(&[(name, value)]).unwrap_err(), MALFORMED, "{name}: {value}");
        }
        assert!(get_with(&[("content-length", "5"), ("content-length", "5")]).is_ok());
        assert!(get_with(&[("content-length", "5"), ("content-length", "6")]).is_err());
        assert!(RequestHead::read(&section(&[GET[0], GET[1], GET[2], ("a", "b"), GET[3]])).is_err());
        assert!(RequestHead::read(&section(&[GET[0], GET[1], GET[3]])).is_err(), "no authority");
        assert!(RequestHead::read(&section(&[GET[0], GET[1], (":authority", "u@h"), GET[3]])).is_err());
    }

    proptest! {
        #[test]
        fn any_fields_are_judged(
            fields in proptest::collection::vec((":?[a-zA-Z-]{0,9}", "[ -~]{0,30}"), 0..8),
            whole in any::<bool>(),
        ) {
            let own: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            let all = if whole { [&GET, &own[..]].concat() } else { own };
            let _ = RequestHead::read(&section(&all));
        }
    }
}
