//! The tus protocol.

use crate::client::{Caller, header, is_problem, status_of, uploaded_bytes};
use crate::machines::{Machines, OTHER_KEY, until};
use crate::uploads::bytes;

#[tokio::test]
async fn an_upload_goes_on_where_it_was_cut() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let sent = bytes(12_000_000);
    let (upload, id) = caller.create(sent.len()).await;
    assert_eq!(caller.asset(&id).await["state"], "uploading");
    let mut offset = 0;
    for cut_after in [100_000, 9_000_000, 1] {
        let head = Caller::patch_head(&upload, offset, sent.len() - offset);
        let stream = caller.half_sent(&head, &sent[offset..offset + cut_after]).await;
        drop(stream);
        offset += cut_after;
        until("the bytes before the cut", async || (caller.offset(&upload).await == offset).then_some(()))
            .await;
    }
    let asset = until("the asset to hear of it", async || {
        let asset = caller.asset(&id).await;
        (asset["upload"]["bytes"] == offset).then_some(asset)
    });
    assert_eq!(asset.await["upload"]["length"], sent.len());

    let response = caller.patch(&upload, offset, &sent[offset..]).await;
    assert_eq!(response.status(), 204);
    assert_eq!(header(&response, "upload-offset"), sent.len().to_string());
    assert_eq!(header(&response, "reelmill-asset"), id);
    assert_eq!(caller.offset(&upload).await, sent.len());
    caller.reaches(&id, "indexing").await;
    assert!(uploaded_bytes(&machines, &id).await == sent);
}

#[tokio::test]
async fn many_small_pieces_make_one_source() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let sent = bytes(300 * 11);
    let (upload, id) = caller.create(sent.len()).await;
    for (n, piece) in sent.chunks(11).enumerate() {
        assert_eq!(caller.patch(&upload, n * 11, piece).await.status(), 204);
    }
    caller.reaches(&id, "indexing").await;
    assert!(uploaded_bytes(&machines, &id).await == sent);
}

#[tokio::test]
async fn two_writers_never_mix_their_bytes() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    for length in [1000, 9_000_000] {
        let (upload, id) = caller.create(length).await;
        let head = Caller::patch_head(&upload, 0, length);
        // Both are let in before either has said its last byte.
        let mut one = caller.half_sent(&head, &vec![1; length - 1]).await;
        let mut two = caller.half_sent(&head, &vec![2; length - 1]).await;
        let ends = tokio::join!(end(&mut one, 1), end(&mut two, 2));
        let winner = match ends {
            (204, 409) => 1,
            (409, 204) => 2,
            // Both stopped: whoever has stored a block goes on by another request.
            other => panic!("ended with {other:?}"),
        };
        caller.reaches(&id, "indexing").await;
        assert!(uploaded_bytes(&machines, &id).await == vec![winner; length]);
    }
}

async fn end(stream: &mut tokio::net::TcpStream, last: u8) -> u16 {
    // The loser may have been told to go before its last byte.
    let _ = tokio::io::AsyncWriteExt::write_all(stream, &[last]).await;
    status_of(stream).await
}

