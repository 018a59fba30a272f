//! The published tree is plain HLS: any web server over the store's folder will do.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_e2e::judge::{self, Expected};
use reelmill_e2e::published::from_folder;
use reelmill_e2e::system::System;
use reelmill_e2e::tools::probe;

/// Ended when dropped.
struct WebServer(Child);

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_plain_web_server_serves_what_was_published() {
    let system = System::start();
    let source = fixture(Kind::Landscape);
    let asset = system.put(&source.path);
    system.ready(&asset, Duration::from_secs(60));
    let store = system.store();
    let index = format!("assets/{asset}/index.m3u8");
    judge::must_be_right(&from_folder(&store), &index, &Expected::of(&source));

    let mut server = Command::new("python3")
        .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"])
        .arg(&store)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 starts");
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _server = WebServer(server);
    let port = line.split_whitespace().skip_while(|word| *word != "port").nth(1).expect("a port");
    let address = format!("http://127.0.0.1:{port}/{index}");
    let entries = ["-count_packets", "-show_entries", "stream=codec_type,nb_read_packets"];
    let seen = probe(&address, &entries).expect("ffprobe reads it");
    let count = |kind: &str| {
        let mut streams = seen["streams"].as_array().unwrap().iter();
        streams.find(|stream| stream["codec_type"] == kind).expect(kind)["nb_read_packets"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(count("video"), source.frames.to_string());
    let packets: f64 = count("audio").parse().unwrap();
    assert!((packets - 6.0 * 48_000.0 / 1024.0).abs() < 3.0, "{packets} audio packets");
}
