//! Live workers for operators: what each can do, and what is held against it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use jiff::Timestamp;
use reelmill_media::ids::{InvalidId, TenantId, WorkerId};
use reelmill_platform::workers::{Blame, Conduct, WorkerRecord};
use serde::Serialize;

use super::Api;
use super::keyring::Caller;
use super::problem::{Code, Problem};

/// All that live.
#[derive(Debug, Serialize)]
pub(super) struct Workers {
    workers: Vec<WorkerView>,
}

/// One of them.
#[derive(Debug, Serialize)]
struct WorkerView {
    #[serde(flatten)]
    record: WorkerRecord,
    /// Since when it is to take no tasks. It knows of it once `quarantined` says so, within seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantined_at: Option<Timestamp>,
    /// Tasks at which it lately failed and another worker did not.
    blames: Vec<Blame>,
}

pub(super) async fn list(State(api): State<Api>, Caller(caller): Caller) -> Result<Json<Workers>, Problem> {
    only_operator(&api, &caller)?;
    let mut held: BTreeMap<WorkerId, Conduct> = api.engine.quarantine.all().await?.into_iter().collect();
    let workers = api.engine.fleet.workers().into_iter().map(|record| {
        let Conduct { blames, quarantined_at } = held.remove(&record.id).unwrap_or_default();
        WorkerView { record, quarantined_at, blames }
    });
    Ok(Json(Workers { workers: workers.collect() }))
}

/// Lets a worker work again. It hears of it within seconds.
pub(super) async fn release(
    State(api): State<Api>,
    Caller(caller): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    only_operator(&api, &caller)?;
    let unknown = || Problem::new(Code::UnknownWorker, "Nothing is held against such a worker.");
    let worker: WorkerId = id.parse().map_err(|_: InvalidId| unknown())?;
    if !api.engine.quarantine.release(worker).await? {
        return Err(unknown());
    }
    tracing::info!(%worker, by = %caller, "released from quarantine");
    Ok(StatusCode::NO_CONTENT)
}

fn only_operator(api: &Api, caller: &TenantId) -> Result<(), Problem> {
    let is_operator = api.operator.as_ref() == Some(caller);
    is_operator
        .then_some(())
        .ok_or_else(|| Problem::new(Code::Forbidden, "Only the operator may see or change workers."))
}
