//! Owners are told what becomes of their assets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode, header};
use reelmill_media::task::FailureCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::client::Caller;
use crate::machines::{KEY, Machines, OTHER_KEY, until};
use crate::worker::{Act, Worker};

const SECRET: &[u8] = b"twenty-four bytes or more";

/// What a receiver got: the message's id, its body, and what it answered.
type Got = Arc<Mutex<Vec<(String, Value, StatusCode)>>>;

/// Checks the signature; takes nothing at first.
async fn receive(State(got): State<Got>, headers: HeaderMap, body: String) -> impl IntoResponse {
    let text = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
    let (id, timestamp) = (text("webhook-id"), text("webhook-timestamp"));
    let signature = STANDARD.decode(text("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    hmac::verify(&key, format!("{id}.{timestamp}.{body}").as_bytes(), &signature).expect("our signature");
    let age = jiff::Timestamp::now().as_second() - timestamp.parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "signed {age} s ago");
    let mut got = got.lock().unwrap();
    let answer = match got.len() {
        0 => StatusCode::SERVICE_UNAVAILABLE,
        1 => StatusCode::TEMPORARY_REDIRECT,
        _ => StatusCode::NO_CONTENT,
    };
    got.push((id, serde_json::from_str(&body).unwrap(), answer));
    (answer, [(header::LOCATION, "/elsewhere")])
}

/// Where tenant `demo` wants to be told; nobody answers there yet.
async fn endpoint(machines: &Machines) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let hash = |key: &str| blake3::hash(key.as_bytes()).to_hex().to_string();
    let secret = format!("whsec_{}", STANDARD.encode(SECRET));
    let keys = json!([
        { "tenant": "demo", "key_blake3": hash(KEY), "webhook": { "url": url, "secret": secret } },
        { "tenant": "other", "key_blake3": hash(OTHER_KEY) },
    ]);
    std::fs::write(machines.folder.path().join("keys.json"), keys.to_string()).unwrap();
    listener
}

/// Answers there from now on.
fn answer(listener: TcpListener) -> Got {
    let got = Got::default();
    let elsewhere = post(async |State(got): State<Got>| {
        got.lock().unwrap().push(("a redirect was followed".into(), Value::Null, StatusCode::OK));
    });
    let router = Router::new().route("/hook", post(receive)).route("/elsewhere", elsewhere);
    tokio::spawn(axum::serve(listener, router.with_state(got.clone())).into_future());
    got
}

/// What was taken.
fn taken(got: &Got) -> Vec<(String, Value)> {
    let got = got.lock().unwrap();
    let taken = got.iter().filter(|(_, _, answer)| answer.is_success());
    taken.map(|(id, body, _)| (id.clone(), body.clone())).collect()
}

#[tokio::test]
async fn a_receiver_gets_everything_later_signed_and_in_order() {
    let machines = Machines::start().await;
    let listener = endpoint(&machines).await;
    // Not even accepted yet, and private besides.
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let other = Caller::with_key(&coordinator, OTHER_KEY);
    let worker = Worker::diligent(&machines, 8).await;
    let ready = caller.put(vec![1; 1000]).await;
    let untold = other.put(vec![3; 1000]).await;
    caller.reaches(&ready, "ready").await;
    other.reaches(&untold, "ready").await;
    drop(worker);
    let got = answer(listener);
    // The first pause is 2 s.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(got.lock().unwrap().is_empty(), "a private address was called");
    coordinator.kill().await;

    let coordinator = machines.coordinator(&["--webhooks-allow-private"]).await;
    let _second = machines.coordinator(&["--webhooks-allow-private"]).await;
    let caller = Caller::of(&coordinator);
    let _worker = Worker::start(&machines, 8, async |_| Act::Fail(FailureCode::NotMedia)).await;
    until("both notices", async || (taken(&got).len() == 2).then_some(())).await;
    let failed = caller.put(vec![2; 1000]).await;
    until("the third notice", async || (got.lock().unwrap().len() == 5).then_some(())).await;
    // Two coordinators tell it once.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let got = got.lock().unwrap().clone();
    let ids: Vec<&str> = got.iter().map(|(id, _, _)| id.as_str()).collect();
    let (playable, done) = (format!("msg_{ready}_playable"), format!("msg_{ready}_ready"));
    assert_eq!(ids, [&playable, &playable, &playable, &done, &format!("msg_{failed}_failed")]);
    assert!(got[0].1 == got[1].1 && got[1].1 == got[2].1, "the same each time");
    let (first, last) = (&got[2].1, &got[4].1);
    assert_eq!((&first["type"], &first["data"]["id"]), (&"asset.playable".into(), &ready.as_str().into()));
    assert_eq!(first["data"]["playback"], format!("/assets/{ready}/index.m3u8"));
    assert!(first["timestamp"].is_string() && first["data"]["error"].is_null());
    assert_eq!(
        (&last["type"], &last["data"]["error"]["code"]),
        (&"asset.failed".into(), &"not_media".into())
    );
    // Its record is owed nothing any more.
    let bus = machines.bus().await;
    let bucket = bus.bucket::<Value>(reelmill_platform::topology::BucketName::Assets).await.unwrap();
    until("nothing to be owed", async || {
        let (record, _) = bucket.get(&ready).await.unwrap().unwrap();
        record["notices"].is_null().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_receiver_is_told_what_became_of_other_editions() {
    let machines = Machines::start().await;
    let listener = endpoint(&machines).await;
    let coordinator = machines.coordinator(&["--webhooks-allow-private", "--retry-after-ms", "20"]).await;
    let got = answer(listener);
    let caller = Caller::of(&coordinator);
    let asset = {
        let _worker = Worker::diligent(&machines, 8).await;
        let asset = caller.put(vec![1; 1000]).await;
        caller.reaches(&asset, "ready").await;
        republish(&caller, &asset, 240).await;
        until("the other edition", async || {
            let now = caller.asset(&asset).await;
            (now["state"] == "ready" && now["edition"] == 1).then_some(())
        })
        .await;
        asset
    };
    let _worker = Worker::start(&machines, 8, async |_| Act::Fail(FailureCode::Limit)).await;
    republish(&caller, &asset, 360).await;
    until("all notices", async || (taken(&got).len() == 4).then_some(())).await;
    let (ids, bodies): (Vec<_>, Vec<_>) = taken(&got).into_iter().unzip();
    let named = ["playable", "ready", "republished_1", "republish_failed_2"];
    assert_eq!(ids, named.map(|name| format!("msg_{asset}_{name}")));
    let types: Vec<_> = bodies.iter().map(|body| body["type"].as_str().unwrap()).collect();
    assert_eq!(types[2..], ["asset.republished", "asset.republish_failed"]);
    assert!(bodies.iter().all(|body| body["data"]["id"] == asset.as_str()));
    assert_eq!(
        bodies.iter().map(|body| body["data"]["edition"].as_u64()).collect::<Vec<_>>(),
        [0, 0, 1, 2].map(Some)
    );
    assert!(bodies[2]["data"]["error"].is_null());
    assert_eq!(bodies[3]["data"]["error"]["code"], "limit");
}

async fn republish(caller: &Caller, asset: &str, short_side: u32) {
    let profile = json!({ "video": [{ "codec": "h264", "short_sides": [short_side] }] });
    let asked = caller.request("PUT", &format!("/v1/assets/{asset}/profile")).json(&profile);
    assert_eq!(asked.send().await.unwrap().status(), StatusCode::ACCEPTED);
}
