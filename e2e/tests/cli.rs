//! What people see in their terminals.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::process::Command;

use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_e2e::system::{System, program};

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

    let watched = system.reelmill(&["watch", id]);
    assert!(watched.status.success() && text(&watched.stdout).contains(player), "{watched:?}");
    let unknown = system.reelmill(&["watch", "01jd3mze1v0000000000000000"]);
    let said = text(&unknown.stderr);
    assert!(
        !unknown.status.success() && said.starts_with("reelmill: ") && said.lines().count() == 1,
        "{said}"
    );
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
