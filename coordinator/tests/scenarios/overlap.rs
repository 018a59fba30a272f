//! Work on what is there while the upload still runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use reelmill_media::keys::BlobKind;
use reelmill_media::plan::Plan;
use reelmill_media::source::{ENDLESS_BYTES, Source};
use reelmill_media::task::{Task, TaskNumber, Work};
use reelmill_platform::store::Store;

use crate::client::{Caller, header};
use crate::life::is_whole;
use crate::machines::{Coordinator, Machines, until};
use crate::uploads::bytes;
use crate::worker::{Act, Worker};

/// Length of the source in seconds.
const SECONDS: u32 = 120;
/// Its length in bytes: as long as the frames of [`crate::media::index`].
const LENGTH: usize = SECONDS as usize * 30_000;
/// A little more than its first block.
const BEGINNING: usize = 300_000;

/// The tasks that were handed out, by number and epoch.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeSet<(TaskNumber, u32)>>>);

impl Seen {
    fn note(&self, task: &Task) {
        self.0.lock().unwrap().insert((task.number, task.epoch));
    }

    fn all(&self) -> Vec<(TaskNumber, u32)> {
        self.0.lock().unwrap().iter().copied().collect()
    }
}

/// Panics if a task could not be done with the bytes that it names.
async fn has_its_bytes(store: &Store, task: &Task) {
    let list = store.get_blob(BlobKind::Record, task.source.blocks).await.unwrap();
    let source: Source = serde_json::from_slice(list.bytes()).unwrap();
    assert_eq!(source.bytes(), task.source.bytes);
    assert!([LENGTH as u64, ENDLESS_BYTES].contains(&source.bytes()));
    let Some(recipe) = task.recipe else { return };
    let plan = store.get_blob(BlobKind::Record, recipe.plan).await.unwrap();
    let plan: Plan = postcard::from_bytes(plan.bytes()).unwrap();
    let needed = plan.reads[task.number.position().unwrap() as usize];
    let gap = source.gap();
    assert!(gap.is_empty() || needed <= gap.start, "task {} needs {needed} bytes of {gap:?}", task.number.0);
}

/// An upload that is under way, to a worker that looks whether it can do what it is handed.
struct UnderWay {
    machines: Machines,
    coordinator: Option<Coordinator>,
    caller: Caller,
    seen: Seen,
    _worker: Worker,
    sent: Vec<u8>,
}

impl UnderWay {
    /// Its worker does this to index tasks.
    async fn indexed_by(act: Act) -> UnderWay {
        UnderWay::worked_at(move |task| if task.work == Work::Index { act } else { Act::Do }).await
    }

    /// Its worker does what is said to each task.
    async fn worked_at(act: impl Fn(&Task) -> Act + Send + Sync + 'static) -> UnderWay {
        let machines = Machines::start().await;
        let coordinator = machines.coordinator(&[]).await;
        let caller = Caller::of(&coordinator);
        let seen = Seen::default();
        let (store, noted) = (machines.store.clone(), seen.clone());
        let worker = Worker::start(&machines, SECONDS, move |task| {
            let (store, noted, act) = (store.clone(), noted.clone(), act(&task));
            async move {
                has_its_bytes(&store, &task).await;
                noted.note(&task);
                act
            }
        });
        let (worker, sent) = (worker.await, bytes(LENGTH));
        UnderWay { machines, coordinator: Some(coordinator), caller, seen, _worker: worker, sent }
    }

    /// Sends the beginning; gives the upload and the asset.
    async fn begin(&self) -> (String, String) {
        let (upload, id) = self.caller.create(LENGTH).await;
        assert_eq!(self.caller.patch(&upload, 0, &self.sent[..BEGINNING]).await.status(), 204);
        (upload, id)
    }

    /// Sends all the rest, piece by piece.
    async fn go_on(&self, upload: &str, mut offset: usize) {
        for piece in self.sent[offset..].chunks(700_000) {
            assert_eq!(self.caller.patch(upload, offset, piece).await.status(), 204);
            offset += piece.len();
        }
    }

    async fn plays(&self, id: &str) {
        plays(&self.caller, id).await;
    }

    async fn ends_well(&self, id: &str) -> serde_json::Value {
        let asset = self.caller.reaches(id, "ready").await;
        is_whole(&self.machines, id, SECONDS);
        asset
    }
}

