//! NATS is lost with everything in it, and made anew from the store.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_e2e::fleet::Fleet;
use reelmill_e2e::judge::Expected;
use reelmill_e2e::system::until;
use reelmill_e2e::tools::decode_strictly;

const READY: Duration = Duration::from_secs(240);

#[test]
fn viewers_go_on_while_nats_is_made_anew_and_what_was_being_made_is_finished() {
    let (short, long) =
        (fixture(Kind::Landscape), fixture(Kind::Custom { width: 640, height: 360, seconds: 60 }));
    let mut fleet = Fleet::start();
    let coordinator = fleet.coordinator();
    let (_worker, edge) = (fleet.worker(&[]), fleet.edge());
    let whole = fleet.put(&coordinator, &short.path);
    fleet.ready(&coordinator, &whole, READY);
    let half = fleet.put(&coordinator, &long.path);
    until("half of the other one", READY, || {
        let asset = fleet.asset(&coordinator, &half)?;
        assert!(!asset.is_at_its_end(), "it is over too soon: {:?}", asset.error);
        (asset.playable && asset.progress > 0.3).then_some(())
    });
    let frames = |asset: &str| decode_strictly(format!("{}/assets/{asset}/index.m3u8", edge.api));
    let (whole_before, half_before) = (blobs(&fleet, &whole), blobs(&fleet, &half));
    let played = frames(&whole).expect("the edge to play it");

    fleet.lose_nats();
    assert_eq!(frames(&whole).expect("the edge to play it without NATS' data"), played);
    let said = fleet.rebuild();
    assert!(said.contains("1 assets are as they were, 1 are made again"), "{said}");
    assert_eq!(fleet.asset(&coordinator, &whole).expect("a coordinator to know it").state, "ready");
    fleet.ready(&coordinator, &half, READY);
    fleet.must_be_right(&half, &Expected::of(&long));

    assert_eq!(blobs(&fleet, &whole), whole_before);
    assert!(blobs(&fleet, &half).is_superset(&half_before), "what viewers had of it was taken away");
    assert_eq!(frames(&whole).expect("the edge to play it"), played);
    assert!(frames(&half).expect("the edge to play the other one") > played);
}

fn blobs(fleet: &Fleet, asset: &str) -> BTreeSet<String> {
    fleet.published(asset).blobs().into_iter().collect()
}
