//! What is made is what the upload's profile says, given or by name, or its tenant's, or the default.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Response;
use serde_json::{Value, json};

use crate::client::{Caller, header, is_problem};
use crate::machines::{Machines, OTHER_KEY};
use crate::worker::Worker;

const PROFILE: &str = r#"{
    "video": [{"codec": "h264", "short_sides": [240, 480]}, {"codec": "av1", "short_sides": [720]}],
    "audio": [{"codec": "aac"}, {"codec": "opus", "kbps": 64}],
    "segment_seconds": 2
}"#;

fn address(profile: &str) -> String {
    let query = reqwest::Url::parse_with_params("http://x/v1/uploads", [("profile", profile)]).unwrap();
    format!("/v1/uploads?{}", query.query().unwrap())
}

/// Names, and numbers of segments.
fn renditions(asset: &Value) -> Vec<(String, u64)> {
    let of = |r: &Value| (r["id"].as_str().unwrap().to_owned(), r["segments_planned"].as_u64().unwrap());
    asset["renditions"].as_array().unwrap().iter().map(of).collect()
}

fn named<const N: usize>(list: [(&str, u64); N]) -> Vec<(String, u64)> {
    list.map(|(id, segments)| (id.to_owned(), segments)).to_vec()
}

#[tokio::test]
async fn an_upload_says_what_is_made_of_it() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let _worker = Worker::diligent(&machines, 8).await;

    let wanted = named([("v240", 5), ("v480", 5), ("v720-av1", 5), ("a0", 5), ("a0-opus", 5)]);
    let put = caller.request("PUT", &address(PROFILE)).body(vec![1; 100]);
    let asset: Value = put.send().await.unwrap().json().await.unwrap();
    let asset = caller.reaches(asset["id"].as_str().unwrap(), "ready").await;
    assert_eq!(renditions(&asset), wanted);
    assert_eq!(asset["profile"]["segment_seconds"], 2);

    let metadata = format!("filename {},profile {}", STANDARD.encode("clip"), STANDARD.encode(PROFILE));
    let create = caller.tus("POST", "/v1/uploads").header("Upload-Metadata", metadata);
    let created = create.header("Upload-Length", "100").send().await.unwrap();
    let (upload, id) = (header(&created, "location"), header(&created, "reelmill-asset"));
    assert_eq!(caller.patch(&upload, 0, &[1; 100]).await.status(), 204);
    assert_eq!(renditions(&caller.reaches(&id, "ready").await), wanted);

    let usual = caller.put(vec![1; 100]).await;
    let usual = caller.reaches(&usual, "ready").await;
    assert_eq!(renditions(&usual), named([("v360", 4), ("v480", 4), ("v720", 4), ("a0", 4)]));
}

#[tokio::test]
async fn a_tenant_has_its_own_default() {
    let machines = Machines::start().await;
    let file = machines.file("../keys.json");
    let mut keys: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    keys[1]["profile"] = json!({"video": [{"codec": "hevc", "short_sides": [360]}], "audio": []});
    std::fs::write(&file, keys.to_string()).unwrap();
    let coordinator = machines.coordinator(&[]).await;
    let _worker = Worker::diligent(&machines, 3).await;
    for (caller, wanted) in [
        (Caller::with_key(&coordinator, OTHER_KEY), named([("v360-hevc", 3)])),
        (Caller::of(&coordinator), named([("v360", 3), ("v480", 3), ("v720", 3), ("a0", 3)])),
    ] {
        let id = caller.put(vec![1; 100]).await;
        assert_eq!(renditions(&caller.reaches(&id, "ready").await), wanted);
    }
}