#[tokio::test]
async fn a_job_begins_with_what_is_there_and_ends_with_the_rest() {
    // The index says all from the first byte on, or what lies where is known as it comes.
    for act in [Act::Do, Act::Begin] {
        let world = UnderWay::indexed_by(act).await;
        let (upload, id) = world.begin().await;
        world.plays(&id).await;
        let asset = world.caller.asset(&id).await;
        assert_eq!((&asset["state"], &asset["upload"]["length"]), (&"processing".into(), &LENGTH.into()));
        assert!(asset["timings"]["received_at"].is_null());
        world.go_on(&upload, BEGINNING).await;
        let asset = world.ends_well(&id).await;
        let moment =
            |name: &str| asset["timings"][name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert!(moment("playable_at") < moment("received_at"));
        let (indexing, made): (Vec<_>, Vec<_>) =
            world.seen.all().into_iter().partition(|(number, _)| *number == TaskNumber::INDEX);
        assert!(
            made.iter().copied().eq((1..=made.len() as u32).map(|number| (TaskNumber(number), 1))),
            "each once"
        );
        assert_eq!(indexing.len() > 1, act == Act::Begin, "{indexing:?}");
        assert!(indexing.len() <= 12, "{indexing:?}");
    }
}

#[tokio::test]
async fn nobody_has_to_say_how_long_an_upload_will_be() {
    let world = UnderWay::indexed_by(Act::Begin).await;
    let caller = &world.caller;
    let create = caller.tus("POST", "/v1/uploads").header("Upload-Defer-Length", "1").send().await.unwrap();
    let (upload, id) = (header(&create, "location"), header(&create, "reelmill-asset"));
    assert_eq!(caller.patch(&upload, 0, &world.sent[..BEGINNING]).await.status(), 204);
    world.plays(&id).await;
    assert!(caller.asset(&id).await["upload"]["length"].is_null());
    assert_eq!(caller.patch(&upload, BEGINNING, &world.sent[BEGINNING..2_000_000]).await.status(), 204);
    let last = caller.tus("PATCH", &upload).header("Content-Type", "application/offset+octet-stream");
    let last = last.header("Upload-Offset", 2_000_000).header("Upload-Length", LENGTH);
    assert_eq!(last.body(world.sent[2_000_000..].to_vec()).send().await.unwrap().status(), 204);
    let asset = world.ends_well(&id).await;
    assert_eq!(asset["upload"]["length"], LENGTH);
}

#[tokio::test]
async fn what_is_not_as_its_beginning_said_is_made_anew_of_the_whole() {
    let world = UnderWay::indexed_by(Act::Mislead).await;
    let (upload, id) = world.begin().await;
    world.plays(&id).await;
    let begun = world.seen.all();
    world.go_on(&upload, BEGINNING).await;
    world.ends_well(&id).await;
    let anew: Vec<_> = world.seen.all().into_iter().filter(|seen| seen.1 > 1000).collect();
    assert!(anew.len() > begun.len() && anew.iter().any(|(number, _)| *number == TaskNumber(1)), "{anew:?}");
}

async fn plays(caller: &Caller, id: &str) {
    until("something to play", async || (caller.asset(id).await["playable"] == true).then_some(())).await;
}

#[tokio::test]
async fn an_index_that_came_too_early_is_asked_for_again_when_its_bytes_are_there() {
    let too_early = |task: &Task| task.work == Work::Index && task.epoch == 1;
    let act = move |task: &Task| if too_early(task) { Act::Wait(1_000_000) } else { Act::Do };
    let world = UnderWay::worked_at(act).await;
    let (caller, seen, sent) = (&world.caller, &world.seen, &world.sent);
    let (upload, id) = world.begin().await;
    until("the index to be asked for", async || (!seen.all().is_empty()).then_some(())).await;
    caller.reaches(&id, "uploading").await;
    assert_eq!(caller.patch(&upload, BEGINNING, &sent[BEGINNING..900_000]).await.status(), 204);
    assert_eq!(caller.asset(&id).await["state"], "uploading");
    assert_eq!(seen.all(), [(TaskNumber::INDEX, 1)]);
    assert_eq!(caller.patch(&upload, 900_000, &sent[900_000..1_100_000]).await.status(), 204);
    world.plays(&id).await;
    assert_eq!(caller.patch(&upload, 1_100_000, &sent[1_100_000..]).await.status(), 204);
    world.ends_well(&id).await;
    assert!(seen.all().iter().skip(1).all(|(_, epoch)| *epoch == 2), "{:?}", seen.all());
}

#[tokio::test]
async fn an_end_that_comes_first_counts_when_the_beginning_is_there() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let options = caller.request("OPTIONS", "/v1/uploads").send().await.unwrap();
    assert!(header(&options, "tus-extension").contains("concatenation-unfinished"));
    let seen = Seen::default();
    let (store, note) = (machines.store.clone(), seen.clone());
    let index_at = LENGTH as u64 - 10_000;
    let _worker = Worker::start(&machines, SECONDS, move |task| {
        let (store, note) = (store.clone(), note.clone());
        async move {
            has_its_bytes(&store, &task).await;
            note.note(&task);
            let list = store.get_blob(BlobKind::Record, task.source.blocks).await.unwrap();
            let source: Source = serde_json::from_slice(list.bytes()).unwrap();
            let index_is_there = !source.slices(index_at..index_at + 1).is_empty();
            if task.work == Work::Index && !index_is_there { Act::Wait(index_at + 1) } else { Act::Do }
        }
    })
    .await;
    let sent = bytes(LENGTH);
    let partial = async |length: usize| {
        let create = caller.tus("POST", "/v1/uploads").header("Upload-Concat", "partial");
        header(&create.header("Upload-Length", length).send().await.unwrap(), "location")
    };
    let cut = LENGTH - 20_000;
    let (head, tail) = (partial(cut).await, partial(20_000).await);
    let concat = format!("final;{head} {tail}");
    let join = caller.tus("POST", "/v1/uploads").header("Upload-Concat", &concat).send().await.unwrap();
    assert_eq!(join.status(), 201);
    let (last, id) = (header(&join, "location"), header(&join, "reelmill-asset"));
    let said = caller.tus("HEAD", &last).send().await.unwrap();
    assert_eq!(header(&said, "upload-length"), LENGTH.to_string());
    assert!(said.headers().get("upload-offset").is_none(), "it is not there yet");

    // The beginning alone is not enough, and neither is the end.
    assert_eq!(caller.patch(&head, 0, &sent[..BEGINNING]).await.status(), 204);
    until("the index to be asked for", async || (!seen.all().is_empty()).then_some(())).await;
    caller.reaches(&id, "uploading").await;
    assert_eq!(caller.patch(&tail, 0, &sent[cut..]).await.status(), 204);
    plays(&caller, &id).await;
    let asset = caller.asset(&id).await;
    assert_eq!(asset["upload"]["bytes"], BEGINNING + 20_000);
    assert_eq!(caller.patch(&head, BEGINNING, &sent[BEGINNING..cut]).await.status(), 204);
    caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, SECONDS);
    assert_eq!(caller.offset(&last).await, LENGTH);
}

