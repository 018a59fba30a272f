//! The access log: a line of JSON for each request, whatever protocol carried it and however it ended.

use http::{HeaderMap, Method, header};
use reelmill_media::keys::BlobKind;
use serde_json::Value;

use crate::priorities::ask;
use crate::relay::relay;
use crate::world::{Via, World, noise, path_of, quic_client};

#[tokio::test(flavor = "multi_thread")]
async fn each_request_leaves_a_line_and_no_token() {
    let mut world =
        World::with(None, |settings, folder| settings.access_log = Some(folder.join("access.log")));
    let hash = world.store.put_blob(BlobKind::Segment, noise(300_000, 1)).await.unwrap();
    let large = world.store.put_blob(BlobKind::Segment, noise(24 << 20, 2)).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    for via in Via::ALL {
        let range = [(header::RANGE, "bytes=0-99"), (header::USER_AGENT, "a \"player\"\n".trim())];
        assert_eq!(
            world.send(via, Method::GET, &format!("{path}?CMCD=bl%3D100"), &range).await.status(),
            206
        );
    }
    assert_eq!(world.send(Via::Http3, Method::HEAD, &path, &[]).await.status(), 200);
    assert_eq!(world.get(Via::Http2, &format!("/t/a.secret.token{path}")).await.status(), 401);
    // One that is given up.
    let h3 = world.h3().await;
    let mut stream =
        h3.begin(Method::GET, &path_of(&large, BlobKind::Segment), HeaderMap::new()).await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
    drop(stream);
    world.until_metric("aborted_responses_total", &[], 1).await;
    world.begin_drain().await;

    let text = std::fs::read_to_string(world.folder.path().join("access.log")).unwrap();
    assert!(!text.contains("secret"));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 7);
    let parts: Vec<&Value> = lines.iter().filter(|line| line["status"] == 206).collect();
    let mut protocols: Vec<&str> = parts.iter().map(|line| line["protocol"].as_str().unwrap()).collect();
    protocols.sort_unstable();
    assert_eq!(protocols, ["h2", "h3", "http/1.1", "http/1.1"]);
    for line in parts {
        assert_eq!(line["bytes"], 100);
        assert_eq!(line["complete"], true);
        assert_eq!((&line["path"], &line["query"]), (&path.as_str().into(), &"CMCD=bl%3D100".into()));
        assert_eq!((&line["range"], &line["user_agent"]), (&"bytes=0-99".into(), &"a \"player\"".into()));
        assert!(line["cache_status"].as_str().unwrap().starts_with("reelmill; "));
        assert_eq!(line["client"], "127.0.0.1");
    }
    let refused = lines.iter().find(|line| line["status"] == 401).unwrap();
    assert_eq!((&refused["token"], &refused["path"]), (&true.into(), &path.as_str().into()));
    let head = lines.iter().find(|line| line["method"] == "HEAD").unwrap();
    assert_eq!((&head["bytes"], &head["complete"]), (&0.into(), &true.into()));
    let cut = lines.iter().find(|line| line["complete"] == false).unwrap();
    assert_eq!(cut["status"], 200);
    assert!(cut["bytes"].as_u64().unwrap() < 24 << 20);
    // What QUIC learnt of the path is there with the end of its connection.
    assert!(world.metric("quic_packets_total", &[("outcome", "sent")]) > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_written_wherever_it_stands() {
    let world = World::with(None, |settings, folder| settings.access_log = Some(folder.join("access.log")));
    let log = world.folder.path().join("access.log");
    let secret = "aaa.SECRET-0_.ccc";
    let fields = [
        (http::header::REFERER, format!("https://other.example/t/{secret}/assets/x?from=/t/{secret}")),
        (http::HeaderName::from_static("cmcd-request"), format!("nor=\"%2Ft%2F{secret}%2Fassets%2Fx\"")),
        (http::header::USER_AGENT, format!("player /t/{secret}")),
    ];
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.clone(), value.as_str())).collect();
    for path in [format!("/t/{secret}"), format!("/t/{secret}/"), format!("/x?y=/t/{secret}")] {
        assert_eq!(world.send(Via::Http3, http::Method::GET, &path, &fields).await.status(), 404);
    }
    let begun = std::time::Instant::now();
    let text = loop {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.lines().count() == 3 {
            break text;
        }
        assert!(begun.elapsed().as_secs() < 10, "{text}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert!(!text.contains("SECRET"), "{text}");
    assert!(text.contains("https://other.example/t/-/assets/x?from=/t/-"), "{text}");
}

/// All of it is in QUIC's hands by then.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_at_its_very_end_is_not_complete() {
    const LENGTH: usize = 200_000;
    let world = World::new();
    let hash = world.store.put_blob(BlobKind::Segment, noise(LENGTH, 1)).await.unwrap();
    let relay = relay(world.addresses.listen).await;
    let client = quic_client(&[&world.certificate()]);
    let connection = client.connect(relay.address, "edge.test").unwrap().await.unwrap();
    relay.answers.send_replace(false);
    let mut answer = ask(&connection, &path_of(&hash, BlobKind::Segment), None).await;
    world.until_metric("body_bytes_total", &[], LENGTH as u64).await;
    answer.stop(0x10cu32.into()).unwrap();
    world.until_metric("aborted_responses_total", &[], 1).await;
}
