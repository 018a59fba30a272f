//! Shows an asset being made: one bar per rendition, then where it plays.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use console::style;
use futures_util::StreamExt;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use reelmill_media::ids::AssetId;
use reqwest::Method;

use crate::api::{Api, Asset, AssetState, Refused};
use crate::count::count;
use crate::length::length;

/// Bars count in parts of so many.
const PARTS: u64 = 1000;

/// Longest event that is read, in bytes.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// Times in a row that the event stream may break before giving up.
const MAX_BREAKS: u32 = 10;

/// Watches until the asset is ready; an asset that failed is an error with its reason.
pub async fn run(api: &Api, id: AssetId) -> anyhow::Result<Asset> {
    let mut view = View::new()?;
    let mut breaks = 0;
    loop {
        match follow(api, id, &mut view).await {
            Ok(Some(asset)) => {
                view.bars.clear()?;
                return finish(api, asset);
            }
            Ok(None) => breaks += 1,
            Err(error) if breaks >= MAX_BREAKS || error.is::<Refused>() => return Err(error),
            Err(_) => breaks += 1,
        }
        if breaks > MAX_BREAKS {
            bail!("the server's events break off again and again");
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Reads the event stream until the asset has ended; `None` when the stream broke off before.
async fn follow(api: &Api, id: AssetId, view: &mut View) -> anyhow::Result<Option<Asset>> {
    let request = api.request(Method::GET, &format!("/v1/assets/{id}/events"));
    let response = api.send(request.header("Accept", "text/event-stream")).await?;
    let mut body = response.bytes_stream();
    let mut text = Vec::new();
    while let Some(piece) = body.next().await {
        text.extend_from_slice(&piece?);
        while let Some(end) = text.windows(2).position(|w| w == b"\n\n") {
            let event: Vec<u8> = text.drain(..end + 2).collect();
            let Some(asset) = parse(&event)? else { continue };
            view.show(&asset);
            if matches!(asset.state, AssetState::Ready | AssetState::Failed | AssetState::Deleted) {
                return Ok(Some(asset));
            }
        }
        if text.len() > MAX_EVENT_BYTES {
            bail!("the server sent an event that is too long");
        }
    }
    Ok(None)
}

/// The asset in one event; `None` for comments and other events.
fn parse(event: &[u8]) -> anyhow::Result<Option<Asset>> {
    let data: String = String::from_utf8_lossy(event)
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(str::trim_start)
        .collect();
    if data.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&data).map(Some).context("the server sent an event that cannot be read")
}

fn finish(api: &Api, asset: Asset) -> anyhow::Result<Asset> {
    if let Some(failure) = &asset.error {
        bail!("{} ({})", failure.reason, failure.code);
    }
    if asset.state == AssetState::Deleted {
        bail!("the asset was deleted");
    }
    let length = asset.duration_seconds.map(|s| format!("{}, ", length(s))).unwrap_or_default();
    let renditions = count(asset.renditions.len() as u64, "rendition");
    let edition = if asset.edition > 0 { format!(", edition {}", asset.edition) } else { String::new() };
    println!("{} {length}{renditions}{edition}", style("ready").green().bold());
    println!("{}", api.player(asset.id));
    Ok(asset)
}

/// The bars; on something that is no terminal they stay silent.
struct View {
    bars: MultiProgress,
    style: ProgressStyle,
    renditions: BTreeMap<String, ProgressBar>,
    state: Option<AssetState>,
    playable: bool,
}

impl View {
    fn new() -> anyhow::Result<View> {
        let style = ProgressStyle::with_template("{prefix:>16} {wide_bar:.cyan/dim} {percent:>3} %")?
            .progress_chars("━━─");
        Ok(View {
            bars: MultiProgress::new(),
            style,
            renditions: BTreeMap::new(),
            state: None,
            playable: false,
        })
    }

    fn show(&mut self, asset: &Asset) {
        if self.state != Some(asset.state) {
            self.state = Some(asset.state);
            if asset.state == AssetState::Indexing {
                let _ = self.bars.println("reading the source");
            }
        }
        if asset.playable && !self.playable {
            self.playable = true;
            let _ = self.bars.println(format!("{} while the rest is being made", style("playable").green()));
        }
        for rendition in &asset.renditions {
            let bar = self.renditions.entry(rendition.id.clone()).or_insert_with(|| {
                let bar = ProgressBar::new(PARTS).with_style(self.style.clone());
                self.bars.add(bar.with_prefix(rendition.size()))
            });
            bar.set_position((rendition.progress.clamp(0.0, 1.0) * PARTS as f64) as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_passed_over_and_data_is_read() {
        assert!(parse(b": still here\n\n").unwrap().is_none());
        let id = AssetId::from_parts(1, 2);
        let event = format!("event: asset\nid: 7\ndata: {{\"id\":\"{id}\",\"state\":\"processing\"}}\n\n");
        assert_eq!(parse(event.as_bytes()).unwrap().unwrap().state, AssetState::Processing);
    }
}
