//! `GET /v1/assets/{id}/events`: server-sent events until the asset is ready or failed. Whoever was cut off says by
//! `Last-Event-ID` what it heard last, and hears only what is new.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::watch;
use tokio::time::Instant;

use super::keyring::Caller;
use super::problem::Problem;
use super::{Api, assets, view};
use crate::catalog::Sight;

/// Events come at most this often; the last one comes at once.
const EVENTS_EVERY: Duration = Duration::from_millis(200);

/// Whoever is cut off comes back after so long.
const COME_BACK_AFTER: Duration = Duration::from_secs(1);

/// What a listener has heard: the asset's revision, and progress, which never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Heard {
    revision: u64,
    /// 0 to 1.
    progress: f64,
}

impl Heard {
    /// From `Last-Event-ID`. What is no id of ours was not heard here.
    fn parse(id: &str) -> Option<Heard> {
        let (revision, millionths) = id.split_once('-')?;
        let millionths: u32 = millionths.parse().ok().filter(|millionths| *millionths <= 1_000_000)?;
        Some(Heard { revision: revision.parse().ok()?, progress: f64::from(millionths) / 1e6 })
    }

    fn id(&self) -> String {
        // Rounded up: what follows is not less.
        format!("{}-{}", self.revision, (self.progress * 1e6).ceil() as u32)
    }
}

/// One listener.
struct Listener {
    news: watch::Receiver<Option<Sight>>,
    /// What is to be sent next, if that is known already.
    next: Option<Sight>,
    heard: Heard,
    sent_at: Option<Instant>,
    edge_url: Option<Arc<str>>,
    over: bool,
}

pub(super) async fn follow(
    State(api): State<Api>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(Heard::parse);
    let (asset, _) = assets::find(&api, &tenant, &id).await?;
    let news = api.catalog.subscribe(asset.id);
    // Read again after subscribing: a change between the two would be missed.
    let (asset, revision) = assets::find(&api, &tenant, &id).await?;
    let is_new = last.is_none_or(|last| last.revision != revision.0);
    if !is_new && asset.stage.name().is_final() {
        // By this a browser knows that there is nothing to come back for.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let now = Sight { asset: Arc::new(asset), revision: revision.0, running: Default::default() };
    let listener = Listener {
        news,
        next: is_new.then_some(now),
        heard: last.unwrap_or_default(),
        sent_at: None,
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
        self.heard.revision = sight.revision;
        let is_first = self.sent_at.is_none();
        self.sent_at = Some(Instant::now());
        self.over = sight.asset.stage.name().is_final();
        let shown = view::show(&sight.asset, Some(&sight), self.edge_url.as_deref())
            .not_before(&mut self.heard.progress);
        let event = Event::default().event("asset").id(self.heard.id());
        let event = if is_first { event.retry(COME_BACK_AFTER) } else { event };
        Some((event.json_data(shown), self))
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
            if let Some(sight) = sight.filter(|sight| sight.revision >= self.heard.revision) {
                return Some(sight);
            }
        }
    }

    fn is_final(&self) -> bool {
        self.news.borrow().as_ref().is_some_and(|sight| sight.asset.stage.name().is_final())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_say_what_was_heard() {
        for (revision, progress) in [(0, 0.0), (7, 1.0 / 3.0), (u64::MAX, 1.0)] {
            let heard = Heard { revision, progress };
            let again = Heard::parse(&heard.id()).unwrap();
            assert_eq!(again.revision, revision);
            assert!((progress..progress + 2e-6).contains(&again.progress), "{again:?}");
            assert_eq!(Heard::parse(&again.id()).unwrap().revision, revision);
        }
        for strange in ["", "7", "7-", "-7", "7-1000001", "x-1", "1-x", "18446744073709551616-0"] {
            assert_eq!(Heard::parse(strange), None, "{strange}");
        }
    }
}
