//! Who may watch what: policies and keys pushed by NATS, tokens in the path, countries from a file.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use jiff::Timestamp;
use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;
use reelmill_edge::process::Settings;
use reelmill_media::ids::{AssetId, BlobHash, RenditionId};
use reelmill_media::keys::{self, BlobKind};
use reelmill_platform::access::{Countries, Country, KeyId, Policy, Subject, TokenKey};
use reelmill_platform::bus::Bus;
use reelmill_platform::jwk::{Algorithm, Jwk};
use reelmill_platform::owners::Owners;
use reelmill_platform::token::{self, Claims};
use reelmill_platform::topology::BucketName;
use serde::Serialize;

use crate::nats::Nats;
use crate::world::{Via, World, assert_problem, asset, field, noise};

pub const PRIVATE: Policy = Policy { private: true, countries: Countries::All };

pub fn other_asset() -> AssetId {
    AssetId::from_parts(1_700_000_000_000, 43)
}

/// A file of countries in which this machine's own addresses lie in Germany.
fn countries(path: &Path) {
    #[derive(Serialize)]
    struct Place {
        country: Code,
    }
    #[derive(Serialize)]
    struct Code {
        iso_code: String,
    }
    let mut database = Database::default();
    database.metadata.ip_version = IpVersion::V4;
    database.metadata.binary_format_major_version = 2;
    let germany = Place { country: Code { iso_code: "DE".into() } };
    let germany = database.insert_value(germany).unwrap();
    database.insert_node("127.0.0.0/8".parse::<IpAddrWithMask>().unwrap(), germany);
    database.write_to(std::fs::File::create(path).unwrap()).unwrap();
}

pub fn guarded(bus: Bus) -> impl FnOnce(&mut Settings, &Path) {
    move |settings, folder| {
        let file = folder.join("countries.mmdb");
        countries(&file);
        settings.geoip = Some(file);
        settings.bus = Some(bus);
    }
}

/// Publishes an asset of one rendition with these segments; gives the paths of its index and its playlist.
pub async fn publish(world: &World, id: AssetId, segments: &[u64]) -> (String, String) {
    let mut text = "#EXTM3U\n".to_owned();
    for seed in segments {
        let hash = world.store.put_blob(BlobKind::Segment, noise(1000, *seed)).await.unwrap();
        text += &format!("#EXTINF:1,\n{}\n", keys::blob_from_playlist(&hash, BlobKind::Segment));
    }
    let rendition: RenditionId = "v720".parse().unwrap();
    let (index, media) = (keys::multivariant_playlist(id), keys::media_playlist(id, &rendition));
    let store = &world.store;
    store.put_object(&media, Bytes::from(text + "#EXT-X-ENDLIST\n")).await.unwrap();
    store.put_object(&index, Bytes::from_static(b"#EXTM3U\n#EXT-X-STREAM-INF:\nv720.m3u8\n")).await.unwrap();
    (format!("/{index}"), format!("/{media}"))
}

pub fn blob(seed: u64) -> String {
    format!("/{}", keys::blob(&BlobHash::of(&noise(1000, seed)), BlobKind::Segment))
}

pub async fn set(bus: &Bus, subject: &Subject, policy: &Policy) {
    let bucket = bus.bucket::<Policy>(BucketName::Policies).await.unwrap();
    bucket.put(&subject.to_string(), policy).await.unwrap();
}

pub async fn unset(bus: &Bus, subject: &Subject) {
    bus.bucket::<Policy>(BucketName::Policies).await.unwrap().remove(&subject.to_string()).await.unwrap();
}

pub async fn add_key(bus: &Bus, kid: &str, tenant: Option<&str>, algorithm: Algorithm) -> (KeyId, Jwk) {
    let (kid, jwk): (KeyId, _) = (kid.parse().unwrap(), Jwk::generate(algorithm).unwrap());
    let key = TokenKey { tenant: tenant.map(|tenant| tenant.parse().unwrap()), jwk: jwk.proving() };
    let bucket = bus.bucket::<TokenKey>(BucketName::TokenKeys).await.unwrap();
    bucket.put(&kid.to_string(), &key).await.unwrap();
    (kid, jwk)
}

pub fn claims() -> Claims {
    Claims {
        exp: Timestamp::now().as_second() + 600,
        nbf: None,
        asset: Some(asset()),
        path: None,
        countries: None,
        networks: None,
        sub: None,
        iat: None,
    }
}

