//! Work on what is there while the upload still runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use reelmill_media::keys::BlobKind;
use reelmill_media::plan::Plan;
use reelmill_media::source::Source;
use reelmill_media::task::{Task, TaskNumber, Work};
use reelmill_platform::store::Store;

use crate::client::{Caller, header};
use crate::life::is_whole;
use crate::machines::{Machines, until};
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
    assert_eq!((source.bytes(), task.source.bytes), (LENGTH as u64, LENGTH as u64));
    let Some(recipe) = task.recipe else { return };
    let plan = store.get_blob(BlobKind::Record, recipe.plan).await.unwrap();
    let plan: Plan = postcard::from_bytes(plan.bytes()).unwrap();
    let needed = plan.reads[task.number.position().unwrap() as usize];
    let gap = source.gap();
    assert!(gap.is_empty() || needed <= gap.start, "task {} needs {needed} bytes of {gap:?}", task.number.0);
}

/// A worker that does what it is handed, and looks that it could.
async fn careful(machines: &Machines, seen: &Seen) -> Worker {
    let (store, seen) = (machines.store.clone(), seen.clone());
    Worker::start(machines, SECONDS, move |task| {
        let (store, seen) = (store.clone(), seen.clone());
        async move {
            has_its_bytes(&store, &task).await;
            seen.note(&task);
            Act::Do
        }
    })
    .await
}

async fn plays(caller: &Caller, id: &str) {
    until("something to play", async || (caller.asset(id).await["playable"] == true).then_some(())).await;
}

#[tokio::test]
async fn a_job_begins_with_what_is_there_and_ends_with_the_rest() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let seen = Seen::default();
    let _worker = careful(&machines, &seen).await;
    let sent = bytes(LENGTH);
    let (upload, id) = caller.create(LENGTH).await;
    assert_eq!(caller.patch(&upload, 0, &sent[..BEGINNING]).await.status(), 204);
    plays(&caller, &id).await;
    let asset = caller.asset(&id).await;
    assert_eq!((&asset["state"], &asset["upload"]["length"]), (&"processing".into(), &LENGTH.into()));
    assert!(asset["timings"]["received_at"].is_null());

    let mut offset = BEGINNING;
    for piece in sent[BEGINNING..].chunks(700_000) {
        assert_eq!(caller.patch(&upload, offset, piece).await.status(), 204);
        offset += piece.len();
    }
    let asset = caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, SECONDS);
    let moment = |name: &str| asset["timings"][name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(moment("playable_at") < moment("received_at"));
    let (all, done) = (seen.all(), seen.all().len() as u32);
    assert!(all.into_iter().eq((0..done).map(|number| (TaskNumber(number), 1))), "each was handed out once");
}

#[tokio::test]
async fn an_index_that_came_too_early_is_asked_for_again_when_its_bytes_are_there() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let seen = Seen::default();
    let (store, note) = (machines.store.clone(), seen.clone());
    let _worker = Worker::start(&machines, SECONDS, move |task| {
        let (store, note) = (store.clone(), note.clone());
        async move {
            has_its_bytes(&store, &task).await;
            note.note(&task);
            if task.work == Work::Index && task.epoch == 1 { Act::Wait(1_000_000) } else { Act::Do }
        }
    })
    .await;
    let sent = bytes(LENGTH);
    let (upload, id) = caller.create(LENGTH).await;
    assert_eq!(caller.patch(&upload, 0, &sent[..BEGINNING]).await.status(), 204);
    until("the index to be asked for", async || (!seen.all().is_empty()).then_some(())).await;
    caller.reaches(&id, "uploading").await;
    assert_eq!(caller.patch(&upload, BEGINNING, &sent[BEGINNING..900_000]).await.status(), 204);
    assert_eq!(caller.asset(&id).await["state"], "uploading");
    assert_eq!(seen.all(), [(TaskNumber::INDEX, 1)]);
    assert_eq!(caller.patch(&upload, 900_000, &sent[900_000..1_100_000]).await.status(), 204);
    plays(&caller, &id).await;
    assert_eq!(caller.patch(&upload, 1_100_000, &sent[1_100_000..]).await.status(), 204);
    caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, SECONDS);
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
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let seen = Seen::default();
    let _worker = careful(&machines, &seen).await;
    let sent = bytes(LENGTH);
    let create = caller.tus("POST", "/v1/uploads").header("Upload-Concat", "partial");
    let part = header(&create.header("Upload-Length", LENGTH).send().await.unwrap(), "location");
    let concat = format!("final;{part}");
    let join = caller.tus("POST", "/v1/uploads").header("Upload-Concat", &concat).send().await.unwrap();
    let id = header(&join, "reelmill-asset");
    assert_eq!(caller.patch(&part, 0, &sent[..BEGINNING]).await.status(), 204);
    plays(&caller, &id).await;
    assert_eq!(caller.tus("DELETE", &part).send().await.unwrap().status(), 204);
    let asset = caller.reaches(&id, "failed").await;
    assert_eq!(asset["error"]["code"], "incomplete");
    nothing_is_left(&machines, &id).await;
}

