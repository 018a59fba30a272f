//! What edges go by when NATS is away, or is another one than before: the last word that they heard of policies and keys.

use std::path::Path;
use std::time::{Duration, Instant};

use reelmill_media::ids::AssetId;
use reelmill_platform::access::Subject;
use reelmill_platform::jwk::Algorithm;
use reelmill_platform::owners::Owners;

use crate::access::{
    PRIVATE, add_key, blob, claims, guarded, other_asset, publish, set, unset, until, with_token,
};
use crate::nats::Nats;
use crate::world::{Via, World, assert_problem, asset};

/// An edge that has not heard of any policy shows nothing; one that has goes on without NATS.
#[tokio::test(flavor = "multi_thread")]
async fn without_nats_the_last_word_counts() {
    let mut nats = Nats::start();
    let coordinator = nats.bus().await;
    let world = World::with(None, guarded(nats.observer().await));
    let (index, _) = publish(&world, asset(), &[1]).await;
    let (open, _) = publish(&world, other_asset(), &[2]).await;
    let key = add_key(&coordinator, "k", None, Algorithm::EdDSA).await;
    set(&coordinator, &Subject::Asset(asset()), &PRIVATE).await;
    until(&world, &blob(1), 401).await;
    nats.kill();
    assert_eq!(world.get(Via::Http3, &open).await.status(), 200);
    assert_eq!(world.get(Via::Http3, &with_token(&claims(), &key, &index)).await.status(), 200);
    assert_problem(&world.get(Via::Http3, &blob(1)).await, 401);

    let again = World::with(Some(world.store.clone()), guarded(nats.observer().await));
    for path in [&open, &blob(2)] {
        assert_problem(&again.get(Via::Http3, path).await, 503);
    }
    assert_eq!(again.get(Via::Http3, "/player/icon.svg").await.status(), 200);
    nats.restart();
    until(&again, &open, 200).await;
    assert_problem(&again.get(Via::Http3, &index).await, 401);
    assert_problem(&again.get(Via::Http3, &blob(1)).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_is_made_anew_is_heard_and_opens_nothing() {
    let mut nats = Nats::start();
    let coordinator = nats.bus().await;
    let world = World::with(None, guarded(nats.observer().await));
    let third = AssetId::from_parts(1_700_000_000_000, 44);
    let (closed, _) = publish(&world, asset(), &[1]).await;
    let (open, _) = publish(&world, other_asset(), &[2]).await;
    let (open_longer, _) = publish(&world, third, &[3]).await;
    let key = add_key(&coordinator, "k", None, Algorithm::EdDSA).await;
    for _ in 0..10 {
        set(&coordinator, &Subject::Asset(asset()), &PRIVATE).await;
    }
    until(&world, &blob(1), 401).await;
    until(&world, &open, 200).await;

    nats.lose();
    let coordinator = nats.bus().await;
    set(&coordinator, &Subject::Asset(other_asset()), &PRIVATE).await;
    until(&world, &open, 401).await;
    // After this one, all that the new buckets held at first has been told.
    set(&coordinator, &Subject::Asset(third), &PRIVATE).await;
    until(&world, &open_longer, 401).await;
    for path in [&closed, &blob(1)] {
        assert_problem(&world.get(Via::Http3, path).await, 401);
        assert_eq!(world.get(Via::Http3, &with_token(&claims(), &key, path)).await.status(), 200);
    }
    set(&coordinator, &Subject::Asset(asset()), &PRIVATE).await;
    unset(&coordinator, &Subject::Asset(asset())).await;
    until(&world, &closed, 200).await;
}

/// Waits until an edge has saved what it was told.
async fn until_saved(state: &Path, words: &[&str]) {
    let begun = Instant::now();
    let saved = || std::fs::read_to_string(state.join("access.json")).unwrap_or_default();
    while !words.iter().all(|word| saved().contains(word)) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", saved());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An edge that starts before a NATS made anew has been told the rules again goes by those that it heard when it last ran.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_nats_that_is_made_anew_opens_nothing() {
    let mut nats = Nats::start();
    let coordinator = nats.bus().await;
    let world = World::with(None, guarded(nats.observer().await));
    let (index, _) = publish(&world, asset(), &[1]).await;
    let (open, _) = publish(&world, other_asset(), &[2]).await;
    let key = add_key(&coordinator, "k", None, Algorithm::EdDSA).await;
    set(&coordinator, &Subject::Asset(asset()), &PRIVATE).await;
    let state = world.folder.path().join("state");
    until_saved(&state, &[&asset().to_string(), "\"k\""]).await;
    nats.lose();
    let coordinator = nats.bus().await;
    let bus = nats.observer().await;
    let again = World::with(Some(world.store.clone()), |settings, folder| {
        guarded(bus)(settings, folder);
        settings.state_dir = state.clone();
    });
    until(&again, &open, 200).await;
    for path in [&index, &blob(1)] {
        assert_problem(&again.get(Via::Http3, path).await, 401);
        assert_eq!(again.get(Via::Http3, &with_token(&claims(), &key, path)).await.status(), 200);
    }

    // What the new one has been told is whole: what was lifted in it while an edge was away is lifted.
    set(&coordinator, &Subject::Asset(other_asset()), &PRIVATE).await;
    until(&again, &open, 401).await;
    until_saved(&state, &[&other_asset().to_string()]).await;
    drop(again);
    let bus = nats.observer().await;
    let third = World::with(Some(world.store.clone()), |settings, folder| {
        guarded(bus)(settings, folder);
        settings.state_dir = state;
    });
    until(&third, &index, 200).await;
    assert_problem(&third.get(Via::Http3, &open).await, 401);
}

/// An edge that heard the rules when it last ran goes by them, for assets' own policies and for tenants'.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_nats_goes_by_the_last_word() {
    let mut nats = Nats::start();
    let coordinator = nats.bus().await;
    let world = World::with(None, guarded(nats.observer().await));
    let (index, _) = publish(&world, asset(), &[1]).await;
    let (open, _) = publish(&world, other_asset(), &[2]).await;
    let of_tenant = AssetId::from_parts(1_700_000_000_000, 44);
    publish(&world, of_tenant, &[3]).await;
    let owners = Owners::open(&coordinator).await.unwrap();
    owners.add(&"acme".parse().unwrap(), of_tenant).await.unwrap();
    let key = add_key(&coordinator, "k", None, Algorithm::HS256).await;
    set(&coordinator, &Subject::Asset(asset()), &PRIVATE).await;
    set(&coordinator, &Subject::Tenant("acme".parse().unwrap()), &PRIVATE).await;
    let state = world.folder.path().join("state");
    until_saved(&state, &[&asset().to_string(), &of_tenant.to_string(), "\"k\""]).await;
    nats.kill();
    let bus = nats.observer().await;
    let again = World::with(Some(world.store.clone()), |settings, folder| {
        guarded(bus)(settings, folder);
        settings.state_dir = state.clone();
    });
    until(&again, &open, 200).await;
    for path in [&index, &blob(1), &blob(3)] {
        assert_problem(&again.get(Via::Http3, path).await, 401);
    }
    assert_eq!(again.get(Via::Http3, &with_token(&claims(), &key, &blob(1))).await.status(), 200);
    // What was lifted meanwhile is lifted when NATS says so.
    nats.restart();
    unset(&nats.bus().await, &Subject::Asset(asset())).await;
    until(&again, &index, 200).await;
    // And one that starts with NATS reads what it was told of before as well.
    let bus = nats.observer().await;
    let third = World::with(Some(world.store.clone()), |settings, folder| {
        guarded(bus)(settings, folder);
        settings.state_dir = state;
    });
    until(&third, &open, 200).await;
    assert_problem(&third.get(Via::Http3, &blob(3)).await, 401);
}
