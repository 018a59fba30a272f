//! What nothing names goes, and nothing else.

use reelmill_media::ids::BlobHash;
use reelmill_media::keys::{self, BlobKind};

use crate::client::Caller;
use crate::life::is_whole;
use crate::machines::{Machines, until};
use crate::uploads::bytes;
use crate::worker::Worker;

/// The block of a source that is one block.
pub fn block(source: &[u8]) -> String {
    keys::blob(&BlobHash::of(source), BlobKind::SourceBlock)
}

/// It lies in its place, or in the trash.
fn is_there(machines: &Machines, source: &[u8]) -> bool {
    let place = block(source);
    machines.file(&place).exists() || machines.file(&keys::in_trash(&place).unwrap()).exists()
}

#[tokio::test]
async fn blobs_go_when_nothing_names_them_any_more() {
    go(Machines::start().await).await;
}

#[tokio::test]
async fn blobs_on_s3_go_when_nothing_names_them_any_more() {
    go(Machines::on_s3().await).await;
}

async fn go(machines: Machines) {
    let keeps_all = machines.coordinator(&["--garbage-grace-s", "0"]).await;
    let caller = Caller::of(&keeps_all);
    let _worker = Worker::diligent(&machines, 20).await;
    let (gone, stays, half) = (bytes(3000), bytes(4000), bytes(5000));
    // All segments of both are the same.
    let first = caller.put(gone.clone()).await;
    let second = caller.put(stays.clone()).await;
    caller.reaches(&first, "ready").await;
    caller.reaches(&second, "ready").await;
    let (upload, growing) = caller.create(10_000).await;
    assert_eq!(caller.patch(&upload, 0, &half).await.status(), 204);
    assert_eq!(caller.request("DELETE", &format!("/v1/assets/{first}")).send().await.unwrap().status(), 204);
    // Whoever published it died before its record said so.
    let (ended, failed) = caller.create(10).await;
    assert_eq!(caller.tus("DELETE", &ended).send().await.unwrap().status(), 204);
    caller.reaches(&failed, "failed").await;
    let stray = keys::presentation(failed.parse().unwrap());
    let naming = format!("{{\"hash\":\"{}\"}}", BlobHash::of(&gone));
    machines.store.put_object(&stray, naming.into()).await.unwrap();
    assert!(machines.file(&block(&gone)).exists());
    keeps_all.kill().await;

    let coordinator = machines.coordinator(&["--garbage-grace-s", "1"]).await;
    let caller = Caller::of(&coordinator);
    until("its block to go", async || (!is_there(&machines, &gone)).then_some(())).await;
    assert!(!machines.file(&stray).exists());
    is_whole(&machines, &second, 20);
    assert!(machines.file(&block(&stays)).exists() && machines.file(&block(&half)).exists());
    // The upload goes on from where it was.
    assert_eq!(caller.offset(&upload).await, half.len());
    assert_eq!(caller.patch(&upload, half.len(), &half).await.status(), 204);
    caller.reaches(&growing, "ready").await;
    // The same bytes come again, while everything is being collected.
    let again = caller.put(gone.clone()).await;
    caller.reaches(&again, "ready").await;

    for asset in [&second, &growing, &again] {
        let path = format!("/v1/assets/{asset}");
        assert_eq!(caller.request("DELETE", &path).send().await.unwrap().status(), 204);
    }
    until("all blocks to go", async || {
        (![&gone, &stays, &half].into_iter().any(|source| is_there(&machines, source))).then_some(())
    })
    .await;
}
