//! What is the object store's fault and what is not.

use reelmill_media::task::{Failure, FailureCode};
use reelmill_platform::store::StoreError;

/// The failure of a task for which the store did not do its part.
pub fn failure(error: &StoreError) -> Failure {
    let code = match error {
        // It answered: what it holds is not what was promised.
        StoreError::NotFound { .. } | StoreError::Corrupt(_) | StoreError::TooLarge { .. } => {
            FailureCode::Internal
        }
        StoreError::Open { .. } | StoreError::Deadline { .. } | StoreError::Unavailable { .. } => {
            FailureCode::Unavailable
        }
    };
    Failure { code, reason: error.to_string() }
}