#[tokio::test]
async fn an_upload_that_is_given_up_takes_its_playlists_along() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let seen = Seen::default();
    let _worker = careful(&machines, &seen).await;
    let sent = bytes(LENGTH);
    let (upload, id) = caller.create(LENGTH).await;
    assert_eq!(caller.patch(&upload, 0, &sent[..BEGINNING]).await.status(), 204);
    plays(&caller, &id).await;
    assert!(machines.file(&format!("assets/{id}/index.m3u8")).exists());
    assert_eq!(caller.tus("DELETE", &upload).send().await.unwrap().status(), 204);
    let asset = caller.reaches(&id, "failed").await;
    assert_eq!((&asset["error"]["code"], &asset["playable"]), (&"incomplete".into(), &false.into()));
    nothing_is_left(&machines, &id).await;
    assert_eq!(caller.patch(&upload, BEGINNING, &sent[BEGINNING..]).await.status(), 410);
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
    let machines = Machines::start().await;
    let first = machines.coordinator(&[]).await;
    let caller = Caller::of(&first);
    let seen = Seen::default();
    let _worker = careful(&machines, &seen).await;
    let sent = bytes(LENGTH);
    let (upload, id) = caller.create(LENGTH).await;
    assert_eq!(caller.patch(&upload, 0, &sent[..BEGINNING]).await.status(), 204);
    plays(&caller, &id).await;
    // Killed while bytes come in and tasks are out.
    let head = Caller::patch_head(&upload, BEGINNING, LENGTH - BEGINNING);
    let _half = caller.half_sent(&head, &sent[BEGINNING..1_500_000]).await;
    until("more tasks", async || (seen.all().len() > 6).then_some(())).await;
    first.kill().await;
    let second = machines.coordinator(&[]).await;
    let caller = Caller::of(&second);
    let offset = caller.offset(&upload).await;
    assert!(offset >= BEGINNING);
    assert_eq!(caller.patch(&upload, offset, &sent[offset..]).await.status(), 204);
    caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, SECONDS);
}

#[tokio::test]
async fn one_request_gains_as_much() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let seen = Seen::default();
    let _worker = careful(&machines, &seen).await;
    let sent = bytes(LENGTH);
    let head = format!("PUT /v1/uploads?name=x HTTP/1.1\r\nContent-Length: {LENGTH}");
    let mut open = caller.half_sent(&head, &sent[..BEGINNING]).await;
    let id = until("the asset", async || {
        let list: serde_json::Value =
            caller.request("GET", "/v1/assets").send().await.unwrap().json().await.unwrap();
        list["assets"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    plays(&caller, &id).await;
    tokio::io::AsyncWriteExt::write_all(&mut open, &sent[BEGINNING..]).await.unwrap();
    assert_eq!(crate::client::status_of(&mut open).await, 201);
    caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, SECONDS);
}
