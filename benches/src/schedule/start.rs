//! A coordinator that starts where very many assets have ended.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use reelmill_coordinator::state::{Arrival, Asset, Stage};
use reelmill_media::ids::{AssetId, BlobHash, TenantId};
use reelmill_media::source::SourceRef;
use reelmill_media::task::Recipe;
use reelmill_platform::owners::Owners;
use reelmill_platform::topology::BucketName;
use tokio::process::Command;

use reelmill_benches::nats::{Server, memory};

/// Records written at once.
const AT_ONCE: usize = 512;
/// Tenants that own them: the first has every second one, the others share the rest.
const TENANTS: u64 = 100;
/// The key of the first tenant.
const KEY: &str = "bench";
/// They came into being in the course of a year.
const YEAR_MS: u64 = 365 * 24 * 3_600_000;
const BEGAN_MS: u64 = 1_700_000_000_000;

/// Prints how long a start takes, and pages of a list.
pub async fn run(server: &Server, finished: u64) -> anyhow::Result<()> {
    let bus = server.connect().await?;
    let assets = bus.bucket::<Asset>(BucketName::Assets).await?;
    let owners = Owners::open(&bus).await?;
    let began = Instant::now();
    stream::iter(0..finished)
        .map(async |n| {
            let asset = asset(n, finished)?;
            assets.put(&asset.id.to_string(), &asset).await?;
            owners.add(&asset.tenant, asset.id).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let took = began.elapsed().as_secs_f64();
    println!("finished: {finished} records in {took:.0} s, nats-server {} MB", server.memory()? >> 20);

    let folder = server.folder.path();
    let keys = serde_json::json!([{ "tenant": tenant(0)?, "key_blake3": blake3_of(KEY) }]);
    std::fs::write(folder.join("keys.json"), keys.to_string())?;
    let program = std::env::current_exe()?.with_file_name("reelmill-coordinator");
    let ready = folder.join("ready.json");
    let began = Instant::now();
    let process = Command::new(&program)
        .args(["--listen", "127.0.0.1:0", "--nats", &server.url])
        .arg("--keys-file")
        .arg(folder.join("keys.json"))
        .arg("--store")
        .arg(format!("file://{}", folder.join("store").display()))
        .arg("--ready-file")
        .arg(&ready)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let said: serde_json::Value = loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if let Ok(text) = std::fs::read(&ready) {
            break serde_json::from_slice(&text)?;
        }
    };
    println!("start: ready after {:.2} s", began.elapsed().as_secs_f64());
    let client = reqwest::Client::new();
    let metrics = format!("http://{}/metrics", said["admin"].as_str().context("no admin address")?);
    while !client.get(&metrics).send().await?.text().await?.contains("reelmill_coordinator_feeding 1") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("start: feeds after {:.2} s", began.elapsed().as_secs_f64());
    let page = format!("http://{}/v1/assets", said["listen"].as_str().context("no address")?);
    let middle = format!("{page}?after={}", id(finished / 2, finished));
    for (which, page) in [("first", &page), ("first again", &page), ("a middle", &middle)] {
        let asked = Instant::now();
        client.get(page).bearer_auth(KEY).send().await?.error_for_status()?.bytes().await?;
        println!(
            "list: {which} page after {:.3} s, {:.2} s after the start",
            asked.elapsed().as_secs_f64(),
            began.elapsed().as_secs_f64()
        );
    }
    let process = process.id().context("the coordinator has ended")?;
    println!("coordinator: {} MB", memory(process)? >> 20);
    Ok(())
}

fn tenant(n: u64) -> anyhow::Result<TenantId> {
    let which = if n.is_multiple_of(2) { 0 } else { n % TENANTS };
    Ok(format!("tenant-{which}").parse()?)
}

fn id(n: u64, finished: u64) -> AssetId {
    AssetId::from_parts(BEGAN_MS + n * YEAR_MS / finished, u128::from(n))
}

fn blake3_of(text: &str) -> String {
    BlobHash::of(text.as_bytes()).to_string()
}

/// As it is when everything is tidied up.
fn asset(n: u64, finished: u64) -> anyhow::Result<Asset> {
    let now = Timestamp::UNIX_EPOCH;
    let hash = BlobHash::of(&n.to_le_bytes());
    let source = SourceRef { blocks: hash, bytes: 1 << 30 };
    let recipe = Recipe { index: hash, plan: hash };
    let new = Asset::new(id(n, finished), tenant(n)?, Some(format!("clip {n}")), None, Arrival::Whole, now);
    Ok(Asset { stage: Stage::Ready { source, recipe, closed: true }, ..new })
}
