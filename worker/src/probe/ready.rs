//! The encoders that are ready, who uses how much of them, and what makes them be tried again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reelmill_av::{Hardware, VideoEngine};
use reelmill_media::codec::VideoCodec;
use reelmill_platform::workers::ReadyEncoder;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Finding, Prober, Ready, Verdict, devices, family_name};
use crate::child::{Child, Nursery};
use crate::metrics::Metrics;

/// How often the device files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// An encoder that failed so often in work is not tried again until the devices change: what passes a trial and fails in
/// work costs every chunk twice.
const PATIENCE: u32 = 3;

/// What passed, shared by all slots. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Encoders(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something failed in work.
    failed: Notify,
    nursery: Nursery,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    /// Those that passed once; a handful.
    known: Vec<Known>,
    /// Failed in work and are to be tried again.
    suspects: Vec<VideoEngine>,
}

#[derive(Debug)]
struct Known {
    ready: Ready,
    /// Passed the last time, and has not failed in work since.
    usable: bool,
    /// Sessions in use; there may be some of an encoder that is no longer usable.
    sessions: u32,
    /// Failures in work since the devices last changed.
    failures: u32,
}

/// The right to open some sessions of an encoder; ends when dropped.
#[derive(Debug)]
pub struct Reservation {
    encoders: Encoders,
    engine: VideoEngine,
    sessions: u32,
}

impl Encoders {
    /// None yet.
    pub fn new(nursery: Nursery, metrics: Metrics) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), failed: Notify::new(), nursery, metrics }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is written under the lock is whole at every step.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session for pictures of each of these sizes, in pixels, on the first encoder that is proven for all and free.
    pub fn reserve(&self, codec: VideoCodec, sizes: &[(u32, u32)]) -> Option<Reservation> {
        let sessions = u32::try_from(sizes.len()).ok()?;
        let mut state = self.state();
        // What a device encodes in one codec, it does not encode in another.
        let used = |family| {
            let same = state.known.iter().filter(|k| k.ready.engine.family() == family);
            same.map(|k| k.sessions).fold(sessions, u32::saturating_add)
        };
        let found = state.known.iter().position(|k| {
            k.usable
                && k.ready.engine.codec() == codec
                && sizes.iter().all(|(width, height)| k.ready.fits(*width, *height))
                && k.ready.sessions.is_none_or(|limit| used(k.ready.engine.family()) <= limit)
        })?;
        let known = state.known.get_mut(found)?;
        known.sessions += sessions;
        Some(Reservation { encoders: self.clone(), engine: known.ready.engine, sessions })
    }

    /// What the worker says of itself.
    pub fn advertised(&self) -> Vec<ReadyEncoder> {
        let tell = |known: &Known| ReadyEncoder {
            encoder: known.ready.engine.name().to_owned(),
            codec: known.ready.engine.codec(),
            sizes: known.ready.sizes.clone(),
            sessions: known.ready.sessions.unwrap_or(0),
        };
        self.state().known.iter().filter(|known| known.usable).map(tell).collect()
    }

    /// Takes over what became of a candidate.
    pub fn learn(&self, finding: &Finding) {
        let mut state = self.state();
        let before = state.known.iter_mut().find(|k| k.ready.engine.name() == finding.encoder);
        match (&finding.verdict, before) {
            (Verdict::Ready(ready), Some(known)) => {
                known.ready = ready.clone();
                known.usable = true;
            }
            (Verdict::Ready(ready), None) => {
                state.known.push(Known { ready: ready.clone(), usable: true, sessions: 0, failures: 0 });
            }
            (Verdict::Refused { .. } | Verdict::NotBuilt, Some(known)) => known.usable = false,
            (Verdict::Refused { .. } | Verdict::NotBuilt, None) => {}
        }
        let sessions = match &finding.verdict {
            Verdict::Ready(ready) => Some(ready.sessions.unwrap_or(0)),
            Verdict::Refused { .. } | Verdict::NotBuilt => None,
        };
        self.0.metrics.encoder(finding.family, finding.codec, sessions);
    }

    /// Has everything tried now, and again when devices come or go or an encoder fails in work, until told to stop.
    pub async fn watch(self, prober: Prober, stop: CancellationToken) {
        let watching = async {
            let mut seen = devices::present();
            self.try_all(&prober).await;
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = self.0.failed.notified() => self.try_suspects(&prober).await,
                }
                let now = devices::present();
                if now != seen {
                    tracing::info!("devices came or went: the encoders are tried again");
                    seen = now;
                    self.state().known.iter_mut().for_each(|known| known.failures = 0);
                    self.try_all(&prober).await;
                }
            }
        };
        tokio::select! {
            () = watching => {}
            () = stop.cancelled() => {}
        }
    }

    async fn try_all(&self, prober: &Prober) {
        for hardware in Hardware::candidates() {
            self.take(prober.candidate(hardware).await);
        }
    }

    async fn try_suspects(&self, prober: &Prober) {
        let suspects = std::mem::take(&mut self.state().suspects);
        for engine in suspects {
            self.take(Finding::of(engine, prober.prove(engine).await));
        }
    }

    fn take(&self, finding: Finding) {
        let encoder = finding.encoder;
        match &finding.verdict {
            Verdict::Ready(Ready { sizes, sessions, .. }) => {
                tracing::info!(encoder, ?sizes, sessions, "hardware encoder ready");
            }
            Verdict::Refused { reason } => tracing::debug!(encoder, reason, "hardware encoder refused"),
            Verdict::NotBuilt => {}
        }
        self.learn(&finding);
    }
}

impl Reservation {
    /// The encoder.
    pub fn engine(&self) -> VideoEngine {
        self.engine
    }

    /// A child that may use it.
    pub fn child(&self) -> std::io::Result<Child> {
        self.encoders.0.nursery.start_with_devices()
    }

    /// It failed in work: nobody uses it until it has passed again, and after [`PATIENCE`] failures until the devices
    /// change.
    pub fn failed(self) {
        let mut state = self.encoders.state();
        let Some(known) = state.known.iter_mut().find(|k| k.ready.engine == self.engine && k.usable) else {
            // Another slot was first, or it has been tried in the meantime.
            return;
        };
        known.usable = false;
        known.failures += 1;
        let again = known.failures < PATIENCE;
        tracing::warn!(
            encoder = self.engine.name(),
            failures = known.failures,
            again,
            "hardware encoder failed in work"
        );
        self.encoders.0.metrics.encoder(family_name(self.engine), self.engine.codec(), None);
        if again {
            state.suspects.push(self.engine);
            self.encoders.0.failed.notify_one();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.encoders.state();
        if let Some(known) = state.known.iter_mut().find(|k| k.ready.engine == self.engine) {
            known.sessions = known.sessions.saturating_sub(self.sessions);
        }
    }
}
