use std::fs;
use std::io::Read;
use std::path::Path;

use axum::body::{Body, to_bytes};
use axum::http::Request as HttpRequest;
use flate2::read::GzDecoder;
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;

const PAGE: &str = "<!doctype html><title>Gas</title>";

/// A folder as a build makes it, beside a secret.
fn built() -> TempDir {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join("built");
    fs::create_dir_all(folder.join("assets")).expect("a folder");
    let write = |path: &str, text: &str| fs::write(folder.join(path), text).expect("a file");
    write("index.html", PAGE);
    write("favicon.svg", "<svg/>");
    write("assets/app-1a2b.js", &"let a = 1;\n".repeat(500));
    write("assets/app-1a2b.css", "a{}");
    write(".hidden", "secret");
    fs::write(outer.path().join("secret"), "secret").expect("a file");
    outer
}

fn files(outer: &TempDir) -> Arc<DashboardFiles> {
    Arc::new(DashboardFiles::read(&outer.path().join("built")).expect("the files"))
}

async fn ask(path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = HttpRequest::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a request");
    let router: Router = router(files(&built()));
    let answer = router.oneshot(request).await;
    answer.expect("infallible")
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().expect("text"))
}

async fn bytes_of(response: Response) -> Vec<u8> {
    let body = to_bytes(response.into_body(), usize::MAX).await;
    body.expect("a body").to_vec()
}

#[tokio::test]
async fn the_root_leads_to_the_pages_with_its_query() {
    let response = ask("/?kiosk=1", &[]).await;
    assert_eq!(response.status(), 307);
    assert_eq!(header(&response, "location"), "/ui/?kiosk=1");
    assert_eq!(header(&ask("/", &[]).await, "location"), "/ui/");
}

#[tokio::test]
async fn each_page_is_the_index_and_is_asked_for_again() {
    for path in [
        "/ui",
        "/ui/alarms",
        "/ui/devices/OTSM-0001.x",
        "/ui/index.html",
    ] {
        let response = ask(path, &[]).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(
            header(&response, "content-type"),
            "text/html; charset=utf-8"
        );
        assert_eq!(header(&response, "cache-control"), "no-cache");
        assert_eq!(header(&response, "content-security-policy"), POLICY);
        assert_eq!(header(&response, "x-content-type-options"), "nosniff");
        assert_eq!(bytes_of(response).await, PAGE.as_bytes(), "{path}");
    }
}

#[tokio::test]
async fn a_file_with_a_hash_in_its_name_is_kept_for_ever() {
    let response = ask("/ui/assets/app-1a2b.css", &[]).await;
    assert_eq!(header(&response, "content-type"), "text/css; charset=utf-8");
    assert!(header(&response, "cache-control").ends_with("immutable"));
    let unknown = ask("/ui/assets/app-0000.js", &[]).await;
    assert_eq!(unknown.status(), 404);
    assert_eq!(header(&unknown, "cache-control"), "");
}

#[tokio::test]
async fn a_long_text_is_sent_in_gzip_to_those_who_accept_it() {
    let path = "/ui/assets/app-1a2b.js";
    let response = ask(path, &[("accept-encoding", "br, gzip")]).await;
    assert_eq!(header(&response, "content-encoding"), "gzip");
    assert_eq!(header(&response, "vary"), "Accept-Encoding");
    let tag = header(&response, "etag").to_owned();
    let mut text = String::new();
    let bytes = bytes_of(response).await;
    GzDecoder::new(bytes.as_slice())
        .read_to_string(&mut text)
        .expect("gzip");
    let plain = ask(path, &[]).await;
    assert_eq!(header(&plain, "content-encoding"), "");
    assert_ne!(header(&plain, "etag"), tag);
    assert_eq!(bytes_of(plain).await, text.as_bytes());
}

#[tokio::test]
async fn a_page_shows_images_that_it_has_fetched_and_runs_nothing_else() {
    let response = ask("/ui", &[]).await;
    let policy = header(&response, "content-security-policy");
    assert!(
        policy.starts_with("default-src 'self'; img-src 'self' blob:; "),
        "{policy}"
    );
    assert!(
        !policy.contains("unsafe") && !policy.contains("script-src"),
        "{policy}"
    );
}

#[tokio::test]
async fn what_the_browser_has_is_not_sent_again() {
    let tag = header(&ask("/ui", &[]).await, "etag").to_owned();
    assert_eq!(tag, header(&ask("/ui/fleet", &[]).await, "etag"));
    let tags = format!("\"other\", {tag}");
    let response = ask("/ui/fleet", &[("if-none-match", &tags)]).await;
    assert_eq!(response.status(), 304);
    assert_eq!(header(&response, "etag"), tag);
    assert!(bytes_of(response).await.is_empty());
}

#[tokio::test]
async fn no_path_leads_out_of_the_folder() {
    for path in [
        "/ui/../secret",
        "/ui/assets/../../secret",
        "/ui/%2e%2e/secret",
        "/ui/..%2fsecret",
        "/ui/assets/..%2f..%2fsecret",
        "/ui//etc/passwd",
        "/ui/.hidden",
    ] {
        let response = ask(path, &[]).await;
        let is_refused = response.status() == 404;
        let bytes = bytes_of(response).await;
        assert!(is_refused || bytes == PAGE.as_bytes(), "{path}");
    }
}

#[test]
fn a_folder_without_a_page_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let problem = DashboardFiles::read(folder.path()).expect_err("nothing is there");
    assert!(problem.contains("has no index.html"), "{problem}");
    let problem = DashboardFiles::read(Path::new("/nowhere/at/all")).expect_err("no folder");
    assert!(problem.starts_with("--dashboard-dir: "), "{problem}");
}

#[test]
fn a_folder_with_too_much_is_refused_before_it_is_read() {
    let outer = built();
    let file = fs::File::create(outer.path().join("built/large.bin")).expect("a file");
    file.set_len(17 * 1024 * 1024).expect("a sparse file");
    let problem = DashboardFiles::read(&outer.path().join("built")).expect_err("too large");
    assert!(problem.contains("16 MiB"), "{problem}");
}
