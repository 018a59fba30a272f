//! RFC 9218 over HTTP/3: the more urgent answer comes first, by the request's field or by a frame.

use reelmill_media::keys::BlobKind;

use crate::relay::relay;
use crate::world::{World, noise, path_of, quic_client_with, tls_client};

const LENGTH: usize = 4 << 20;

/// A connection with little room in all, and much in each stream, so that its answers compete.
async fn connect(world: &World) -> quinn::Connection {
    let mut transport = quinn::TransportConfig::default();
    transport.receive_window((256 * 1024u32).into()).stream_receive_window((16u32 << 20).into());
    let client = quic_client_with(tls_client(&[&world.certificate()], b"h3"), transport);
    client.connect(world.addresses.listen, "edge.test").unwrap().await.unwrap()
}

/// Asks by hand (RFC 9114 §4.1, RFC 9204 §4.5: static names, plain literals, all shorter than 127 bytes).
pub async fn ask(connection: &quinn::Connection, path: &str, priority: Option<&str>) -> quinn::RecvStream {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    // Prefix, `:method: GET`, `:scheme: https`, `:authority`, `:path`.
    let mut section = [vec![0, 0, 0xd1, 0xd7, 0x50], text("edge.test"), vec![0x51], text(path)].concat();
    if let Some(priority) = priority {
        section.extend([&[0x27, 0x01], &b"priority"[..], &text(priority)].concat());
    }
    let frame = [vec![0x01], ((section.len() as u16) | 0x4000).to_be_bytes().to_vec(), section].concat();
    let (mut send, recv) = connection.open_bi().await.unwrap();
    send.write_all(&frame).await.unwrap();
    send.finish().unwrap();
    recv
}

/// Opens the control stream, with empty SETTINGS and these PRIORITY_UPDATE payloads.
async fn control(connection: &quinn::Connection, updates: &[&[u8]]) -> quinn::SendStream {
    let mut bytes = vec![0x00, 0x04, 0x00];
    for update in updates {
        bytes.extend([&[0x80, 0x0f, 0x07, 0x00, update.len() as u8], *update].concat());
    }
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream
}

