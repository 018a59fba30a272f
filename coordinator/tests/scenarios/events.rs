//! Server-sent events over connections that are cut.

use reqwest::Response;
use serde_json::Value;

use crate::client::{Caller, header};
use crate::machines::{DEADLINE, Machines};
use crate::worker::Worker;

/// Reads one event after the other.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    async fn of(caller: &Caller, asset: &str, last: Option<&str>) -> Events {
        let request = caller.request("GET", &format!("/v1/assets/{asset}/events"));
        let request = last.into_iter().fold(request, |request, id| request.header("Last-Event-ID", id));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "content-type"), "text/event-stream");
        Events { response, text: String::new() }
    }

    /// The next one's id and what it says; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let found = field("id: ").zip(field("data: "));
                self.text = rest.to_owned();
                let Some((id, data)) = found else { continue };
                return Some((id, serde_json::from_str(&data).unwrap()));
            }
            let chunk = tokio::time::timeout(DEADLINE, self.response.chunk()).await.expect("in time");
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()?).unwrap());
        }
    }
}

fn revision(id: &str) -> u64 {
    id.split_once('-').unwrap().0.parse().unwrap()
}

#[tokio::test]
async fn a_listener_that_comes_back_hears_only_what_is_new() {
    let machines = Machines::start().await;
    let (one, two) = tokio::join!(machines.coordinator(&[]), machines.coordinator(&[]));
    let (caller, other) = (Caller::of(&one), Caller::of(&two));
    let (upload, id) = caller.create(1000).await;
    let (first, said) = Events::of(&caller, &id, None).await.next().await.unwrap();
    assert_eq!((&said["state"], &said["upload"]["bytes"]), (&"uploading".into(), &0.into()));

    // Nothing has happened yet: what comes first is news, and another coordinator tells it as well.
    let mut listeners =
        [Events::of(&caller, &id, Some(&first)).await, Events::of(&other, &id, Some(&first)).await];
    assert_eq!(caller.patch(&upload, 0, &[1; 500]).await.status(), 204);
    let mut last = String::new();
    for listener in &mut listeners {
        let (next, said) = listener.next().await.unwrap();
        assert!(revision(&next) > revision(&first), "{next} after {first}");
        assert_eq!(said["upload"]["bytes"], 500);
        last = next;
    }
    // What happened meanwhile is told at once, and an id that nobody gave is worth nothing.
    for before in [first.as_str(), "nonsense", "999999999-0"] {
        let (again, said) = Events::of(&other, &id, Some(before)).await.next().await.unwrap();
        // The job has begun with what is there, so that more may have happened.
        assert!(revision(&again) >= revision(&last), "{again} after {before}");
        assert_eq!(said["upload"]["bytes"], 500);
    }

    // Cut after each event, from one coordinator to the other: progress never goes back.
    assert_eq!(caller.patch(&upload, 500, &[1; 500]).await.status(), 204);
    let _worker = Worker::diligent(&machines, 60).await;
    let mut steps = vec![0.0];
    let mut connections = 0;
    let ended = loop {
        let caller = if connections % 2 == 0 { &caller } else { &other };
        connections += 1;
        let (next, said) = Events::of(caller, &id, Some(&last)).await.next().await.unwrap();
        assert!(revision(&next) >= revision(&last), "{next} after {last}");
        let progress = said["progress"].as_f64().unwrap();
        // An id holds millionths, rounded up.
        assert!(progress + 1e-6 >= *steps.last().unwrap(), "{progress} after {steps:?}");
        steps.push(progress);
        last = next;
        if said["state"] == "ready" {
            break last;
        }
    };
    assert!(connections >= 3, "{steps:?}");
    // Who knows the end need not come back, and hears it again if its answer was lost.
    let request = caller.request("GET", &format!("/v1/assets/{id}/events")).header("Last-Event-ID", &ended);
    assert_eq!(request.send().await.unwrap().status(), 204);
    let mut listener = Events::of(&other, &id, Some(&first)).await;
    assert_eq!(listener.next().await.unwrap().1["state"], "ready");
    assert_eq!(listener.next().await, None);
}
