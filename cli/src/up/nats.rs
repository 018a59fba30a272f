//! The nats-server that belongs to a data folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;

use super::process::{Process, Recipe};
use super::state::Layout;

/// The oldest server that keeps what it promises: earlier ones lost streams when killed.
const FLOOR: [u32; 3] = [2, 10, 27];

/// The server's own file of its addresses. Written once JetStream has recovered, so it is readiness as well.
#[derive(Debug, Deserialize)]
struct Ports {
    nats: Vec<String>,
}

/// Finds a server: NATS_SERVER_BIN, then the PATH, then what the build fetched into `.tools`.
pub fn find() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("NATS_SERVER_BIN").map(PathBuf::from);
    let fetched =
        |start: &Path| start.ancestors().map(|f| f.join(".tools/nats-server")).find(|f| f.is_file());
    let beside = std::env::current_exe().ok().and_then(|program| fetched(&program));
    let here = std::env::current_dir().ok().and_then(|folder| fetched(&folder));
    let candidates = [named, crate::open::find("nats-server"), beside, here];
    let mut refused = Vec::new();
    for candidate in candidates.into_iter().flatten() {
        match version(&candidate) {
            Ok(version) if version >= FLOOR => return Ok(candidate),
            Ok([a, b, c]) => refused.push(format!("{} is {a}.{b}.{c}", candidate.display())),
            Err(error) => refused.push(format!("{error:#}")),
        }
    }
    let [a, b, c] = FLOOR;
    let seen = if refused.is_empty() { String::new() } else { format!(" ({})", refused.join("; ")) };
    bail!("no nats-server {a}.{b}.{c} or newer here{seen}: run `make deps`, or set NATS_SERVER_BIN to one")
}

/// `nats-server: v2.15.1` as numbers.
fn version(program: &Path) -> anyhow::Result<[u32; 3]> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_version(&text).ok_or_else(|| anyhow!("{} does not say its version", program.display()))
}

fn parse_version(text: &str) -> Option<[u32; 3]> {
    let numbers = text.trim().rsplit('v').next()?.split(['-', '+']).next()?;
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

/// Starts it on random ports; returns it with its address.
pub async fn start(program: PathBuf, layout: &Layout) -> anyhow::Result<(Process, String)> {
    let ports = layout.run().join("nats");
    // A killed server leaves its ports file behind.
    let _ = std::fs::remove_dir_all(&ports);
    std::fs::create_dir_all(&ports)?;
    let config = layout.run().join("nats.conf");
    // -1 is a random port; 0 would be 4222. Always synced: what is acknowledged survives a power cut.
    let text = format!(
        "listen: \"127.0.0.1:-1\"\nports_file_dir: {ports:?}\njetstream {{ store_dir: {store:?}, sync_interval: always }}\n",
        store = layout.nats(),
    );
    std::fs::write(&config, text)?;
    let recipe = Recipe {
        name: "nats-server",
        program,
        arguments: vec!["--config".into(), config.into()],
        log: layout.logs().join("nats.log"),
    };
    let mut process = Process::start(recipe)?;
    let address = process.until(|_| address(&ports)).await?;
    Ok((process, address))
}

fn address(ports: &Path) -> Option<String> {
    let file = std::fs::read_dir(ports)
        .ok()?
        .filter_map(Result::ok)
        .find(|e| Path::new(&e.file_name()).extension().is_some_and(|extension| extension == "ports"))?;
    let ports: Ports = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
    ports.nats.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_number() {
        assert_eq!(parse_version("nats-server: v2.15.1\n"), Some([2, 15, 1]));
        assert_eq!(parse_version("nats-server: v2.11.0-RC.1"), Some([2, 11, 0]));
        assert_eq!(parse_version("no version"), None);
        assert!(parse_version("nats-server: v2.9.10").unwrap() < FLOOR);
    }
}
