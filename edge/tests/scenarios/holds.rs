//! Requests that prefer to wait are answered when there is something to say, and at once where they may not wait.

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use http::{HeaderName, Method, Response, header};
use jiff::Timestamp;
use reelmill_edge::clients::ClientLimits;
use reelmill_edge::process::Settings;
use reelmill_media::keys;
use reelmill_platform::access::Subject;
use reelmill_platform::bus::Bus;
use reelmill_platform::jwk::Algorithm;
use reelmill_platform::purge::Target;
use reelmill_platform::token::Claims;
use tokio::time::{sleep, timeout};

use crate::access::{self, PRIVATE, add_key, claims, with_token};
use crate::nats::Nats;
use crate::takedown::take_down;
use crate::world::{CLIENT, Via, World, assert_problem, asset, field};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// As long as any request is held, in seconds; no test waits for it to end.
const LONG: &str = "wait=30";

static PATH: LazyLock<String> = LazyLock::new(|| format!("/{}", keys::multivariant_playlist(asset())));

/// What a coordinator says over NATS, and an edge that hears it, with a text.
struct Scene {
    _nats: Nats,
    coordinator: Bus,
    world: World,
}

impl Scene {
    async fn new(change: impl FnOnce(&mut Settings)) -> Scene {
        let nats = Nats::start();
        let (coordinator, bus) = (nats.bus().await, nats.observer().await);
        let world = World::with(None, |settings, _| {
            settings.bus = Some(bus);
            change(settings);
        });
        let scene = Scene { _nats: nats, coordinator, world };
        scene.write("#EXTM3U\n").await;
        scene
    }

    async fn write(&self, text: &str) {
        self.world
            .store
            .put_object(&keys::multivariant_playlist(asset()), text.to_owned().into())
            .await
            .unwrap();
    }

    /// Asks for another text than there is now, and prefers to wait for it.
    async fn ask(&self, via: Via, path: &str, wait: &str) -> Response<Bytes> {
        let now = self.world.get(via, path).await;
        let fields = [(header::IF_NONE_MATCH, field(&now, header::ETAG)), (PREFER, wait)];
        self.world.send(via, Method::GET, path, &fields).await
    }

    async fn until_held(&self, requests: u64) {
        self.world.until_metric("held_requests", &[], requests).await;
    }