#[tokio::test]
async fn the_protocol_is_kept() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--max-upload-bytes", "1000000"]).await;
    let caller = Caller::of(&coordinator);

    let client = reqwest::Client::new();
    let options = client.request("OPTIONS".parse().unwrap(), format!("{}/v1/uploads", coordinator.base));
    let options = options.send().await.unwrap();
    assert_eq!(options.status(), 204);
    assert_eq!(header(&options, "tus-version"), "1.0.0");
    assert_eq!(header(&options, "tus-max-size"), "1000000");
    assert!(header(&options, "tus-extension").starts_with("creation,creation-with-upload"));

    let create = || caller.tus("POST", "/v1/uploads");
    is_problem(create().send().await.unwrap(), 400, "invalid_request").await;
    is_problem(create().header("Upload-Length", "-1").send().await.unwrap(), 400, "invalid_request").await;
    is_problem(create().header("Upload-Length", "1000001").send().await.unwrap(), 413, "too_large").await;
    let old =
        caller.request("POST", "/v1/uploads").header("Tus-Resumable", "0.2.2").header("Upload-Length", 1);
    let response = old.send().await.unwrap();
    assert_eq!(header(&response, "tus-version"), "1.0.0");
    is_problem(response, 412, "unsupported_version").await;

    let response = create()
        .header("Upload-Length", 10)
        .header("Upload-Metadata", "filename eC5tcDQ=,x")
        .send()
        .await
        .unwrap();
    assert_eq!(header(&response, "tus-resumable"), "1.0.0");
    let (upload, id) = (header(&response, "location"), header(&response, "reelmill-asset"));
    assert_eq!(caller.asset(&id).await["name"], "x.mp4");
    let head = caller.tus("HEAD", &upload).send().await.unwrap();
    assert_eq!(header(&head, "upload-metadata"), "filename eC5tcDQ=,x");
    assert_eq!(header(&head, "upload-length"), "10");
    assert!(header(&head, "upload-expires").ends_with("GMT"));

    is_problem(caller.patch(&upload, 5, b"12345").await, 409, "offset_mismatch").await;
    is_problem(caller.patch(&upload, 0, b"12345678901").await, 413, "too_large").await;
    let plain = caller.tus("PATCH", &upload).header("Upload-Offset", 0).header("Content-Type", "text/plain");
    is_problem(plain.body("x").send().await.unwrap(), 415, "unsupported_media_type").await;
    let patch = caller.request("PATCH", &upload).header("Upload-Offset", 0);
    is_problem(patch.body("x").send().await.unwrap(), 412, "unsupported_version").await;
    let unknown = "/v1/uploads/01jz0000000000000000000000";
    is_problem(caller.patch(unknown, 0, b"x").await, 404, "unknown_upload").await;
    is_problem(caller.patch("/v1/uploads/x", 0, b"x").await, 400, "invalid_id").await;
    let other = Caller::with_key(&coordinator, OTHER_KEY);
    is_problem(other.patch(&upload, 0, b"x").await, 404, "unknown_upload").await;

    // By a client that can only POST.
    let posted = caller
        .tus("POST", &upload)
        .header("X-HTTP-Method-Override", "PATCH")
        .header("Content-Type", "application/offset+octet-stream")
        .header("Upload-Offset", 0);
    assert_eq!(posted.body("1234567890").send().await.unwrap().status(), 204);
    caller.reaches(&id, "indexing").await;

    // Bytes with the creation, and a length that is said later.
    let response = create()
        .header("Upload-Defer-Length", "1")
        .header("Content-Type", "application/offset+octet-stream")
        .body("1234")
        .send()
        .await
        .unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "upload-offset").as_str()), (201, "4"));
    let (upload, id) = (header(&response, "location"), header(&response, "reelmill-asset"));
    let head = caller.tus("HEAD", &upload).send().await.unwrap();
    assert_eq!(header(&head, "upload-defer-length"), "1");
    let rest = caller
        .tus("PATCH", &upload)
        .header("Content-Type", "application/offset+octet-stream")
        .header("Upload-Offset", 4)
        .header("Upload-Length", 6);
    assert_eq!(rest.body("56").send().await.unwrap().status(), 204);
    assert!(uploaded_bytes(&machines, &id).await == b"123456");

    // Terminated.
    let (upload, id) = caller.create(10).await;
    assert_eq!(caller.patch(&upload, 0, b"123").await.status(), 204);
    assert_eq!(caller.tus("DELETE", &upload).send().await.unwrap().status(), 204);
    is_problem(caller.patch(&upload, 3, b"4").await, 410, "upload_gone").await;
    assert_eq!(caller.asset(&id).await["error"]["code"], "incomplete");

    // Nothing at all.
    let (upload, id) = caller.create(0).await;
    assert_eq!(caller.offset(&upload).await, 0);
    assert_eq!(caller.reaches(&id, "failed").await["error"]["code"], "empty");
}
