//! Requests that are held until there is something to say (long polling, RFC 6202 §2): who says `Prefer: wait=N` (RFC 7240
//! §4.3) and would be answered 304 is answered when the text changes, or after N seconds.
//!
//! Nothing of a request is done while it is held, and nothing that was found out about it counts afterwards: it is answered
//! as if it had just come.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::futures::Notified;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::bells::Listener;
use crate::clients::{Clients, Excess};
use crate::limits::HELD_FOR;
use crate::metrics::{Counted, Metrics};
use crate::push::Announcements;
use crate::route::MutableObject;

/// What a client would rather have (RFC 7240 §2).
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// What it was given of that (RFC 7240 §3).
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Places for them: as many in all as connections, and as many of one client as it may have of these. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Holds {
    places: Arc<Semaphore>,
    clients: Clients,
    announcements: Announcements,
    drain: CancellationToken,
    metrics: Metrics,
}

impl Holds {
    pub(crate) fn new(
        places: usize,
        clients: Clients,
        announcements: Announcements,
        drain: CancellationToken,
        metrics: Metrics,
    ) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), clients, announcements, drain, metrics }
    }

    /// A place for a request for `object` that prefers to wait. None where it is to be answered at once: there is no place
    /// left, or this edge hears of no changes, or drains.
    pub(crate) fn begin(&self, headers: &HeaderMap, object: &MutableObject, from: IpAddr) -> Option<Hold> {
        let seconds = wait(headers)?.min(HELD_FOR.as_secs());
        if !self.announcements.alive() || self.drain.is_cancelled() {
            return None;
        }
        let places = self.places(from).map_err(|excess| self.metrics.excess(excess)).ok()?;
        Some(Hold {
            seconds,
            end: Instant::now() + Duration::from_secs(seconds),
            news: self.announcements.bells.listen(object.asset()),
            drain: self.drain.clone(),
            _places: places,
            _counted: self.metrics.held_request(),
        })
    }

    fn places(&self, from: IpAddr) -> Result<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>), Excess> {
        let of_client = self.clients.hold(from)?;
        let of_all = self.places.clone().try_acquire_owned().map_err(|_| Excess::Holds)?;
        Ok((of_all, of_client))
    }
}

/// A request that is held.
#[derive(Debug)]
pub(crate) struct Hold {
    seconds: u64,
    end: Instant,
    /// Rings when the text may have changed, or who may have it.
    news: Listener,
    drain: CancellationToken,
    _places: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
    _counted: Counted,
}

impl Hold {
    /// Completes at the first news after this call; whoever looks after the call misses none.
    pub(crate) fn news(&self) -> Notified<'_> {
        self.news.rung()
    }

    /// Waits for `news`. Says whether to look again then: not when the time is over or `within` is, or at the drain.
    pub(crate) async fn goes_on(&self, news: Notified<'_>, within: Option<Duration>) -> bool {
        let within = within.and_then(|within| Instant::now().checked_add(within));
        let end = within.map_or(self.end, |end| end.min(self.end));
        tokio::select! {
            biased;
            () = self.drain.cancelled() => false,
            () = sleep_until(end) => false,
            () = news => true,
        }
    }

    /// For `Preference-Applied`.
    pub(crate) fn applied(&self) -> HeaderValue {
        // Letters, a sign and digits are always a valid field value.
        HeaderValue::try_from(format!("wait={}", self.seconds)).unwrap_or(HeaderValue::from_static("wait"))
    }
}

/// How many seconds a client would wait. What is not understood counts as not said.
fn wait(headers: &HeaderMap) -> Option<u64> {
    let lists = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut said = lists.flat_map(|list| list.split(',')).filter_map(|preference| {
        // Parameters may follow.
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
    });
    // The first one counts (RFC 7240 §2).
    said.next()?.parse().ok().filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wait_counts_wherever_it_is_said() {
        let said = |lists: &[&str]| {
            let mut headers = HeaderMap::new();
            lists.iter().for_each(|list| _ = headers.append(PREFER, list.parse().unwrap()));
            wait(&headers)
        };
        for (lists, seconds) in [
            (&[][..], None),
            (&["wait=10"], Some(10)),
            (&["respond-async, Wait = \"7\"; x=1,wait=9"], Some(7)),
            (&["return=minimal; wait=3", "handling=lenient,wait=8"], Some(8)),
            (&["wait", "wait=5"], Some(5)),
            (&["wait=soon, wait=5"], None),
            (&["wait=-1"], None),
            (&["wait=0"], None),
            (&["wait=18446744073709551616"], None),
        ] {
            assert_eq!(said(lists), seconds, "{lists:?}");
        }
    }
}
