//! Captions and what else an owner says of an asset.

use std::sync::Arc;

use m3u8_rs::{AlternativeMediaType, MediaPlaylistType};
use reelmill_platform::kv::Bucket;
use reelmill_platform::topology::BucketName;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::client::{Caller, header, is_problem};
use crate::life::{is_whole, media_playlist, multivariant};
use crate::machines::{Machines, OTHER_KEY, until};
use crate::uploads::bytes;
use crate::worker::{Act, Worker};

const WEBVTT: &str = "WEBVTT\n\n00:00.500 --> 00:02.000\nHello\n";
const SUBRIP: &str = "1\n00:00:00,500 --> 00:00:02,000\nHallo & <b>auf Wiedersehen</b>\n";

async fn put(caller: &Caller, asset: &str, language: &str, query: &str, text: &str) -> StatusCode {
    let path = format!("/v1/assets/{asset}/captions/{language}{query}");
    caller.request("PUT", &path).body(text.to_owned()).send().await.unwrap().status()
}

/// What viewers can choose: languages with their names, whose playlists and texts are checked on the way.
fn offered(machines: &Machines, asset: &str, seconds: u32) -> Vec<(String, String)> {
    let index = multivariant(machines, asset).expect("a multivariant playlist");
    let of_captions =
        |media: &&m3u8_rs::AlternativeMedia| media.media_type == AlternativeMediaType::Subtitles;
    let offered = index.alternatives.iter().filter(of_captions).map(|media| {
        let playlist = media.uri.as_deref().unwrap().trim_end_matches(".m3u8");
        let playlist = media_playlist(machines, asset, playlist).expect("the playlist of captions");
        let [segment] = &playlist.segments[..] else { panic!("{playlist:?}") };
        assert!(playlist.end_list && playlist.playlist_type == Some(MediaPlaylistType::Vod));
        assert!(
            (segment.duration - seconds as f32).abs() < 0.05
                && playlist.target_duration >= u64::from(seconds)
        );
        let text =
            std::fs::read_to_string(machines.file(&format!("assets/{asset}/{}", segment.uri))).unwrap();
        assert!(text.starts_with("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n"), "{text}");
        (media.language.clone().unwrap(), media.name.clone())
    });
    let offered: Vec<(String, String)> = offered.collect();
    let group = (!offered.is_empty()).then_some("captions");
    let plain = index.variants.iter().filter(|variant| !variant.is_i_frame);
    assert!(plain.into_iter().all(|variant| variant.subtitles.as_deref() == group));
    offered
}

fn pairs<const N: usize>(list: [(&str, &str); N]) -> Vec<(String, String)> {
    list.map(|(language, name)| (language.to_owned(), name.to_owned())).to_vec()
}

#[tokio::test]
async fn captions_are_shown_whenever_they_come() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let gate = Arc::new(Semaphore::new(0));
    let hand = gate.clone();
    let _worker = Worker::start(&machines, 40, move |_| {
        let hand = hand.clone();
        async move {
            hand.acquire().await.unwrap().forget();
            Act::Do
        }
    })
    .await;
    let asset = caller.put(bytes(1_000_000)).await;

    // Before anything is known of the source.
    assert_eq!(put(&caller, &asset, "en", "?name=English&default=true", WEBVTT).await, StatusCode::CREATED);
    assert!(multivariant(&machines, &asset).is_none());
    gate.add_permits(5);
    until("playable", async || caller.asset(&asset).await["playable"].as_bool().filter(|is| *is)).await;
    assert_eq!(offered(&machines, &asset, 40), pairs([("en", "English")]));

    // While its ladder grows: at the answer players have them.
    assert_eq!(put(&caller, &asset, "DE", "?kind=captions", SUBRIP).await, StatusCode::CREATED);
    assert_eq!(offered(&machines, &asset, 40), pairs([("de", "de"), ("en", "English")]));
    gate.add_permits(1000);
    let ready = caller.reaches(&asset, "ready").await;
    assert_eq!(offered(&machines, &asset, 40), pairs([("de", "de"), ("en", "English")]));
    is_whole(&machines, &asset, 40);
    let shown = json!({ "language": "de", "name": "de", "default": false, "kind": "captions", "bytes": 117,
        "path": format!("/v1/assets/{asset}/captions/de") });
    assert_eq!(ready["captions"][0], shown);

    // When everything that made it is forgotten, at a coordinator that has never heard of it.
    let outputs: Bucket<Value> = machines.bus().await.bucket(BucketName::Outputs).await.unwrap();
    outputs.remove_all(&format!("{asset}.*")).await.unwrap();
    let second = machines.coordinator(&[]).await;
    let other = Caller::of(&second);
    assert_eq!(
        put(&other, &asset, "fr-CA", "?name=Fran%C3%A7ais&default=true", WEBVTT).await,
        StatusCode::CREATED
    );
    let all = pairs([("de", "de"), ("en", "English"), ("fr-CA", "Français")]);
    assert_eq!(offered(&machines, &asset, 40), all);
    assert_eq!(caller.asset(&asset).await["captions"][1]["default"], false, "one is the default");
    is_whole(&machines, &asset, 40);

    // Away and back again, by turns: nobody goes by what it wrote itself.
    let en = format!("/v1/assets/{asset}/captions/en");
    for _ in 0..2 {
        assert_eq!(other.request("DELETE", &en).send().await.unwrap().status(), StatusCode::NO_CONTENT);
        assert_eq!(offered(&machines, &asset, 40), pairs([("de", "de"), ("fr-CA", "Français")]));
        assert_eq!(put(&caller, &asset, "en", "?name=English", WEBVTT).await, StatusCode::CREATED);
        assert_eq!(offered(&machines, &asset, 40), all);
    }
    let other_words = "WEBVTT\n\n00:01.000 --> 00:02.000\nOther words\n";
    assert_eq!(put(&other, &asset, "en", "?name=English", other_words).await, StatusCode::OK);
    let playlists = std::fs::read_dir(machines.file(&format!("assets/{asset}"))).unwrap();
    let playlists =
        playlists.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("c-"));
    assert_eq!(
        playlists.count(),
        3,
        "those of captions that were replaced are gone, but for words still in use"
    );
    let text = caller.request("GET", &en).send().await.unwrap();
    assert_eq!(header(&text, "content-type"), "text/vtt");
    assert!(text.text().await.unwrap().ends_with("\nOther words\n\n"));

    // With the asset they go.
    let delete = caller.request("DELETE", &format!("/v1/assets/{asset}"));
    assert_eq!(delete.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(std::fs::read_dir(machines.file(&format!("assets/{asset}"))).map_or(0, Iterator::count), 0);
    is_problem(caller.request("GET", &en).send().await.unwrap(), 410, "asset_gone").await;
}