#[tokio::test]
async fn a_profile_that_cannot_be_used_is_refused_at_once() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    for (profile, words) in [
        (r#"{"video": []}"#, "at least one video codec"),
        (r#"{"video": [{"codec": "vp6"}]}"#, "video[0].codec must be h264 or hevc or av1, not"),
        ("No JSON", "neither a name (of lower-case letters, digits and -) nor a JSON object"),
        ("{No JSON", "The profile is not JSON: it goes wrong at line 1, column 2."),
    ] {
        let put = caller.request("PUT", &address(profile)).body(vec![1; 100]);
        let problem = is_problem(put.send().await.unwrap(), 400, "invalid_request").await;
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    // Inside a body it says where it is.
    let pull = json!({"url": "https://example.org/x", "profile": {"video": [{"codec": "av1", "crf": "1"}]}});
    let answer = caller.request("POST", "/v1/uploads").json(&pull).send().await.unwrap();
    let problem = is_problem(answer, 400, "invalid_request").await;
    assert!(
        problem["detail"].as_str().unwrap().contains("profile.video[0].crf must be a whole number"),
        "{problem}"
    );
}

async fn keep(caller: &Caller, name: &str, profile: &Value) -> Response {
    caller.request("PUT", &format!("/v1/profiles/{name}")).json(profile).send().await.unwrap()
}

#[tokio::test]
async fn a_profile_is_found_by_its_name_by_its_tenant_alone() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let (caller, other) = (Caller::of(&coordinator), Caller::with_key(&coordinator, OTHER_KEY));
    let _worker = Worker::diligent(&machines, 3).await;
    let lane = |codec: &str, side: u32| json!({"video": [{"codec": codec, "short_sides": [side]}], "audio": [], "segment_seconds": 2});
    let short: Value = keep(&caller, "short", &lane("av1", 240)).await.json().await.unwrap();
    assert_eq!((&short["hardware"], &short["video"][0]["codec"]), (&json!(false), &json!("av1")));

    // Four ways to name it.
    let put = caller.request("PUT", &address("short")).body(vec![1; 100]).send().await.unwrap();
    let whole: Value = put.json().await.unwrap();
    let metadata = format!("profile {}", STANDARD.encode("short"));
    let create = caller.tus("POST", "/v1/uploads").header("Upload-Metadata", metadata);
    let created = create.header("Upload-Length", "100").send().await.unwrap();
    let (upload, resumed) = (header(&created, "location"), header(&created, "reelmill-asset"));
    assert_eq!(caller.patch(&upload, 0, &[2; 100]).await.status(), 204);
    for id in [whole["id"].as_str().unwrap(), &resumed] {
        let asset = caller.reaches(id, "ready").await;
        assert_eq!((renditions(&asset), &asset["profile"]), (named([("v240-av1", 3)]), &short));
    }
    let usual = caller.put(vec![3; 100]).await;
    caller.reaches(&usual, "ready").await;
    let again = caller.request("PUT", &format!("/v1/assets/{usual}/profile"));
    let again = again.json(&json!({"profile": "short"})).send().await.unwrap();
    assert_eq!(again.status(), 202);
    assert_eq!(again.json::<Value>().await.unwrap()["profile"], short);
    // A profile is the body, or its name is in there.
    let nested = caller.request("PUT", &format!("/v1/assets/{usual}/profile")).json(&json!({"profile": {}}));
    is_problem(nested.send().await.unwrap(), 400, "invalid_request").await;
    let pull = json!({"key": "x", "profile": "short"});
    is_problem(
        caller.request("POST", "/v1/uploads").json(&pull).send().await.unwrap(),
        422,
        "origin_refused",
    )
    .await;

    // It is nobody else's, and a name that nobody gave is refused before a byte is taken.
    for (who, name) in [(&other, "short"), (&caller, "long")] {
        let put = who.request("PUT", &address(name)).body(vec![1; 100]);
        is_problem(put.send().await.unwrap(), 404, "unknown_profile").await;
        let create = who.tus("POST", "/v1/uploads").header("Upload-Length", "100");
        let create = create.header("Upload-Metadata", format!("profile {}", STANDARD.encode(name)));
        is_problem(create.send().await.unwrap(), 404, "unknown_profile").await;
        let get = who.request("GET", &format!("/v1/profiles/{name}")).send().await.unwrap();
        is_problem(get, 404, "unknown_profile").await;
    }
    is_problem(keep(&caller, "A%20b", &lane("av1", 240)).await, 400, "invalid_id").await;
    is_problem(keep(&caller, "bad", &json!({"video": []})).await, 400, "invalid_request").await;

    // The default is one as any other, and comes back when it is taken away.
    let defaults = async || {
        let list = caller.request("GET", "/v1/profiles").send().await.unwrap();
        list.json::<Value>().await.unwrap()["profiles"].clone()
    };
    let ours = defaults().await;
    assert_eq!(ours.as_object().unwrap().keys().collect::<Vec<_>>(), ["default", "short"]);
    keep(&caller, "default", &lane("hevc", 360)).await;
    let id = caller.put(vec![4; 100]).await;
    assert_eq!(renditions(&caller.reaches(&id, "ready").await), named([("v360-hevc", 3)]));
    for name in ["default", "short", "short"] {
        let delete = caller.request("DELETE", &format!("/v1/profiles/{name}")).send().await.unwrap();
        assert_eq!(delete.status(), 204);
    }
    let left = defaults().await;
    assert_eq!(left.as_object().unwrap().keys().collect::<Vec<_>>(), ["default"]);
    assert_eq!(left["default"], ours["default"]);
    // What was made stays as it was.
    assert_eq!(caller.asset(&resumed).await["profile"], short);
}
