//! The program: flags, ready file, admin port, signals.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use reelmill_media::ids::BlobHash;
use reelmill_media::keys::BlobKind;
use reelmill_platform::store::Store;
use serde_json::Value;

use crate::world::{noise, path_of, times};

/// A running program, ended with the test.
pub struct Program(pub Child);

impl Program {
    pub fn signal(&self, name: &str) {
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

pub fn start(folder: &Path, more: &[&str]) -> (Program, Value) {
    start_over(&format!("file://{}/store", folder.display()), &[], folder, more)
}

/// The same over any store, with what its client finds in the environment. What the program says goes to `log` in the folder.
pub fn start_over(
    store: &str,
    environment: &[(&str, &str)],
    folder: &Path,
    more: &[&str],
) -> (Program, Value) {
    let ready = folder.join("ready.json");
    let child = Program(
        Command::new(env!("CARGO_BIN_EXE_reelmill-edge"))
            .envs(environment.iter().copied())
            .args(["--store", store])
            .args([
                "--listen",
                "127.0.0.1:0",
                "--plain-listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ])
            .args(more)
            .args(["--cache-bytes", "1000000", "--host", "cdn.example"])
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--ready-file")
            .arg(&ready)
            .stderr(File::create(folder.join("log")).unwrap())
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

/// Where a program that is ready serves a path without TLS.
pub fn url(ready: &Value, path: &str) -> String {
    format!("http://{}{path}", ready["plain_listen"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_where_it_listens_and_ends_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, ready) = start(folder.path(), &[]);
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
    let (mut child, again) = start(folder.path(), &[]);
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

#[test]
fn a_place_that_cannot_be_taken_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let (long, short) = (folder.path().join("long"), folder.path().join("short"));
    std::fs::write(&long, "a secret of the tests").unwrap();
    std::fs::write(&short, " brief \n").unwrap();
    for (secret, listen, sentence) in [
        (&folder.path().join("none"), "127.0.0.1:0", "cannot read the secret of the PoP from"),
        (&short, "127.0.0.1:0", "the secret in"),
        (&long, "0.0.0.0:0", "0.0.0.0:0 is every address of this machine"),
        (&long, "192.0.2.1:1", "cannot listen on 192.0.2.1:1"),
    ] {
        let ended = Command::new(env!("CARGO_BIN_EXE_reelmill-edge"))
            .args(["--store", &format!("file://{}/store", folder.path().display()), "--log", "off"])
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--pop", "test"])
            .arg("--state-dir")
            .arg(folder.path().join("state"))
            .arg("--pop-secret-file")
            .arg(secret)
            .args(["--peer-listen", listen])
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(1));
        let text = String::from_utf8(ended.stderr).unwrap();
        assert!(text.starts_with(&format!("reelmill-edge: {sentence}")), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_edge_is_warm_again_at_once_and_serves_no_torn_file() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let disk = ["--disk-cache-bytes", "100000000", "--disk-cache-dir", cache.to_str().unwrap()];
    let store = Store::open(&format!("file://{}/store", folder.path().display())).unwrap();
    let mut blobs = Vec::new();
    for number in 0..20 {
        let bytes = noise(150_000, number);
        blobs.push((store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap(), bytes));
    }
    let get = async |ready: &Value, hash: &BlobHash| {
        let address = ready["plain_listen"].as_str().unwrap();
        let path = path_of(hash, BlobKind::Segment);
        let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
        let status = answer.headers().get("cache-status").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), status.unwrap_or_default(), answer.bytes().await.unwrap())
    };
    let (mut child, ready) = start(folder.path(), &disk);
    for (hash, bytes) in &blobs {
        assert!(get(&ready, hash).await.2 == bytes);
    }
    let file = |hash: &BlobHash| {
        let hash = hash.to_string();
        cache.join(&hash[..2]).join(format!("{hash}.m4s"))
    };
    let begun = Instant::now();
    while !blobs.iter().all(|(hash, _)| file(hash).exists()) {
        assert!(begun.elapsed() < Duration::from_secs(10), "not written");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.0.kill().unwrap();
    child.0.wait().unwrap();

    // As after a power cut: two torn files, one that was never finished, and no origin to ask.
    let torn = [&blobs[3].0, &blobs[7].0];
    std::fs::OpenOptions::new().write(true).open(file(torn[0])).unwrap().set_len(70_000).unwrap();
    std::fs::write(file(torn[1]), vec![0; 150_104]).unwrap();
    std::fs::write(cache.join("scratch/99"), "half").unwrap();
    std::fs::remove_dir_all(folder.path().join("store")).unwrap();
    std::fs::remove_file(folder.path().join("ready.json")).unwrap();
    let (_child, ready) = start(folder.path(), &disk);
    for (hash, bytes) in &blobs {
        let (status, found, content) = get(&ready, hash).await;
        if torn.contains(&hash) {
            assert_eq!(status, 404);
            assert!(!file(hash).exists(), "a torn file is dropped");
        } else {
            assert!(status == 200 && content == bytes);
            assert_eq!(found, "reelmill; hit; detail=disk");
        }
    }
    assert!(!cache.join("scratch/99").exists());
}

/// A cache of very many small files, as `REELMILL_CACHE_FILES` says, after the process was killed: the first hit waits for
/// none of the others, all whole ones are kept, and torn ones are dropped. Measures the wait, and does not judge it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_many_files_is_warm_at_once() {
    let count = times("REELMILL_CACHE_FILES", 10_000);
    let torn_every = 1000;
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let content = |number: u64| [&number.to_le_bytes()[..], &[7; 24]].concat();
    for prefix in 0..=255 {
        std::fs::create_dir_all(cache.join(format!("{prefix:02x}"))).unwrap();
    }
    let file = |hash: &BlobHash| {
        let hash = hash.to_string();
        cache.join(&hash[..2]).join(format!("{hash}.m4s"))
    };
    for number in 0..count {
        let bytes = content(number);
        let mut whole = [&(bytes.len() as u64).to_le_bytes()[..], &bytes].concat();
        if number % torn_every == 0 {
            whole.truncate(20);
        }
        std::fs::write(file(&BlobHash::of(&bytes)), whole).unwrap();
    }
    let disk = ["--disk-cache-bytes", "100000000000", "--disk-cache-dir", cache.to_str().unwrap()];
    let begun = Instant::now();
    let (_child, ready) = start(folder.path(), &disk);
    let started = begun.elapsed();
    let client = reqwest::Client::new();
    let get = async |number: u64| {
        let path = path_of(&BlobHash::of(&content(number)), BlobKind::Segment);
        let url = format!("http://{}{path}", ready["plain_listen"].as_str().unwrap());
        let answer = client.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap())
    };
    let begun = Instant::now();
    assert!(get(1).await == (200, content(1).into()));
    println!("{count} files: ready after {started:?}, the first hit {:?} later", begun.elapsed());
    let torn = count.div_ceil(torn_every);
    let listed = async || {
        let metrics = client.get(format!("http://{}/metrics", ready["admin"].as_str().unwrap()));
        let text = metrics.send().await.unwrap().text().await.unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("reelmill_edge_disk_cache_bytes ").map(str::to_owned));
        line.map_or(0.0, |bytes| bytes.parse::<f64>().unwrap()) as u64
    };
    let all = (count - torn) * 40 + torn * 20;
    while listed().await != all {
        assert!(begun.elapsed() < Duration::from_secs(400), "{} of {all} bytes are listed", listed().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("all are listed after {:?}", begun.elapsed());
    for number in (0..count).step_by(count as usize / 2000 + 1) {
        let expected = if number % torn_every == 0 { 404 } else { 200 };
        let (status, bytes) = get(number).await;
        assert!(status == expected && (status == 404 || bytes == content(number)), "{number}: {status}");
    }
}
