//! Who may watch what, by API: what owners and the operator may say, and what edges are told of it.

use reelmill_platform::access::{Policy, TokenKey};
use reelmill_platform::jwk::{Algorithm, Jwk};
use reelmill_platform::kv::Bucket;
use reelmill_platform::topology::BucketName;
use reqwest::Response;
use serde_json::{Value, json};

use crate::client::{Caller, is_problem};
use crate::machines::{Machines, OTHER_KEY};
use crate::uploads::bytes;

async fn ask(caller: &Caller, method: &str, path: &str) -> Response {
    caller.request(method, path).send().await.unwrap()
}

async fn put(caller: &Caller, path: &str, body: &Value) -> Response {
    caller.request("PUT", path).json(body).send().await.unwrap()
}

async fn shown(response: Response, status: u16) -> Value {
    assert_eq!(response.status().as_u16(), status);
    response.json().await.unwrap()
}

#[tokio::test]
async fn owners_say_who_watches_theirs() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--operator", "other"]).await;
    let (owner, operator) = (Caller::of(&coordinator), Caller::with_key(&coordinator, OTHER_KEY));
    let policies: Bucket<Policy> = machines.bus().await.bucket(BucketName::Policies).await.unwrap();
    let told = async |key: &str| policies.get(key).await.unwrap().map(|(policy, _)| policy);

    let id = owner.put(bytes(10)).await;
    let asset = format!("/v1/assets/{id}/policy");
    is_problem(ask(&owner, "GET", &asset).await, 404, "unknown_policy").await;
    let germany = json!({ "private": true, "countries": { "only": ["DE"] } });
    assert_eq!(shown(put(&owner, &asset, &germany).await, 200).await, germany);
    assert_eq!(shown(ask(&owner, "GET", &asset).await, 200).await, germany);
    let there = told(&format!("asset.{id}")).await.unwrap();
    assert_eq!(serde_json::to_value(there).unwrap(), germany);
    for wrong in [
        json!({ "privat": true }),
        json!({ "countries": { "only": ["de"] } }),
        json!({ "countries": { "only": [], "all_but": [] } }),
    ] {
        is_problem(put(&owner, &asset, &wrong).await, 400, "invalid_request").await;
    }
    assert_eq!(told(&format!("asset.{id}")).await.unwrap(), serde_json::from_value(germany.clone()).unwrap());

    // An asset is its owner's; a tenant's assets are also the operator's to close.
    is_problem(put(&operator, &asset, &json!({})).await, 404, "unknown_asset").await;
    let (own, others) = ("/v1/tenants/demo/policy", "/v1/tenants/other/policy");
    for method in ["GET", "DELETE"] {
        is_problem(ask(&owner, method, others).await, 403, "forbidden").await;
    }
    is_problem(put(&owner, others, &json!({})).await, 403, "forbidden").await;
    is_problem(put(&owner, "/v1/tenants/A%20b/policy", &json!({})).await, 400, "invalid_id").await;
    let everywhere = json!({ "private": true, "countries": "all" });
    assert_eq!(shown(put(&operator, own, &json!({ "private": true })).await, 200).await, everywhere);
    assert_eq!(shown(ask(&owner, "GET", own).await, 200).await, everywhere);
    for path in [own, &asset] {
        for _ in 0..2 {
            assert_eq!(ask(&owner, "DELETE", path).await.status(), 204);
        }
        is_problem(ask(&owner, "GET", path).await, 404, "unknown_policy").await;
    }
    assert!(told("tenant.demo").await.is_none() && told(&format!("asset.{id}")).await.is_none());
    assert_eq!(ask(&owner, "DELETE", &format!("/v1/assets/{id}")).await.status(), 204);
    is_problem(put(&owner, &asset, &germany).await, 410, "asset_gone").await;
}

