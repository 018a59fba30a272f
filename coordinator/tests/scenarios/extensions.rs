//! What tus has beyond its core: checksums, concatenation, and a new connection while the one before still hangs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reelmill_coordinator::uploads::{UploadRecord, expiry};
use reelmill_platform::topology::BucketName;
use reqwest::Response;
use tokio::io::AsyncWriteExt;

use crate::client::{Caller, header, is_problem, status_of, uploaded_bytes};
use crate::machines::{Machines, OTHER_KEY};
use crate::uploads::bytes;

fn blake3_of(bytes: &[u8]) -> String {
    format!("blake3 {}", STANDARD.encode(blake3::hash(bytes).as_bytes()))
}

async fn checked(caller: &Caller, upload: &str, offset: usize, checksum: &str, bytes: &[u8]) -> Response {
    let patch = caller
        .tus("PATCH", upload)
        .header("Content-Type", "application/offset+octet-stream")
        .header("Upload-Offset", offset)
        .header("Upload-Checksum", checksum);
    patch.body(bytes.to_vec()).send().await.unwrap()
}

#[tokio::test]
async fn nothing_of_a_piece_with_a_wrong_checksum_is_kept() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let options = caller.request("OPTIONS", "/v1/uploads").send().await.unwrap();
    assert_eq!(header(&options, "tus-checksum-algorithm"), "sha1,sha256,md5,blake3");
    assert!(header(&options, "tus-extension").contains("checksum"));

    // More than a block, so that much of it was stored before the end showed it to be wrong.
    let sent = bytes(20_000_000);
    let (upload, id) = caller.create(sent.len()).await;
    let mut wrong = sent[..18_000_000].to_vec();
    wrong[17_999_999] ^= 1;
    let right = blake3_of(&sent[..18_000_000]);
    is_problem(checked(&caller, &upload, 0, &right, &wrong).await, 460, "checksum_mismatch").await;
    assert_eq!(caller.offset(&upload).await, 0);
    assert_eq!(checked(&caller, &upload, 0, &right, &sent[..18_000_000]).await.status(), 204);
    assert_eq!(caller.offset(&upload).await, 18_000_000);

    // A cut leaves what nobody can check: it is not kept either.
    let whole = blake3_of(&sent[18_000_000..]);
    let head = Caller::patch_head(&upload, 18_000_000, 2_000_000) + "\r\nUpload-Checksum: " + &whole;
    let mut cut = caller.half_sent(&head, &sent[18_000_000..19_000_000]).await;
    cut.shutdown().await.unwrap();
    assert_eq!(status_of(&mut cut).await, 400);
    assert_eq!(caller.offset(&upload).await, 18_000_000);

    let unknown = checked(&caller, &upload, 18_000_000, "crc32 AAAAAA==", b"x").await;
    is_problem(unknown, 400, "invalid_request").await;
    let malformed = checked(&caller, &upload, 18_000_000, "sha1 AAAAAA==", b"x").await;
    is_problem(malformed, 400, "invalid_request").await;
    assert_eq!(checked(&caller, &upload, 18_000_000, &whole, &sent[18_000_000..]).await.status(), 204);
    caller.reaches(&id, "indexing").await;
    assert!(uploaded_bytes(&machines, &id).await == sent);

    // The upload that was created with wrong bytes is there, without them.
    let created = caller
        .tus("POST", "/v1/uploads")
        .header("Upload-Length", 5)
        .header("Content-Type", "application/offset+octet-stream")
        .header("Upload-Checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")
        .body("hello")
        .send()
        .await
        .unwrap();
    let upload = header(&created, "location");
    is_problem(created, 460, "checksum_mismatch").await;
    assert_eq!(caller.offset(&upload).await, 0);
}

