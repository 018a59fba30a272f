//! What comes next is there before it is asked for.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method};
use reelmill_media::ids::RenditionId;
use reelmill_media::keys::{self, BlobKind};
use tokio::time::sleep;

use crate::origin::Origin;
use crate::world::{Via, World, asset, field, noise, path_of};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// How long a viewer takes for a segment.
const PACE: Duration = Duration::from_millis(150);

/// A title: its media playlist's path, its init segment, its segments.
struct Title {
    playlist: String,
    init: String,
    segments: Vec<(String, Bytes)>,
}

async fn title(world: &World, count: u64) -> Title {
    let init = world.store.put_blob(BlobKind::InitSegment, noise(900, 1)).await.unwrap();
    let mut text =
        format!("#EXTM3U\n#EXT-X-MAP:URI=\"{}\"\n", keys::blob_from_playlist(&init, BlobKind::InitSegment));
    let mut segments = Vec::new();
    for number in 0..count {
        let bytes = noise(80_000 + 1000 * number as usize, 50 + number);
        let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
        text += &format!("#EXTINF:4,\n{}\n", keys::blob_from_playlist(&hash, BlobKind::Segment));
        segments.push((path_of(&hash, BlobKind::Segment), bytes));
    }
    text += "#EXT-X-ENDLIST\n";
    let rendition: RenditionId = "v720".parse().unwrap();
    let key = keys::media_playlist(asset(), &rendition);
    world.store.put_object(&key, text.into()).await.unwrap();
    Title { playlist: format!("/{key}"), init: path_of(&init, BlobKind::InitSegment), segments }
}

/// A player's request, as one of many or as a session of its own.
async fn ask(world: &World, path: &str, session: Option<(&str, &str)>) -> (bool, Bytes) {
    let path = match session {
        Some((session, object)) => format!("{path}?CMCD=ot%3D{object}%2Csid%3D%22{session}%22"),
        None => path.to_owned(),
    };
    let response = world.get(Via::Http3, &path).await;
    assert_eq!(response.status(), 200);
    (field(&response, CACHE_STATUS).starts_with("reelmill; hit"), response.into_body())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_title_far_from_the_origin_is_watched_from_near() {
    for session in [None, Some("watcher")] {
        let origin = Origin::new();
        let world = World::with(Some(origin.store()), |_, _| {});
        let title = title(&world, 30).await;
        origin.delay(Duration::from_millis(100));
        ask(&world, &title.playlist, session.map(|id| (id, "m"))).await;
        ask(&world, &title.init, session.map(|id| (id, "i"))).await;
        let mut hits = 0;
        for (number, (path, bytes)) in title.segments.iter().enumerate() {
            let (hit, body) = ask(&world, path, session.map(|id| (id, "v"))).await;
            assert!(body == *bytes);
            hits += usize::from(hit && number > 0);
            sleep(PACE).await;
        }
        assert!(hits * 100 >= 29 * 95, "{hits} of 29");
        assert_eq!(origin.reads().len(), 30, "nothing twice, and nothing else");
        let fetched = world.metric("prefetch_bytes_total", &[("what", "fetched")]);
        let used = world.metric("prefetch_bytes_total", &[("what", "used")]);
        let wasted = (fetched - used) as f64 * 100.0 / fetched as f64;
        println!(
            "{hits} hits of 29 requests after the first, {wasted:.1} % of the bytes brought in ahead wasted"
        );
        assert!(fetched > 0 && (fetched - used) * 20 <= fetched, "{used} of {fetched} bytes were of use");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_viewer_who_jumps_does_not_need_any_more_is_given_up() {
    let origin = Origin::new();
    let world = World::with(Some(origin.store()), |_, _| {});
    let title = title(&world, 30).await;
    // The place to jump to is here already, for somebody else's sake.
    ask(&world, &title.segments[20].0, None).await;
    let watcher = Some(("watcher", "v"));
    ask(&world, &title.playlist, Some(("watcher", "m"))).await;
    for (path, _) in &title.segments[..3] {
        ask(&world, path, watcher).await;
    }
    let read = |count| {
        let origin = origin.clone();
        async move {
            let begun = std::time::Instant::now();
            while origin.reads().len() < count {
                assert!(begun.elapsed() < Duration::from_secs(10), "{} reads", origin.reads().len());
                sleep(Duration::from_millis(5)).await;
            }
        }
    };
    // 0 to 2, the four after them, and 20.
    read(8).await;
    world.until_metric("prefetch_bytes_total", &[("what", "fetched")], sizes(&title, 0..7) + 900).await;
    origin.release(0);
    ask(&world, &title.segments[4].0, watcher).await;
    read(10).await;
    ask(&world, &title.segments[20].0, watcher).await;
    world.until_metric("fills_total", &[("outcome", "unwanted")], 2).await;
    origin.release(u64::MAX);
    // Whoever wants one of them after all gets it.
    assert!(ask(&world, &title.segments[7].0, None).await.1 == title.segments[7].1);
}

fn sizes(title: &Title, range: std::ops::Range<usize>) -> u64 {
    title.segments[range].iter().map(|(_, bytes)| bytes.len() as u64).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_player_says_comes_next_is_brought_in_without_a_playlist() {
    let origin = Origin::new();
    let world = World::with(Some(origin.store()), |_, _| {});
    let title = title(&world, 2).await;
    let (now, then) = (&title.segments[0].0, &title.segments[1]);
    let next = then.0.replacen("/blobs/", "../", 1).replace('/', "%2F");
    let words = format!("ot=v,sid=\"s\",nor=\"{next}\"");
    let request = HeaderName::from_static("cmcd-request");
    assert_eq!(world.send(Via::Http2, Method::GET, now, &[(request, &words)]).await.status(), 200);
    world.until_metric("prefetch_bytes_total", &[("what", "fetched")], then.1.len() as u64).await;
    let (hit, body) = ask(&world, &then.0, None).await;
    assert!(hit && body == then.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_players_report_is_measured_and_names_nothing() {
    let origin = Origin::new();
    let world = World::with(Some(origin.store()), |_, _| {});
    let (path, bytes) = &title(&world, 1).await.segments[0];
    for number in 0..5 {
        let words = format!(
            "bl%3D{number}000%2Cbr%3D3200%2Cbs%2Cd%3D4000%2Cmtp%3D25400%2Cot%3Dv%2Csid%3D%22{number}%22"
        );
        let response = world.get(Via::Http3, &format!("{path}?CMCD={words}")).await;
        assert!(response.body() == bytes);
        let fields = [
            (HeaderName::from_static("cmcd-object"), "br=3200,d=4000,ot=v"),
            (HeaderName::from_static("cmcd-status"), "bs"),
        ];
        assert!(world.send(Via::Plain, Method::GET, path, &fields).await.body() == bytes);
    }
    assert_eq!(origin.reads().len(), 1, "whatever players say, it is the same blob");
    assert_eq!(world.metric("cmcd_reports_total", &[("object", "video")]), 10);
    assert_eq!(world.metric("cmcd_starvations_total", &[]), 10);
}
