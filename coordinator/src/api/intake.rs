//! What all uploads have in common: names, bounds, and tasks that outlive their connection.

use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use rand::RngExt;
use reelmill_media::ids::AssetId;
use reelmill_media::task::Class;

use super::Api;
use super::problem::{Code, Problem};
use crate::overload;
use crate::state::MAX_NAME_CHARS;

/// The time now and random bits, to make an id of.
pub(super) fn seed(now: Timestamp) -> (u64, u128) {
    (u64::try_from(now.as_millisecond()).unwrap_or(0), rand::rng().random())
}

/// A new asset's id.
pub(super) fn asset_id(now: Timestamp) -> AssetId {
    let (unix_ms, random) = seed(now);
    AssetId::from_parts(unix_ms, random)
}

/// A name, if there is one.
pub(super) fn name(given: Option<String>) -> Result<Option<String>, Problem> {
    let Some(name) = given.filter(|name| !name.trim().is_empty()) else { return Ok(None) };
    if name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        let detail = format!("A name has at most {MAX_NAME_CHARS} characters, and no control characters.");
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    Ok(Some(name))
}

/// The declared length of a body.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Api {
    /// Lets new work in, or says when to come back: while NATS or the store is away, and while too much waits already.
    pub(super) fn admit(&self) -> Result<(), Problem> {
        if !self.readiness.get() {
            let detail = "The service takes nothing new at the moment; try again soon.";
            return Err(Problem::new(Code::Unavailable, detail));
        }
        let backlog = self.catalog.schedule(|schedule| schedule.backlog_ms());
        let backlog_ms = Class::ALL.iter().map(|class| *backlog.of(*class)).sum();
        let Some(wait) = overload::wait(backlog_ms, self.engine.fleet.slots(), self.max_backlog) else {
            return Ok(());
        };
        let detail =
            "There is more to do than can be done soon; what has begun goes on, and new uploads are to wait.";
        Err(Problem::new(Code::Overloaded, detail).with("retry-after", HeaderValue::from(wait.as_secs())))
    }

    /// Runs `work` to its end, even if the caller hangs up: what came before the cut must be stored.
    pub(super) async fn outlive<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let open = self.engine.metrics.uploads_open.clone();
        let metrics = self.engine.metrics.clone();
        let task = self.tasks.spawn(async move {
            open.inc();
            let ended = work.await;
            open.dec();
            metrics.upload_ended(if ended.is_ok() { "taken" } else { "refused" });
            ended
        });
        task.await
            .unwrap_or_else(|_| Err(Problem::new(Code::Internal, "The upload broke off inside the server.")))
    }
}