#[tokio::test]
async fn parts_that_come_side_by_side_make_one_upload() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--max-upload-bytes", "30000000"]).await;
    let caller = Caller::of(&coordinator);
    let options = caller.request("OPTIONS", "/v1/uploads").send().await.unwrap();
    assert!(header(&options, "tus-extension").contains("concatenation"));

    let partial = async |length: usize| {
        let create = caller.tus("POST", "/v1/uploads").header("Upload-Concat", "partial");
        let created = create.header("Upload-Length", length).send().await.unwrap();
        assert_eq!(created.status(), 201);
        assert!(created.headers().get("reelmill-asset").is_none(), "a part is no asset");
        header(&created, "location")
    };
    let join = async |caller: &Caller, parts: &[&str]| {
        let create = caller.tus("POST", "/v1/uploads").header("Upload-Metadata", "filename eC5tcDQ=");
        create.header("Upload-Concat", format!("final;{}", parts.join(" "))).send().await.unwrap()
    };
    let sent = bytes(20_000_000);
    let (head, tail) = (partial(9_000_000).await, partial(11_000_000).await);
    assert_eq!(caller.patch(&tail, 0, &sent[9_000_000..]).await.status(), 204);
    assert_eq!(caller.patch(&head, 0, &sent[..8_500_000]).await.status(), 204);
    let endless = caller.tus("POST", "/v1/uploads").header("Upload-Concat", "partial");
    let endless = header(&endless.header("Upload-Defer-Length", 1).send().await.unwrap(), "location");
    is_problem(join(&caller, &[&endless, &tail]).await, 400, "unfinished_part").await;
    assert_eq!(caller.patch(&head, 8_500_000, &sent[8_500_000..9_000_000]).await.status(), 204);
    let whole = format!("{}{tail}", coordinator.base);
    let joined = join(&caller, &[&head, &whole]).await;
    assert_eq!(joined.status(), 201);
    let (upload, id) = (header(&joined, "location"), header(&joined, "reelmill-asset"));
    let said = caller.tus("HEAD", &upload).send().await.unwrap();
    assert_eq!(header(&said, "upload-concat"), format!("final;{head} {tail}"));
    assert_eq!((header(&said, "upload-offset"), header(&said, "upload-length")), {
        ("20000000".to_owned(), "20000000".to_owned())
    });
    let said = caller.tus("HEAD", &head).send().await.unwrap();
    assert_eq!(header(&said, "upload-concat"), "partial");
    assert_eq!(caller.reaches(&id, "indexing").await["name"], "x.mp4");
    assert!(uploaded_bytes(&machines, &id).await == sent);

    is_problem(caller.patch(&upload, 20_000_000, b"x").await, 403, "final_upload").await;
    is_problem(join(&caller, &[&upload]).await, 400, "invalid_request").await;
    is_problem(join(&caller, &[&tail, &tail, &tail]).await, 413, "too_large").await;
    is_problem(join(&caller, &["/files/1"]).await, 400, "invalid_request").await;
    let other = Caller::with_key(&coordinator, OTHER_KEY);
    is_problem(join(&other, &[&head]).await, 404, "unknown_upload").await;
    let long = caller.tus("POST", "/v1/uploads").header("Upload-Concat", format!("final;{head}"));
    is_problem(long.header("Upload-Length", 9_000_000).send().await.unwrap(), 400, "invalid_request").await;

    // A part may be used again, also alone, until it is taken away or its time is over.
    let again = header(&join(&caller, &[&head]).await, "reelmill-asset");
    caller.reaches(&again, "indexing").await;
    assert!(uploaded_bytes(&machines, &again).await == sent[..9_000_000]);
    assert_eq!(caller.tus("DELETE", &head).send().await.unwrap().status(), 204);
    is_problem(join(&caller, &[&head]).await, 410, "upload_gone").await;
    let uploads = machines.bus().await.bucket::<UploadRecord>(BucketName::Uploads).await.unwrap();
    expiry::sweep(&uploads, jiff::Timestamp::now()).await.unwrap();
    assert_eq!(caller.offset(&tail).await, 11_000_000);
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(73);
    expiry::sweep(&uploads, later).await.unwrap();
    is_problem(caller.patch(&tail, 11_000_000, b"x").await, 404, "unknown_upload").await;
    assert_eq!(caller.offset(&upload).await, 20_000_000, "the final one stays");
}

#[tokio::test]
async fn the_newest_connection_takes_over_at_once() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--max-uploads", "1"]).await;
    let caller = Caller::of(&coordinator);
    let sent = bytes(9_000_000);
    let (upload, id) = caller.create(sent.len()).await;
    // These hang: their network is gone, and nobody has told them.
    let head = Caller::patch_head(&upload, 0, sent.len());
    let mut hanging = caller.half_sent(&head, &sent[..100_000]).await;
    coordinator.counts("uploads_open 1").await;
    for _ in 0..3 {
        let newer = caller.half_sent(&head, &sent[..100_000]).await;
        assert_eq!(status_of(&mut hanging).await, 409);
        hanging = newer;
    }
    // The only permit goes to the newest one.
    assert_eq!(caller.offset(&upload).await, 0);
    assert_eq!(caller.patch(&upload, 0, &sent).await.status(), 204);
    assert_eq!(status_of(&mut hanging).await, 409);
    caller.reaches(&id, "indexing").await;
    assert!(uploaded_bytes(&machines, &id).await == sent);

    // Whoever says a wrong offset sends nobody away, and whoever terminates sends everybody away.
    let (upload, _) = caller.create(1000).await;
    let mut open = caller.half_sent(&Caller::patch_head(&upload, 0, 1000), &[1; 999]).await;
    coordinator.counts("uploads_open 1").await;
    is_problem(caller.patch(&upload, 5, b"x").await, 409, "offset_mismatch").await;
    open.write_all(&[1]).await.unwrap();
    assert_eq!(status_of(&mut open).await, 204);
    let (upload, _) = caller.create(1000).await;
    let mut open = caller.half_sent(&Caller::patch_head(&upload, 0, 1000), &[1; 999]).await;
    coordinator.counts("uploads_open 1").await;
    assert_eq!(caller.tus("DELETE", &upload).send().await.unwrap().status(), 204);
    assert_eq!(status_of(&mut open).await, 409);
}

#[tokio::test]
async fn a_connection_to_another_coordinator_takes_over_as_well() {
    let machines = Machines::start().await;
    let (one, two) = tokio::join!(machines.coordinator(&[]), machines.coordinator(&[]));
    let (first, second) = (Caller::of(&one), Caller::of(&two));
    let sent = bytes(9_000_000);
    let (upload, id) = first.create(sent.len()).await;
    let mut hanging = first.half_sent(&Caller::patch_head(&upload, 0, sent.len()), &vec![7; 100_000]).await;
    one.counts("uploads_open 1").await;
    assert_eq!(second.patch(&upload, 0, &sent[..100]).await.status(), 204);
    // What the older one still brings is refused, also if its bytes come back to life.
    hanging.write_all(&vec![7; 200_000]).await.unwrap();
    assert_eq!(status_of(&mut hanging).await, 409);
    assert_eq!(second.patch(&upload, 100, &sent[100..]).await.status(), 204);
    second.reaches(&id, "indexing").await;
    assert!(uploaded_bytes(&machines, &id).await == sent);
}
