//! What a key may do.

use http::Method;
use serde::Deserialize;

/// A part of the API that a key may be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// Sending uploads and captions.
    Upload,
    /// Reading assets and their events.
    Read,
    /// Everything.
    Admin,
}

impl Role {
    /// Its name in the keys file.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Role::Upload => "upload",
            Role::Read => "read",
            Role::Admin => "admin",
        }
    }

    /// What a request takes. What is not known here takes everything.
    pub(super) fn needed_for(method: &Method, path: &str) -> Role {
        let captions = path.strip_prefix("/v1/assets/").is_some_and(|rest| rest.contains("/captions/"));
        if path == "/v1/uploads" || path.starts_with("/v1/uploads/") || (captions && method == Method::PUT) {
            Role::Upload
        } else if method == Method::GET || method == Method::HEAD {
            Role::Read
        } else {
            Role::Admin
        }
    }

    /// Whether one of these is enough.
    pub(super) fn is_among(self, roles: &[Role]) -> bool {
        roles.contains(&self) || roles.contains(&Role::Admin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_takes_the_least_role() {
        for (method, path, role) in [
            (Method::PUT, "/v1/uploads", Role::Upload),
            (Method::HEAD, "/v1/uploads/x", Role::Upload),
            (Method::DELETE, "/v1/uploads/x", Role::Upload),
            (Method::GET, "/v1/assets", Role::Read),
            (Method::GET, "/v1/assets/x/events", Role::Read),
            (Method::DELETE, "/v1/assets/x", Role::Admin),
            (Method::PATCH, "/v1/assets/x", Role::Admin),
            (Method::PUT, "/v1/assets/x/captions/en", Role::Upload),
            (Method::GET, "/v1/assets/x/captions/en", Role::Read),
            (Method::DELETE, "/v1/assets/x/captions/en", Role::Admin),
            (Method::POST, "/v1/uploadsandmore", Role::Admin),
            (Method::GET, "/v1/token-keys", Role::Read),
            (Method::PUT, "/v1/token-keys/k1", Role::Admin),
            (Method::GET, "/v1/profiles/x", Role::Read),
            (Method::PUT, "/v1/profiles/x", Role::Admin),
            (Method::PUT, "/v1/assets/x/policy", Role::Admin),
            (Method::DELETE, "/v1/tenants/x/policy", Role::Admin),
        ] {
            assert_eq!(Role::needed_for(&method, path), role, "{method} {path}");
        }
        assert!(Role::Read.is_among(&[Role::Read]) && Role::Read.is_among(&[Role::Admin]));
        assert!(!Role::Read.is_among(&[Role::Upload]) && !Role::Admin.is_among(&[Role::Upload, Role::Read]));
        assert!(!Role::Read.is_among(&[]));
    }
}
