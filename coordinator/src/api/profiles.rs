//! What is made of an upload: by its own profile, by its tenant's, or by the default.

use reelmill_media::ids::TenantId;
use reelmill_media::profile::Profile;

use super::Api;
use super::problem::{Code, Problem};

/// A profile is no longer than this, in bytes.
const MAX_BYTES: usize = 8 << 10;

impl Api {
    /// The profile of an upload by `tenant` that came with `given`, a profile in JSON.
    pub(super) fn profile(&self, tenant: &TenantId, given: Option<&str>) -> Result<Profile, Problem> {
        let Some(text) = given else { return Ok(self.keyring.profile(tenant)) };
        let refuse = |detail: String| Problem::new(Code::InvalidRequest, detail);
        if text.len() > MAX_BYTES {
            return Err(refuse(format!("A profile has at most {MAX_BYTES} bytes.")));
        }
        let profile: Profile =
            serde_json::from_str(text).map_err(|e| refuse(format!("The profile cannot be read: {e}.")))?;
        usable(profile)
    }
}

/// The profile, unless it cannot be used.
pub(super) fn usable(profile: Profile) -> Result<Profile, Problem> {
    match profile.check() {
        Ok(()) => Ok(profile),
        Err(e) => Err(Problem::new(Code::InvalidRequest, format!("The profile cannot be used: {e}."))),
    }
}
