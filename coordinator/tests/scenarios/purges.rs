//! Takedowns by API: who may ask for which, what edges are told, and the trail.

use jiff::Timestamp;
use reelmill_media::ids::{AssetId, BlobHash};
use reelmill_media::keys::BlobKind;
use reelmill_platform::access::TokenKey;
use reelmill_platform::jwk::{Algorithm, Jwk};
use reelmill_platform::named;
use reelmill_platform::purge::{Target, Tombstone};
use reelmill_platform::receipt::{EdgeKey, Receipt};
use reelmill_platform::topology::BucketName;
use serde_json::{Value, json};

use crate::client::{Caller, is_problem};
use crate::machines::{Machines, OTHER_KEY, until};
use crate::worker::Worker;

async fn purge(caller: &Caller, subject: Value) -> reqwest::Response {
    let body = json!({ "subject": subject, "reason": "a court says so" });
    caller.request("POST", "/v1/purges").json(&body).send().await.unwrap()
}

async fn get(caller: &Caller, path: &str) -> Value {
    caller.request("GET", path).send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn what_is_taken_down_leaves_a_trail() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--operator", "other"]).await;
    let (owner, operator) = (Caller::of(&coordinator), Caller::with_key(&coordinator, OTHER_KEY));
    let bus = machines.bus().await;
    let tombstones = bus.bucket::<Tombstone>(BucketName::Tombstones).await.unwrap();
    let _worker = Worker::diligent(&machines, 8).await;
    let (first, second) = (owner.put(vec![1; 1000]).await, owner.put(vec![2; 1000]).await);
    for id in [&first, &second] {
        owner.reaches(id, "ready").await;
    }
    let theirs = operator.put(vec![3; 1000]).await;

    // An owner takes away the asset, and not what others may share.
    let stranger = json!({ "kind": "asset", "asset": theirs });
    is_problem(purge(&owner, stranger).await, 404, "unknown_asset").await;
    let hash = BlobHash::of(b"x").to_string();
    is_problem(purge(&owner, json!({ "kind": "blob", "hash": hash })).await, 403, "forbidden").await;
    is_problem(purge(&owner, json!({ "kind": "tenant", "tenant": "other" })).await, 403, "forbidden").await;
    is_problem(purge(&owner, json!({ "kind": "else" })).await, 400, "invalid_request").await;
    let asset = json!({ "kind": "asset", "asset": first });
    let answer = purge(&owner, asset.clone()).await;
    assert_eq!(answer.status(), 201);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let own: Value = answer.json().await.unwrap();
    assert_eq!((&own["by"], &own["tombstones"]), (&json!("demo"), &json!(1)));
    let id: AssetId = first.parse().unwrap();
    let (tombstone, revision) = tombstones.get(&format!("asset.{id}")).await.unwrap().unwrap();
    assert_eq!(tombstone.target, Target::Asset { asset: id, blobs: None });
    let since = |asset: Value| asset["taken_down_at"].as_str().map(|at| at.parse::<Timestamp>().unwrap());
    assert_eq!(since(owner.asset(&first).await), Some(tombstone.at), "its owner sees it");
    assert_eq!(since(owner.asset(&second).await), None);

    // What edges say of it is shown with it.
    assert_eq!(get(&owner, &location).await["receipts"], json!([]));
    let receipts = bus.bucket::<Receipt>(BucketName::Receipts).await.unwrap();
    let keys = bus.bucket::<EdgeKey>(BucketName::EdgeKeys).await.unwrap();
    let receipt = |edge: &str| Receipt {
        edge: edge.into(),
        tombstone: format!("asset.{id}"),
        revision: revision.0,
        at: Timestamp::now(),
        dropped: 2,
        signature: None,
    };
    let (own, another) = (Jwk::generate(Algorithm::EdDSA).unwrap(), Jwk::generate(Algorithm::EdDSA).unwrap());
    for edge in ["edge-1", "edge-4"] {
        let key = EdgeKey::of(edge, &own, Timestamp::now()).unwrap();
        keys.put(&key.key(), &key).await.unwrap();
    }
    let good = receipt("edge-1").signed(&own).unwrap();
    let forged = Receipt { dropped: 0, ..receipt("edge-4").signed(&own).unwrap() };
    for receipt in [&good, &receipt("edge-2"), &receipt("edge-3").signed(&another).unwrap(), &forged] {
        receipts.put(&receipt.key(), receipt).await.unwrap();
    }
    // One edge's word in the place of another's.
    receipts.put(&receipt("edge-5").key(), &good).await.unwrap();
    let view = get(&owner, &location).await;
    let shown: Vec<_> =
        view["receipts"].as_array().unwrap().iter().map(|r| (&r["edge"], &r["proof"])).collect();
    let names = ["edge-1", "edge-2", "edge-3", "edge-4", "edge-1"].map(Value::from);
    let proofs = ["signed", "unsigned", "foreign", "wrong", "wrong"].map(Value::from);
    assert_eq!(shown, names.iter().zip(&proofs).collect::<Vec<_>>());

    // The operator takes away everything, blobs too, and a deletion later on gives nothing back.
    let answer = purge(&operator, json!({ "kind": "tenant", "tenant": "demo" })).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.json::<Value>().await.unwrap()["tombstones"], 2);
    let index = format!("assets/{id}/presentation.json");
    let named: Vec<BlobHash> = named::blobs(&std::fs::read(machines.file(&index)).unwrap()).collect();
    assert!(!named.is_empty());
    assert_eq!(owner.request("DELETE", &format!("/v1/assets/{id}")).send().await.unwrap().status(), 204);
    let (tombstone, _) = tombstones.get(&format!("asset.{id}")).await.unwrap().unwrap();
    let Target::Asset { blobs: Some(list), .. } = tombstone.target else { panic!("{:?}", tombstone.target) };
    let record = machines.store.get_blob(BlobKind::Record, list).await.unwrap();
    let listed: Vec<BlobHash> = serde_json::from_slice(record.bytes()).unwrap();
    assert!(named.iter().all(|blob| listed.contains(blob)));

    // A key, by whom it is of.
    let keys = bus.bucket::<TokenKey>(BucketName::TokenKeys).await.unwrap();
    for (kid, tenant) in [("mine", "demo"), ("theirs", "other")] {
        let jwk = Jwk::generate(Algorithm::EdDSA).unwrap().proving();
        keys.put(kid, &TokenKey { tenant: Some(tenant.parse().unwrap()), jwk }).await.unwrap();
    }
    is_problem(purge(&owner, json!({ "kind": "key", "kid": "theirs" })).await, 403, "forbidden").await;
    assert_eq!(purge(&owner, json!({ "kind": "key", "kid": "mine" })).await.status(), 201);
    assert!(keys.get("mine").await.unwrap().is_none());
    assert!(tombstones.get("key.mine").await.unwrap().is_some());
    assert_eq!(purge(&operator, json!({ "kind": "blob", "hash": hash })).await.status(), 201);

    let kinds = async |caller: &Caller| {
        let trail = get(caller, "/v1/purges").await;
        let purges = trail["purges"].as_array().unwrap().clone();
        purges.iter().map(|p| p["subject"]["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("the trail", async || (kinds(&operator).await == ["blob", "key", "tenant", "asset"]).then_some(()))
        .await;
    assert_eq!(kinds(&owner).await, ["key", "asset"], "others' purges are theirs");
    let foreign = get(&operator, "/v1/purges").await["purges"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/purges/{foreign}");
    is_problem(owner.request("GET", &path).send().await.unwrap(), 404, "unknown_purge").await;
}
