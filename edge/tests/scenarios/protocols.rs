//! The same answers whatever carries them.

use http::{HeaderName, Method, header};
use reelmill_media::keys::BlobKind;

use crate::world::{Via, World, assert_problem, asset, field, noise, path_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_the_same_over_every_protocol() {
    let world = World::new();
    for length in [0, 1, 63, 64, 16_383, 16_384, 65_536, 3_000_001] {
        let bytes = noise(length, 1);
        let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
        for via in Via::ALL {
            let response = world.get(via, &path_of(&hash, BlobKind::Segment)).await;
            assert_eq!(response.status(), 200);
            assert!(*response.body() == bytes, "{length} bytes over {via:?}");
            assert_eq!(field(&response, header::CONTENT_TYPE), "video/iso.segment");
            assert_eq!(field(&response, header::CONTENT_LENGTH), length.to_string());
            assert_eq!(field(&response, header::CACHE_CONTROL), "public, max-age=31536000, immutable");
            assert_eq!(field(&response, header::ETAG), format!("\"{hash}\""));
            assert_eq!(field(&response, header::ACCESS_CONTROL_ALLOW_ORIGIN), "*");
            assert_eq!(field(&response, HeaderName::from_static("timing-allow-origin")), "*");
            assert!(field(&response, header::DATE).ends_with(" GMT"));
            let alt_svc = format!("h3=\":{}\"; ma=86400", world.addresses.listen.port());
            let over_tls = matches!(via, Via::Http1 | Via::Http2);
            assert_eq!(field(&response, header::ALT_SVC), if over_tls { &alt_svc } else { "" });
        }
    }
    assert_eq!(world.metric("origin_reads_total", &[("what", "blob")]), 8, "one read per blob");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_conditions_over_every_protocol() {
    let world = World::new();
    let bytes = noise(200_000, 2);
    let hash = world.store.put_blob(BlobKind::InitSegment, bytes.clone()).await.unwrap();
    let path = path_of(&hash, BlobKind::InitSegment);
    let tag = format!("\"{hash}\"");
    for via in Via::ALL {
        let get = async |fields: &[(HeaderName, &str)]| world.send(via, Method::GET, &path, fields).await;

        let part = get(&[(header::RANGE, "bytes=70000-150000")]).await;
        assert_eq!(part.status(), 206);
        assert_eq!(field(&part, header::CONTENT_RANGE), "bytes 70000-150000/200000");
        assert!(*part.body() == bytes[70_000..=150_000]);
        let tail = get(&[(header::RANGE, "bytes=-5"), (header::IF_RANGE, &tag)]).await;
        assert!(tail.status() == 206 && *tail.body() == bytes[199_995..]);
        let changed = get(&[(header::RANGE, "bytes=-5"), (header::IF_RANGE, "\"else\"")]).await;
        assert!(changed.status() == 200 && *changed.body() == bytes);
        let beyond = get(&[(header::RANGE, "bytes=200000-")]).await;
        assert_problem(&beyond, 416);
        assert_eq!(field(&beyond, header::CONTENT_RANGE), "bytes */200000");

        let known = get(&[(header::IF_NONE_MATCH, &tag)]).await;
        assert!(known.status() == 304 && known.body().is_empty());
        assert_eq!(field(&known, header::ETAG), tag);
        assert_problem(&get(&[(header::IF_MATCH, "\"else\"")]).await, 412);

        let head = world.send(via, Method::HEAD, &path, &[(header::RANGE, "bytes=0-1")]).await;
        assert!(head.status() == 200 && head.body().is_empty());
        assert_eq!(field(&head, header::CONTENT_LENGTH), "200000");
        assert_eq!(field(&head, header::ACCEPT_RANGES), "bytes");

        let preflight =
            world.send(via, Method::OPTIONS, &path, &[(header::ORIGIN, "https://a.example")]).await;
        assert_eq!(preflight.status(), 204);
        assert_eq!(field(&preflight, header::ACCESS_CONTROL_ALLOW_HEADERS), "*");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_one_sentence() {
    let world = World::new();
    let secret = world.store.put_blob(BlobKind::SourceBlock, noise(100, 3)).await.unwrap();
    for via in Via::ALL {
        assert_problem(&world.get(via, &path_of(&secret, BlobKind::SourceBlock)).await, 404);
        assert_problem(&world.get(via, &path_of(&secret, BlobKind::Segment)).await, 404);
        assert_problem(&world.get(via, "/").await, 404);
        let head = world.send(via, Method::HEAD, "/", &[]).await;
        assert!(head.status() == 404 && head.body().is_empty(), "{via:?}: {head:?}");
        assert_problem(&world.get(via, "/assets/%61/x").await, 400);
        assert_problem(&world.get(via, &format!("/{}", "a".repeat(2000))).await, 414);
        let post = world.send(via, Method::POST, "/player/player.js", &[]).await;
        assert_problem(&post, 405);
        assert_eq!(field(&post, header::ALLOW), "GET, HEAD, OPTIONS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn player_pages_load_nothing_from_elsewhere() {
    let world = World::new();
    for (path, ancestors) in [("watch", "frame-ancestors 'none'"), ("embed", "frame-ancestors *")] {
        let page = world.get(Via::Http3, &format!("/{path}/{}", asset())).await;
        assert_eq!(page.status(), 200);
        let policy = field(&page, header::CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none'") && policy.ends_with(ancestors), "{policy}");
        assert_eq!(field(&page, header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        let text = std::str::from_utf8(page.body()).unwrap();
        assert!(!text.contains("//"), "an address of another site in {text}");
        for link in text.split(['"', '\'']).filter(|part| part.starts_with('/')) {
            assert_eq!(world.get(Via::Http2, link).await.status(), 200, "{link}");
        }
    }
}
