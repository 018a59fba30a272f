//! What people see in their terminals.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::process::{Command, Stdio};
use std::time::Duration;

use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_e2e::gate::Gate;
use reelmill_e2e::system::{System, program, until};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output in UTF-8")
}

#[test]
fn upload_list_and_watch_say_what_matters() {
    let system = System::start();
    let listed = system.reelmill(&["ls"]);
    assert!(listed.status.success() && text(&listed.stdout).contains("nothing here yet"), "{listed:?}");

    let source = fixture(Kind::HalfSecond);
    let uploaded = system.reelmill(&["upload".as_ref(), source.path.as_os_str()]);
    let said = text(&uploaded.stdout);
    assert!(uploaded.status.success(), "{said}{}", text(&uploaded.stderr));
    let lines: Vec<&str> = said.lines().collect();
    let [ready, player] = lines.as_slice() else { panic!("two lines expected: {said:?}") };
    assert_eq!(*ready, "ready 0.5 s, 2 renditions");
    let id = player.strip_prefix(&format!("{}/watch/", system.state.edge)).expect("the player's address");
    assert_eq!(system.http.get(player, &[]).status, 200);

    let named = ["upload".as_ref(), source.path.as_os_str(), "--name".as_ref(), "holiday".as_ref()];
    assert!(system.reelmill(&named).status.success());
    let listed = text(&system.reelmill(&["ls"]).stdout);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines[0].ends_with("holiday") && lines[0].contains("ready"), "newest first: {listed}");
    assert!(lines[1].starts_with(id) && lines[1].ends_with("half-second.mp4"), "{listed}");

    let shown = text(&system.reelmill(&["show", id]).stdout);
    for line in [
        "name        half-second.mp4",
        "state       ready",
        "length      0.5 s",
        &format!("watch       {player}"),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    let sound = shown.lines().find(|line| line.contains("mp4a.40.2")).expect("its sound");
    assert!(sound.contains(" kbit/s  mp4a"), "{sound}");

    let watched = system.reelmill(&["watch", id]);
    assert!(watched.status.success() && text(&watched.stdout).contains(player), "{watched:?}");
    let edge = std::fs::read_to_string(system.data().join("logs/edge.log")).unwrap();
    assert!(!edge.contains(" WARN "), "a first start has nothing to warn of: {edge}");
    let unknown = system.reelmill(&["watch", "01jd3mze1v0000000000000000"]);
    let said = text(&unknown.stderr);
    assert!(
        !unknown.status.success() && said.starts_with("reelmill: ") && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn what_was_done_is_said_in_a_line() {
    let system = System::start();
    let says = |arguments: &[&str], answer: &str| {
        let said = system.reelmill(arguments);
        assert_eq!(text(&said.stdout).trim_end(), answer, "{arguments:?}: {}", text(&said.stderr));
    };
    let uploaded =
        text(&system.reelmill(&["upload".as_ref(), fixture(Kind::HalfSecond).path.as_os_str()]).stdout);
    let id = uploaded.trim_end().rsplit('/').next().expect("its id").to_owned();
    let captions = system.data().join("en.srt").display().to_string();
    std::fs::write(&captions, "1\n00:00:00,000 --> 00:00:00,400\nHello\n").unwrap();
    let caption = ["caption", &id, "en", &captions];
    says(&[&caption[..], &["--name", "English"]].concat(), "en  added as English: viewers can choose them");
    says(
        &[&caption[..], &["--default"]].concat(),
        "en  replaced: viewers see them unless they choose otherwise",
    );
    says(&["caption", &id, "en", "--remove"], "en  removed: viewers can no longer choose them");
    says(&["rm", &id], "deleted: nobody can play it any more; what it alone has goes some days later");
    let gone = system.reelmill(&["show", &id]);
    assert!(!gone.status.success());
    assert_eq!(text(&gone.stderr), format!("reelmill: The asset {id} was deleted.\n"));
}

#[test]
fn an_upload_that_ends_on_the_server_ends_here_and_says_so() {
    let system = System::start();
    let source = fixture(Kind::Custom { width: 640, height: 360, seconds: 60 });
    let gate = Gate::before(&system.state.api, std::fs::metadata(&source.path).unwrap().len() / 2);
    let sending = Command::new(program("reelmill"))
        .arg("upload")
        .arg(&source.path)
        .args(["--api", &gate.address, "--key", &system.state.api_key, "--data"])
        .arg(system.data())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let asset = until("an asset", Duration::from_secs(60), || {
        let listed = system.http.get(&system.api("/v1/assets"), &[system.key().pair()]).json();
        Some(listed["assets"][0]["id"].as_str()?.to_owned())
    });
    assert!(system.reelmill(&["rm", &asset]).status.success());
    gate.open();
    let ended = sending.wait_with_output().unwrap();
    let said = text(&ended.stderr);
    // The answer to what was on its way may be lost; then it is the question for the offset that is refused.
    assert!(!ended.status.success() && (said.contains("was deleted") || said.contains("410 Gone")), "{said}");
}

#[test]
fn keys_and_policies_are_shown_as_they_stand() {
    let system = System::start();
    let file = system.data().join("k1.json").display().to_string();
    let says = |arguments: &[&str], answer: &str| {
        let said = system.reelmill(arguments);
        assert_eq!(text(&said.stdout).trim_end(), answer, "{arguments:?}: {}", text(&said.stderr));
    };
    says(&["key", "ls"], "no keys yet: reelmill key new ID --file FILE");
    let key = "k1  EdDSA  opens assets of tenant demo";
    for made in [["key", "new", "k1", "--file", &file].as_slice(), &["key", "add", &file], &["key", "ls"]] {
        says(made, key);
    }
    says(&["key", "rm", "k1"], "k1  withdrawn: its tokens open nothing any more");

    let policy = ["policy", "--tenant", "demo"];
    let unsaid = system.reelmill(&policy);
    assert!(text(&unsaid.stderr).contains("its assets are for everyone"), "{unsaid:?}");
    let asked = "with a token, only in AT, DE";
    says(&[&policy[..], &["--private", "--only", "DE,AT"]].concat(), asked);
    // Who only looks changes nothing.
    says(&policy, asked);
    says(&[&policy[..], &["--public"]].concat(), "without a token, everywhere");
    says(&[&policy[..], &["--clear"]].concat(), "no policy any more");
    assert!(!system.reelmill(&["policy"]).status.success());
}

#[test]
fn one_folder_has_one_reelmill() {
    let system = System::start();
    let second =
        Command::new(program("reelmill")).args(["up", "--data"]).arg(system.data()).output().unwrap();
    assert!(!second.status.success());
    assert!(text(&second.stderr).contains("runs on this data folder already"), "{}", text(&second.stderr));
    let empty = tempfile::tempdir().unwrap();
    let nobody = Command::new(program("reelmill")).args(["ls", "--data"]).arg(empty.path()).output().unwrap();
    assert!(!nobody.status.success());
    assert!(text(&nobody.stderr).contains("reelmill up"), "it says what to do: {}", text(&nobody.stderr));
}