/// The path with a token in it.
pub fn with_token(claims: &Claims, (kid, key): &(KeyId, Jwk), path: &str) -> String {
    format!("/t/{}{path}", token::sign(claims, kid, key).unwrap())
}

pub async fn until(world: &World, path: &str, status: u16) {
    let (begun, client) = (Instant::now(), world.h3().await);
    loop {
        // What is withdrawn while it is answered is cut off.
        let now =
            client.send(Method::GET, path, HeaderMap::new()).await.map(|answer| answer.status().as_u16());
        if now == Ok(status) {
            return println!("{status} after {:?}", begun.elapsed());
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{path} is answered {now:?}, not {status}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_asset_opens_to_tokens_only() {
    let nats = Nats::start();
    let coordinator = nats.bus().await;
    let world = World::with(None, guarded(nats.observer().await));
    let (index, media) = publish(&world, asset(), &[1, 2]).await;
    let (_, open) = publish(&world, other_asset(), &[2, 3]).await;
    for path in [&index, &media, &blob(1), &open] {
        let answer = world.get(Via::Http3, path).await;
        assert_eq!(answer.status(), 200);
        assert!(field(&answer, header::CACHE_CONTROL).starts_with("public"));
    }
    let key = add_key(&coordinator, "k1", None, Algorithm::EdDSA).await;
    set(&coordinator, &Subject::Asset(asset()), &PRIVATE).await;
    until(&world, &blob(1), 401).await;
    for via in Via::ALL {
        for path in [&index, &media, &blob(1), &blob(2)] {
            let answer = world.get(via, path).await;
            assert_problem(&answer, 401);
            assert!(answer.headers().contains_key(header::WWW_AUTHENTICATE));
        }
    }
    // What a public asset shows as well is no secret.
    assert_eq!(world.get(Via::Http2, &open).await.status(), 200);
    assert_eq!(world.get(Via::Http2, &blob(2)).await.status(), 200);
    assert_eq!(world.get(Via::Http2, &blob(3)).await.status(), 200);

    let (status, control) = (200, "private, max-age=31536000, immutable");
    for via in Via::ALL {
        for path in [&index, &media, &blob(1)] {
            let answer = world.get(via, &with_token(&claims(), &key, path)).await;
            assert_eq!(answer.status(), status);
            assert!(field(&answer, header::CACHE_CONTROL).starts_with("private"));
        }
    }
    let answer = world.get(Via::Http3, &with_token(&claims(), &key, &blob(1))).await;
    assert_eq!(field(&answer, header::CACHE_CONTROL), control);

    let stranger = (key.0.clone(), Jwk::generate(Algorithm::EdDSA).unwrap());
    let past = Claims { exp: Timestamp::now().as_second() - 1, ..claims() };
    let future = Claims { nbf: Some(past.exp + 600), ..claims() };
    let elsewhere = Claims { asset: Some(other_asset()), ..claims() };
    let austria = Claims { countries: Some(["AT".parse().unwrap()].into()), ..claims() };
    let germany = Claims { countries: Some(["DE".parse().unwrap()].into()), ..claims() };
    let outside = Claims { networks: Some(vec!["192.0.2.0/24".parse().unwrap()]), ..claims() };
    let inside = Claims { networks: Some(vec!["127.0.0.0/8".parse().unwrap()]), ..claims() };
    let low = Claims { path: Some(format!("/assets/{}/v480", asset())), ..claims() };
    for (path, status) in [
        (with_token(&claims(), &stranger, &index), 401),
        (with_token(&past, &key, &index), 401),
        (with_token(&future, &key, &blob(1)), 401),
        ("/t/nonsense/%41".into(), 400),
        (format!("/t/nonsense{index}"), 401),
        (with_token(&elsewhere, &key, &index), 403),
        (with_token(&elsewhere, &key, &blob(1)), 403),
        (with_token(&austria, &key, &index), 403),
        (with_token(&outside, &key, &blob(1)), 403),
        (with_token(&low, &key, &media), 403),
    ] {
        assert_problem(&world.get(Via::Http2, &path).await, status);
    }
    for claims in [&germany, &inside, &Claims { asset: None, ..claims() }] {
        assert_eq!(world.get(Via::Http2, &with_token(claims, &key, &blob(1))).await.status(), 200);
    }

    unset(&coordinator, &Subject::Asset(asset())).await;
    until(&world, &index, 200).await;
    assert_eq!(world.get(Via::Http3, &blob(1)).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_and_go_while_viewers_watch() {
    let nats = Nats::start();
    let coordinator = nats.bus().await;
    let world = World::with(None, guarded(nats.observer().await));
    let (index, _) = publish(&world, asset(), &[1]).await;
    set(&coordinator, &Subject::Asset(asset()), &PRIVATE).await;
    let old = add_key(&coordinator, "old", None, Algorithm::HS256).await;
    let old_path = with_token(&claims(), &old, &index);
    until(&world, &old_path, 200).await;
    let new = add_key(&coordinator, "new", None, Algorithm::EdDSA).await;
    until(&world, &with_token(&claims(), &new, &index), 200).await;
    assert_eq!(world.get(Via::Http3, &old_path).await.status(), 200);
    coordinator.bucket::<TokenKey>(BucketName::TokenKeys).await.unwrap().remove("old").await.unwrap();
    until(&world, &old_path, 401).await;
    // The same name for another key proves nothing of the old one's.
    add_key(&coordinator, "old", None, Algorithm::HS256).await;
    let renewed = add_key(&coordinator, "new", None, Algorithm::EdDSA).await;
    until(&world, &with_token(&claims(), &renewed, &index), 200).await;
    assert_problem(&world.get(Via::Http3, &old_path).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_country_is_denied_and_allowed_again() {
    let nats = Nats::start();
    let coordinator = nats.bus().await;
    let world = World::with(None, guarded(nats.observer().await));
    let (index, _) = publish(&world, asset(), &[1]).await;
    let germany: Country = "DE".parse().unwrap();
    let without = Policy { private: false, countries: Countries::AllBut([germany].into()) };
    let only = Policy { private: false, countries: Countries::Only([germany].into()) };
    let subject = Subject::Asset(asset());
    for _ in 0..2 {
        set(&coordinator, &subject, &without).await;
        until(&world, &index, 403).await;
        until(&world, &blob(1), 403).await;
        assert_problem(&world.get(Via::Http1, &blob(1)).await, 403);
        set(&coordinator, &subject, &only).await;
        until(&world, &index, 200).await;
        let answer = world.get(Via::Http1, &blob(1)).await;
        assert_eq!(answer.status(), 200);
        assert!(field(&answer, header::CACHE_CONTROL).starts_with("private"), "caches know no countries");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_keeps_its_assets_to_its_own_keys() {
    let nats = Nats::start();
    let coordinator = nats.bus().await;
    let world = World::with(None, guarded(nats.observer().await));
    let (index, _) = publish(&world, asset(), &[1]).await;
    let (open, _) = publish(&world, other_asset(), &[2]).await;
    let owners = Owners::open(&coordinator).await.unwrap();
    for (asset, tenant) in [(asset(), "acme"), (other_asset(), "other")] {
        owners.add(&tenant.parse().unwrap(), asset).await.unwrap();
    }
    set(&coordinator, &Subject::Tenant("acme".parse().unwrap()), &PRIVATE).await;
    // Before anybody has asked for a playlist of it here.
    until(&world, &blob(1), 401).await;
    let own = add_key(&coordinator, "own", Some("acme"), Algorithm::HS256).await;
    let others = add_key(&coordinator, "others", Some("other"), Algorithm::HS256).await;
    until(&world, &index, 401).await;
    until(&world, &with_token(&claims(), &own, &index), 200).await;
    assert_eq!(world.get(Via::Http3, &with_token(&claims(), &own, &blob(1))).await.status(), 200);
    for path in [&index, &blob(1)] {
        assert_problem(&world.get(Via::Http3, &with_token(&claims(), &others, path)).await, 403);
    }
    assert_eq!(world.get(Via::Http3, &open).await.status(), 200);
    // What comes later is the tenant's, too.
    let late = AssetId::from_parts(1_700_000_000_000, 44);
    publish(&world, late, &[4]).await;
    assert_eq!(world.get(Via::Http3, &blob(4)).await.status(), 200);
    owners.add(&"acme".parse().unwrap(), late).await.unwrap();
    until(&world, &blob(4), 401).await;
    // An asset's own policy stands in place of its tenant's.
    set(&coordinator, &Subject::Asset(asset()), &Policy::default()).await;
    until(&world, &index, 200).await;
    assert_eq!(world.get(Via::Http3, &blob(1)).await.status(), 200);
}
