//! The coordinator's HTTP API, as far as this program speaks it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use reelmill_media::captions::CaptionsKind;
use reelmill_media::ids::AssetId;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;

use crate::up::state::State;

/// A server that is busy is asked again for so long.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// An answer's head comes within this; bodies may take longer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// Which Reelmill is meant.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Address of the coordinator; by default the one that runs on `--data`
    #[arg(long, global = true, env = "REELMILL_API", value_name = "URL")]
    pub api: Option<String>,
    /// API key; by default that of the Reelmill on `--data`
    #[arg(long, global = true, env = "REELMILL_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Folder of a Reelmill on this machine
    #[arg(long, global = true, env = "REELMILL_DATA", default_value = "data", value_name = "FOLDER")]
    pub data: PathBuf,
}

/// A coordinator and the right to use it.
#[derive(Debug, Clone)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    key: String,
    /// Where viewers go: the edge's address.
    pub edge: Option<String>,
}

/// An asset as the API shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct Asset {
    pub id: AssetId,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    pub state: AssetState,
    #[serde(default)]
    pub playable: bool,
    #[serde(default)]
    pub taken_down_at: Option<String>,
    #[serde(default)]
    pub duration_seconds: Option<f64>,
    #[serde(default)]
    pub progress: f64,
    #[serde(default)]
    pub renditions: Vec<Rendition>,
    #[serde(default)]
    pub error: Option<Failure>,
    #[serde(default)]
    pub edition: u32,
    #[serde(default)]
    pub standing: Option<Standing>,
    #[serde(default)]
    pub abandoned: Option<Abandoned>,
    #[serde(default)]
    pub created_at: Option<String>,
    #[serde(default)]
    pub upload: Option<Upload>,
    #[serde(default)]
    pub source: Option<Source>,
    #[serde(default)]
    pub captions: Vec<Captions>,
}

/// Where an asset is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssetState {
    Uploading,
    Queued,
    Indexing,
    Processing,
    Ready,
    Failed,
    Deleted,
}

/// One rendition and how far it is.
#[derive(Debug, Clone, Deserialize)]
pub struct Rendition {
    pub id: String,
    #[serde(default)]
    pub width: Option<u32>,
    #[serde(default)]
    pub height: Option<u32>,
    #[serde(default)]
    pub language: Option<String>,
    #[serde(default)]
    pub codecs: Option<String>,
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub concealed: u32,
    #[serde(default)]
    pub progress: f64,
}

/// What viewers have while another edition is made.
#[derive(Debug, Clone, Deserialize)]
pub struct Standing {
    pub edition: u32,
}

/// Another edition that was not made.
#[derive(Debug, Clone, Deserialize)]
pub struct Abandoned {
    pub edition: u32,
    pub error: Failure,
}

/// How much of an asset's source has come.
#[derive(Debug, Clone, Deserialize)]
pub struct Upload {
    pub bytes: u64,
    #[serde(default)]
    pub length: Option<u64>,
}

/// What an asset's source is.
#[derive(Debug, Clone, Deserialize)]
pub struct Source {
    pub container: String,
    #[serde(default)]
    pub video_codec: Option<String>,
    #[serde(default)]
    pub audio_codec: Option<String>,
    #[serde(default)]
    pub audio_tracks: u64,
    #[serde(default)]
    pub width: Option<u32>,
    #[serde(default)]
    pub height: Option<u32>,
    #[serde(default)]
    pub frame_rate: Option<f64>,
}

/// Captions in one language.
#[derive(Debug, Clone, Deserialize)]
pub struct Captions {
    pub language: String,
    pub name: String,
    #[serde(default)]
    pub default: bool,
    #[serde(default)]
    pub kind: CaptionsKind,
}

/// Why an asset failed.
#[derive(Debug, Clone, Deserialize)]
pub struct Failure {
    pub code: String,
    pub reason: String,
}

/// A page of assets.
#[derive(Debug, Deserialize)]
pub struct Page {
    pub assets: Vec<Asset>,
}

/// The server has understood and refuses, in its own sentence: asking again changes nothing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// The part of RFC 9457 that a person reads.
#[derive(Debug, Deserialize)]
struct Problem {
    detail: Option<String>,
    title: Option<String>,
}

