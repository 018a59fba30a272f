//! What edges go by when NATS is away, or is another one than before: the last word that they heard of policies and keys.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use reelmill_media::ids::AssetId;
use reelmill_platform::access::{KeyId, Subject};
use reelmill_platform::bus::Bus;
use reelmill_platform::jwk::{Algorithm, Jwk};
use reelmill_platform::owners::Owners;

use crate::access::{
    PRIVATE, add_key, blob, claims, guarded, other_asset, publish, set, unset, until, with_token,
};
use crate::nats::Nats;
use crate::world::{Via, World, assert_problem, asset};

/// An edge that was told that the first of two assets is private, and of a key that opens it.
struct Told {
    nats: Nats,
    coordinator: Bus,
    world: World,
    /// Where its last word is kept.
    state: PathBuf,
    closed: String,
    open: String,
    key: (KeyId, Jwk),
}

impl Told {
    async fn new(algorithm: Algorithm) -> Told {
        let nats = Nats::start();
        let coordinator = nats.bus().await;
        let world = World::with(None, guarded(nats.observer().await));
        let state = world.folder.path().join("state");
        let (closed, _) = publish(&world, asset(), &[1]).await;
        let (open, _) = publish(&world, other_asset(), &[2]).await;
        let key = add_key(&coordinator, "k", None, algorithm).await;
        set(&coordinator, &Subject::Asset(asset()), &PRIVATE).await;
        until(&world, &blob(1), 401).await;
        Told { nats, coordinator, world, state, closed, open, key }
    }

    /// Waits until the last word that is kept has all of this in it.
    async fn until_kept(&self, words: &[&str]) {
        let begun = Instant::now();
        let kept = || std::fs::read_to_string(self.state.join("access.json")).unwrap_or_default();
        while !words.iter().all(|word| kept().contains(word)) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{}", kept());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// An edge that starts by the last word that was kept.
    async fn start_again(&self) -> World {
        let bus = self.nats.observer().await;
        World::with(Some(self.world.store.clone()), |settings, folder| {
            guarded(bus)(settings, folder);
            settings.state_dir = self.state.clone();
        })
    }

    /// Asserts that an edge opens these paths to the key's tokens and to nobody else.
    async fn assert_private(&self, world: &World, paths: &[&str]) {
        for path in paths {
            assert_problem(&world.get(Via::Http3, path).await, 401);
            let opened = with_token(&claims(), &self.key, path);
            assert_eq!(world.get(Via::Http3, &opened).await.status(), 200);
        }
    }
}

/// An edge that has not heard of any policy shows nothing; one that has goes on without NATS.
#[tokio::test(flavor = "multi_thread")]
async fn without_nats_the_last_word_counts() {
    let mut told = Told::new(Algorithm::EdDSA).await;
    told.nats.kill();
    assert_eq!(told.world.get(Via::Http3, &told.open).await.status(), 200);
    told.assert_private(&told.world, &[&told.closed, &blob(1)]).await;

    let bus = told.nats.observer().await;
    let newcomer = World::with(Some(told.world.store.clone()), guarded(bus));
    for path in [&told.open, &blob(2)] {
        assert_problem(&newcomer.get(Via::Http3, path).await, 503);
    }
    assert_eq!(newcomer.get(Via::Http3, "/player/icon.svg").await.status(), 200);
    told.nats.restart();
    until(&newcomer, &told.open, 200).await;
    told.assert_private(&newcomer, &[&told.closed, &blob(1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_is_made_anew_is_heard_and_opens_nothing() {
    let mut told = Told::new(Algorithm::EdDSA).await;
    let third = AssetId::from_parts(1_700_000_000_000, 44);
    let (open_longer, _) = publish(&told.world, third, &[3]).await;
    // Revisions of the old one are to be ahead of those of the new one.
    for _ in 0..10 {
        set(&told.coordinator, &Subject::Asset(asset()), &PRIVATE).await;
    }
    until(&told.world, &told.open, 200).await;

    told.nats.lose();
    let coordinator = told.nats.bus().await;
    set(&coordinator, &Subject::Asset(other_asset()), &PRIVATE).await;
    until(&told.world, &told.open, 401).await;
    // After this one, all that the new buckets held at first has been told.
    set(&coordinator, &Subject::Asset(third), &PRIVATE).await;
    until(&told.world, &open_longer, 401).await;
    told.assert_private(&told.world, &[&told.closed, &blob(1)]).await;
    set(&coordinator, &Subject::Asset(asset()), &PRIVATE).await;
    unset(&coordinator, &Subject::Asset(asset())).await;
    until(&told.world, &told.closed, 200).await;
}

/// An edge that starts before a NATS made anew has been told the rules again goes by those that it heard when it last ran.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_nats_that_is_made_anew_opens_nothing() {
    let mut told = Told::new(Algorithm::EdDSA).await;
    told.until_kept(&[&asset().to_string(), "\"k\""]).await;
    told.nats.lose();
    let coordinator = told.nats.bus().await;
    let again = told.start_again().await;
    until(&again, &told.open, 200).await;
    told.assert_private(&again, &[&told.closed, &blob(1)]).await;

    // What the new one has been told is whole: what was lifted in it while an edge was away is lifted.
    set(&coordinator, &Subject::Asset(other_asset()), &PRIVATE).await;
    until(&again, &told.open, 401).await;
    told.until_kept(&[&other_asset().to_string()]).await;
    drop(again);
    let third = told.start_again().await;
    until(&third, &told.closed, 200).await;
    assert_problem(&third.get(Via::Http3, &told.open).await, 401);
}

/// An edge that heard the rules when it last ran goes by them, for assets' own policies and for tenants'.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_nats_goes_by_the_last_word() {
    let mut told = Told::new(Algorithm::HS256).await;
    let of_tenant = AssetId::from_parts(1_700_000_000_000, 44);
    publish(&told.world, of_tenant, &[3]).await;
    let owners = Owners::open(&told.coordinator).await.unwrap();
    owners.add(&"acme".parse().unwrap(), of_tenant).await.unwrap();
    set(&told.coordinator, &Subject::Tenant("acme".parse().unwrap()), &PRIVATE).await;
    told.until_kept(&[&asset().to_string(), &of_tenant.to_string(), "\"k\""]).await;
    told.nats.kill();
    let again = told.start_again().await;
    until(&again, &told.open, 200).await;
    told.assert_private(&again, &[&told.closed, &blob(1)]).await;
    assert_problem(&again.get(Via::Http3, &blob(3)).await, 401);
    // What was lifted meanwhile is lifted when NATS says so.
    told.nats.restart();
    unset(&told.nats.bus().await, &Subject::Asset(asset())).await;
    until(&again, &told.closed, 200).await;
    // And one that starts with NATS reads what it was told of before as well.
    let third = told.start_again().await;
    until(&third, &told.open, 200).await;
    assert_problem(&third.get(Via::Http3, &blob(3)).await, 401);
}
