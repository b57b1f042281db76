//! `/api/dead-letters` on a Redis of its own. The letters are stored as ingest stores them.

use shared::store::DeadLetter;

use super::*;

async fn store(world: &World, letters: &[DeadLetter<'_>]) {
    let stored = world.store.dead_letter(letters, 10_000).await;
    stored.expect("Redis answers");
}

fn letter<'a>(reason: &'a str, payload: &'a [u8]) -> DeadLetter<'a> {
    DeadLetter {
        reason,
        detail: "expected value at line 1",
        topic: "SubTronics/data\u{202e}",
        payload,
        size: payload.len(),
    }
}

#[tokio::test]
async fn letters_come_newest_first_and_hostile_bytes_are_made_visible() {
    let world = World::start().await;
    let empty = world.get("/api/dead-letters").await;
    assert_eq!(empty, json!({"success": true, "count": 0, "entries": []}));
    let long = vec![b'x'; 70_000];
    store(
        &world,
        &[
            letter("not_json", b"\x1b[2J<script>"),
            letter("not_utf8", &[0xff, 0xfe]),
            letter("too_large", &long),
        ],
    )
    .await;
    let answer = world.get("/api/dead-letters").await;
    check_schema("DeadLetters", &answer);
    assert_eq!(answer["count"], 3);
    let [large, binary, text] = [0, 1, 2].map(|index| &answer["entries"][index]);
    for entry in [large, binary, text] {
        check_schema("DeadLetter", entry);
        assert_eq!(entry["topic"], r"SubTronics/data\u202e");
        assert_eq!(entry["detail"], "expected value at line 1");
        let at = entry["at"].as_str().expect("a time");
        assert!(Time::from_iso(at).is_some(), "{at}");
    }
    assert_eq!(text["payload"], r"\u001b[2J<script>");
    assert_eq!((&text["size"], &text["cut"]), (&json!(12), &json!(false)));
    assert_eq!(binary["payload_base64"], "//4=");
    assert!(binary.get("payload").is_none(), "{binary}");
    assert_eq!(large["payload"].as_str().map(str::len), Some(16 * 1024));
    assert_eq!(
        (&large["size"], &large["cut"]),
        (&json!(70_000), &json!(true))
    );
}

#[tokio::test]
async fn pages_have_every_letter_of_a_reason_once() {
    let world = World::start().await;
    let payloads: Vec<String> = (0..130).map(|number| number.to_string()).collect();
    let letters: Vec<_> = payloads
        .iter()
        .enumerate()
        .map(|(number, payload)| {
            let reason = ["not_json", "bad_serial"][number % 2];
            letter(reason, payload.as_bytes())
        })
        .collect();
    store(&world, &letters).await;
    for (query, per_page, expected) in [
        ("", 50, (0..130).rev().collect::<Vec<_>>()),
        ("&limit=200", 200, (0..130).rev().collect()),
        (
            "&limit=7&reason=not_json",
            7,
            (0..130).rev().filter(|number| number % 2 == 0).collect(),
        ),
        ("&limit=1000&reason=unheard_of", 0, Vec::new()),
    ] {
        let (mut found, mut before) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/dead-letters?x=1{query}{before}");
            let page = world.get(&path).await;
            let entries = page["entries"].as_array().expect("entries");
            assert!(entries.len() <= per_page, "{path}");
            found.extend(entries.iter().map(|entry| {
                let payload = entry["payload"].as_str().expect("a text");
                payload.parse::<i32>().expect("a number")
            }));
            match page["next"].as_str() {
                Some(next) => before = format!("&before={next}"),
                None => break,
            }
        }
        assert_eq!(found, expected, "{query}");
    }
}

/// A search for a reason that few letters have reads a bounded number of them, and leads on.
#[tokio::test]
async fn a_rare_reason_is_found_behind_many_other_letters() {
    let world = World::start().await;
    store(&world, &[letter("bad_serial", b"the one")]).await;
    let others = vec![letter("not_json", b"x"); 1_000];
    store(&world, &others).await;
    let path = "/api/dead-letters?reason=bad_serial";
    let first = world.get(path).await;
    assert_eq!(first["count"], 0);
    let next = first["next"].as_str().expect("a place to go on from");
    let second = world.get(&format!("{path}&before={next}")).await;
    assert_eq!(second["entries"][0]["payload"], "the one");
    assert!(second.get("next").is_none(), "{second}");
}

#[tokio::test]
async fn what_is_no_place_is_refused_and_a_key_that_is_no_stream_has_no_letters() {
    let world = World::start().await;
    for before in ["x", "1", "-", "1-x", "(1-1", "999999999999999999999-1"] {
        let (status, error) = world
            .error(&format!("GET /api/dead-letters?before={before}"))
            .await;
        assert_eq!(status, 400, "{before}");
        assert!(error.contains("`before`"), "{error}");
    }
    redis_cli(&world.redis, &["SET", "st:dead-letters", "x"]);
    assert_eq!(world.get("/api/dead-letters").await["count"], 0);
}
