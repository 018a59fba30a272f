//! A plain web server over a bucket's folder, in a process of its own: an origin that can be stopped, go on, and die.

use std::fs::{File, read_to_string};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use reelmill_platform::store::Store;
use tempfile::TempDir;

use crate::process::Program;

const BUCKET: &str = "bucket";

pub struct WebServer {
    folder: TempDir,
    port: u16,
    pub process: Program,
}

impl WebServer {
    pub fn start() -> WebServer {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("site").join(BUCKET)).unwrap();
        let (process, port) = launch(folder.path(), 0);
        WebServer { folder, port, process }
    }

    /// As coordinators write to it.
    pub fn folder(&self) -> Store {
        Store::open(&format!("file://{}/site/{BUCKET}", self.folder.path().display())).unwrap()
    }

    /// As edges read from it: an S3 client that signs nothing.
    pub fn store(&self) -> Store {
        let client = AmazonS3Builder::new()
            .with_endpoint(format!("http://127.0.0.1:{}", self.port))
            .with_bucket_name(BUCKET)
            .with_allow_http(true)
            .with_skip_signature(true);
        Store::over(Arc::new(client.build().unwrap()))
    }

    /// How often a segment was asked for.
    pub fn reads(&self) -> usize {
        let log = read_to_string(self.folder.path().join("log")).unwrap();
        log.lines().filter(|line| line.contains(".m4s HTTP/")).count()
    }

    pub fn kill(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// Starts again, at the same address.
    pub fn restart(&mut self) {
        (self.process, self.port) = launch(self.folder.path(), self.port);
    }
}

fn launch(folder: &Path, port: u16) -> (Program, u16) {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut process = Program(
        Command::new("python3")
            .args(["-u", "-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory"])
            .arg(folder.join("site"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.split_whitespace().skip_while(|word| *word != "port").nth(1).unwrap();
    (process, port.parse().unwrap())
}
