use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const IMAGE: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\"/>";

fn plan() -> Value {
    json!({
        "id": "hall-1", "name": "Hall 1", "site": "Pune", "image": "hall1.svg",
        "south": 18.5, "west": 73.8, "north": 18.51, "east": 73.81,
    })
}

/// A folder with this list, and an image of each type.
fn folder(list: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in [
        (LIST, list.as_bytes()),
        ("hall1.svg", IMAGE.as_bytes()),
        ("yard.png", b"\x89PNG\r\n\x1a\n...."),
        ("yard.JPG", b"\xff\xd8\xff\xe0"),
        ("yard.webp", b"RIFF\0\0\0\0WEBPVP8 "),
        ("wrong.png", b"<html>"),
    ] {
        fs::write(folder.path().join(name), bytes).expect("a file");
    }
    folder
}

fn read(list: &Value) -> Result<SitePlans, String> {
    SitePlans::read(folder(&list.to_string()).path())
}

#[track_caller]
fn check_problem(list: &Value, expected: &str) {
    let problem = read(list).expect_err("a problem");
    assert!(problem.starts_with("--site-plans: "), "{problem}");
    assert!(problem.contains(expected), "{problem}");
}

/// A list with one plan that differs in this field; `null` removes it.
fn with(field: &str, value: Value) -> Value {
    let mut plan = plan();
    if value.is_null() {
        plan.as_object_mut().expect("a plan").remove(field);
    } else {
        plan[field] = value;
    }
    json!([plan])
}

#[test]
fn plans_are_read_in_the_order_of_the_list() {
    let mut yard = with("site", Value::Null)[0].take();
    let mut list = vec![plan()];
    for (id, image) in [("b", "yard.png"), ("a", "yard.JPG"), ("c", "yard.webp")] {
        yard["id"] = json!(id);
        yard["image"] = json!(image);
        list.push(yard.clone());
    }
    let plans = read(&json!(list)).expect("four plans");
    assert_eq!(format!("{plans:?}"), r#"["hall-1", "b", "a", "c"]"#);
    let first = plans.iter().next().expect("a plan");
    assert_eq!(first.site.as_deref(), Some("Pune"));
    assert_eq!(first.edges.south.to_string(), "18.5");
    assert!(plans.iter().skip(1).all(|plan| plan.site.is_none()));
    assert_eq!(read(&json!([])).expect("none").iter().count(), 0);
}

#[test]
fn whatever_is_wrong_with_a_plan_is_said() {
    for id in ["", "hall 1", "../x", "Hälle", &"x".repeat(65)] {
        check_problem(&with("id", json!(id)), "`id` must have");
    }
    check_problem(&json!([plan(), plan()]), "`hall-1`: this id is there twice");
    check_problem(&with("name", json!(" ")), "`name` must have");
    check_problem(&with("name", json!("a\u{202e}b")), "`name` must have");
    check_problem(&with("site", json!("x".repeat(65))), "`site` must have");
    check_problem(&with("north", json!(18.5)), "`south` must be below");
    check_problem(&with("south", json!(-90.5)), "`south` must be below");
    check_problem(&with("east", json!(73.7)), "`west` must be below");
    check_problem(&with("east", json!(180.001)), "`west` must be below");
    check_problem(&with("south", json!("18.5")), "not a readable number");
    check_problem(&with("east", Value::Null), "missing field `east`");
    check_problem(&with("nort", json!(1)), "unknown field `nort`");
    check_problem(&json!({"plans": []}), "invalid type");
    let many: Vec<Value> = (0..=MAX_PLANS)
        .map(|number| with("id", json!(format!("p{number}")))[0].take())
        .collect();
    check_problem(&json!(many), "more than 50 plans");
}

#[test]
fn an_image_is_a_file_of_the_folder_and_what_its_name_says() {
    for name in [
        "../secret.svg",
        "/etc/passwd",
        ".hidden.svg",
        "a\\b.svg",
        "..",
        "",
    ] {
        check_problem(&with("image", json!(name)), "the name of a file beside");
    }
    check_problem(
        &with("image", json!("plans.json")),
        "must be an svg, png, jpg or webp",
    );
    check_problem(&with("image", json!("none.svg")), "none.svg`: ");
    check_problem(&with("image", json!("wrong.png")), "it is no png");
}

#[test]
fn what_is_too_large_is_refused() {
    let folder = folder(&json!([plan()]).to_string());
    let grow = |name: &str, bytes: u64| {
        let file = File::options().write(true).open(folder.path().join(name));
        file.expect("a file").set_len(bytes).expect("a sparse file");
    };
    grow("hall1.svg", MAX_IMAGE_BYTES + 1);
    let problem = SitePlans::read(folder.path()).expect_err("too large");
    assert!(problem.contains("more than 5120 KiB"), "{problem}");
    grow("plans.json", MAX_LIST_BYTES + 1);
    let problem = SitePlans::read(folder.path()).expect_err("too large");
    assert!(problem.contains("more than 256 KiB"), "{problem}");
}

#[test]
fn all_images_together_are_bounded() {
    let list: Vec<Value> = (0..7)
        .map(|number| {
            let mut plan = with("id", json!(format!("p{number}")))[0].take();
            plan["image"] = json!("yard.png");
            plan
        })
        .collect();
    let folder = folder(&json!(list).to_string());
    let image = File::options()
        .write(true)
        .open(folder.path().join("yard.png"));
    image
        .expect("a file")
        .set_len(MAX_IMAGE_BYTES)
        .expect("a sparse file");
    let problem = SitePlans::read(folder.path()).expect_err("too much");
    assert!(
        problem.contains("all images have more than 32 MiB"),
        "{problem}"
    );
}

#[test]
fn a_folder_without_a_list_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for path in [folder.path().to_owned(), PathBuf::from("/nowhere/at/all")] {
        let problem = SitePlans::read(&path).expect_err("nothing is there");
        assert!(problem.starts_with("--site-plans: `"), "{problem}");
        assert!(problem.contains("plans.json"), "{problem}");
    }
    fs::create_dir(folder.path().join(LIST)).expect("a folder");
    let problem = SitePlans::read(folder.path()).expect_err("no file");
    assert!(problem.contains("this is no file"), "{problem}");
}
