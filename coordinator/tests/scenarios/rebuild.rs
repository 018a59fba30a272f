//! NATS is lost with all that it knew.

use std::process::Output;

use reelmill_media::task::Class;
use reelmill_platform::topology::BucketName;
use serde_json::{Value, json};

use crate::client::Caller;
use crate::life::{is_whole, media_playlist, texts};
use crate::machines::{Machines, until};
use crate::uploads::bytes;
use crate::worker::{Act, Worker};

pub async fn rebuild(machines: &Machines) -> Output {
    let arguments = ["rebuild", "--store", &machines.store_url, "--nats", &machines.nats_url];
    machines.program().args(arguments).output().await.unwrap()
}

/// An asset that is ready, and one of which something plays and no more is being made.
async fn ready_and_growing(machines: &Machines, caller: &Caller, sent: &[u8]) -> (Value, String) {
    let worker = Worker::diligent(machines, 40).await;
    let ready = caller.put(sent).await;
    let ready = caller.reaches(&ready, "ready").await;
    drop(worker);
    let _worker = Worker::start(machines, 40, async |task| match task.class {
        Class::Publish => Act::Do,
        Class::Ladder => std::future::pending().await,
    })
    .await;
    let growing = caller.put(bytes(4000)).await;
    until("playlists", async || (caller.asset(&growing).await["playable"] == true).then_some(())).await;
    (ready, growing)
}

#[tokio::test]
async fn what_nats_knew_comes_back_from_the_store() {
    comes_back(Machines::start().await).await;
}

#[tokio::test]
async fn what_nats_knew_comes_back_from_a_store_on_s3() {
    comes_back(Machines::on_s3().await).await;
}

async fn comes_back(mut machines: Machines) {
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let sent = bytes(3000);
    let (before, growing) = ready_and_growing(&machines, &caller, &sent).await;
    let ready = before["id"].as_str().unwrap().to_owned();
    let (upload, half) = caller.create(100).await;
    assert_eq!(caller.patch(&upload, 0, &[1; 50]).await.status(), 204);
    let bus = machines.bus().await;
    let policy = json!({ "playback": "token" });
    bus.bucket::<Value>(BucketName::Policies).await.unwrap().put("tenant.demo", &policy).await.unwrap();
    let named = json!({ "segment_seconds": 2 });
    let named = caller.request("PUT", "/v1/profiles/short").json(&named).send().await.unwrap();
    let named: Value = named.json().await.unwrap();
    let settings = ["settings/policies/tenant.demo.json", "settings/profiles/demo.short.json"];
    for kept in settings.into_iter().chain([format!("records/{half}.json").as_str()]) {
        until(kept, async || machines.file(kept).exists().then_some(())).await;
    }
    let published = (texts(&machines, &ready), texts(&machines, &growing));
    let segments = || media_playlist(&machines, &growing, "v360").map_or(0, |list| list.segments.len());
    let shown = segments();
    assert!(shown > 0);
    coordinator.kill().await;

    machines.lose_nats().await;
    let told = rebuild(&machines).await;
    assert!(told.status.success(), "{told:?}");
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(
        text.starts_with("1 assets are as they were, 1 are made again, 0 were there\n2 policies"),
        "{text}"
    );
    assert!(text.contains(&half), "{text}");
    let again = String::from_utf8(rebuild(&machines).await.stdout).unwrap();
    assert!(
        again.starts_with("0 assets are as they were, 0 are made again, 3 were there\n0 policies"),
        "{again}"
    );
    let profiles = machines.bus().await.bucket::<Value>(BucketName::Profiles).await.unwrap();
    assert_eq!(profiles.get("demo.short").await.unwrap().unwrap().0, named);
    let policies = machines.bus().await.bucket::<Value>(BucketName::Policies).await.unwrap();
    assert_eq!(policies.get("tenant.demo").await.unwrap().unwrap().0, policy);
    assert_eq!(
        (texts(&machines, &ready), texts(&machines, &growing)),
        published,
        "viewers see no difference"
    );

    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    assert_eq!(caller.asset(&ready).await, before);
    assert_eq!(caller.asset(&growing).await["playable"], true);
    let lost = caller.reaches(&half, "failed").await;
    assert_eq!(lost["error"]["code"], "incomplete");
    let page: Value = caller.request("GET", "/v1/assets").send().await.unwrap().json().await.unwrap();
    assert_eq!(page["assets"].as_array().unwrap().len(), 3);

    let _worker = Worker::diligent(&machines, 40).await;
    let mut most = shown;
    until("what was under way", async || {
        let now = media_playlist(&machines, &growing, "v360").map_or(0, |list| list.segments.len());
        assert!(now >= most, "{now} segments after {most}");
        most = now;
        (caller.asset(&growing).await["state"] == "ready").then_some(())
    })
    .await;
    is_whole(&machines, &growing, 40);
    is_whole(&machines, &ready, 40);
    assert_eq!(texts(&machines, &ready), published.0);
    let twin = caller.put(sent).await;
    assert_eq!(caller.asset(&twin).await["state"], "ready", "it serves for the same bytes still");
}

#[tokio::test]
async fn a_coordinator_that_ran_on_goes_by_what_came_back() {
    let mut machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let (_, growing) = ready_and_growing(&machines, &caller, &bytes(3000)).await;

    machines.lose_nats().await;
    let told = rebuild(&machines).await;
    assert!(told.status.success(), "{told:?}");
    let _worker = Worker::diligent(&machines, 40).await;
    caller.reaches(&growing, "ready").await;
    is_whole(&machines, &growing, 40);
    let page: Value = caller.request("GET", "/v1/assets").send().await.unwrap().json().await.unwrap();
    assert_eq!(page["assets"].as_array().unwrap().len(), 2);
    let new = caller.put(bytes(5000)).await;
    caller.reaches(&new, "ready").await;
}
