//! A tenant's assets, newest first, page by page.

use reelmill_media::ids::{AssetId, TenantId};
use reelmill_platform::kv::Bucket;
use reelmill_platform::owners::Owners;
use reelmill_platform::topology::BucketName;

use crate::machines::Machines;

const HOUR_MS: u64 = 3_600_000;

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// So many hours after the first, the `n`th of its hour.
fn asset(hour: u64, n: u64) -> AssetId {
    AssetId::from_parts((400_000 + hour) * HOUR_MS + n, u128::from(n))
}

async fn pages(owners: &Owners, tenant: &TenantId, limit: usize) -> Vec<AssetId> {
    let mut all: Vec<AssetId> = Vec::new();
    loop {
        let page = owners.page(tenant, all.last().copied(), limit).await.unwrap();
        if page.is_empty() {
            return all;
        }
        assert!(page.len() <= limit, "{page:?}");
        all.extend(page);
    }
}

#[tokio::test]
async fn pages_show_each_asset_of_a_tenant_once_newest_first() {
    let machines = Machines::start().await;
    let owners = Owners::open(&machines.bus().await).await.unwrap();
    let (busy, rare) = (tenant("busy"), tenant("rare"));
    let mut expected = Vec::new();
    // Many in one hour, then one now and then; what began first is written last.
    for (hour, n) in (0..40).map(|n| (7, n)).chain((3..30).map(|n| (3 * n, 0))).rev() {
        owners.add(&busy, asset(hour, n)).await.unwrap();
        expected.push(asset(hour, n));
    }
    owners.add(&rare, asset(7, 1000)).await.unwrap();
    for limit in [1, 7, 40, 1000] {
        assert_eq!(pages(&owners, &busy, limit).await, expected, "{limit} on a page");
    }
    assert_eq!(pages(&owners, &rare, 10).await, [asset(7, 1000)]);
    assert_eq!(pages(&owners, &tenant("nobody"), 10).await, []);
    // A cursor may name what is not there, or what is gone.
    assert_eq!(owners.page(&busy, Some(asset(7, 20)), 2).await.unwrap(), [asset(7, 19), asset(7, 18)]);
    assert_eq!(owners.page(&busy, Some(asset(9, 5)), 1).await.unwrap(), [asset(9, 0)]);
    assert_eq!(owners.page(&busy, Some(asset(0, 0)), 1).await.unwrap(), []);
}

#[tokio::test]
async fn an_hour_whose_assets_are_gone_is_forgotten_until_another_comes() {
    let machines = Machines::start().await;
    let bus = machines.bus().await;
    let owners = Owners::open(&bus).await.unwrap();
    let keys: Bucket<()> = bus.bucket(BucketName::Owners).await.unwrap();
    let acme = tenant("acme");
    for hour in 0..10 {
        owners.add(&acme, asset(hour, 0)).await.unwrap();
    }
    for hour in 1..10 {
        owners.remove(&acme, asset(hour, 0)).await.unwrap();
    }
    assert_eq!(owners.page(&acme, None, 10).await.unwrap(), [asset(0, 0)]);
    assert_eq!(keys.keys_of(">").await.unwrap().len(), 2, "an hour and its asset");
    owners.add(&acme, asset(5, 1)).await.unwrap();
    assert_eq!(owners.page(&acme, None, 10).await.unwrap(), [asset(5, 1), asset(0, 0)]);
}
