//! Uploads that the coordinator fetches itself, and what it must not be talked into.

use serde_json::{Value, json};

use crate::client::{Caller, header, is_problem, uploaded_bytes};
use crate::machines::{Machines, OTHER_KEY, until};
use crate::origin::Origin;
use crate::uploads::bytes;

const LOCAL: [&str; 2] = ["--pull-allow", "127.0.0.0/8"];

async fn pull(caller: &Caller, wanted: Value) -> String {
    let response = caller.request("POST", "/v1/uploads").json(&wanted).send().await.unwrap();
    assert_eq!(response.status(), 201, "{wanted}");
    let location = header(&response, "location");
    let asset: Value = response.json().await.unwrap();
    assert_eq!(asset["state"], "uploading");
    assert_eq!(location, format!("/v1/assets/{}", asset["id"].as_str().unwrap()));
    asset["id"].as_str().unwrap().to_owned()
}

/// How a pull of this address fails.
async fn fails(caller: &Caller, url: &str) -> (String, String) {
    let asset = caller.reaches(&pull(caller, json!({ "url": url })).await, "failed").await;
    let text = |name: &str| asset["error"][name].as_str().unwrap().to_owned();
    (text("code"), text("reason"))
}

#[tokio::test]
async fn bytes_are_pulled_over_tls_and_through_redirects() {
    let machines = Machines::start().await;
    let sent = bytes(20_000_000);
    let origin = Origin::start(true, sent.clone()).await;
    let trusting = [("SSL_CERT_FILE", origin.certificate.as_path())];
    let coordinator = machines.coordinator_in(&trusting, &LOCAL).await;
    let caller = Caller::of(&coordinator);
    let base = format!("https://localhost:{}", origin.port);
    let id = pull(&caller, json!({ "url": format!("{base}/old/clip.mp4?to=/new.mp4") })).await;
    caller.reaches(&id, "indexing").await;
    assert!(uploaded_bytes(&machines, &id).await == sent);
    let asset = caller.asset(&id).await;
    assert_eq!((&asset["name"], &asset["upload"]["bytes"]), (&json!("clip.mp4"), &json!(20_000_000)));
    let id = pull(&caller, json!({ "url": format!("{base}/without-length"), "name": "Own name" })).await;
    assert_eq!(caller.reaches(&id, "indexing").await["name"], "Own name");
    assert!(uploaded_bytes(&machines, &id).await == sent);
    let paths: Vec<String> =
        origin.script.seen.lock().unwrap().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, ["/old/clip.mp4", "/new.mp4", "/without-length"]);

    // Whom nobody vouches for is not believed.
    let doubting = machines.coordinator(&LOCAL).await;
    let (code, reason) = fails(&Caller::of(&doubting), &format!("{base}/clip.mp4")).await;
    assert_eq!((code.as_str(), reason.as_str()), ("unreachable", "The origin cannot be reached."));
}

