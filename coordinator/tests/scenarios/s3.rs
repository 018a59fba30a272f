//! An S3 server of somebody else's, which checks signatures, pages its lists and cannot rename; and that a store there is
//! what one in a folder is.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use object_store::aws::AmazonS3Builder;
use object_store::prefix::PrefixStore;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::{self, BlobKind};
use reelmill_platform::store::{Store, StoreError};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::machines::Machines;

const BUCKET: &str = "videos";
/// Where in the bucket the store begins.
const PREFIX: &str = "reel/mill";
const ACCESS_KEY: &str = "who";
const SECRET_KEY: &str = "a secret";

/// Serves until it is dropped.
#[derive(Debug)]
pub struct S3 {
    endpoint: String,
    folder: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl S3 {
    /// With one bucket, which it keeps in a folder: each object in a file of its name.
    pub async fn start(folder: PathBuf) -> S3 {
        std::fs::create_dir_all(folder.join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(&folder).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service.clone();
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // Whoever has seen enough hangs up.
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        S3 { endpoint, folder, task }
    }

    /// The store's address.
    pub fn url(&self) -> String {
        format!("s3://{BUCKET}/{PREFIX}")
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

    /// The same store, for this process.
    pub fn store(&self) -> Store {
        let bucket = AmazonS3Builder::new()
            .with_bucket_name(BUCKET)
            .with_endpoint(&self.endpoint)
            .with_allow_http(true)
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(SECRET_KEY)
            .build()
            .unwrap();
        Store::over(Arc::new(PrefixStore::new(bucket, PREFIX)))
    }

    /// The file in which it keeps an object of the store.
    pub fn file(&self, key: &str) -> PathBuf {
        self.folder.join(BUCKET).join(PREFIX).join(key)
    }
}

async fn keys_in(store: &Store, folder: &str) -> BTreeSet<String> {
    store.list(folder).map_ok(|found| found.key).try_collect().await.unwrap()
}

/// What everything else is built on.
async fn is_as_it_says(store: Store) {
    store.check().await.unwrap();
    let (key, moved) = ("assets/one/index.m3u8", "trash/a b+c/index.m3u8");
    let get = async |key: &str| store.get_object(key, 100).await;
    let absent = |got: Result<Bytes, StoreError>| matches!(got, Err(StoreError::NotFound { .. }));
    assert!(absent(get(key).await) && store.modified(key).await.unwrap().is_none());
    store.delete_object(key).await.expect("what is not there is gone");
    store.move_object(key, moved).await.expect("what is gone is moved");
    for text in ["first", "and then another"] {
        store.put_object(key, Bytes::from(text)).await.unwrap();
        assert_eq!(get(key).await.unwrap(), text);
    }
    assert!(matches!(
        store.get_object(key, 15).await,
        Err(StoreError::TooLarge { bytes: 16, limit: 15, .. })
    ));
    let mut rest = store.open_object(key, 9, 100).await.unwrap();
    assert_eq!((rest.length(), rest.next().await.unwrap().unwrap()), (16, Bytes::from("another")));
    assert!(rest.next().await.unwrap().is_none());

    let put = store.modified(key).await.unwrap().unwrap();
    store.put_object(moved, Bytes::from("is replaced")).await.unwrap();
    store.move_object(key, moved).await.unwrap();
    assert!(absent(get(key).await));
    assert_eq!(get(moved).await.unwrap(), "and then another");
    let since = store.modified(moved).await.unwrap().unwrap();
    assert!(since >= put, "what is moved is at least as new");
    store.delete_object(moved).await.unwrap();
    assert!(absent(get(moved).await));

    // A blob that lies in the trash is still read.
    let content = Bytes::from_static(b"blob");
    let hash = store.put_blob(BlobKind::SourceBlock, content.clone()).await.unwrap();
    let place = keys::blob(&hash, BlobKind::SourceBlock);
    store.move_object(&place, &keys::in_trash(&place).unwrap()).await.unwrap();
    assert_eq!(store.get_blob(BlobKind::SourceBlock, hash).await.unwrap().bytes(), &content);
    let nobody = store.get_blob(BlobKind::SourceBlock, BlobHash::of(b"nobody's")).await;
    assert!(matches!(nobody, Err(StoreError::NotFound { .. })));

    // More than a server tells at once, and neighbours whose names begin alike.
    let many: BTreeSet<String> = (0..1100).map(|n| format!("records/{n}.json")).collect();
    let puts = many.iter().map(|key| store.put_object(key, Bytes::from_static(b"{}")));
    stream::iter(puts).buffer_unordered(16).try_for_each(async |()| Ok(())).await.unwrap();
    store.put_object("records-2/x.json", Bytes::from_static(b"{}")).await.unwrap();
    assert_eq!(keys_in(&store, "records").await, many);
    assert!(keys_in(&store, "nothing").await.is_empty());
}

#[tokio::test]
async fn a_store_on_s3_is_as_one_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    is_as_it_says(Store::open(&format!("file://{}", folder.path().join("store").display())).unwrap()).await;
    let s3 = S3::start(folder.path().join("s3")).await;
    is_as_it_says(s3.store()).await;
}

#[tokio::test]
async fn who_may_not_use_the_bucket_is_told_so_at_the_start() {
    let machines = Machines::on_s3().await;
    let rebuild = ["rebuild", "--store", &machines.store_url, "--nats", &machines.nats_url];
    let mut stranger = machines.program();
    stranger.args(rebuild).env("AWS_SECRET_ACCESS_KEY", "another");
    let ended = stranger.output().await.unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("SignatureDoesNotMatch"), "{said}");
}
