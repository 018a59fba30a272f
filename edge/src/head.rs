//! Heads of requests that two parties could read differently.

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Version, header};

/// What is wrong with a head, if anything; the protocols' own layers have seen to the rest.
pub(crate) fn fault(request: &Parts) -> Option<&'static str> {
    let headers = &request.headers;
    // Nobody has a body to send here, so that there is no honest reason for one whose end has to be found (RFC 9112 §6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Some("A request with a transfer coding is not taken.");
    }
    let hosts = headers.get_all(header::HOST).iter().count();
    // RFC 9112 §3.2; other versions may have it in `:authority`, or not at all.
    if hosts > 1 || (hosts == 0 && request.version == Version::HTTP_11) {
        return Some("The request does not have exactly one Host field.");
    }
    if hosts == 1 {
        let Some(host) = host(headers) else { return Some("The Host field names no host.") };
        if request.uri.authority().is_some_and(|authority| *authority != host) {
            return Some("The request names two different hosts.");
        }
    }
    None
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    let host: Authority = headers.get(header::HOST)?.to_str().ok()?.parse().ok()?;
    (!host.as_str().contains('@')).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn parts(version: Version, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(uri).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn one_reading_only() {
        let ok = |version, uri: &str, fields: &[(&str, &str)]| fault(&parts(version, uri, fields)).is_none();
        assert!(ok(Version::HTTP_11, "/x", &[("host", "cdn.example:8443")]));
        assert!(ok(Version::HTTP_11, "http://CDN.example/x", &[("host", "cdn.example")]));
        assert!(ok(Version::HTTP_10, "/x", &[]));
        assert!(ok(Version::HTTP_3, "https://cdn.example/x", &[]));
        assert!(!ok(Version::HTTP_11, "/x", &[]));
        assert!(!ok(Version::HTTP_11, "/x", &[("host", "a"), ("host", "a")]));
        assert!(!ok(Version::HTTP_11, "/x", &[("host", "")]));
        assert!(!ok(Version::HTTP_11, "/x", &[("host", "a b")]));
        assert!(!ok(Version::HTTP_11, "/x", &[("host", "user@a")]));
        assert!(!ok(Version::HTTP_3, "https://a/x", &[("host", "b")]));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(!ok(version, "/x", &[("host", "a"), ("transfer-encoding", "chunked")]));
        }
    }

    proptest! {
        #[test]
        fn any_host_is_judged(host in "[ -~]{0,30}") {
            let _ = fault(&parts(Version::HTTP_11, "/x", &[("host", &host)]));
        }
    }
}