#[tokio::test]
async fn a_part_that_is_taken_away_ends_the_job() {
    let world = UnderWay::indexed_by(Act::Do).await;
    let caller = &world.caller;
    let create = caller.tus("POST", "/v1/uploads").header("Upload-Concat", "partial");
    let part = header(&create.header("Upload-Length", LENGTH).send().await.unwrap(), "location");
    let concat = format!("final;{part}");
    let join = caller.tus("POST", "/v1/uploads").header("Upload-Concat", &concat).send().await.unwrap();
    let id = header(&join, "reelmill-asset");
    assert_eq!(caller.patch(&part, 0, &world.sent[..BEGINNING]).await.status(), 204);
    world.plays(&id).await;
    assert_eq!(caller.tus("DELETE", &part).send().await.unwrap().status(), 204);
    let asset = caller.reaches(&id, "failed").await;
    assert_eq!(asset["error"]["code"], "incomplete");
    nothing_is_left(&world.machines, &id).await;
}

#[tokio::test]
async fn an_upload_that_is_given_up_takes_its_playlists_along() {
    for act in [Act::Do, Act::Begin] {
        let world = UnderWay::indexed_by(act).await;
        let (upload, id) = world.begin().await;
        world.plays(&id).await;
        assert!(world.machines.file(&format!("assets/{id}/index.m3u8")).exists());
        assert_eq!(world.caller.tus("DELETE", &upload).send().await.unwrap().status(), 204);
        let asset = world.caller.reaches(&id, "failed").await;
        assert_eq!((&asset["error"]["code"], &asset["playable"]), (&"incomplete".into(), &false.into()));
        nothing_is_left(&world.machines, &id).await;
        let late = world.caller.patch(&upload, BEGINNING, &world.sent[BEGINNING..]).await;
        assert_eq!(late.status(), 410);
    }
}

async fn nothing_is_left(machines: &Machines, id: &str) {
    let folder = machines.file(&format!("assets/{id}"));
    until("the playlists to go", async || {
        let left = std::fs::read_dir(&folder).map_or(0, Iterator::count);
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_coordinator_that_dies_in_the_middle_is_not_missed() {
    for act in [Act::Do, Act::Begin] {
        let mut world = UnderWay::indexed_by(act).await;
        let (upload, id) = world.begin().await;
        world.plays(&id).await;
        // Killed while bytes come in and tasks are out.
        let head = Caller::patch_head(&upload, BEGINNING, LENGTH - BEGINNING);
        let _half = world.caller.half_sent(&head, &world.sent[BEGINNING..1_500_000]).await;
        until("more tasks", async || (world.seen.all().len() > 6).then_some(())).await;
        if let Some(first) = world.coordinator.take() {
            first.kill().await;
        }
        let second = world.machines.coordinator(&[]).await;
        world.caller = Caller::of(&second);
        let offset = world.caller.offset(&upload).await;
        assert!(offset >= BEGINNING);
        world.go_on(&upload, offset).await;
        world.ends_well(&id).await;
    }
}

#[tokio::test]
async fn one_request_gains_as_much() {
    let world = UnderWay::indexed_by(Act::Do).await;
    let head = format!("PUT /v1/uploads?name=x HTTP/1.1\r\nContent-Length: {LENGTH}");
    let mut open = world.caller.half_sent(&head, &world.sent[..BEGINNING]).await;
    let id = until("the asset", async || {
        let list: serde_json::Value =
            world.caller.request("GET", "/v1/assets").send().await.unwrap().json().await.unwrap();
        list["assets"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    world.plays(&id).await;
    tokio::io::AsyncWriteExt::write_all(&mut open, &world.sent[BEGINNING..]).await.unwrap();
    assert_eq!(crate::client::status_of(&mut open).await, 201);
    world.ends_well(&id).await;
}
