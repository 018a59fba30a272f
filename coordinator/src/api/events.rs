//! `GET /v1/assets/{id}/events`: server-sent events until the asset is ready or failed. Whoever was cut off says by
//! `Last-Event-ID` what it heard last, and hears only what is new.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reelmill_media::presentation::Edition;
use reelmill_media::task::TaskNumber;
use tokio::sync::watch;
use tokio::time::Instant;

use super::keyring::Caller;
use super::problem::Problem;
use super::view::Told;
use super::{Api, assets, view};
use crate::catalog::Sight;
use crate::progress::Progress;
use crate::state::Asset;

/// Events come at most this often; the last one comes at once.
const EVENTS_EVERY: Duration = Duration::from_millis(200);

/// An id speaks of so many renditions at most: more than any profile has.
const MAX_RENDITIONS: usize = 256;

/// Whoever is cut off comes back after so long.
const COME_BACK_AFTER: Duration = Duration::from_secs(1);

/// What a listener has heard: the asset's revision, and progress, which never goes back.
#[derive(Debug, Clone, Default, PartialEq)]
struct Heard {
    revision: u64,
    told: Told,
}

impl Heard {
    /// From `Last-Event-ID`. What is no id of ours was not heard here.
    fn parse(id: &str) -> Option<Heard> {
        let (revision, rest) = id.split_once('-')?;
        let (edition, parts) = rest.split_once('-')?;
        let part = |text: &str| {
            let millionths: u32 = text.parse().ok().filter(|millionths| *millionths <= 1_000_000)?;
            Some(f64::from(millionths) / 1e6)
        };
        let mut parts = parts.split('.').map(part);
        let whole = parts.next()??;
        let renditions = parts.take(MAX_RENDITIONS).collect::<Option<_>>()?;
        let edition = Edition(edition.parse().ok()?);
        Some(Heard { revision: revision.parse().ok()?, told: Told { edition, whole, renditions } })
    }

    fn id(&self) -> String {
        let Told { edition, whole, renditions } = &self.told;
        // Rounded up: what follows is not less.
        let millionths = |part: &f64| ((part * 1e6).ceil() as u32).to_string();
        let parts: Vec<String> = [whole].into_iter().chain(renditions).map(millionths).collect();
        format!("{}-{}-{}", self.revision, edition.0, parts.join("."))
    }
}

/// One listener.
struct Listener {
    news: watch::Receiver<Option<Sight>>,
    /// What is to be sent next, if that is known already.
    next: Option<Sight>,
    heard: Heard,
    sent_at: Option<Instant>,
    api: Api,
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
    let is_new = last.as_ref().is_none_or(|last| last.revision != revision.0);
    if !is_new && asset.stage.name().is_final() {
        // By this a browser knows that there is nothing to come back for.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let running = api.catalog.running(asset.id);
    let now = Sight { asset: Arc::new(asset), revision: revision.0, running };
    let listener = Listener {
        news,
        next: is_new.then_some(now),
        heard: last.unwrap_or_default(),
        sent_at: None,
        over: false,
        api,
    };
    let drained = listener.api.engine.drain.clone().cancelled_owned();
    let events = stream::unfold(listener, Listener::next_event).take_until(drained);
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    // Says to proxies that this is not to be gathered up.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl Api {
    /// How far a job is; `None` where there is none, or its plan cannot be had now.
    pub(super) async fn progress(
        &self,
        asset: &Asset,
        running: &BTreeMap<TaskNumber, u16>,
    ) -> Option<Progress> {
        let job = asset.stage.job()?;
        let plan = self.engine.plans.get(job.recipe.plan).await.ok()?;
        Some(Progress::of(job, &plan, running))
    }
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
        let progress = self.api.progress(&sight.asset, &sight.running).await;
        let shown = view::show(&sight.asset, progress.as_ref(), self.api.edge_url.as_deref())
            .not_before(&mut self.heard.told);
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
        for (revision, whole) in [(0, 0.0), (7, 1.0 / 3.0), (u64::MAX, 1.0)] {
            let told = Told { edition: Edition(3), whole, renditions: vec![whole / 2.0, 1.0] };
            let again = Heard::parse(&Heard { revision, told: told.clone() }.id()).unwrap();
            assert_eq!((again.revision, again.told.edition), (revision, told.edition));
            let parts = |told: Told| [told.whole].into_iter().chain(told.renditions);
            assert!(
                parts(told).zip(parts(again.told)).all(|(said, heard)| (said..said + 2e-6).contains(&heard))
            );
        }
        for strange in [
            "",
            "7",
            "7-1",
            "-7",
            "7-0-1000001",
            "x-0-1",
            "1-x-1",
            "1-0-",
            "1-0-1.x",
            "18446744073709551616-0-0",
        ] {
            assert_eq!(Heard::parse(strange), None, "{strange}");
        }
    }
}