impl Asset {
    /// When its upload began, to the minute, in UTC.
    pub fn begun(&self) -> String {
        self.created_at.as_deref().map(minute).unwrap_or_default()
    }

    /// When it was taken down, in the same way, if it was.
    pub fn taken_down(&self) -> Option<String> {
        self.taken_down_at.as_deref().map(minute)
    }
}

/// A time to the minute.
fn minute(at: &str) -> String {
    at.get(..16).unwrap_or_default().replace('T', " ")
}

impl Rendition {
    /// What people tell it by.
    pub fn size(&self) -> String {
        match (self.width, self.height) {
            (Some(width), Some(height)) => format!("{width}×{height}"),
            (_, _) => "sound".to_owned(),
        }
    }
}

impl Api {
    /// By flags, or the one that runs on the data folder.
    pub fn open(options: &Options) -> anyhow::Result<Api> {
        let state = State::read(&options.data);
        let (base, key, edge) = match (&options.api, &options.key, state) {
            (Some(api), Some(key), state) => (api.clone(), key.clone(), state.ok().map(|s| s.edge)),
            (api, key, Ok(state)) => {
                (api.clone().unwrap_or(state.api), key.clone().unwrap_or(state.api_key), Some(state.edge))
            }
            (_, _, Err(_)) => bail!(
                "no Reelmill runs on {}: start one with `reelmill up`, or say --api and --key",
                options.data.display()
            ),
        };
        Self::new(&base, &key, edge)
    }

    /// A known one.
    pub fn new(base: &str, key: &str, edge: Option<String>) -> anyhow::Result<Api> {
        let client = reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).build()?;
        Ok(Api { client, base: base.trim_end_matches('/').to_owned(), key: key.to_owned(), edge })
    }

    /// A request to a path under the API's address, or to a whole address that the API gave.
    pub fn request(&self, method: reqwest::Method, target: &str) -> RequestBuilder {
        let url = if target.starts_with('/') { format!("{}{target}", self.base) } else { target.to_owned() };
        self.client.request(method, url).bearer_auth(&self.key)
    }

    /// Sends, and turns an error of the server into its own sentence. A server that says when to come back is asked again
    /// then, if there is no body that went with the first try.
    pub async fn send(&self, mut request: RequestBuilder) -> anyhow::Result<Response> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let again = request.try_clone();
            let sent = tokio::time::timeout(ANSWER_DEADLINE, request.send());
            let response = sent
                .await
                .with_context(|| format!("{} does not answer", self.base))?
                .map_err(|error| self.unreachable(error))?;
            if response.status().is_success() {
                return Ok(response);
            }
            let wait = asked_to_wait(&response).filter(|wait| Instant::now() + *wait < give_up);
            let error = error(response).await;
            let (Some(wait), Some(again)) = (wait, again) else { return Err(error) };
            eprintln!("{error} Trying again in {} s.", wait.as_secs());
            tokio::time::sleep(wait).await;
            request = again;
        }
    }

    /// The root of the matter, without what the layers above it repeat.
    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        anyhow!("cannot reach {}: {}", self.base, anyhow::Error::from(error).root_cause())
    }

    /// The page on which an asset plays.
    pub fn player(&self, id: AssetId) -> String {
        format!("{}/watch/{id}", self.edge.as_deref().unwrap_or_default())
    }
}

/// How long a busy server asks to be left alone (RFC 9110 §10.2.3); dates are not understood.
fn asked_to_wait(response: &Response) -> Option<Duration> {
    let busy = matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let seconds = response.headers().get(reqwest::header::RETRY_AFTER).filter(|_| busy)?;
    seconds.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// What an answer other than a success says; [`Refused`] where it will not change.
pub async fn error(response: Response) -> anyhow::Error {
    let status = response.status();
    let problem: Option<Problem> = response.json().await.ok();
    let sentence =
        problem.and_then(|p| p.detail.or(p.title)).unwrap_or_else(|| format!("the server answered {status}"));
    let passes = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if status.is_client_error() && !passes { Refused(sentence).into() } else { anyhow!(sentence) }
}
