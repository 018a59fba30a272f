//! What each tenant may do, and how much of it.

use reelmill_platform::topology::BucketName;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::client::{Caller, header, is_problem, status_of};
use crate::machines::{KEY, Machines, OTHER_KEY, until};
use crate::uploads::bytes;
use crate::worker::Worker;

fn write_keys(machines: &Machines, entries: &[(&str, &str, Value)]) {
    let entries = entries.iter().map(|(tenant, key, more)| {
        let mut entry = more.clone();
        entry["tenant"] = json!(tenant);
        entry["key_blake3"] = json!(blake3::hash(key.as_bytes()).to_hex().as_str());
        entry
    });
    let text = Value::from_iter(entries).to_string();
    std::fs::write(machines.folder.path().join("keys.json"), text).unwrap();
}

/// Waits until a tenant's places for uploads are taken by so many.
async fn takes(machines: &Machines, tenant: &str, count: usize) {
    let places = machines.bus().await.bucket::<Value>(BucketName::Places).await.unwrap();
    until("places are taken", async || {
        let (taken, _) = places.get(tenant).await.unwrap()?;
        (taken["places"].as_object().unwrap().len() == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn keys_open_what_their_roles_are_for() {
    let machines = Machines::start().await;
    let entries = [
        ("demo", KEY, json!({})),
        ("demo", "sends", json!({ "roles": ["upload"] })),
        ("demo", "reads", json!({ "roles": ["read"] })),
        ("demo", "both", json!({ "roles": ["read", "upload"] })),
    ];
    write_keys(&machines, &entries);
    let coordinator = machines.coordinator(&[]).await;
    let with = |key| Caller::with_key(&coordinator, key);
    let (admin, sends, reads, both) = (with(KEY), with("sends"), with("reads"), with("both"));
    let ask =
        async |caller: &Caller, method: &str, path: &str| caller.request(method, path).send().await.unwrap();
    let id = sends.put(bytes(10)).await;
    let (upload, _) = sends.create(10).await;
    assert_eq!(both.patch(&upload, 0, &bytes(10)).await.status(), 204);
    let asset = format!("/v1/assets/{id}");
    for caller in [&admin, &reads, &both] {
        assert_eq!(caller.asset(&id).await["id"], id.as_str());
        assert_eq!(ask(caller, "GET", "/v1/assets").await.status(), 200);
    }
    let refused = async |caller: &Caller, method: &str, path: &str, role: &str| {
        let problem = is_problem(ask(caller, method, path).await, 403, "forbidden").await;
        assert!(
            problem["detail"].as_str().unwrap().contains(&format!("lacks the role \"{role}\"")),
            "{problem}"
        );
    };
    refused(&sends, "GET", &asset, "read").await;
    refused(&sends, "GET", &format!("{asset}/events"), "read").await;
    refused(&reads, "PUT", "/v1/uploads", "upload").await;
    refused(&reads, "PATCH", &upload, "upload").await;
    refused(&both, "DELETE", &asset, "admin").await;
    assert_eq!(admin.asset(&id).await["id"], id.as_str());
    assert_eq!(ask(&admin, "DELETE", &asset).await.status(), 204);
}

#[tokio::test]
async fn a_tenant_gets_what_it_may_have_and_takes_nothing_from_others() {
    let machines = Machines::start().await;
    let limits = json!({ "upload_bytes": 1000, "uploads_at_once": 2 });
    let entries = [
        ("demo", KEY, json!({ "limits": limits })),
        ("other", OTHER_KEY, json!({ "limits": { "uploads_per_minute": 2 } })),
    ];
    write_keys(&machines, &entries);
    let coordinator = machines.coordinator(&[]).await;
    let (caller, other) = (Caller::of(&coordinator), Caller::with_key(&coordinator, OTHER_KEY));
    let put = async |caller: &Caller, length: usize| {
        caller.request("PUT", "/v1/uploads").body(bytes(length)).send().await.unwrap()
    };

    is_problem(put(&caller, 1001).await, 413, "too_large").await;
    let long = caller.tus("POST", "/v1/uploads").header("Upload-Length", 1001);
    is_problem(long.send().await.unwrap(), 413, "too_large").await;
    let deferred = caller.tus("POST", "/v1/uploads").header("Upload-Defer-Length", 1).send().await.unwrap();
    let upload = header(&deferred, "location");
    is_problem(caller.patch(&upload, 0, &bytes(1001)).await, 413, "too_large").await;
    assert_eq!(put(&caller, 1000).await.status(), 201);

    let (first, _) = caller.create(1000).await;
    let mut one = caller.half_sent(&Caller::patch_head(&first, 0, 1000), &[1; 999]).await;
    let _two = caller.half_sent("PUT /v1/uploads HTTP/1.1\r\nContent-Length: 1000", &[1; 999]).await;
    takes(&machines, "demo", 2).await;
    let response = put(&caller, 10).await;
    assert_eq!(header(&response, "retry-after"), "5");
    let problem = is_problem(response, 429, "too_many_uploads").await;
    assert!(problem["detail"].as_str().unwrap().starts_with("You have 2 uploads going on"), "{problem}");
    // Who goes on with an upload takes its own place.
    let mut again = caller.half_sent(&Caller::patch_head(&first, 0, 1000), &[1; 1000]).await;
    assert_eq!((status_of(&mut again).await, status_of(&mut one).await), (204, 409));

    assert_eq!(put(&other, 2000).await.status(), 201);
    let (upload, _) = other.create(10).await;
    let response = put(&other, 10).await;
    let wait: u64 = header(&response, "retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    is_problem(response, 429, "too_many_uploads").await;
    let pull = other.request("POST", "/v1/uploads").json(&json!({ "url": "https://example.com/x" }));
    is_problem(pull.send().await.unwrap(), 429, "too_many_uploads").await;
    // What was begun may be gone on with.
    assert_eq!(other.patch(&upload, 0, &bytes(10)).await.status(), 204);
}

#[tokio::test]
async fn a_tenant_has_no_more_uploads_at_many_coordinators_than_at_one() {
    let machines = Machines::start().await;
    let entries =
        [("demo", KEY, json!({ "limits": { "uploads_at_once": 2 } })), ("other", OTHER_KEY, json!({}))];
    write_keys(&machines, &entries);
    let (one, two) = (machines.coordinator(&[]).await, machines.coordinator(&[]).await);
    let (here, there) = (Caller::of(&one), Caller::of(&two));
    let put =
        async |caller: &Caller| caller.request("PUT", "/v1/uploads").body(bytes(10)).send().await.unwrap();
    const PUT: &str = "PUT /v1/uploads HTTP/1.1\r\nContent-Length: 1000";

    let (upload, _) = here.create(1000).await;
    let _first = here.half_sent(&Caller::patch_head(&upload, 0, 1000), &[1; 999]).await;
    let mut second = there.half_sent(PUT, &[1; 999]).await;
    takes(&machines, "demo", 2).await;
    for caller in [&here, &there] {
        is_problem(put(caller).await, 429, "too_many_uploads").await;
    }
    for coordinator in [&one, &two] {
        assert_eq!(put(&Caller::with_key(coordinator, OTHER_KEY)).await.status(), 201);
    }
    // Once the end of an upload is told, its place is free everywhere.
    second.write_all(&[1]).await.unwrap();
    assert_eq!(status_of(&mut second).await, 201);
    for caller in [&here, &there, &here] {
        assert_eq!(put(caller).await.status(), 201);
    }

    let _third = here.half_sent(PUT, &[1; 999]).await;
    takes(&machines, "demo", 2).await;
    is_problem(put(&there).await, 429, "too_many_uploads").await;
    one.kill().await;
    // Who goes on with an upload takes its own place, wherever it was.
    let offset = there.offset(&upload).await;
    assert_eq!(there.patch(&upload, offset, &[1; 1000][offset..]).await.status(), 204);
    // The other place of the dead one runs out.
    let _fourth = there.half_sent(PUT, &[1; 999]).await;
    two.counts("uploads_open 1").await;
    until("there is a place", async || (put(&there).await.status() == 201).then_some(())).await;
}

#[tokio::test]
async fn a_tenant_begins_no_more_uploads_at_many_coordinators_than_at_one() {
    let machines = Machines::start().await;
    let entries =
        [("demo", KEY, json!({ "limits": { "uploads_per_minute": 2 } })), ("other", OTHER_KEY, json!({}))];
    write_keys(&machines, &entries);
    let coordinators = [machines.coordinator(&[]).await, machines.coordinator(&[]).await];
    let callers = coordinators.each_ref().map(Caller::of);
    let create = async |caller: &Caller| {
        caller.tus("POST", "/v1/uploads").header("Upload-Length", 10).send().await.unwrap()
    };
    // All at once, so that the coordinators get in each other's way.
    let answers = futures_util::future::join_all((0..12).map(|n| create(&callers[n % 2]))).await;
    let (begun, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|a| a.status() == 201);
    assert_eq!(begun.len(), 2);
    for answer in refused {
        let wait: u64 = header(&answer, "retry-after").parse().unwrap();
        assert!((1..=30).contains(&wait), "{wait}");
        is_problem(answer, 429, "too_many_uploads").await;
    }
    // Another tenant's are its own.
    for coordinator in &coordinators {
        assert_eq!(create(&Caller::with_key(coordinator, OTHER_KEY)).await.status(), 201);
    }
}

#[tokio::test]
async fn new_uploads_wait_while_too_much_is_to_be_done() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--max-backlog-s", "0"]).await;
    let caller = Caller::of(&coordinator);
    let (upload, resumable) = caller.create(1000).await;
    let first = caller.put(bytes(1000)).await;
    let begin = async || caller.tus("POST", "/v1/uploads").header("Upload-Length", 10).send().await.unwrap();
    let refused = until("too much is to be done", async || {
        let answer = begin().await;
        (answer.status() == 503).then_some(answer)
    })
    .await;
    assert_eq!(header(&refused, "retry-after"), "5");
    is_problem(refused, 503, "overloaded").await;
    let whole = caller.request("PUT", "/v1/uploads").body("x").send().await.unwrap();
    is_problem(whole, 503, "overloaded").await;

    // What has begun goes on, and when all is done there is room again.
    assert_eq!(caller.patch(&upload, 0, &bytes(1000)).await.status(), 204);
    let _worker = Worker::diligent(&machines, 12).await;
    for asset in [&first, &resumable] {
        caller.reaches(asset, "ready").await;
    }
    until("there is room", async || (begin().await.status() == 201).then_some(())).await;
}