#[tokio::test]
async fn json_that_is_called_something_else_is_refused_with_both_ways_to_begin() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let post = || caller.request("POST", "/v1/uploads");
    // As curl sends what `-d` says, and as a client that says nothing of its body.
    let form = post().header("Content-Type", "application/x-www-form-urlencoded");
    for request in [form, post()] {
        let answer = request.body(r#"{"url": "https://example.org/clip.mp4"}"#).send().await.unwrap();
        let problem = is_problem(answer, 415, "unsupported_media_type").await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            ["Content-Type: application/json", "Tus-Resumable: 1.0.0"].iter().all(|way| detail.contains(way))
        );
    }
    is_problem(post().send().await.unwrap(), 412, "unsupported_version").await;
    let form = caller.tus("POST", "/v1/uploads").header("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(form.header("Upload-Length", 10).send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn nothing_behind_our_walls_is_called() {
    let machines = Machines::start().await;
    let origin = Origin::start(false, bytes(1000)).await;
    let port = origin.port;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let ask = async |caller: &Caller, wanted: Value| {
        caller.request("POST", "/v1/uploads").json(&wanted).send().await.unwrap()
    };
    for refused in [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://100.64.0.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://[2002:7f00:1::]/",
        "https://[64:ff9b::7f00:1]/",
        "https://2130706433/",
        "https://user:password@example.com/",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "nonsense",
    ] {
        is_problem(ask(&caller, json!({ "url": refused })).await, 422, "origin_refused").await;
    }
    is_problem(ask(&caller, json!({ "key": "x" })).await, 422, "origin_refused").await;
    for wrong in
        [json!({}), json!({ "url": "https://example.com", "key": "x" }), json!([]), json!({ "uri": "x" })]
    {
        is_problem(ask(&caller, wrong).await, 400, "invalid_request").await;
    }
    // A name is judged by what it leads to.
    let (code, reason) = fails(&caller, &format!("https://localhost:{port}/")).await;
    assert_eq!(code, "unreachable");
    assert!(reason.contains("no public address"), "{reason}");

    // Whom we may call cannot send us elsewhere.
    let coordinator = machines.coordinator(&LOCAL).await;
    let caller = Caller::of(&coordinator);
    for (to, why) in [
        ("http://169.254.169.254/latest/meta-data/", "not public"),
        ("http://[::1]/", "not public"),
        ("https://10.0.0.1/", "not public"),
        ("https://user@localhost/", "user name"),
        ("file:///etc/passwd", "not file"),
        ("/a?to=?to=?to=?to=?to=?to=?to=/", "redirects more than 5 times"),
    ] {
        let (code, reason) = fails(&caller, &format!("http://127.0.0.1:{port}/?to={to}")).await;
        assert_eq!(code, "unreachable", "{to}");
        assert!(reason.contains(why), "{to}: {reason}");
    }
    assert_eq!(fails(&caller, &format!("http://127.0.0.1:{port}/status/404")).await.0, "unreachable");
    // The server that was there all the time was asked for nothing else.
    let seen = origin.script.seen.lock().unwrap().clone();
    assert!(seen.iter().all(|(path, _)| ["/", "/a", "/status/404"].contains(&path.as_str())), "{seen:?}");
}

#[tokio::test]
async fn a_pull_goes_on_where_a_killed_coordinator_stopped() {
    let machines = Machines::start().await;
    let sent = bytes(20_000_000);
    let origin = Origin::start(false, sent.clone()).await;
    let url = format!("http://127.0.0.1:{}/clip.mp4", origin.port);
    // Enough for some blocks, and not for all.
    origin.script.pieces.forget_permits(usize::MAX);
    origin.script.pieces.add_permits(120);
    let coordinator = machines.coordinator(&LOCAL).await;
    let caller = Caller::of(&coordinator);
    let id = pull(&caller, json!({ "url": url })).await;
    until("stored blocks", async || {
        (caller.asset(&id).await["upload"]["bytes"].as_u64() >= Some(6 << 20)).then_some(())
    })
    .await;
    coordinator.kill().await;
    origin.script.pieces.add_permits(1_000_000);

    let coordinator = machines.coordinator(&LOCAL).await;
    let caller = Caller::of(&coordinator);
    caller.reaches(&id, "indexing").await;
    assert!(uploaded_bytes(&machines, &id).await == sent);
    let ranges = origin.ranges();
    let [None, Some(second)] = &ranges[..] else { panic!("{ranges:?}") };
    let from: u64 = second.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    assert!(from >= 6 << 20 && from.is_multiple_of(256 << 10), "it goes on at the last block: {from}");
}