#[tokio::test]
async fn a_tenant_changes_its_token_key_and_touches_no_others() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&["--operator", "other"]).await;
    let (owner, operator) = (Caller::of(&coordinator), Caller::with_key(&coordinator, OTHER_KEY));
    let keys: Bucket<TokenKey> = machines.bus().await.bucket(BucketName::TokenKeys).await.unwrap();
    let make = |algorithm| Jwk::generate(algorithm).unwrap();
    let (first, second, secret) = (make(Algorithm::EdDSA), make(Algorithm::EdDSA), make(Algorithm::HS256));
    let body = |jwk: &Jwk| json!({ "jwk": jwk.proving() });

    // The private half stays where it is.
    let whole = json!({ "jwk": first });
    let told = is_problem(put(&owner, "/v1/token-keys/k1", &whole).await, 400, "invalid_request").await;
    assert!(told["detail"].as_str().unwrap().contains("public half"), "{told}");
    let short = json!({ "jwk": { "kty": "oct", "k": "c2hvcnQ" } });
    is_problem(put(&owner, "/v1/token-keys/k1", &short).await, 400, "invalid_request").await;
    is_problem(put(&owner, "/v1/token-keys/k.1", &body(&first)).await, 400, "invalid_id").await;

    let made = shown(put(&owner, "/v1/token-keys/k1", &body(&first)).await, 201).await;
    let view = json!({ "kid": "k1", "tenant": "demo", "algorithm": "EdDSA", "jwk": first.proving() });
    assert_eq!(made, view);
    assert_eq!(shown(put(&owner, "/v1/token-keys/k1", &body(&first)).await, 200).await, view, "again");
    is_problem(put(&owner, "/v1/token-keys/k1", &body(&second)).await, 409, "conflict").await;
    is_problem(put(&operator, "/v1/token-keys/k1", &body(&second)).await, 409, "conflict").await;

    // Both prove tokens until the first goes.
    shown(put(&owner, "/v1/token-keys/k2", &body(&second)).await, 201).await;
    shown(put(&owner, "/v1/token-keys/k3", &body(&secret)).await, 201).await;
    let of = |kid: &'static str| keys.get(kid);
    let own: TokenKey = of("k1").await.unwrap().unwrap().0;
    assert_eq!((own.tenant.unwrap().as_str(), own.jwk), ("demo", first.proving()));
    assert_eq!(of("k3").await.unwrap().unwrap().0.jwk, secret, "edges need it whole");
    let list = shown(ask(&owner, "GET", "/v1/token-keys").await, 200).await;
    let kids = |list: &Value| -> Vec<String> {
        let keys = list["token_keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kids(&list), ["k1", "k2", "k3"]);
    assert_eq!(list["token_keys"][2], json!({ "kid": "k3", "tenant": "demo", "algorithm": "HS256" }));
    assert_eq!(ask(&owner, "DELETE", "/v1/token-keys/k1").await.status(), 204);
    assert!(of("k1").await.unwrap().is_none());
    is_problem(ask(&owner, "GET", "/v1/token-keys/k1").await, 404, "unknown_token_key").await;
    is_problem(ask(&owner, "DELETE", "/v1/token-keys/k1").await, 404, "unknown_token_key").await;

    // The operator's may open everything, and are nobody else's.
    let all = json!({ "jwk": first.proving(), "all_tenants": true });
    is_problem(put(&owner, "/v1/token-keys/all", &all).await, 403, "forbidden").await;
    assert_eq!(shown(put(&operator, "/v1/token-keys/all", &all).await, 201).await["tenant"], Value::Null);
    for method in ["GET", "DELETE"] {
        is_problem(ask(&owner, method, "/v1/token-keys/all").await, 404, "unknown_token_key").await;
    }
    let list = shown(ask(&owner, "GET", "/v1/token-keys").await, 200).await;
    assert_eq!(kids(&list), ["k2", "k3"]);
    let list = shown(ask(&operator, "GET", "/v1/token-keys").await, 200).await;
    assert_eq!(kids(&list), ["all", "k2", "k3"]);
    assert_eq!(ask(&operator, "DELETE", "/v1/token-keys/k2").await.status(), 204);

    // What was taken down does not come back under its name.
    let takedown = json!({ "subject": { "kind": "key", "kid": "k3" }, "reason": "it leaked" });
    let purge = owner.request("POST", "/v1/purges").json(&takedown);
    assert_eq!(purge.send().await.unwrap().status(), 201);
    is_problem(put(&owner, "/v1/token-keys/k3", &body(&secret)).await, 409, "conflict").await;
}
