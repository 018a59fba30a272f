//! `GET /v1/assets/{id}/events`: server-sent events until the asset is ready or failed.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, header};
use tokio::sync::watch;
use tokio::time::Instant;

use super::keyring::Caller;
use super::problem::Problem;
use super::{Api, assets, view};
use crate::catalog::Sight;

/// Events come at most this often; the last one comes at once.
const EVENTS_EVERY: Duration = Duration::from_millis(200);

/// One listener.
struct Listener {
    news: watch::Receiver<Option<Sight>>,
    /// What is to be sent next, if that is known already.
    next: Option<Sight>,
    revision: u64,
    sent_at: Option<Instant>,
    /// Progress as last told.
    told: f64,
    edge_url: Option<Arc<str>>,
    over: bool,
}

pub(super) async fn follow(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (asset, _) = assets::find(&api, &tenant, &id).await?;
    let news = api.catalog.subscribe(asset.id);
    // Read again after subscribing: a change between the two would be missed.
    let (asset, revision) = assets::find(&api, &tenant, &id).await?;
    let now = Sight { asset: Arc::new(asset), revision: revision.0, running: Default::default() };
    let listener = Listener {
        news,
        next: Some(now),
        revision: 0,
        sent_at: None,
        told: 0.0,
        edge_url: api.edge_url.clone(),
        over: false,
    };
    let drained = api.engine.drain.clone().cancelled_owned();
    let events = stream::unfold(listener, Listener::next_event).take_until(drained);
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    // Says to proxies that this is not to be gathered up.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl Listener {
    async fn next_event(mut self) -> Option<(Result<Event, axum::Error>, Self)> {
        if self.over {
            return None;
        }
        let sight = match self.next.take() {
            Some(sight) => sight,
            None => self.wait().await?,
        };
        self.revision = sight.revision;
        self.sent_at = Some(Instant::now());
        self.over = sight.asset.stage.name().is_final();
        let shown =
            view::show(&sight.asset, Some(&sight), self.edge_url.as_deref()).not_before(&mut self.told);
        let event = Event::default().event("asset").id(sight.revision.to_string()).json_data(shown);
        Some((event, self))
    }

    /// The latest news, not sooner than they may be sent.
    async fn wait(&mut self) -> Option<Sight> {
        loop {
            self.news.changed().await.ok()?;
            if let Some(sent_at) = self.sent_at
                && !self.is_final()
            {
                // The end interrupts the pause.
                let pause = tokio::time::sleep_until(sent_at + EVENTS_EVERY);
                let mut news = self.news.clone();
                tokio::select! {
                    () = pause => {}
                    _ = news.wait_for(|s| s.as_ref().is_some_and(|s| s.asset.stage.name().is_final())) => {}
                }
            }
            let sight = self.news.borrow_and_update().clone();
            if let Some(sight) = sight.filter(|sight| sight.revision >= self.revision) {
                return Some(sight);
            }
        }
    }

    fn is_final(&self) -> bool {
        self.news.borrow().as_ref().is_some_and(|sight| sight.asset.stage.name().is_final())
    }
}