/// Asks for both, then reads; says how much of the first had come when the second was whole.
async fn race(
    connection: &quinn::Connection,
    world: &World,
    first: Option<&str>,
    second: Option<&str>,
) -> usize {
    let before = world.metric("requests_total", &[]);
    let paths = [1, 2].map(|seed| {
        let hash = reelmill_media::ids::BlobHash::of(&noise(LENGTH, seed));
        path_of(&hash, BlobKind::Segment)
    });
    let mut first = ask(connection, &paths[0], first).await;
    let mut second = ask(connection, &paths[1], second).await;
    world.until_metric("requests_total", &[], before + 2).await;
    let (mut of_first, mut of_second, mut mark) = (0, 0, None);
    let (mut first_open, mut second_open) = (true, true);
    while first_open || second_open {
        tokio::select! {
            chunk = first.read_chunk(usize::MAX, true), if first_open => match chunk.unwrap() {
                Some(chunk) => of_first += chunk.bytes.len(),
                None => first_open = false,
            },
            chunk = second.read_chunk(usize::MAX, true), if second_open => match chunk.unwrap() {
                Some(chunk) => of_second += chunk.bytes.len(),
                None => {
                    second_open = false;
                    mark = Some(of_first);
                }
            },
        }
    }
    assert!(of_first > LENGTH && of_second > LENGTH, "{of_first} {of_second}");
    mark.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_more_urgent_answer_comes_first() {
    let world = World::new();
    for seed in [1, 2] {
        world.store.put_blob(BlobKind::Segment, noise(LENGTH, seed)).await.unwrap();
    }
    let warm = connect(&world).await;
    let _control = control(&warm, &[]).await;
    race(&warm, &world, None, None).await;

    let by_field = connect(&world).await;
    let _control = control(&by_field, &[]).await;
    let mark = race(&by_field, &world, Some("u=7"), Some("u=0, i")).await;
    assert!(mark < LENGTH / 2, "{mark} bytes of the less urgent one came before the end of the urgent one");

    let equals = connect(&world).await;
    let _control = control(&equals, &[]).await;
    let mark = race(&equals, &world, Some("u=3"), None).await;
    println!("{mark} of {LENGTH} bytes of the first of two equals had come at the end of the second");

    // A frame counts for more than the field, also when it comes before its request.
    let by_frame = connect(&world).await;
    let _control = control(&by_frame, &[b"\x04u=7", b"\x08u=0"]).await;
    // With the answer to this one the frames are read.
    ask(&by_frame, "/player/icon.svg", None).await.read_to_end(100_000).await.unwrap();
    let mark = race(&by_frame, &world, Some("u=0"), Some("u=7")).await;
    assert!(mark < LENGTH / 2, "{mark} bytes of the less urgent one came before the end of the urgent one");
}

/// However many they are: QUIC's layer wakes those for which there was no room in the reverse order, and the first takes it all.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_equal_rank_share_the_connection() {
    const ANSWERS: usize = 5;
    let world = World::new();
    let connection = connect(&world).await;
    let mut answers = Vec::new();
    for seed in 1..=ANSWERS as u64 {
        let hash = world.store.put_blob(BlobKind::Segment, noise(LENGTH, seed)).await.unwrap();
        answers.push(ask(&connection, &path_of(&hash, BlobKind::Segment), None).await);
    }
    world.until_metric("fills_total", &[("outcome", "stored")], ANSWERS as u64).await;
    let mut read = [0; ANSWERS];
    'first: loop {
        let chunks = answers.iter_mut().zip(&mut read).map(|(answer, read)| {
            Box::pin(async move {
                let chunk = answer.read_chunk(usize::MAX, true).await.unwrap();
                *read += chunk.as_ref().map_or(0, |chunk| chunk.bytes.len());
                chunk.is_none()
            })
        });
        let (ended, _, _) = futures_util::future::select_all(chunks).await;
        if ended {
            break 'first;
        }
    }
    assert!(read.iter().all(|read| *read > LENGTH / 2), "{read:?} of {LENGTH} when the first ended");
}

/// RFC 9218 §4.1: who says nothing of urgency asks with 3, also where QUIC's layer has both answers in hand.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_be_less_urgent_than_usual_comes_later() {
    const LATER: usize = 1 << 20;
    const USUAL: usize = 300_000;
    let world = World::new();
    let relay = relay(world.addresses.listen).await;
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window((16u32 << 20).into());
    let client = quic_client_with(tls_client(&[&world.certificate()], b"h3"), transport);
    let connection = client.connect(relay.address, "edge.test").unwrap().await.unwrap();
    let [later, usual] = [(LATER, 1), (USUAL, 2)].map(|(length, seed)| noise(length, seed));
    let later = path_of(&world.store.put_blob(BlobKind::Segment, later).await.unwrap(), BlobKind::Segment);
    let usual = path_of(&world.store.put_blob(BlobKind::Segment, usual).await.unwrap(), BlobKind::Segment);
    relay.answers.send_replace(false);
    let mut later = ask(&connection, &later, Some("u=5")).await;
    world.until_metric("body_bytes_total", &[], LATER as u64).await;
    let mut usual = ask(&connection, &usual, None).await;
    world.until_metric("body_bytes_total", &[], (LATER + USUAL) as u64).await;
    relay.answers.send_replace(true);
    let mut of_later = 0;
    loop {
        tokio::select! {
            chunk = later.read_chunk(usize::MAX, true) => of_later += chunk.unwrap().map_or(0, |chunk| chunk.bytes.len()),
            chunk = usual.read_chunk(usize::MAX, true) => if chunk.unwrap().is_none() { break },
        }
    }
    assert!(
        of_later < LATER / 2,
        "{of_later} bytes of the less urgent one came before the end of the usual one"
    );
}