#[tokio::test]
async fn a_twin_has_its_own_captions() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let _worker = Worker::diligent(&machines, 12).await;
    let sent = bytes(300_000);
    let first = caller.put(sent.clone()).await;
    caller.reaches(&first, "ready").await;
    assert_eq!(put(&caller, &first, "en", "", WEBVTT).await, StatusCode::CREATED);
    until("the hint", async || machines.file("twins/demo").exists().then_some(())).await;

    let (upload, second) = caller.create(sent.len()).await;
    assert_eq!(put(&caller, &second, "de", "", SUBRIP).await, StatusCode::CREATED);
    assert_eq!(caller.patch(&upload, 0, &sent).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(caller.asset(&second).await["state"], "ready");
    assert_eq!(offered(&machines, &second, 12), pairs([("de", "de")]));
    assert_eq!(put(&caller, &second, "en", "", WEBVTT).await, StatusCode::CREATED);
    assert_eq!(offered(&machines, &second, 12), pairs([("de", "de"), ("en", "en")]));
    assert_eq!(offered(&machines, &first, 12), pairs([("en", "en")]));
}

#[tokio::test]
async fn what_is_no_captions_is_refused_and_why() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let (_, asset) = caller.create(1000).await;
    let long = "x".repeat((4 << 20) + 1);
    for (language, query, text, status, code) in [
        ("en", "", "hello", 422, "not_captions"),
        ("en", "", "WEBVTT\n\n1:2 --> 3\nx\n", 422, "not_captions"),
        ("en", "", long.as_str(), 413, "too_large"),
        ("en_US", "", WEBVTT, 400, "invalid_request"),
        ("en", "?kind=karaoke", WEBVTT, 400, "invalid_request"),
        ("en", "?nam=English", WEBVTT, 400, "invalid_request"),
        ("en", "?name=a%22b", WEBVTT, 400, "invalid_request"),
    ] {
        let path = format!("/v1/assets/{asset}/captions/{language}{query}");
        let answer = caller.request("PUT", &path).body(text.to_owned()).send().await.unwrap();
        is_problem(answer, status, code).await;
    }
    assert_eq!(put(&caller, &asset, "en", "?name=English", WEBVTT).await, StatusCode::CREATED);
    let same_name = format!("/v1/assets/{asset}/captions/en-GB?name=English");
    is_problem(caller.request("PUT", &same_name).body(WEBVTT).send().await.unwrap(), 409, "conflict").await;
    for method in ["GET", "DELETE"] {
        let path = format!("/v1/assets/{asset}/captions/it");
        is_problem(caller.request(method, &path).send().await.unwrap(), 404, "unknown_captions").await;
    }
    let stranger = Caller::with_key(&coordinator, OTHER_KEY);
    let path = format!("/v1/assets/{asset}/captions/en");
    is_problem(stranger.request("GET", &path).send().await.unwrap(), 404, "unknown_asset").await;
}

#[tokio::test]
async fn an_asset_keeps_what_its_owner_says_of_it() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let (_, asset) = caller.create(1000).await;
    let path = format!("/v1/assets/{asset}");
    let patch = async |body: Value| {
        let request = caller.request("PATCH", &path).header("content-type", "application/merge-patch+json");
        request.body(body.to_string()).send().await.unwrap()
    };
    let said =
        patch(json!({ "name": "Holidays", "description": "by the sea", "metadata": { "a": "1", "b": "2" } }))
            .await;
    assert_eq!(said.status(), StatusCode::OK);
    let said: Value = said.json().await.unwrap();
    assert_eq!(said["metadata"], json!({ "a": "1", "b": "2" }));
    assert_eq!(
        patch(json!({ "description": null, "metadata": { "a": null } })).await.status(),
        StatusCode::OK
    );
    let shown = caller.asset(&asset).await;
    assert_eq!((&shown["name"], &shown["description"]), (&json!("Holidays"), &Value::Null));
    assert_eq!(shown["metadata"], json!({ "b": "2" }));
    let list: Value = caller.request("GET", "/v1/assets").send().await.unwrap().json().await.unwrap();
    assert_eq!(list["assets"][0]["metadata"], json!({ "b": "2" }));
    for wrong in [
        json!({ "title": "x" }),
        json!({ "name": "" }),
        json!({ "metadata": { "k": "v".repeat(501) } }),
        json!([]),
    ] {
        is_problem(patch(wrong).await, 400, "invalid_request").await;
    }
    assert_eq!(caller.asset(&asset).await, shown);
}
