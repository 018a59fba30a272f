//! Tells tenants' own servers what became of their assets: signed, in order for each asset, at least once.

mod endpoint;

pub use endpoint::{Endpoint, EndpointEntry, EndpointError};

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reelmill_media::ids::{AssetId, TenantId};
use reelmill_media::presentation::Edition;
use reelmill_media::task::{Failure, FailureCode};
use reqwest::redirect;
use serde::Serialize;

use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::reach::Reach;
use crate::state::{About, Asset, Input, Notice, Occasion};

/// Between two looks for what is owed: a look reads the copy at hand only.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// A receiver answers within this; shorter than a claim counts.
const DEADLINE: Duration = Duration::from_secs(15);
/// Notices on their way at once.
const AT_ONCE: usize = 64;
/// Of those, to one tenant: a receiver that hangs must not keep the others waiting.
const AT_ONCE_PER_TENANT: usize = 4;

/// The receivers by tenant.
pub type Endpoints = HashMap<TenantId, Endpoint>;

/// Tells what is owed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Teller {
    engine: Engine,
    endpoints: Arc<Endpoints>,
    client: reqwest::Client,
    /// Where it may call; anywhere if there is none.
    reach: Option<Reach>,
    on_their_way: Arc<Mutex<HashMap<AssetId, TenantId>>>,
}

/// The body, the same at each try.
#[derive(Debug, Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    occasion: &'static str,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    id: AssetId,
    name: Option<&'a str>,
    /// Of which edition it is true.
    edition: Edition,
    #[serde(flatten)]
    about: &'a About,
    playback: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Reason<'a>>,
}

#[derive(Debug, Serialize)]
struct Reason<'a> {
    code: FailureCode,
    reason: &'a str,
}

/// Why a try was in vain.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error("its address is not public")]
    NotPublic,
    #[error("it answered {0}")]
    Refused(http::StatusCode),
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] reqwest::Error),
    #[error("the notice cannot be written: {0}")]
    Encode(#[from] serde_json::Error),
}

impl Teller {
    /// For these receivers; `allow_private` lets them be behind our own walls.
    pub fn new(engine: Engine, endpoints: Arc<Endpoints>, allow_private: bool) -> reqwest::Result<Teller> {
        let mut builder = reqwest::Client::builder()
            .timeout(DEADLINE)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("reelmill/", env!("CARGO_PKG_VERSION")));
        let reach = (!allow_private).then(|| Reach::public_and(Vec::new()));
        if let Some(reach) = &reach {
            builder = builder.dns_resolver(Arc::new(reach.clone()));
        }
        let client = builder.build()?;
        Ok(Teller { engine, endpoints, client, reach, on_their_way: Arc::default() })
    }

    /// Tells until the process drains.
    pub async fn run(self, catalog: Catalog) {
        if self.endpoints.is_empty() {
            return;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.engine.drain.cancelled() => return,
            }
            let now = Timestamp::now();
            let mut due = catalog.unfinished();
            due.retain(|asset| asset.due_notice(now).is_some());
            due.sort_by_key(|asset| asset.due_notice(now).map(|notice| notice.not_before));
            for asset in due {
                if self.set_out(&asset) {
                    self.engine.background.spawn(self.clone().tell(asset));
                }
            }
        }
    }

    /// Whether there is room for one more.
    fn set_out(&self, asset: &Asset) -> bool {
        let mut on_their_way = self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner);
        let same_tenant = on_their_way.values().filter(|tenant| **tenant == asset.tenant).count();
        let room = on_their_way.len() < AT_ONCE && same_tenant < AT_ONCE_PER_TENANT;
        if !room || on_their_way.contains_key(&asset.id) || !self.endpoints.contains_key(&asset.tenant) {
            return false;
        }
        on_their_way.insert(asset.id, asset.tenant.clone());
        true
    }

    async fn tell(self, asset: Arc<Asset>) {
        let id = asset.id;
        if let Err(error) = self.claim_and_tell(id).await {
            tracing::warn!(asset = %id, %error, "what a receiver was told is not noted");
        }
        self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    async fn claim_and_tell(&self, id: AssetId) -> Result<(), crate::assets::ApplyError> {
        let claimed = self.engine.assets.apply(id, Input::ClaimNotice).await?;
        // Unchanged means that somebody else tells it.
        let Some(notice) = claimed.asset.notices.first().filter(|_| claimed.changed) else { return Ok(()) };
        let Some(endpoint) = self.endpoints.get(&claimed.asset.tenant) else { return Ok(()) };
        let told = match self.send(endpoint, &claimed.asset, notice).await {
            Ok(()) => true,
            Err(error) => {
                let (occasion, tries) = (notice.occasion.name(), notice.tries);
                tracing::warn!(asset = %id, occasion, tries, %error, "a receiver was not told");
                false
            }
        };
        self.engine.assets.apply(id, Input::NoticeTried { notice: notice.clone(), told }).await?;
        Ok(())
    }

    async fn send(&self, endpoint: &Endpoint, asset: &Asset, notice: &Notice) -> Result<(), TellError> {
        if self.reach.as_ref().is_some_and(|reach| !reach.allows_url(&endpoint.url)) {
            return Err(TellError::NotPublic);
        }
        let body = serde_json::to_string(&body(asset, notice))?;
        let id = message_id(asset.id, notice);
        let timestamp = Timestamp::now().as_second();
        let response = self
            .client
            .post(endpoint.url.clone())
            .header(http::header::CONTENT_TYPE, "application/json")
            .header("webhook-signature", endpoint.signature(&id, timestamp, &body))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .body(body)
            .send()
            .await?;
        if response.status().is_success() { Ok(()) } else { Err(TellError::Refused(response.status())) }
    }
}

/// The same at each try, and another for each notice of an asset.
fn message_id(asset: AssetId, notice: &Notice) -> String {
    let occasion = notice.occasion.name().trim_start_matches("asset.");
    match notice.edition {
        Edition(0) => format!("msg_{asset}_{occasion}"),
        Edition(number) => format!("msg_{asset}_{occasion}_{number}"),
    }
}

fn body<'a>(asset: &'a Asset, notice: &Notice) -> Body<'a> {
    let failure = match notice.occasion {
        Occasion::Failed => asset.stage.failure(),
        Occasion::RepublishFailed => {
            let abandoned = asset.abandoned.as_ref().filter(|abandoned| abandoned.edition == notice.edition);
            abandoned.map(|abandoned| &abandoned.failure)
        }
        Occasion::Playable | Occasion::Ready | Occasion::Republished => None,
    };
    let error = failure.map(|Failure { code, reason }| Reason { code: *code, reason });
    let playback = format!("/assets/{}/index.m3u8", asset.id);
    let data = Data {
        id: asset.id,
        name: asset.name.as_deref(),
        edition: notice.edition,
        about: &asset.about,
        playback,
        error,
    };
    Body { occasion: notice.occasion.name(), timestamp: notice.at, data }
}

/// The tenants that are to be told.
pub fn tenants(endpoints: &Endpoints) -> HashSet<TenantId> {
    endpoints.keys().cloned().collect()
}
