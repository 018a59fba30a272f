//! What a hostile peer sends too much of.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::{Via, World, quic};

const LONG: usize = 20 * 1024;
const SCRIPT: &str = "/player/player.js";

#[tokio::test(flavor = "multi_thread")]
async fn a_header_section_over_16_kib_is_refused() {
    let world = World::new();
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("x-long"), "a".repeat(LONG).parse().unwrap());

    // The client of the HTTP/3 project reads our SETTINGS and then refuses to send it at all.
    let h3 = world.h3().await;
    match h3.send(http::Method::GET, SCRIPT, headers.clone()).await {
        Ok(response) => assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(refused) => assert!(refused.contains("too big") || refused.contains("large"), "{refused}"),
    }

    let mut stream = TcpStream::connect(world.addresses.plain_listen.unwrap()).await.unwrap();
    let request = format!("GET {SCRIPT} HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "a".repeat(LONG));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    assert_eq!(world.get(Via::Http3, SCRIPT).await.status(), 200, "others are served");
}

/// `HEADERS` of 20 KiB straight on the wire, from a client that has read no SETTINGS.
async fn ask_at_length(connection: &quinn::Connection) -> Vec<u8> {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    // RFC 9204 §4.5: prefix, then one literal field line `a` with a value of 20,480 bytes, no Huffman.
    let mut section = vec![0, 0, 0x21, b'a', 0x7f];
    // RFC 7541 §5.1: 20,480 - 127 in groups of seven bits.
    section.extend([0x81, 0x9f, 0x01]);
    section.extend(vec![b'v'; LONG]);
    let mut frame = vec![0x01];
    frame.extend((section.len() as u32 | 0x8000_0000).to_be_bytes());
    frame.extend(section);
    send.write_all(&frame).await.unwrap();
    send.finish().unwrap();
    timeout(Duration::from_secs(5), recv.read_to_end(1000)).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_header_section_on_the_wire_is_answered_with_431() {
    let world = World::new();
    let connection = quic(&world).await;
    let answer = ask_at_length(&connection).await;
    assert_eq!(answer.first(), Some(&0x01), "a HEADERS frame with the status");
    assert!(connection.close_reason().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_unread_is_counted_and_logged_as_any_other() {
    let mut world =
        World::with(None, |settings, folder| settings.access_log = Some(folder.join("access.log")));
    ask_at_length(&quic(&world).await).await;
    for (status, field) in [("431", format!("X-Long: {}", "a".repeat(LONG))), ("400", "X-Space : a".into())] {
        let mut stream = TcpStream::connect(world.addresses.plain_listen.unwrap()).await.unwrap();
        let request = format!("GET {SCRIPT} HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *format!("HTTP/1.1 {status}").as_bytes());
    }
    for (protocol, count) in [("h3", 1), ("http/1.1", 2)] {
        world.until_metric("requests_total", &[("protocol", protocol), ("class", "4xx")], count).await;
    }
    world.begin_drain().await;
    let text = std::fs::read_to_string(world.folder.path().join("access.log")).unwrap();
    let mut lines: Vec<(String, u64)> = text
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!((&line["complete"], &line["path"]), (&true.into(), &Value::Null), "{line}");
            (line["protocol"].as_str().unwrap().to_owned(), line["status"].as_u64().unwrap())
        })
        .collect();
    lines.sort_unstable();
    let expected = [("h3", 431), ("http/1.1", 400), ("http/1.1", 431)];
    assert_eq!(lines, expected.map(|(protocol, status)| (protocol.to_owned(), status)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_claims_a_gigabyte_is_cut_off() {
    let world = World::new();
    let connection = quic(&world).await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let mut frame = vec![0x01];
    frame.extend((1u32 << 29 | 0x8000_0000).to_be_bytes());
    send.write_all(&frame).await.unwrap();
    let flood = async {
        loop {
            if let Err(error) = send.write_all(&[0; 4096]).await {
                return error;
            }
        }
    };
    let error = timeout(Duration::from_secs(5), flood).await.unwrap();
    // RFC 9114 §8.1: H3_EXCESSIVE_LOAD
    assert_eq!(error, quinn::WriteError::Stopped(0x107u32.into()));
    let sent = connection.stats().udp_tx.bytes;
    assert!(sent < 200 * 1024, "{sent} bytes were taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_host_is_refused() {
    let world = World::new();
    let mut stream = TcpStream::connect(world.addresses.plain_listen.unwrap()).await.unwrap();
    stream.write_all(format!("GET {SCRIPT} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
}

/// RFC 9114 §4.2
#[tokio::test(flavor = "multi_thread")]
async fn fields_of_older_connections_are_malformed_in_h3() {
    let world = World::new();
    let h3 = world.h3().await;
    for name in ["connection", "transfer-encoding", "upgrade"] {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), "x".parse().unwrap());
        let error = h3.send(http::Method::GET, SCRIPT, headers).await.unwrap_err();
        assert!(error.contains("H3_MESSAGE_ERROR"), "{error}");
    }
    assert_eq!(world.get(Via::Http3, SCRIPT).await.status(), 200, "the connection lives on");
}

/// Shapes by which one request is made to look like two, or like another one.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_read_in_two_ways_is_refused_and_nothing_after_it_is_answered() {
    let world = World::new();
    let hidden = format!("0\r\n\r\nGET {SCRIPT} HTTP/1.1\r\nHost: x\r\n\r\n");
    let length = format!("Content-Length: {}\r\n", hidden.len());
    let host = "Host: x\r\n";
    for (path, fields) in [
        (SCRIPT, format!("{host}{length}Transfer-Encoding: chunked\r\n")),
        (SCRIPT, format!("{host}Transfer-Encoding: chunked\r\n{length}")),
        (SCRIPT, format!("{host}Transfer-Encoding: xchunked\r\n")),
        (SCRIPT, format!("{host}Content-Length: 5\r\n{length}")),
        (SCRIPT, format!("{host}Content-Length: +5\r\n")),
        (SCRIPT, format!("{host}{host}")),
        (SCRIPT, "Host: user@x\r\n".into()),
        (SCRIPT, format!("{host}X-Folded: a\r\n b: c\r\n")),
        (SCRIPT, format!("{host}X-Space : a\r\n")),
        ("http://other/player/player.js", host.into()),
    ] {
        let mut stream = TcpStream::connect(world.addresses.plain_listen.unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\n{fields}\r\n{hidden}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset is as good as an end.
        let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400"), "{fields:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{fields:?}: {answer}");
    }
}
