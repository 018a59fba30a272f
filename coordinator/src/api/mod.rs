//! The HTTP API.

mod assets;
mod body;
mod captions;
mod events;
mod intake;
mod keyring;
mod openapi;
mod policies;
mod problem;
mod profiles;
mod pull;
mod purges;
mod republish;
mod role;
mod server;
mod token_keys;
mod tus;
mod view;
mod whole;
mod workers;
mod wrong;

pub use keyring::{Keyring, KeyringError};
pub use server::serve;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{delete, get, head, put};
use http::{HeaderValue, Method, Version, header};
use http_body::Body as _;
use reelmill_media::ids::TenantId;
use reelmill_media::profile::Profile;
use reelmill_platform::admin::Readiness;
use reelmill_platform::kv::Bucket;
use reelmill_platform::purge::Tombstone;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::pulls::Puller;
use crate::quotas::Quotas;
use crate::uploads::Writers;
use problem::{Code, Problem};

/// What handlers need. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    /// Applies inputs.
    pub engine: Engine,
    /// Lists and news.
    pub catalog: Catalog,
    /// Who may call.
    pub keyring: Arc<Keyring>,
    /// The tenant that may take down anything, if there is one.
    pub operator: Option<TenantId>,
    /// Profiles that tenants have given names.
    pub profiles: Bucket<Profile>,
    /// What no edge serves any more.
    pub tombstones: Bucket<Tombstone>,
    /// Whether NATS and the store answer.
    pub readiness: Readiness,
    /// New uploads come in while no more work waits than this, in time of one core per slot.
    pub max_backlog: Duration,
    /// Who may upload how much.
    pub quotas: Quotas,
    /// Where viewers go, when it is known.
    pub edge_url: Option<Arc<str>>,
    /// Who writes to which upload.
    pub writers: Writers,
    /// Fetches uploads.
    pub puller: Puller,
    /// Owns uploads: they outlive their connections, to store what came before a cut.
    pub tasks: TaskTracker,
    /// Cancelled when uploads in one request must end as well.
    pub last_call: CancellationToken,
}

impl Api {
    /// All paths.
    pub fn router(self) -> Router {
        let uploads = put(whole::put).post(pull::post).options(tus::options);
        let upload =
            head(tus::head).patch(tus::patch).delete(tus::delete).options(tus::options).post(tus::overridden);
        let tus = Router::new()
            .route("/v1/uploads", uploads)
            .route("/v1/uploads/{id}", upload)
            .layer(axum::middleware::map_response(tus::say_version));
        let policy = || get(policies::get).put(policies::put).delete(policies::delete);
        let token_key = get(token_keys::get).put(token_keys::put).delete(token_keys::delete);
        Router::new()
            .route("/v1/assets", get(assets::list))
            .route("/v1/assets/{id}", get(assets::get).patch(assets::patch).delete(assets::delete))
            .route(
                "/v1/assets/{id}/captions/{language}",
                get(captions::get).put(captions::put).delete(captions::delete),
            )
            .route("/v1/assets/{id}/events", get(events::follow))
            .route("/v1/assets/{id}/policy", policy())
            .route("/v1/assets/{id}/profile", put(republish::put))
            .route("/openapi.json", get(openapi::get))
            .route("/v1/profiles", get(profiles::list))
            .route("/v1/profiles/{name}", get(profiles::get).put(profiles::put).delete(profiles::delete))
            .route("/v1/purges", get(purges::list).post(purges::create))
            .route("/v1/purges/{id}", get(purges::get))
            .route("/v1/tenants/{tenant}/policy", policy())
            .route("/v1/token-keys", get(token_keys::list))
            .route("/v1/token-keys/{kid}", token_key)
            .route("/v1/workers", get(workers::list))
            .route("/v1/workers/{id}/quarantine", delete(workers::release))
            .merge(tus)
            .method_not_allowed_fallback(async |method: Method| {
                Problem::new(Code::MethodNotAllowed, format!("This path does not do {method}."))
            })
            .fallback(async || Problem::new(Code::UnknownPath, "There is nothing at this path."))
            .layer(axum::middleware::from_fn(close_after_refusal))
            .with_state(self)
    }
}

/// Of a body that is refused the rest is not read, so that its connection can carry nothing after it: callers are told
/// (RFC 9112 §9.6), or they would ask on it again. HTTP/2 ends the stream alone.
async fn close_after_refusal(request: Request, next: Next) -> Response {
    let more_to_come = request.version() < Version::HTTP_2 && !request.body().is_end_stream();
    let mut response = next.run(request).await;
    if more_to_come && (response.status().is_client_error() || response.status().is_server_error()) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
