//! The program: flags, ready file, admin port, signals.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running program, ended with the test.
struct Program(Child);

impl Program {
    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &Path) -> (Program, Value) {
    let ready = folder.join("ready.json");
    let child = Program(
        Command::new(env!("CARGO_BIN_EXE_reelmill-edge"))
            .args(["--store", &format!("file://{}/store", folder.display())])
            .args([
                "--listen",
                "127.0.0.1:0",
                "--plain-listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ])
            .args(["--cache-bytes", "1000000", "--host", "cdn.example"])
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--ready-file")
            .arg(&ready)
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let begun = Instant::now();
    loop {
        if let Ok(text) = std::fs::read(&ready) {
            return (child, serde_json::from_slice(&text).unwrap());
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "not ready");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_where_it_listens_and_ends_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, ready) = start(folder.path());
    let get = async |address: &Value, path: &str| {
        let answer = reqwest::get(format!("http://{}{path}", address.as_str().unwrap())).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get(&ready["plain_listen"], "/player/icon.svg").await.0, 200);
    assert_eq!(get(&ready["admin"], "/readyz").await.0, 200);
    let (_, metrics) = get(&ready["admin"], "/metrics").await;
    assert!(
        metrics
            .contains("reelmill_edge_requests_total{class=\"2xx\",lookup=\"none\",protocol=\"http/1.1\"} 1")
    );
    child.signal("-TERM");
    assert!(child.0.wait().unwrap().success());

    std::fs::remove_file(folder.path().join("ready.json")).unwrap();
    let (mut child, again) = start(folder.path());
    assert_eq!(ready["spki_sha256"], again["spki_sha256"], "a restart keeps the certificate");
    child.signal("-INT");
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn what_keeps_it_from_starting_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file://{}/store", folder.path().display());
    let state = folder.path().join("state").display().to_string();
    for (arguments, sentence) in [
        (["--store", "nowhere", "--state-dir", &state], "cannot open the object store \"nowhere\""),
        (["--store", &store, "--state-dir", "/dev/null/x"], "cannot use /dev/null/x"),
        (["--store", &store, "--listen", "192.0.2.1:1"], "cannot listen on 192.0.2.1:1"),
    ] {
        let ended = Command::new(env!("CARGO_BIN_EXE_reelmill-edge"))
            .args(arguments)
            .args(["--log", "off"])
            .current_dir(&folder)
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(1));
        let text = String::from_utf8(ended.stderr).unwrap();
        assert!(text.starts_with(&format!("reelmill-edge: {sentence}")), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
