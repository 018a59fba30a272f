//! Other people's clients, over a network that breaks.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::client::{Caller, header, uploaded_bytes};
use crate::machines::{DEADLINE, KEY, Machines};
use crate::relay::Relay;
use crate::uploads::bytes;

/// Long enough for several blocks and many cuts.
const SENT_BYTES: usize = 24_000_000;
/// A connection that brings more is cut.
const LONGEST_BYTES: u64 = 2_000_000;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// The interpreter that has clients in Python. Where they cannot be installed, others are the only judges; but not where all
/// is judged.
fn python() -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/clients/bin/python");
    let python = std::env::var_os("CLIENTS_PYTHON").map_or(installed, PathBuf::from);
    if !python.exists() {
        let complaint = format!("no clients in Python are installed at {}", python.display());
        assert!(std::env::var_os("CI").is_none(), "{complaint}");
        eprintln!("skipped: {complaint}");
        return None;
    }
    Some(python)
}

/// Runs a client; what it prints is JSON.
async fn run(command: &mut Command, seed: u64) -> Value {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(DEADLINE, running).await.expect("in time").expect("the client starts");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "seed {seed}: {complaint}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn tus_js_client_gets_everything_through() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let sent = bytes(SENT_BYTES);
    let file = machines.folder.path().join("clip.mp4");
    std::fs::write(&file, &sent).unwrap();
    let node = std::env::var_os("NODE_BIN").unwrap_or_else(|| "node".into());
    // Alone, and in three parts side by side that are joined in the end.
    for parallel in ["1", "3"] {
        let seed = rand::random();
        let relay = Relay::start(coordinator.address(), LONGEST_BYTES, seed).await;
        let mut client = Command::new(&node);
        client.arg(script("upload.mjs")).arg(format!("http://{}/v1/uploads", relay.address));
        let said = run(client.arg(KEY).arg(&file).arg(parallel), seed).await;
        assert!(relay.cuts() >= 3, "seed {seed}: {said}");
        let id = said["asset"].as_str().unwrap_or_else(|| panic!("seed {seed}: {said}"));
        assert_eq!(caller.reaches(id, "indexing").await["name"], "clip.mp4");
        assert!(uploaded_bytes(&machines, id).await == sent, "seed {seed}");
    }
}

#[tokio::test]
async fn tuspy_gets_everything_through_with_checksums() {
    let Some(python) = python() else { return };
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let sent = bytes(SENT_BYTES);
    let file = machines.folder.path().join("clip.mp4");
    std::fs::write(&file, &sent).unwrap();
    let seed = rand::random();
    let relay = Relay::start(coordinator.address(), LONGEST_BYTES, seed).await;
    let mut client = Command::new(python);
    client.arg(script("upload.py")).arg(format!("http://{}/v1/uploads", relay.address)).arg(KEY).arg(&file);
    let said = run(&mut client, seed).await;
    assert!(relay.cuts() >= 3 && said["tries"].as_u64() > Some(3), "seed {seed}: {said}");
    let upload = said["upload"].as_str().unwrap().trim_start_matches(&format!("http://{}", relay.address));
    let head = caller.tus("HEAD", upload).send().await.unwrap();
    let id = header(&head, "reelmill-asset");
    caller.reaches(&id, "indexing").await;
    assert!(uploaded_bytes(&machines, &id).await == sent, "seed {seed}");
}

#[tokio::test]
async fn schemathesis_finds_nothing_that_the_description_does_not_say() {
    let Some(python) = python() else { return };
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--operator", "demo"]).await;
    // It looks for its files where it runs, and leaves notes there.
    let place = tempfile::tempdir().unwrap();
    for name in ["schemathesis.toml", "hooks.py"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name);
        std::fs::copy(file, place.path().join(name)).unwrap();
    }
    let mut judge = Command::new(python.with_file_name("schemathesis"));
    judge.current_dir(&place);
    judge.args(["run", "--max-time", "40", "--generation-database", "none"]);
    judge.args(["--suppress-health-check", "all", "--header", &format!("Authorization: Bearer {KEY}")]);
    judge.arg(format!("{}/openapi.json", coordinator.base)).stdin(Stdio::null()).kill_on_drop(true);
    let output = judge.output().await.expect("schemathesis starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}
