//! What an autoscaler is told: the query in `deploy/keda` and the rules that it rests on, by a real Prometheus.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use reelmill_media::task::Work;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::client::Caller;
use crate::machines::{Coordinator, Machines, until};
use crate::uploads::bytes;
use crate::worker::{Act, Worker};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name).canonicalize().unwrap()
}

/// What KEDA asks.
fn query() -> String {
    let text = std::fs::read_to_string(deploy("keda/workers.yaml")).unwrap();
    text.lines().find_map(|line| line.trim().strip_prefix("query: ")).unwrap().to_owned()
}

struct Prometheus {
    api: String,
    _process: Child,
}

impl Prometheus {
    /// Reads these coordinators and keeps the rules of `deploy`. `None` where it cannot be had.
    async fn start(folder: &Path, coordinators: &[&Coordinator]) -> Option<Prometheus> {
        let Some(program) = std::env::var_os("PROMETHEUS_BIN") else {
            eprintln!("left out: PROMETHEUS_BIN is not set");
            return None;
        };
        let targets: Vec<&str> = coordinators.iter().map(|c| c.admin.trim_start_matches("http://")).collect();
        let config = serde_json::json!({
            "global": { "scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms" },
            "rule_files": [deploy("prometheus/alerts.yml")],
            "scrape_configs": [{ "job_name": "reelmill-coordinator", "static_configs": [{ "targets": targets }] }],
        });
        std::fs::write(folder.join("prometheus.yml"), config.to_string()).unwrap();
        // It cannot say which port it got.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(program)
            .current_dir(folder)
            .args(["--config.file", "prometheus.yml", "--storage.tsdb.path", "series"])
            .args(["--web.listen-address", &free.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Some(Prometheus { api: format!("http://{free}/api/v1/query"), _process: process })
    }

    /// The one number that a query gives, once it is up and there is one.
    async fn ask(&self, query: &str) -> Option<f64> {
        let url = reqwest::Url::parse_with_params(&self.api, [("query", query)]).unwrap();
        let answer: Value = reqwest::get(url).await.ok()?.json().await.ok()?;
        let [one] = answer["data"]["result"].as_array()?.as_slice() else { return None };
        one["value"][1].as_str()?.parse().ok()
    }
}

/// What a coordinator says itself.
async fn backlog(coordinator: &Coordinator) -> f64 {
    let metrics = reqwest::get(format!("{}/metrics", coordinator.admin)).await.unwrap().text().await.unwrap();
    let lines = metrics.lines().filter_map(|l| l.strip_prefix("reelmill_coordinator_backlog_cpu_seconds{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test]
async fn workers_are_asked_for_by_the_work_that_is_left() {
    let machines = Machines::start().await;
    let (one, two) = (machines.coordinator(&[]).await, machines.coordinator(&[]).await);
    let Some(prometheus) = Prometheus::start(machines.folder.path(), &[&one, &two]).await else { return };
    let query = query();
    until("nothing is left", async || (prometheus.ask(&query).await? == 0.0).then_some(())).await;

    let caller = Caller::of(&one);
    let indexes = Worker::start(&machines, 40, async |task| match task.work {
        Work::Index => Act::Do,
        Work::Video { .. } | Work::Audio { .. } => std::future::pending().await,
    })
    .await;
    let id = caller.put(bytes(1000)).await;
    // Two coordinators count the same work, and it is asked for once.
    until("both count it, and Prometheus once", async || {
        let (told, here, there) = (prometheus.ask(&query).await?, backlog(&one).await, backlog(&two).await);
        (told > 1.0 && [here, there].iter().all(|own| (own - told).abs() < 0.001)).then_some(())
    })
    .await;
    drop(indexes);
    let _worker = Worker::diligent(&machines, 40).await;
    caller.reaches(&id, "ready").await;
    until("nothing is left", async || (prometheus.ask(&query).await? == 0.0).then_some(())).await;
}
