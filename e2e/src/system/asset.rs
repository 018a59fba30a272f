//! Assets as the API shows them, and waiting for them.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{AssetId, System};

/// An asset, as far as tests look at it.
#[derive(Debug, Clone, Deserialize)]
pub struct Asset {
    /// Its id.
    pub id: String,
    /// `uploading`, `queued`, `indexing`, `processing`, `ready` or `failed`.
    pub state: String,
    /// There is something to play.
    #[serde(default)]
    pub playable: bool,
    /// Length of the picture.
    #[serde(default)]
    pub duration_seconds: Option<f64>,
    /// 0 to 1.
    #[serde(default)]
    pub progress: f64,
    /// What is made.
    #[serde(default)]
    pub renditions: Vec<Rendition>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<Failure>,
}

/// One rendition.
#[derive(Debug, Clone, Deserialize)]
pub struct Rendition {
    /// Its name.
    pub id: String,
    /// 0 to 1.
    #[serde(default)]
    pub progress: f64,
    /// Frames, or packets of sound, that were filled in.
    #[serde(default)]
    pub concealed: u32,
}

/// Why an asset failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Failure {
    /// Stable.
    pub code: String,
    /// One sentence.
    pub reason: String,
}

impl Asset {
    /// Nothing more will happen to it.
    pub fn is_at_its_end(&self) -> bool {
        matches!(self.state.as_str(), "ready" | "failed")
    }
}

impl System {
    /// The asset now.
    pub fn asset(&self, id: &AssetId) -> Asset {
        let answer = self.http.get(&self.api(&format!("/v1/assets/{id}")), &[self.key().pair()]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).expect("an asset")
    }

    /// Follows an asset's events until one satisfies, and returns all of them. A stream that breaks off is opened
    /// again, since a coordinator may die on the way.
    pub fn follow(
        &self,
        id: &AssetId,
        within: Duration,
        mut satisfied: impl FnMut(&Asset) -> bool,
    ) -> Vec<Asset> {
        let deadline = Instant::now() + within;
        let mut seen: Vec<Asset> = Vec::new();
        let key = self.key();
        let headers = [key.pair(), ("Accept", "text/event-stream")];
        loop {
            let mut text = Vec::new();
            let mut stream = self.http.open(&self.api(&format!("/v1/assets/{id}/events")), &headers).ok();
            while let Some(coming) = stream.as_mut().filter(|coming| coming.status() == 200) {
                let left = deadline.saturating_duration_since(Instant::now());
                let Some(piece) = coming.more(left) else { break };
                text.extend(piece);
                while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                    let event = String::from_utf8(text.drain(..end + 2).collect()).expect("events in UTF-8");
                    let data: String = event.lines().filter_map(|line| line.strip_prefix("data:")).collect();
                    if data.is_empty() {
                        continue;
                    }
                    seen.push(serde_json::from_str(&data).expect("an asset in each event"));
                    if satisfied(&seen[seen.len() - 1]) {
                        return seen;
                    }
                }
            }
            assert!(Instant::now() < deadline, "asset {id} after {within:?}: {:?}", seen.last());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the asset is ready or has failed.
    pub fn at_its_end(&self, id: &AssetId, within: Duration) -> Asset {
        self.follow(id, within, Asset::is_at_its_end).pop().expect("a last event")
    }

    /// Waits until the asset is ready; its failure fails the test.
    pub fn ready(&self, id: &AssetId, within: Duration) -> Asset {
        let asset = self.at_its_end(id, within);
        assert_eq!(asset.state, "ready", "asset {id}: {:?}", asset.error);
        asset
    }

    /// Waits until the asset has failed, and looks that nothing of it is published.
    pub fn failed(&self, id: &AssetId, within: Duration) -> Failure {
        let asset = self.at_its_end(id, within);
        assert_eq!(asset.state, "failed", "asset {id} should not be made");
        assert!(!asset.playable);
        assert!(!self.store().join(format!("assets/{id}")).exists(), "something of {id} is published");
        let failure = asset.error.expect("a failed asset says why");
        let reason = &failure.reason;
        let is_sentence = reason.len() > 10 && !reason.contains('\n') && reason.len() < 300;
        assert!(is_sentence, "{:?} is not one sentence", failure.reason);
        failure
    }
}
