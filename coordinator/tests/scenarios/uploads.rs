//! Uploads in one request, and what is said to callers who are wrong.

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::client::{Caller, header, is_problem, uploaded_bytes};
use crate::machines::{Machines, OTHER_KEY, until};

/// Bytes that differ everywhere.
pub fn bytes(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

#[tokio::test]
async fn bodies_of_any_length_arrive_whole() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    for length in [1, 8 << 20, (8 << 20) + 1, 20_000_000] {
        let sent = bytes(length);
        let id = caller.put(sent.clone()).await;
        let asset = caller.reaches(&id, "indexing").await;
        assert_eq!(asset["upload"]["bytes"], length);
        assert_eq!(asset["name"], "clip");
        assert!(uploaded_bytes(&machines, &id).await == sent, "{length} bytes");
    }
    // Chunked, without a declared length.
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
        bytes(300_000).chunks(7000).map(|c| Ok(c.to_vec())).collect();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let response = caller.request("PUT", "/v1/uploads").body(body).send().await.unwrap();
    let asset: Value = response.json().await.unwrap();
    let id = asset["id"].as_str().unwrap();
    assert!(uploaded_bytes(&machines, id).await == bytes(300_000));
}

#[tokio::test]
async fn an_upload_without_its_bytes_fails_its_asset() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--max-upload-bytes", "50000"]).await;
    let caller = Caller::of(&coordinator);

    let response = caller.request("PUT", "/v1/uploads").send().await.unwrap();
    let empty = header(&response, "reelmill-asset");
    is_problem(response, 422, "empty").await;
    assert_eq!(caller.reaches(&empty, "failed").await["error"]["code"], "empty");

    // Who sends too much hears so, and is not cut off in the middle of it.
    for length in [50_001, 900_000] {
        let response = caller.request("PUT", "/v1/uploads").body(bytes(length)).send().await.unwrap();
        is_problem(response, 413, "too_large").await;
    }

    // The list knows the others: their answers do not come through a broken connection.
    let newest = async |but: &str| {
        until("the newest asset", async || {
            let page: Value = caller.request("GET", "/v1/assets").send().await.unwrap().json().await.unwrap();
            let asset = page["assets"][0].clone();
            (asset["id"] != but && asset["state"] == "failed").then_some(asset)
        })
        .await
    };
    let short = caller.half_sent("PUT /v1/uploads HTTP/1.1\r\nContent-Length: 40000", &bytes(30_000)).await;
    drop(short);
    let short = newest(&empty).await;
    assert_eq!(short["error"]["code"], "incomplete");

    let chunk = [b"7530\r\n".to_vec(), bytes(0x7530), b"\r\n".to_vec()].concat();
    let head = "PUT /v1/uploads HTTP/1.1\r\nTransfer-Encoding: chunked";
    let mut cut = caller.half_sent(head, &chunk).await;
    cut.shutdown().await.unwrap();
    let cut = newest(short["id"].as_str().unwrap()).await;
    assert_eq!(cut["error"]["code"], "incomplete", "a chunked body without its end is not whole");

    let long = caller.half_sent(head, &[chunk.clone(), chunk].concat()).await;
    let long_asset = newest(cut["id"].as_str().unwrap()).await;
    assert_eq!(long_asset["error"]["code"], "too_large");
    drop(long);
}

#[tokio::test]
async fn every_mistake_has_its_own_answer() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--max-uploads", "1"]).await;
    let caller = Caller::of(&coordinator);
    let ask = async |method: &str, path: &str| caller.request(method, path).send().await.unwrap();

    let stranger = Caller::with_key(&coordinator, "no such key");
    let response = stranger.request("GET", "/v1/assets").send().await.unwrap();
    assert!(header(&response, "www-authenticate").starts_with("Bearer"));
    is_problem(response, 401, "unauthorized").await;
    let nobody = reqwest::Client::new().put(format!("{}/v1/uploads", coordinator.base)).body("x");
    is_problem(nobody.send().await.unwrap(), 401, "unauthorized").await;

    is_problem(ask("GET", "/v1/assets/01jz0000000000000000000000").await, 404, "unknown_asset").await;
    is_problem(ask("GET", "/v1/assets/nonsense").await, 400, "invalid_id").await;
    is_problem(ask("GET", "/v1/assets/01JZ0000000000000000000000/events").await, 400, "invalid_id").await;
    is_problem(ask("GET", "/v1/assets?limit=many").await, 400, "invalid_request").await;
    is_problem(ask("GET", "/v1/nothing").await, 404, "unknown_path").await;
    let response = ask("DELETE", "/v1/assets").await;
    assert_eq!(header(&response, "allow"), "GET,HEAD");
    is_problem(response, 405, "method_not_allowed").await;
    let long = format!("/v1/uploads?name={}", "x".repeat(300));
    is_problem(caller.request("PUT", &long).body("x").send().await.unwrap(), 400, "invalid_request").await;

    let id = caller.put(bytes(10)).await;
    let other = Caller::with_key(&coordinator, OTHER_KEY);
    let response = other.request("GET", &format!("/v1/assets/{id}")).send().await.unwrap();
    is_problem(response, 404, "unknown_asset").await;

    let _taking = caller.half_sent("PUT /v1/uploads HTTP/1.1\r\nContent-Length: 40000", b"some").await;
    coordinator.counts("uploads_open 1").await;
    let response = caller.request("PUT", "/v1/uploads").body("x").send().await.unwrap();
    assert_eq!(header(&response, "retry-after"), "1");
    is_problem(response, 503, "busy").await;
}
