//! An S3 server of somebody else's, on a folder, which checks signatures, pages its lists and cannot rename. It can be told to be
//! slow, or to refuse, and it can be one that makes nothing of conditions.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::access::S3Access;
use s3s::auth::SimpleAuth;
use s3s::dto::{CompleteMultipartUploadInput, PutObjectInput};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpResponse, S3Request, S3Result};
use s3s_fs::FileSystem;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

const BUCKET: &str = "videos";
/// Where in the bucket the store begins.
const PREFIX: &str = "reel/mill";
const ACCESS_KEY: &str = "who";
const SECRET_KEY: &str = "a secret";

/// How it treats whoever asks.
#[derive(Debug, Clone, Copy)]
pub enum Temper {
    /// It does what it is asked.
    Willing,
    /// The same, so much later.
    Slow(Duration),
    /// It forbids everything.
    Refusing,
}

/// Serves until it is dropped.
#[derive(Debug)]
pub struct S3 {
    endpoint: String,
    folder: PathBuf,
    temper: watch::Sender<Temper>,
    _stop: oneshot::Sender<()>,
}

impl S3 {
    /// With one bucket, which it keeps in a folder: each object in a file of its name.
    pub fn start(folder: &Path) -> S3 {
        S3::around(folder, |_| {})
    }

    /// The same, but whoever puts an object on a condition (`If-None-Match`, `If-Match`) has it put in any case and hears of no
    /// rival, as with Garage.
    pub fn heedless(folder: &Path) -> S3 {
        S3::around(folder, |service| service.set_access(Heedless))
    }

    fn around(folder: &Path, adapt: impl FnOnce(&mut S3ServiceBuilder)) -> S3 {
        std::fs::create_dir_all(folder.join(BUCKET)).expect("a folder");
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder).expect("a folder"));
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        adapt(&mut service);
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let (temper, tempers) = watch::channel(Temper::Willing);
        let (stop, stopped) = oneshot::channel();
        // Tests with a runtime of their own, and without one, may have it.
        std::thread::spawn(move || serve(listener, &service, &tempers, stopped));
        S3 { endpoint, folder: folder.to_owned(), temper, _stop: stop }
    }

    /// How it is from now on.
    pub fn becomes(&self, temper: Temper) {
        self.temper.send_replace(temper);
    }

    /// The store's address.
    pub fn url(&self) -> String {
        format!("s3://{BUCKET}/{PREFIX}")
    }

    /// The folder in which the store's objects lie.
    pub fn folder(&self) -> PathBuf {
        self.folder.join(BUCKET).join(PREFIX)
    }

    /// What a process has in its environment to use it.
    pub fn environment(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ENDPOINT", &self.endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ]
    }
}

/// Takes the conditions off what it lets through.
struct Heedless;

#[async_trait]
impl S3Access for Heedless {
    async fn put_object(&self, request: &mut S3Request<PutObjectInput>) -> S3Result<()> {
        (request.input.if_none_match, request.input.if_match) = (None, None);
        Ok(())
    }

    async fn complete_multipart_upload(
        &self,
        request: &mut S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<()> {
        (request.input.if_none_match, request.input.if_match) = (None, None);
        Ok(())
    }
}

/// Ends, with all connections, when it is told to stop or nobody can tell it any more.
fn serve(
    listener: TcpListener,
    service: &S3Service,
    tempers: &watch::Receiver<Temper>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let accept = async {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(answer(stream, service.clone(), tempers.clone()));
            }
        };
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    });
}

async fn answer(stream: TcpStream, service: S3Service, tempers: watch::Receiver<Temper>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let (temper, service) = (*tempers.borrow(), service.clone());
        async move {
            match temper {
                Temper::Willing => {}
                Temper::Slow(by) => tokio::time::sleep(by).await,
                Temper::Refusing => return Ok(forbidden()),
            }
            service.call(request.map(Body::from)).await
        }
    });
    // Whoever has seen enough, or was killed, hangs up.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
}

fn forbidden() -> HttpResponse {
    let mut answer = HttpResponse::new(Body::empty());
    *answer.status_mut() = StatusCode::FORBIDDEN;
    answer
}
