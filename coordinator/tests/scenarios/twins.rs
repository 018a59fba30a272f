//! The same bytes again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::client::Caller;
use crate::life::is_whole;
use crate::machines::{Machines, OTHER_KEY, until};
use crate::uploads::bytes;
use crate::worker::{Act, Worker};

/// What lies in an asset's folder, by name.
fn published(machines: &Machines, asset: &str) -> BTreeMap<String, String> {
    let Ok(folder) = std::fs::read_dir(machines.file(&format!("assets/{asset}"))) else {
        return BTreeMap::new();
    };
    let files = folder.map(|entry| entry.unwrap());
    let text = |path| std::fs::read_to_string(path).unwrap().replace(asset, "ASSET");
    files.map(|file| (file.file_name().into_string().unwrap(), text(file.path()))).collect()
}

#[tokio::test]
async fn the_same_bytes_of_the_same_tenant_are_encoded_once() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let tasks = Arc::new(AtomicUsize::new(0));
    let counter = tasks.clone();
    let _worker = Worker::start(&machines, 20, move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Act::Do }
    })
    .await;
    let sent = bytes(9_000_000);
    let first = caller.put(sent.clone()).await;
    let original = caller.reaches(&first, "ready").await;
    is_whole(&machines, &first, 20);
    let made = tasks.load(Ordering::Relaxed);
    assert!(made > 1);
    until("the hint", async || machines.file("twins/demo").exists().then_some(())).await;

    // The answer to the upload says it already.
    let again = caller.request("PUT", "/v1/uploads?name=again").body(sent.clone()).send().await.unwrap();
    let again: Value = again.json().await.unwrap();
    let second = again["id"].as_str().unwrap();
    assert_eq!(
        (&again["state"], &again["name"], &again["playable"]),
        (&json!("ready"), &json!("again"), &json!(true))
    );
    for same in ["duration_seconds", "source", "renditions", "progress"] {
        assert_eq!(again[same], original[same], "{same}");
    }
    assert_ne!(second, first);
    assert_eq!(published(&machines, second), published(&machines, &first));
    is_whole(&machines, second, 20);
    // A resumable upload in two requests has the same blocks if it was cut where blocks are.
    let (upload, third) = caller.create(sent.len()).await;
    assert_eq!(caller.patch(&upload, 0, &sent[..8 << 20]).await.status(), 204);
    assert_eq!(caller.patch(&upload, 8 << 20, &sent[8 << 20..]).await.status(), 204);
    assert_eq!(caller.asset(&third).await["state"], "ready");
    assert_eq!(published(&machines, &third), published(&machines, &first));
    assert_eq!(tasks.load(Ordering::Relaxed), made, "nothing was encoded");

    // One going leaves the others, and the next one is still made of what is there.
    for gone in [second, &first] {
        let delete = caller.request("DELETE", &format!("/v1/assets/{gone}"));
        assert_eq!(delete.send().await.unwrap().status(), 204);
        assert!(published(&machines, gone).is_empty());
    }
    is_whole(&machines, &third, 20);
    let fourth = caller.put(sent.clone()).await;
    assert_eq!(caller.asset(&fourth).await["state"], "ready");
    assert_eq!(tasks.load(Ordering::Relaxed), made);
}

#[tokio::test]
async fn other_bytes_tenants_and_profiles_are_made_by_themselves() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let other = Caller::with_key(&coordinator, OTHER_KEY);
    let worker = Worker::diligent(&machines, 8).await;
    let first = caller.put(bytes(1000)).await;
    caller.reaches(&first, "ready").await;
    until("the hint", async || machines.file("twins/demo").exists().then_some(())).await;
    // Nobody works any more: what becomes ready now was there.
    drop(worker);
    let id = caller.put(bytes(1000)).await;
    assert_eq!(caller.asset(&id).await["state"], "ready");
    let waits = async |caller: &Caller, id: &str| {
        until("the job to be announced", async || {
            (caller.asset(id).await["state"] == "indexing").then_some(())
        })
        .await;
        assert!(published(&machines, id).is_empty());
    };
    waits(&caller, &caller.put(bytes(1001)).await).await;
    waits(&other, &other.put(bytes(1000)).await).await;
    let url = r#"/v1/uploads?profile={"segment_seconds":6}"#;
    let response = caller.request("PUT", url).body(bytes(1000)).send().await.unwrap();
    let asset: Value = response.json().await.unwrap();
    waits(&caller, asset["id"].as_str().unwrap_or_else(|| panic!("{asset}"))).await;

    // What was taken away serves nobody.
    for gone in [&first, &id] {
        let delete = caller.request("DELETE", &format!("/v1/assets/{gone}"));
        assert_eq!(delete.send().await.unwrap().status(), 204);
    }
    waits(&caller, &caller.put(bytes(1000)).await).await;
}
