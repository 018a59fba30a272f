//! `reelmill caption`: captions for an asset, in one language.

use std::path::PathBuf;

use anyhow::Context;
use reelmill_media::captions::Language;
use reelmill_media::ids::AssetId;
use reqwest::{Method, Url};

use crate::api::Api;

/// Which captions.
#[derive(Debug, Clone, clap::Args)]
pub struct Captions {
    /// The asset's id
    asset: AssetId,
    /// Their language, as in en or pt-BR (BCP 47)
    language: Language,
    /// The text, WebVTT or SubRip; without it, captions in this language are taken away
    file: Option<PathBuf>,
    /// What viewers choose them by; the language unless said
    #[arg(long)]
    name: Option<String>,
    /// Show them unless the viewer chooses otherwise
    #[arg(long)]
    default: bool,
    /// They tell sounds as well, for who does not hear them
    #[arg(long)]
    sdh: bool,
}

/// Sends them, or takes them away.
pub async fn run(api: &Api, captions: Captions) -> anyhow::Result<()> {
    let Captions { asset, language, file, name, default, sdh } = captions;
    let path = format!("/v1/assets/{asset}/captions/{language}");
    let Some(file) = file else { return api.send(api.request(Method::DELETE, &path)).await.map(drop) };
    let text = tokio::fs::read(&file).await.with_context(|| format!("cannot read {}", file.display()))?;
    let kind = if sdh { "captions" } else { "subtitles" };
    // Only what stands behind the question mark is taken of it.
    let mut said = Url::parse("reelmill:")?;
    said.query_pairs_mut().append_pair("kind", kind).append_pair("default", &default.to_string());
    if let Some(name) = name {
        said.query_pairs_mut().append_pair("name", &name);
    }
    let target = format!("{path}?{}", said.query().unwrap_or_default());
    api.send(api.request(Method::PUT, &target).body(text)).await.map(drop)
}
