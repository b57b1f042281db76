//! `/api/site-plans`, as the folder of the demo has them.

use super::document::check_schema;
use super::*;

const FOLDER: &str = concat!(
    "--site-plans=",
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/site-plans"
);

async fn ask(router: &Router, line: &str, headers: &[(&'static str, &str)]) -> Response {
    let asked = headers.iter().fold(request(line), |asked, (name, value)| {
        with(asked, name, value)
    });
    send(router, asked).await
}

#[tokio::test]
async fn the_plans_are_listed_and_their_images_sent_without_a_way_to_run_them() {
    let router = without_redis(&[FOLDER, "--allow-anonymous=read"]);
    let response = ask(&router, "GET /api/site-plans", &[]).await;
    assert_eq!(header(&response, "age"), None);
    let list: Value = serde_json::from_str(&text_of(response).await).expect("JSON");
    check_schema("SitePlans", &list);
    assert_eq!(list["count"], 1);
    let plan = &list["plans"][0];
    check_schema("SitePlan", plan);
    let line = format!("GET {}", plan["url"].as_str().expect("a path"));
    let response = ask(&router, &line, &[]).await;
    assert_eq!(response.status(), 200);
    let expected = [
        ("content-type", "image/svg+xml"),
        (
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; sandbox; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "private, no-cache"),
    ];
    for (name, value) in expected {
        assert_eq!(header(&response, name), Some(value), "{name}");
    }
    let tag = header(&response, "etag").expect("a tag").to_owned();
    assert!(text_of(response).await.contains("<svg"));
    for tag in [tag.clone(), format!("W/{tag}")] {
        let known = ask(&router, &line, &[("if-none-match", &tag)]).await;
        assert_eq!(known.status(), 304, "{tag}");
        assert_eq!(header(&known, "x-content-type-options"), Some("nosniff"));
    }
    for path in [
        "/api/site-plans/other/image",
        "/api/site-plans/..%2fplans.json/image",
    ] {
        let error = error_of(ask(&router, &format!("GET {path}"), &[]).await).await;
        assert_eq!(error, (404, "Site plan not found".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn without_a_folder_there_are_no_plans() {
    let router = without_redis(&["--allow-anonymous=read"]);
    let response = ask(&router, "GET /api/site-plans", &[]).await;
    let text = text_of(response).await;
    assert_eq!(text, r#"{"success":true,"count":0,"plans":[]}"#);
}
