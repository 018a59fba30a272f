//! Several ranges in one request.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Response, header};
use reelmill_media::keys::{self, BlobKind};

use crate::origin::Origin;
use crate::world::{Via, World, assert_problem, asset, field, noise, path_of, read_rest};

const LENGTH: usize = 1 << 20;

/// The parts of a `multipart/byteranges` body, each with the bytes that it says it has (RFC 2046 §5.1.1).
fn parts(content_type: &str, body: &[u8], media_type: &str) -> Vec<(Range<usize>, Vec<u8>)> {
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    assert!((1..=70).contains(&boundary.len()));
    let begin = format!("\r\n--{boundary}\r\n").into_bytes();
    let end = format!("\r\n--{boundary}--\r\n").into_bytes();
    let mut rest = body.strip_suffix(&end[..]).unwrap();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        rest = rest.strip_prefix(&begin[..]).unwrap();
        let head = rest.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let fields = std::str::from_utf8(&rest[..head]).unwrap();
        let (kind, range) = fields.split_once("\r\n").unwrap();
        assert_eq!(kind, format!("Content-Type: {media_type}"));
        let (place, _) = range.strip_prefix("Content-Range: bytes ").unwrap().split_once('/').unwrap();
        let (first, last) = place.split_once('-').unwrap();
        let range = first.parse().unwrap()..last.parse::<usize>().unwrap() + 1;
        rest = &rest[head + 4..];
        parts.push((range.clone(), rest[..range.len()].to_vec()));
        rest = &rest[range.len()..];
    }
    parts
}

fn assert_parts(response: &Response<Bytes>, whole: &[u8], media_type: &str, expected: &[Range<usize>]) {
    assert_eq!(response.status(), 206);
    assert_eq!(field(response, header::CONTENT_RANGE), "", "RFC 9110 §15.3.7.2");
    assert_eq!(field(response, header::CONTENT_LENGTH), response.body().len().to_string());
    let found = parts(field(response, header::CONTENT_TYPE), response.body(), media_type);
    let ranges: Vec<_> = found.iter().map(|(range, _)| range.clone()).collect();
    assert_eq!(ranges, expected);
    assert!(found.into_iter().all(|(range, bytes)| bytes == whole[range]));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_come_over_every_protocol() {
    let world = World::new();
    let bytes = noise(LENGTH, 1);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    let (tag, media_type) = (format!("\"{hash}\""), "video/iso.segment");
    let playlist = keys::multivariant_playlist(asset());
    let text = format!("#EXTM3U\n{}#EXT-X-ENDLIST\n", "#EXT-X-VERSION:9\n".repeat(100));
    world.store.put_object(&playlist, text.clone().into()).await.unwrap();
    for via in Via::ALL {
        let get = async |fields: &[(HeaderName, &str)]| world.send(via, Method::GET, &path, fields).await;
        // Across groups, in the order asked for, and with the tag that they must be of.
        let set = "bytes=900000-1048575, 5-9,65000-200000";
        let several = get(&[(header::RANGE, set), (header::IF_RANGE, &tag)]).await;
        assert_parts(&several, &bytes, media_type, &[900_000..LENGTH, 5..10, 65_000..200_001]);
        assert_eq!(field(&several, header::ETAG), tag);
        let changed = get(&[(header::RANGE, set), (header::IF_RANGE, "\"else\"")]).await;
        assert!(changed.status() == 200 && *changed.body() == bytes);
        // What overlaps comes once, and of one part there is no multipart.
        let merged = get(&[(header::RANGE, "bytes=0-99,50-149,10-20,-10")]).await;
        assert_parts(&merged, &bytes, media_type, &[0..150, LENGTH - 10..LENGTH]);
        let one = get(&[(header::RANGE, "bytes=0-99,100-199,9999999-")]).await;
        assert_eq!(one.status(), 206);
        assert_eq!(field(&one, header::CONTENT_RANGE), "bytes 0-199/1048576");
        assert!(*one.body() == bytes[..200]);
        assert_problem(&get(&[(header::RANGE, "bytes=9999999-,-0")]).await, 416);
        // So many that it looks like an attack: the whole, once.
        let all: Vec<_> = (0..1000).map(|n| format!("{n}-{}", LENGTH - 1)).collect();
        let flood = get(&[(header::RANGE, &format!("bytes={}", all.join(",")))]).await;
        assert!(flood.status() == 200 && *flood.body() == bytes);

        let head = world.send(via, Method::HEAD, &path, &[(header::RANGE, set)]).await;
        assert!(head.status() == 200 && head.body().is_empty());
        assert_eq!(field(&head, header::CONTENT_LENGTH), LENGTH.to_string());
        assert_eq!(field(&head, header::CONTENT_TYPE), media_type);

        let range = [(header::RANGE, "bytes=0-6,1000-1009")];
        let listed = world.send(via, Method::GET, &format!("/{playlist}"), &range).await;
        assert_parts(&listed, text.as_bytes(), "application/vnd.apple.mpegurl", &[0..7, 1000..1010]);
    }
    assert_eq!(world.metric("origin_reads_total", &[("what", "blob")]), 1);
}

/// Also of a blob that is on its way, and the last part first.
#[tokio::test(flavor = "multi_thread")]
async fn parts_join_the_fill() {
    let origin = Origin::new();
    let world = World::with(Some(origin.store()), |_, _| {});
    let bytes = noise(LENGTH, 2);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    origin.release(LENGTH as u64 / 2);
    let headers: HeaderMap = [(header::RANGE, "bytes=1048000-,0-99".parse().unwrap())].into_iter().collect();
    let path = path_of(&hash, BlobKind::Segment);
    let mut stream = world.h3().await.begin(Method::GET, &path, headers).await.unwrap();
    let head = stream.recv_response().await.unwrap();
    let begun = stream.recv_data().await.unwrap().map(|mut piece| bytes::Buf::copy_to_bytes(&mut piece, 2));
    assert_eq!(begun.as_deref(), Some(&b"\r\n"[..]), "what needs no byte of the blob does not wait for one");
    origin.release(u64::MAX);
    assert!(read_rest(&mut stream).await.unwrap().ends_with(b"--\r\n"));
    assert_eq!(head.status(), 206);
    assert_eq!(origin.reads().len(), 1);
}
