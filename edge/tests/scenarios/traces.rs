//! A trace of a connection, asked for while the edge runs.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use qlog::events::EventData;
use qlog::reader::{Event, QlogSeqReader};
use quinn::VarInt;
use reelmill_media::keys::BlobKind;
use reelmill_platform::store::Store;
use serde_json::json;

use crate::process::start;
use crate::world::{H3Client, certificate_in, noise, path_of, quic_client};

const LENGTH: usize = 1 << 20;

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map(|files| files.map(|file| file.unwrap().path()).collect()).unwrap_or_default()
}

/// What a trace says: the bytes of packets sent, and how many were received.
fn read(path: &Path) -> (u64, u64) {
    let file = BufReader::new(File::open(path).unwrap());
    // Nothing of it is there yet.
    let Ok(trace) = QlogSeqReader::new(Box::new(file)) else { return (0, 0) };
    assert_eq!(trace.qlog.qlog_format, "JSON-SEQ");
    let (mut sent, mut received) = (0, 0);
    for event in trace {
        let data = match event {
            Event::Qlog(event) => Some(event.data),
            Event::Json(_) => None,
        };
        match data {
            Some(EventData::PacketSent(packet)) => sent += u64::from(packet.header.length.unwrap()),
            Some(EventData::PacketReceived(_)) => received += 1,
            other => assert!(
                matches!(other, Some(EventData::MetricsUpdated(_) | EventData::PacketLost(_))),
                "{other:?}"
            ),
        }
    }
    (sent, received)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_asks_for_the_trace_of_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let ask = |settings: serde_json::Value| fs::write(path("changeable"), settings.to_string()).unwrap();
    let store = Store::open(&format!("file://{}", path("store").display())).unwrap();
    let bytes = noise(LENGTH, 1);
    let blob = path_of(&store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap(), BlobKind::Segment);
    ask(json!({}));
    let (changeable, traces) = (path("changeable"), path("traces"));
    let flags = ["--changeable", changeable.to_str().unwrap(), "--qlog-dir", traces.to_str().unwrap()];
    let (program, ready) = start(folder.path(), &flags);
    let address = ready["listen"].as_str().unwrap().parse().unwrap();
    let client = quic_client(&[&certificate_in(folder.path())]);
    let watch = async || {
        let connection = client.connect(address, "edge.test").unwrap().await.unwrap();
        let h3 = H3Client::over(connection.clone()).await;
        assert!(*h3.send(Method::GET, &blob, HeaderMap::new()).await.unwrap().body() == bytes);
        connection.close(VarInt::from_u32(0x100), b"");
        client.wait_idle().await;
        connection.stats().path.sent_packets
    };
    watch().await;
    assert!(files(&traces).is_empty(), "nobody has asked");

    let begun = Instant::now();
    ask(json!({ "qlog_connections": 1, "qlog_network": "127.0.0.0/8" }));
    program.signal("-HUP");
    let sent = loop {
        let sent = watch().await;
        if !files(&traces).is_empty() {
            break sent;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no trace is begun");
    };
    watch().await;
    let found = files(&traces);
    assert_eq!(found.len(), 1, "one was asked for");
    // It is whole when the edge has forgotten the connection.
    let received = loop {
        let (bytes, received) = read(&found[0]);
        if bytes > LENGTH as u64 {
            break received;
        }
        assert!(begun.elapsed() < Duration::from_secs(40), "the trace is not finished");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // The client does not count the packet that closes.
    assert!((sent / 2..=sent + 1).contains(&received), "{received} of {sent} packets");
}
