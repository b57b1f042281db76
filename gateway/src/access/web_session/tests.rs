use std::io::Write as _;

use super::*;

const NOW: Time = Time::from_millis(1_000_000);
const HOUR: Duration = Duration::from_hours(1);

fn sessions(public_url: &str, secret: u8) -> WebSessions {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&[secret; 32]).expect("written");
    let secret = SealSecret::read(file.path()).expect("a secret");
    WebSessions::new(&secret, &public_url.parse().expect("a URL"), HOUR)
}

fn ada(devices: &[&str]) -> Identity {
    let facts = TokenFacts {
        id: Some("of the ID token".into()),
        subject: "user-1".into(),
        name: Some("Ada Example".into()),
        expires: NOW,
    };
    let devices = devices.iter().filter_map(|text| DevicePattern::parse(text));
    Identity::of_token(
        facts,
        Permission::new(vec![Verb::Read, Verb::Ack], devices.collect()),
    )
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().expect("a value"));
    }
    headers
}

/// Returns the cookie as a browser sends it.
fn cookie(sessions: &WebSessions) -> String {
    let (identity, kept) = sessions
        .begin(&ada(&["OTSM-01*"]), NOW)
        .expect("short enough");
    assert_eq!(
        identity,
        *sessions
            .of_head(&headers(&[("cookie", pair(&kept))]))
            .expect("the session"),
        "who has it is who its requests come from"
    );
    pair(&kept).to_owned()
}

fn pair(kept: &HeaderValue) -> &str {
    let kept = kept.to_str().expect("text");
    kept.split(';').next().expect("a pair")
}

const OWN: (&str, &str) = ("origin", "https://gas.test");
const FOREIGN: (&str, &str) = ("origin", "https://evil.test");

#[test]
fn every_replica_knows_who_has_signed_in() {
    let one = sessions("https://gas.test", 1);
    let cookie = cookie(&one);
    let request = headers(&[("cookie", &format!("theme=dark; {cookie}; other=1"))]);
    let identity = sessions("https://gas.test", 1)
        .of_head(&request)
        .expect("a session");
    assert_eq!(identity.subject(), Some("user-1"));
    assert_eq!(identity.shown_name(), Some("Ada Example"));
    assert_eq!(identity.expires(), Some(NOW + HOUR));
    assert!(identity.permission().allows(Verb::Ack, "OTSM-0114"));
    assert!(!identity.permission().allows(Verb::Read, "OTSM-0200"));
    assert!(!identity.permission().has(Verb::Operate));
    // The cookie is not that of the ID token, and no two are the same.
    assert_ne!(identity.web_session(), Some("of the ID token"));
    assert!(sessions("https://gas.test", 2).of_head(&request).is_none());
    let local = sessions("http://localhost:3002", 1);
    assert!(local.of_head(&request).is_none(), "another name");
}

#[test]
fn a_browser_keeps_the_cookie_from_pages_and_other_hosts() {
    let kept = |public_url| {
        let sessions = sessions(public_url, 1);
        let (_, kept) = sessions.begin(&ada(&["*"]), NOW).expect("short enough");
        kept.to_str().expect("text").to_owned()
    };
    let secure = kept("https://gas.test");
    assert!(secure.starts_with("__Host-gateway-session="), "{secure}");
    let attributes = "; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure";
    assert!(secure.ends_with(attributes), "{secure}");
    let local = kept("http://127.0.0.1:3002");
    assert!(local.starts_with("gateway-session="), "{local}");
    assert!(local.ends_with("; HttpOnly; SameSite=Lax"), "{local}");
    let end = sessions("https://gas.test", 1).end().expect("a value");
    let end = end.to_str().expect("text");
    assert!(
        end.starts_with("__Host-gateway-session=; Path=/; Max-Age=0;"),
        "{end}"
    );
}

#[test]
fn a_session_counts_only_for_pages_of_this_service() {
    let sessions = sessions("https://gas.test", 1);
    let cookie = cookie(&sessions);
    for (header, counts) in [
        (OWN, true),
        (("sec-fetch-site", "none"), true),
        (("sec-fetch-site", "same-origin"), true),
        (FOREIGN, false),
        (("origin", "null"), false),
        (("sec-fetch-site", "same-site"), false),
    ] {
        let request = headers(&[("host", "gas.test"), ("cookie", &cookie), header]);
        assert_eq!(sessions.of_head(&request).is_some(), counts, "{header:?}");
    }
}

#[test]
fn what_changes_something_needs_the_text_that_only_our_pages_know() {
    let sessions = sessions("https://gas.test", 1);
    let session_of = |cookie: &str| {
        let identity = sessions.of_head(&headers(&[("cookie", cookie)]));
        identity.expect("a session")
    };
    let (ours, other) = (
        session_of(&cookie(&sessions)),
        session_of(&cookie(&sessions)),
    );
    let token = sessions.csrf_token(&ours).expect("a token");
    let of_other = sessions.csrf_token(&other).expect("a token");
    let id = ours.web_session().expect("an id");
    let host = ("host", "gas.test");
    for (sent, is_ours) in [
        (&[host, OWN, (CSRF_HEADER, token.as_str())][..], true),
        (
            &[
                host,
                ("sec-fetch-site", "same-origin"),
                (CSRF_HEADER, &token),
            ],
            true,
        ),
        // Nothing says that it comes from our page.
        (&[host, (CSRF_HEADER, &token)], false),
        (
            &[host, ("sec-fetch-site", "none"), (CSRF_HEADER, &token)],
            false,
        ),
        (&[host, FOREIGN, (CSRF_HEADER, &token)], false),
        (&[host, OWN], false),
        (&[host, OWN, (CSRF_HEADER, "")], false),
        (&[host, OWN, (CSRF_HEADER, &of_other)], false),
        (
            &[host, OWN, (CSRF_HEADER, &token[..token.len() - 1])],
            false,
        ),
        (&[host, OWN, (CSRF_HEADER, id)], false),
    ] {
        assert_eq!(
            sessions.is_of_own_page(&headers(sent), id),
            is_ours,
            "{sent:?}"
        );
    }
    assert_eq!(
        sessions.csrf_token(&ada(&["*"])),
        None,
        "the holder of a token"
    );
}

#[test]
fn permissions_that_do_not_fit_are_refused() {
    let sessions = sessions("https://gas.test", 1);
    let devices: Vec<String> = (0..100).map(|number| format!("{number:0>64}")).collect();
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    assert!(sessions.begin(&ada(&devices[..30]), NOW).is_ok());
    assert_eq!(sessions.begin(&ada(&devices), NOW).err(), Some(TooLong));
}