#[tokio::test]
async fn a_pull_survives_an_origin_that_breaks_or_changes() {
    let machines = Machines::start().await;
    let origin = Origin::start(false, bytes(20_000_000)).await;
    let url = format!("http://127.0.0.1:{}/clip.mp4", origin.port);
    let coordinator = machines.coordinator(&LOCAL).await;
    let caller = Caller::of(&coordinator);
    let script = &origin.script;
    *script.breaks_after.lock().unwrap() = Some(9_000_000);
    let id = pull(&caller, json!({ "url": url })).await;
    caller.reaches(&id, "indexing").await;
    assert!(uploaded_bytes(&machines, &id).await == bytes(20_000_000));
    let ranges = origin.ranges();
    assert!(ranges.len() > 2 && ranges[1..].iter().all(Option::is_some), "{ranges:?}");

    // What came of another content is of no use.
    let id = pull(&caller, json!({ "url": url })).await;
    until("the first part", async || {
        (caller.asset(&id).await["upload"]["bytes"].as_u64() >= Some(9_000_000)).then_some(())
    })
    .await;
    let new: Vec<u8> = bytes(20_000_000).iter().map(|byte| byte ^ 255).collect();
    *script.content.lock().unwrap() = new.clone();
    *script.etag.lock().unwrap() = "\"two\"".into();
    *script.breaks_after.lock().unwrap() = None;
    caller.reaches(&id, "indexing").await;
    assert!(uploaded_bytes(&machines, &id).await == new);

    // Without a name for the content every try begins at the front.
    *script.etag.lock().unwrap() = String::new();
    *script.breaks_after.lock().unwrap() = Some(1_000_000);
    script.seen.lock().unwrap().clear();
    let (code, reason) = fails(&caller, &url).await;
    assert_eq!((code.as_str(), reason.as_str()), ("unreachable", "The origin broke off."));
    assert_eq!(origin.ranges(), vec![None; 5]);
}

#[tokio::test]
async fn pulls_are_bounded_in_size_and_time() {
    let machines = Machines::start().await;
    let origin = Origin::start(false, bytes(2_000_000)).await;
    let base = format!("http://127.0.0.1:{}", origin.port);
    let coordinator = machines.coordinator(&[&LOCAL[..], &["--max-upload-bytes", "1999999"]].concat()).await;
    let caller = Caller::of(&coordinator);
    assert_eq!(fails(&caller, &format!("{base}/said")).await.0, "too_large");
    assert_eq!(fails(&caller, &format!("{base}/without-length")).await.0, "too_large");

    // A trickle: it is asked again, and ended when its time is over.
    origin.script.pieces.forget_permits(usize::MAX);
    let bounds = ["--pull-least-rate", "100000", "--pull-deadline-s", "20"];
    let coordinator = machines.coordinator(&[&LOCAL[..], &bounds].concat()).await;
    let caller = Caller::of(&coordinator);
    origin.script.seen.lock().unwrap().clear();
    origin.script.pieces.add_permits(1);
    let (code, reason) = fails(&caller, &format!("{base}/slow")).await;
    assert_eq!(
        (code.as_str(), reason.as_str()),
        ("unreachable", "The origin did not bring all bytes in time.")
    );
    assert_eq!(origin.ranges(), [None, Some("bytes=100000-".to_owned())]);
}

#[tokio::test]
async fn keys_are_imported_from_the_tenants_own_folder() {
    let machines = Machines::start().await;
    let imports = machines.folder.path().join("imports");
    std::fs::create_dir_all(imports.join("demo/masters")).unwrap();
    std::fs::write(imports.join("demo/masters/clip.mp4"), bytes(9_000_000)).unwrap();
    std::fs::write(imports.join("secret"), "not a tenant's").unwrap();
    let store = format!("file://{}", imports.display());
    let coordinator = machines.coordinator(&["--import-store", &store]).await;
    let caller = Caller::of(&coordinator);
    let id = pull(&caller, json!({ "key": "masters/clip.mp4" })).await;
    assert_eq!(caller.reaches(&id, "indexing").await["name"], "clip.mp4");
    assert!(uploaded_bytes(&machines, &id).await == bytes(9_000_000));
    let other = Caller::with_key(&coordinator, OTHER_KEY);
    for (caller, key) in [
        (&other, "masters/clip.mp4"),
        (&other, "../demo/masters/clip.mp4"),
        (&caller, "../secret"),
        (&caller, "masters/../../secret"),
        (&caller, "/etc/passwd"),
    ] {
        let failed = caller.reaches(&pull(caller, json!({ "key": key })).await, "failed").await;
        assert_eq!(failed["error"]["code"], "unreachable", "{key}");
    }
}
