//! What cannot be made is refused: with a sentence and a stable code, without a trace, and the worker goes on.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use reelmill_e2e::fixtures::{Bad, Kind, bad, fixture};
use reelmill_e2e::http::Answer;
use reelmill_e2e::judge::Expected;
use reelmill_e2e::system::{AssetId, System};

const END: Duration = Duration::from_secs(60);

/// The codes under which a bad source may end.
fn codes(kind: Bad) -> &'static [&'static str] {
    match kind {
        Bad::Empty => &["empty"],
        Bad::Text | Bad::Playlist | Bad::Png | Bad::Garbage => &["not_media"],
        Bad::SubtitlesOnly => &["no_tracks"],
        Bad::TruncatedMoovFirst | Bad::TruncatedMoovMissing => &["truncated"],
    }
}

/// A refusal of the API: problem+json with a sentence and a code.
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    let detail = problem["detail"].as_str().expect("a sentence");
    assert!(detail.len() > 10 && !detail.contains('\n'), "{detail:?} is not one sentence");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["code"], code, "{problem}");
}

#[test]
fn bad_sources_fail_with_their_codes_and_publish_nothing() {
    let system = System::start();
    for (at, kind) in Bad::ALL.into_iter().enumerate() {
        let path = bad(kind);
        if kind == Bad::Empty {
            let answer = system.try_put(&path);
            if answer.status >= 400 {
                refused(&answer, 422, "empty");
                continue;
            }
        }
        let asset = if at % 2 == 0 { system.put(&path) } else { system.upload_by_tus(&path, 65_536) };
        let failure = system.failed(&asset, END);
        assert!(codes(kind).contains(&failure.code.as_str()), "{kind:?}: {failure:?}");
        // What failed cannot be played either.
        let index = format!("{}/assets/{asset}/index.m3u8", system.state.edge);
        assert_eq!(system.http.get(&index, &[]).status, 404);
    }
    let worker = system.id_of("reelmill-worker").expect("a worker");
    let good = fixture(Kind::HalfSecond);
    let asset = system.put(&good.path);
    system.ready(&asset, END);
    system.must_be_right(&asset, &Expected::of(&good));
    assert_eq!(system.id_of("reelmill-worker"), Some(worker), "the worker is still the same");
}

#[test]
fn the_command_line_says_why_in_one_line() {
    let system = System::start();
    for (kind, words) in [(Bad::Text, "not_media"), (Bad::SubtitlesOnly, "no_tracks"), (Bad::Empty, "empty")]
    {
        let output = system.reelmill(&["upload".as_ref(), bad(kind).as_os_str()]);
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("reelmill: ") && last.contains(words), "{kind:?}: {said:?}");
        assert!(!said.contains("panicked") && last.len() < 300, "{said:?}");
    }
    let output = system.reelmill(&["upload", "/nowhere/clip.mp4"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("/nowhere/clip.mp4"), "{said:?}");
}

#[test]
fn requests_that_mean_nothing_are_refused() {
    let system = System::start();
    let (key, http) = (system.key(), &system.http);
    let unknown = AssetId("01jd3mze1v0000000000000000".to_owned());
    let asset = system.api(&format!("/v1/assets/{unknown}"));

    refused(&http.get(&asset, &[key.pair()]), 404, "unknown_asset");
    refused(&http.get(&format!("{asset}/events"), &[key.pair()]), 404, "unknown_asset");
    refused(&http.get(&system.api("/v1/assets/no-id"), &[key.pair()]), 400, "invalid_id");
    refused(&http.get(&asset, &[("Authorization", "Bearer rm_wrong")]), 401, "unauthorized");
    refused(&http.get(&asset, &[]), 401, "unauthorized");
    let upload = system.api("/v1/uploads");
    refused(&http.send("PUT", &upload, &[], b"x".to_vec()), 401, "unauthorized");
    refused(&http.send("POST", &upload, &[("Tus-Resumable", "1.0.0")], Vec::new()), 401, "unauthorized");

    let edge = &system.state.edge;
    for path in
        ["/assets/no-id/index.m3u8", &format!("/assets/{unknown}/index.m3u8"), "/blobs/00/00.m4s", "/"]
    {
        let answer = http.get(&format!("{edge}{path}"), &[]);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
    }
}

#[test]
fn tus_requests_that_do_not_fit_are_refused() {
    let system = System::start();
    let upload = system.tus(1000);
    let (key, http) = (system.key(), &system.http);
    let send = |fields: &[(&str, &str)]| {
        let headers: Vec<_> = std::iter::once(key.pair()).chain(fields.iter().copied()).collect();
        http.send("PATCH", &upload.address, &headers, vec![1; 10]).status
    };
    let (version, stream) = (("Tus-Resumable", "1.0.0"), ("Content-Type", "application/offset+octet-stream"));
    assert_eq!(send(&[version, stream, ("Upload-Offset", "5")]), 409, "a wrong offset");
    assert_eq!(send(&[version, ("Content-Type", "text/plain"), ("Upload-Offset", "0")]), 415, "a wrong type");
    assert_eq!(send(&[("Tus-Resumable", "0.2.2"), stream, ("Upload-Offset", "0")]), 412, "an old version");
    assert_eq!(upload.offset(), Some(0), "none of it counted");
    assert_eq!(upload.send(0, vec![1; 10]).status, 204);
    assert_eq!(upload.offset(), Some(10));
    let too_much = upload.send(10, vec![1; 2000]).status;
    assert!((400..500).contains(&too_much), "more than was declared: {too_much}");
}

#[test]
fn a_body_that_breaks_off_is_no_upload() {
    let system = System::start();
    let source = std::fs::read(fixture(Kind::HalfSecond).path).unwrap();
    let address = system.state.api.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!(
        "PUT /v1/uploads?name=short HTTP/1.1\r\nHost: {address}\r\n{}: {}\r\nContent-Length: {}\r\n\r\n",
        system.key().pair().0,
        system.key().pair().1,
        source.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(&source[..source.len() / 2]).unwrap();
    connection.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.contains(" 200 ") && !answer.contains(" 201 ") && !answer.contains(" 202 "), "{answer}");

    // Whatever became of it never plays.
    let listed = system.http.get(&system.api("/v1/assets?limit=10"), &[system.key().pair()]).json();
    for asset in listed["assets"].as_array().expect("a list") {
        let id = AssetId(asset["id"].as_str().unwrap().to_owned());
        let failure = system.failed(&id, END);
        assert_eq!(failure.code, "incomplete", "{failure:?}");
    }
}