    /// Says that texts were written, again and again: until the edge's subscription stands, word may be lost.
    async fn announce(&self) -> Infallible {
        loop {
            self.coordinator.publish_published(asset()).await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Holds a request, does `what` meanwhile, and gives the answer. Fails where that takes as long as the request may wait.
    async fn told<T>(&self, via: Via, path: &str, what: impl Future<Output = T>) -> Response<Bytes> {
        let meanwhile = async {
            self.until_held(1).await;
            what.await
        };
        let (answer, _) =
            timeout(Duration::from_secs(20), join(self.ask(via, path, LONG), meanwhile)).await.unwrap();
        self.until_held(0).await;
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_to_all_who_wait_for_it_over_every_protocol() {
    let scene = Scene::new(|_| {}).await;
    for (number, via) in Via::ALL.into_iter().enumerate() {
        let text = format!("#EXTM3U\n#{number}\n");
        let waiting = join_all((0..3).map(|_| scene.ask(via, &PATH, LONG)));
        let changing = async {
            scene.until_held(3).await;
            scene.write(&text).await;
            scene.announce().await
        };
        let told = async {
            tokio::select! {
                told = waiting => told,
                never = changing => match never {},
            }
        };
        for answer in timeout(Duration::from_secs(20), told).await.unwrap() {
            assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (200, text.as_bytes()), "{via:?}");
            assert_eq!(field(&answer, PREFERENCE_APPLIED), LONG);
        }
        scene.until_held(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_changes_word_is_no_answer_but_the_end_of_the_wait_is() {
    let scene = Scene::new(|_| {}).await;
    for via in Via::ALL {
        let answer = tokio::select! {
            answer = scene.ask(via, &PATH, "wait=1") => answer,
            never = scene.announce() => match never {},
        };
        assert_eq!(
            (answer.status().as_u16(), field(&answer, PREFERENCE_APPLIED)),
            (304, "wait=1"),
            "{via:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_holds_no_place() {
    let scene = Scene::new(|_| {}).await;
    for via in Via::ALL {
        tokio::select! {
            answer = scene.ask(via, &PATH, LONG) => panic!("{answer:?}"),
            () = scene.until_held(1) => {}
        }
        scene.until_held(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_are_held_of_one_address_and_in_all() {
    let of_one = |settings: &mut Settings| settings.client = ClientLimits { connections: 2, ..CLIENT };
    let in_all = |settings: &mut Settings| settings.max_connections = 2;
    for limits in [&of_one as &dyn Fn(&mut Settings), &in_all] {
        let scene = Scene::new(limits).await;
        let ask = || scene.ask(Via::Http3, &PATH, LONG);
        let one_more = async {
            scene.until_held(2).await;
            let answer = ask().await;
            assert_eq!((answer.status().as_u16(), field(&answer, PREFERENCE_APPLIED)), (304, ""));
            assert_eq!(scene.world.metric("held_requests", &[]), 2);
            assert_eq!(scene.world.metric("excesses_total", &[("what", "holds")]), 1);
        };
        tokio::select! {
            answers = join(ask(), ask()) => panic!("{answers:?}"),
            () = one_more => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_all_and_waits_for_none() {
    let mut scene = Scene::new(|_| {}).await;
    let draining = async {
        scene.until_held(4).await;
        scene.world.drain.cancel();
    };
    let waiting = join_all(Via::ALL.map(|via| scene.ask(via, &PATH, LONG)));
    let (answers, ()) = timeout(Duration::from_secs(20), join(waiting, draining)).await.unwrap();
    assert!(answers.iter().all(|answer| answer.status() == 304), "{answers:?}");
    timeout(Duration::from_secs(10), scene.world.begin_drain()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_ends_meanwhile_ends_the_wait() {
    let scene = Scene::new(|_| {}).await;
    let (world, coordinator) = (&scene.world, &scene.coordinator);
    let subject = Subject::Asset(asset());
    assert_problem(&scene.told(Via::Http3, &PATH, access::set(coordinator, &subject, &PRIVATE)).await, 401);

    let key = add_key(coordinator, "k1", None, Algorithm::EdDSA).await;
    let with_token = |claims| with_token(&claims, &key, &PATH);
    access::until(world, &with_token(claims()), 200).await;
    let soon = with_token(Claims { exp: Timestamp::now().as_second() + 5, ..claims() });
    assert_problem(&scene.told(Via::Http3, &soon, async {}).await, 401);

    let open = with_token(claims());
    let taken_down = take_down(coordinator, Target::Key { kid: key.0.clone() });
    assert_problem(&scene.told(Via::Http2, &open, taken_down).await, 401);

    access::unset(coordinator, &subject).await;
    access::until(world, &PATH, 200).await;
    let taken_down = take_down(coordinator, Target::Asset { asset: asset(), blobs: None });
    assert_problem(&scene.told(Via::Http1, &PATH, taken_down).await, 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_ask_to_wait_or_has_another_text_or_could_hear_nothing_does_not_wait() {
    let scene = Scene::new(|_| {}).await;
    let world = &scene.world;
    let tag = field(&world.get(Via::Http3, &PATH).await, header::ETAG).to_owned();
    for (fields, status) in [
        (&[(header::IF_NONE_MATCH, tag.as_str())][..], 304),
        (&[(header::IF_NONE_MATCH, "\"other\""), (PREFER, LONG)], 200),
        (&[(PREFER, LONG)], 200),
        (&[(header::IF_NONE_MATCH, &tag), (PREFER, "respond-async")], 304),
    ] {
        let answer =
            timeout(Duration::from_secs(20), world.send(Via::Http3, Method::GET, &PATH, fields)).await;
        assert_eq!(answer.unwrap().status(), status, "{fields:?}");
    }
    let deaf = World::new();
    deaf.store
        .put_object(&keys::multivariant_playlist(asset()), Bytes::from_static(b"#EXTM3U\n"))
        .await
        .unwrap();
    let fields = [(header::IF_NONE_MATCH, tag.as_str()), (PREFER, LONG)];
    let answer = deaf.send(Via::Http3, Method::GET, &PATH, &fields).await;
    assert_eq!((answer.status().as_u16(), field(&answer, PREFERENCE_APPLIED)), (304, ""));
}
