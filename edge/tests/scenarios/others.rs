//! Other people's clients of HTTP/3: curl with OpenSSL and nghttp3, and gtlsclient with ngtcp2 and GnuTLS.
//!
//! `scripts/deps.sh test` fetches them and says so where it cannot; `HTTP3_TOOLS` names their folder.

use std::path::{Path, PathBuf};

use reelmill_media::keys::BlobKind;
use tokio::process::Command;

use crate::world::{World, noise, path_of};

fn tool(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("HTTP3_TOOLS") else {
        eprintln!("left out: HTTP3_TOOLS is not set");
        return None;
    };
    Some(Path::new(&folder).join(name))
}

async fn output(command: &mut Command) -> String {
    let output = command.kill_on_drop(true).output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}{err}");
    format!("{out}{err}")
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_blobs_ranges_and_refusals() {
    let Some(curl) = tool("curl") else { return };
    let world = World::new();
    let bytes = noise(3_000_000, 1);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    let (path, port) = (path_of(&hash, BlobKind::Segment), world.addresses.listen.port());
    let file = world.folder.path().join("got");
    let ask = |path: &str, options: &[&str]| {
        let mut command = Command::new(&curl);
        command
            .args([
                "--http3-only",
                "--silent",
                "--show-error",
                "--max-time",
                "30",
                "--write-out",
                "%{http_version} %{http_code}",
            ])
            .args(["--resolve", &format!("edge.test:{port}:127.0.0.1"), "--cacert"])
            .arg(world.certificate())
            .arg("--output")
            .arg(&file)
            .args(options)
            .arg(format!("https://edge.test:{port}{path}"));
        command
    };
    assert_eq!(output(&mut ask(&path, &[])).await, "3 200");
    assert!(std::fs::read(&file).unwrap() == bytes);
    assert_eq!(output(&mut ask(&path, &["--range", "1000000-1999999"])).await, "3 206");
    assert!(std::fs::read(&file).unwrap() == bytes[1_000_000..2_000_000]);
    assert_eq!(output(&mut ask(&path, &["--range", "3000000-"])).await, "3 416");
    assert_eq!(output(&mut ask("/nothing", &[])).await, "3 404");
    assert_eq!(output(&mut ask(&path, &["--header", &format!("If-None-Match: \"{hash}\"")])).await, "3 304");
    assert_eq!(output(&mut ask(&path, &["--request", "DELETE"])).await, "3 405");
}

#[tokio::test(flavor = "multi_thread")]
async fn gtlsclient_gets_a_blob_moves_changes_keys_and_comes_back_early() {
    let Some(gtlsclient) = tool("gtlsclient") else { return };
    let world = World::new();
    let bytes = noise(3_000_000, 2);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    let (path, port) = (path_of(&hash, BlobKind::Segment), world.addresses.listen.port());
    let folder = world.folder.path();
    let name = path.rsplit('/').next().unwrap();
    let ask = |options: &[&str]| {
        let mut command = Command::new(&gtlsclient);
        command
            .args([
                "--no-quic-dump",
                "--no-http-dump",
                "--timeout",
                "30s",
                "--exit-on-all-streams-close",
                "--sni",
                "edge.test",
            ])
            .arg("--download")
            .arg(folder)
            .arg("--session-file")
            .arg(folder.join("session"))
            .arg("--tp-file")
            .arg(folder.join("parameters"))
            .args(options)
            .args(["127.0.0.1", &port.to_string(), &format!("https://edge.test:{port}{path}")]);
        command
    };
    for options in [
        &["--wait-for-ticket"][..],
        &["--change-local-addr", "10ms"],
        // Both before the request. Later, this client would fail with any server when it is moved like that: it has nothing to
        // say from where it is, and ignores what still comes to where it was. And with those that change keys early it ends when
        // it may not do so as well; quinn does within its first thousand packets.
        &["--change-local-addr", "50ms", "--nat-rebinding", "--delay-stream", "100ms"],
        &["--key-update", "50ms", "--delay-stream", "100ms"],
        &["--tx-loss", "0.02", "--rx-loss", "0.02"],
    ] {
        output(&mut ask(options)).await;
        let got = folder.join(name);
        assert!(std::fs::read(&got).unwrap() == bytes, "{options:?}");
        std::fs::remove_file(got).unwrap();
    }
}
