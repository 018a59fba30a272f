//! `reelmill caption`: captions for an asset, in one language.

use std::path::PathBuf;

use anyhow::Context;
use reelmill_media::captions::Language;
use reelmill_media::ids::AssetId;
use reqwest::{Method, StatusCode, Url};

use crate::api::{self, Api};

/// Which captions.
#[derive(Debug, Clone, clap::Args)]
pub struct Captions {
    /// The asset's id
    asset: AssetId,
    /// Their language, as in en or pt-BR (BCP 47)
    language: Language,
    /// The text, WebVTT or SubRip
    #[arg(required_unless_present = "remove")]
    file: Option<PathBuf>,
    /// Remove the captions in this language
    #[arg(long, conflicts_with_all = ["file", "name", "default", "sdh"])]
    remove: bool,
    /// Name that viewers choose them by; by default that of the language
    #[arg(long)]
    name: Option<String>,
    /// Show them unless the viewer chooses otherwise
    #[arg(long)]
    default: bool,
    /// They describe sounds as well, for the deaf and hard of hearing
    #[arg(long)]
    sdh: bool,
}

/// Sends them, or takes them away.
pub async fn run(api: &Api, captions: Captions) -> anyhow::Result<()> {
    let Captions { asset, language, file, remove, name, default, sdh } = captions;
    let path = format!("/v1/assets/{asset}/captions/{language}");
    if remove {
        api.send(api.request(Method::DELETE, &path)).await?;
        println!("{language}  removed: viewers can no longer choose them");
        return Ok(());
    }
    let file = file.context("say FILE or --remove")?;
    let text = tokio::fs::read(&file).await.with_context(|| format!("cannot read {}", file.display()))?;
    let kind = if sdh { "captions" } else { "subtitles" };
    // Only what stands behind the question mark is taken of it.
    let mut said = Url::parse("reelmill:")?;
    said.query_pairs_mut().append_pair("kind", kind).append_pair("default", &default.to_string());
    if let Some(name) = name {
        said.query_pairs_mut().append_pair("name", &name);
    }
    let target = format!("{path}?{}", said.query().unwrap_or_default());
    let answer = api.send(api.request(Method::PUT, &target).body(text)).await?;
    let done = if answer.status() == StatusCode::CREATED { "added" } else { "replaced" };
    let api::Captions { language, name, default, .. } = answer.json().await?;
    let shown = if default { "see them unless they choose otherwise" } else { "can choose them" };
    let named = if name == language { String::new() } else { format!(" as {name}") };
    println!("{language}  {done}{named}: viewers {shown}");
    Ok(())
}
