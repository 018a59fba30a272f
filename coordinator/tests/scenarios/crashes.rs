//! kill -9 at bad moments, and stops that are polite.

use std::sync::Arc;
use std::time::Duration;

use reelmill_media::task::Class;
use tokio::sync::Semaphore;

use crate::client::{Caller, is_problem, status_of, uploaded_bytes};
use crate::life::{is_whole, media_playlist, texts};
use crate::machines::{DEADLINE, Machines, until};
use crate::uploads::bytes;
use crate::worker::Worker;

#[tokio::test]
async fn acknowledged_bytes_survive_a_kill() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let sent = bytes(20_000_000);
    let (upload, id) = caller.create(sent.len()).await;
    assert_eq!(caller.patch(&upload, 0, &sent[..1000]).await.status(), 204);
    let head = Caller::patch_head(&upload, 1000, sent.len() - 1000);
    let cut = caller.half_sent(&head, &sent[1000..10_000_000]).await;
    let acknowledged = until("a stored block", async || {
        let offset = caller.offset(&upload).await;
        (offset > 1000).then_some(offset)
    })
    .await;
    coordinator.kill().await;
    drop(cut);

    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let offset = caller.offset(&upload).await;
    assert!(offset >= acknowledged);
    assert_eq!(caller.patch(&upload, offset, &sent[offset..]).await.status(), 204);
    caller.reaches(&id, "indexing").await;
    assert!(uploaded_bytes(&machines, &id).await == sent);
}

#[tokio::test]
async fn a_job_goes_on_after_a_kill_and_ends_with_the_same_playlists() {
    let machines = Machines::start().await;
    let mut coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let gate = Arc::new(Semaphore::new(1000));
    let _worker = Worker::behind(&machines, 90, &gate, &Class::ALL).await;
    let undisturbed = caller.put(vec![1; 10_000]).await;
    caller.reaches(&undisturbed, "ready").await;

    gate.forget_permits(usize::MAX);
    let mut caller = caller;
    let id = caller.put(vec![2; 10_000]).await;
    // Killed at once, and then again each time a few more tasks were let through.
    for let_through in [0, 1, 3, 5] {
        gate.add_permits(let_through);
        until("the tasks that were let through to be begun", async || {
            (gate.available_permits() == 0).then_some(())
        })
        .await;
        coordinator.kill().await;
        coordinator = machines.coordinator(&[]).await;
        caller = Caller::of(&coordinator);
    }
    gate.add_permits(1000);
    caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, 90);
    assert!(texts(&machines, &id) == texts(&machines, &undisturbed));
}

#[tokio::test]
async fn a_stop_keeps_what_came_and_ends_well() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let sent = bytes(3_000_000);
    let (upload, id) = caller.create(sent.len()).await;
    let head = Caller::patch_head(&upload, 0, sent.len());
    let mut open = caller.half_sent(&head, &sent[..1_234_567]).await;
    coordinator.counts("uploads_open 1").await;
    let stopped = tokio::spawn(coordinator.stop());
    assert_eq!(status_of(&mut open).await, 503);
    assert_eq!(stopped.await.unwrap(), Some(0));

    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let offset = caller.offset(&upload).await;
    assert!(offset > 0 && offset <= 1_234_567, "{offset}");
    assert_eq!(caller.patch(&upload, offset, &sent[offset..]).await.status(), 204);
    caller.reaches(&id, "indexing").await;
    assert!(uploaded_bytes(&machines, &id).await == sent);
    assert!(media_playlist(&machines, &id, "v360").is_none());
}

#[tokio::test]
async fn a_job_goes_on_after_the_nats_server_was_killed() {
    let mut machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let gate = Arc::new(Semaphore::new(0));
    // What makes it playable goes through.
    let _worker = Worker::behind(&machines, 60, &gate, &[Class::Ladder]).await;
    let id = caller.put(vec![1; 10_000]).await;
    until("the job to be on its way", async || (caller.asset(&id).await["playable"] == true).then_some(()))
        .await;
    let events = caller.request("GET", &format!("/v1/assets/{id}/events")).send().await.unwrap();
    machines.restart_nats().await;
    gate.add_permits(1000);

    // The watch of assets is there again: a listener from before hears of the end.
    let told = tokio::time::timeout(DEADLINE, events.text()).await.unwrap().unwrap();
    assert!(told.lines().rfind(|line| line.starts_with("data: ")).unwrap().contains("\"state\":\"ready\""));
    caller.reaches(&id, "ready").await;
    is_whole(&machines, &id, 60);
}

#[tokio::test]
async fn a_pull_does_not_wait_for_a_server_that_was_killed() {
    let mut machines = Machines::start().await;
    let bus = machines.bus().await;
    let (waiting, other) = (bus.tasks(Class::Ladder), bus.tasks(Class::Publish));
    let pull = tokio::spawn(async move { waiting.next_within(Duration::from_secs(3600)).await.err() });
    tokio::task::yield_now().await;
    // The server takes one after the other what it is asked over one connection.
    assert!(other.try_next().await.unwrap().is_none() && !pull.is_finished());
    machines.restart_nats().await;
    let failed = tokio::time::timeout(DEADLINE, pull).await.expect("the pull to end");
    assert!(failed.unwrap().is_some());
}

#[tokio::test]
async fn while_the_store_is_away_newcomers_are_sent_away_and_let_in_again_afterwards() {
    let machines = Machines::start().await;
    let coordinator = machines.coordinator(&[]).await;
    let caller = Caller::of(&coordinator);
    let (store, aside) = (machines.folder.path().join("store"), machines.folder.path().join("aside"));
    let create = async || {
        let create = caller.tus("POST", "/v1/uploads");
        create.header("Upload-Length", 10).send().await.unwrap()
    };
    std::fs::rename(&store, &aside).unwrap();
    // No folder: whatever is asked of it fails.
    std::fs::write(&store, "").unwrap();
    let readyz = format!("{}/readyz", coordinator.admin);
    until("it to be noticed", async || (reqwest::get(&readyz).await.unwrap().status() == 503).then_some(()))
        .await;
    let refused = create().await;
    assert!(refused.headers().contains_key("retry-after"));
    let problem = is_problem(refused, 503, "unavailable").await;
    assert!(problem["detail"].as_str().unwrap().contains("takes nothing new"), "{problem}");
    std::fs::remove_file(&store).unwrap();
    std::fs::rename(&aside, &store).unwrap();
    until("it to be over", async || (create().await.status() == 201).then_some(())).await;
}
