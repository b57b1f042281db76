use super::*;

fn origins(entries: &[&str]) -> Origins {
    let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
    Origins::from_config(&entries, true, Vec::new()).expect("the entries are origins")
}

#[track_caller]
fn check(entries: &[&str], origin: &str, allowed: bool) {
    assert_eq!(origins(entries).allows(origin, None), allowed, "{origin}");
}

#[track_caller]
fn check_host(host: &str, origin: &str, allowed: bool) {
    assert_eq!(
        origins(&[]).allows(origin, Some(host)),
        allowed,
        "{origin} at {host}"
    );
}

#[test]
fn local_development_is_allowed_and_nothing_else() {
    for origin in BUILT_IN {
        check(&[], origin, true);
    }
    check(&[], "http://localhost:3003", false);
    check(&[], "https://localhost:3000", false);
    check(&[], "http://localhost", false);
    check(&[], "http://127.0.0.1:3000", false);
    check(&[], "https://subtronic-frontend.vercel.app", false);
    check(&[], "null", false);
    check(&[], "", false);
    check(&[], "*", false);
}

#[test]
fn an_exact_origin_is_compared_as_parsed() {
    let entries = [
        "https://App.Example.com",
        " http://10.0.0.5:8080 ",
        "https://x.example/",
        "",
    ];
    check(&entries, "https://app.example.com", true);
    check(&entries, "HTTPS://APP.EXAMPLE.COM", true);
    check(&entries, "https://app.example.com:443", true);
    check(&entries, "https://x.example", true);
    check(&entries, "http://10.0.0.5:8080", true);
    check(&entries, "http://app.example.com", false);
    check(&entries, "https://app.example.com:8443", false);
    check(&entries, "https://app.example.com.", false);
    check(&entries, "https://app.example.com/", false);
    check(&entries, "https://app.example.com/path", false);
    check(&entries, "https://app.example.com?x", false);
    check(&entries, "https://app.example.com#x", false);
    check(&entries, "https://app.example.community", false);
    check(&entries, "https://evil-app.example.com", false);
    check(&entries, "https://app.example.com@evil.example", false);
    check(&entries, "https://evil.example\\@app.example.com", false);
    check(&entries, "https://user:pass@app.example.com", false);
    check(&entries, " https://app.example.com", false);
    check(
        &entries,
        "https://app.example.com, https://evil.example",
        false,
    );
    check(&entries, "https:app.example.com", false);
    check(&entries, "ftp://app.example.com", false);
    check(&entries, "file://app.example.com", false);
}

#[test]
fn a_star_stands_for_exactly_one_label() {
    let entries = ["https://*.vercel.app"];
    check(&entries, "https://subtronic-frontend.vercel.app", true);
    check(&entries, "https://SUBTRONIC.Vercel.App", true);
    check(&entries, "https://vercel.app", false);
    check(&entries, "https://.vercel.app", false);
    check(&entries, "https://a.b.vercel.app", false);
    check(&entries, "https://evil-vercel.app", false);
    check(&entries, "https://evil-vercel.app.attacker.com", false);
    check(&entries, "https://vercel.app.evil.com", false);
    check(&entries, "https://x.vercel.app.evil.com", false);
    check(&entries, "https://x.vercel.app@evil.com", false);
    check(&entries, "https://evil.com#.vercel.app", false);
    check(&entries, "https://evil.com/.vercel.app", false);
    check(&entries, "https://evil.com%2F.vercel.app", false);
    check(&entries, "http://x.vercel.app", false);
    check(&entries, "https://x.vercel.app:8443", false);
    check(
        &["https://*.preview.example:8443"],
        "https://x.preview.example:8443",
        true,
    );
    check(
        &["https://*.preview.example:8443"],
        "https://x.preview.example",
        false,
    );
}

#[test]
fn the_servers_own_host_is_allowed() {
    check_host("gateway.example", "https://gateway.example", true);
    check_host("gateway.example:443", "https://gateway.example", true);
    check_host("Gateway.Example", "https://gateway.example", true);
    check_host("10.1.2.3:3002", "http://10.1.2.3:3002", true);
    check_host("[::1]:3002", "http://[::1]:3002", true);
    check_host("gateway.example:3002", "http://gateway.example", false);
    check_host("gateway.example", "http://gateway.example:3002", false);
    check_host("gateway.example", "https://evil.example", false);
    check_host("gateway.example", "null", false);
    check_host(
        "evil.example/@gateway.example",
        "https://evil.example",
        false,
    );
    check_host("", "https://evil.example", false);
    check_host("gateway.example", "app://gateway.example", false);
    check_host("gateway.example", "wss://gateway.example", false);
}

#[test]
fn configured_entries_that_are_no_origins_are_refused() {
    let entries = [
        "*",
        "https://*",
        "example.com",
        "https://*.10.0.0.1",
        "https://a.*.b",
        "https://a/b",
        "Null",
        "capacitor",
        "capacitor://",
        "capacitor://*",
        "capacitor://*.localhost",
        "capacitor://localhost/index.html",
        "capacitor://user@localhost",
        "capacitor://localhost:port",
        "capacitor://localhost:",
        "capacitor://:80",
        "capacitor://localhost:70000",
        "1app://localhost",
        "a b://localhost",
        "wss://dashboard.example",
        "data://x",
        "http://",
    ];
    for entry in entries {
        let error = Origins::from_config(&[entry.to_owned()], true, Vec::new()).expect_err(entry);
        assert!(
            error.to_string().starts_with(&format!("`{entry}` is not")),
            "{error}"
        );
    }
}

#[test]
fn the_rules_are_listed_as_they_are_applied() {
    let texts = origins(&["https://*.vercel.app", "HTTPS://App.example:8443/"]).to_texts();
    assert_eq!(texts[..6], BUILT_IN);
    assert_eq!(
        texts[6..],
        ["https://*.vercel.app", "https://app.example:8443"]
    );
}

#[test]
fn pages_of_an_allowed_host_are_allowed_with_any_port() {
    let hosts = HostRule::parse_all(&["gas.example".to_owned(), "*.internal.example".to_owned()]);
    let origins = Origins::from_config(&[], true, hosts.expect("hosts")).expect("origins");
    for (origin, allowed) in [
        ("https://gas.example", true),
        ("http://gas.example:8080", true),
        ("https://gw-1.internal.example", true),
        ("https://internal.example", false),
        ("https://evil-gas.example", false),
        // No page of a web server.
        ("app://gas.example", false),
        ("http://10.0.0.1", false),
    ] {
        assert_eq!(
            origins.allows(origin, Some("10.0.0.2")),
            allowed,
            "{origin}"
        );
    }
}

#[test]
fn the_hosts_of_the_origins_are_known() {
    let origins = origins(&["https://*.vercel.app", "https://app.example:8443"]);
    let hosts: Vec<String> = origins.hosts().map(|host| host.to_string()).collect();
    assert_eq!(hosts[6..], ["*.vercel.app", "app.example"]);
}

#[test]
fn origins_of_apps_are_listed_one_by_one() {
    let apps = [
        "capacitor://localhost",
        "ionic://localhost",
        "app://.",
        "APP://Dashboard/",
        "tauri://localhost:1430",
        "chrome-extension://abcdefghijklmnop",
        "file://",
    ];
    for (origin, allowed) in [
        ("capacitor://localhost", true),
        ("Capacitor://LOCALHOST", true),
        ("ionic://localhost", true),
        ("app://.", true),
        ("app://dashboard", true),
        ("tauri://localhost:1430", true),
        ("chrome-extension://abcdefghijklmnop", true),
        ("file://", true),
        ("capacitor://localhost:80", false),
        ("capacitor://localhost.evil.example", false),
        ("capacitor://evil", false),
        ("capacitor://", false),
        ("capacitor:localhost", false),
        ("capacitor://localhost/", false),
        ("capacitor://localhost/page", false),
        ("xcapacitor://localhost", false),
        ("app://..", false),
        ("app://dashboard.evil", false),
        ("tauri://localhost", false),
        ("tauri://localhost:14300", false),
        ("chrome-extension://ponmlkjihgfedcba", false),
        ("file:///home", false),
        ("file://evil.example", false),
        // Not those of web pages with the same host.
        ("https://localhost", false),
        ("http://localhost", false),
        ("http://dashboard", false),
        ("null", false),
    ] {
        check(&apps, origin, allowed);
        check(&[], origin, false);
    }
    // They name no host of ours.
    assert_eq!(origins(&apps).hosts().count(), BUILT_IN.len());
}

#[test]
fn null_is_allowed_only_if_it_is_listed() {
    check(&["null"], "null", true);
    for origin in [
        "NULL",
        "null ",
        "null://null",
        "",
        "https://null",
        "http://null",
    ] {
        check(&["null"], origin, false);
    }
    let names_null = ["https://null", "app://null", "https://*.null"];
    check(&names_null, "null", false);
    assert!(origins(&["null"]).allows_null() && !origins(&names_null).allows_null());
}

#[test]
fn the_origins_of_local_development_can_be_left_out() {
    let entries = ["https://app.example".to_owned(), BUILT_IN[2].to_owned()];
    let origins = Origins::from_config(&entries, false, Vec::new()).expect("origins");
    for origin in BUILT_IN {
        assert_eq!(
            origins.allows(origin, None),
            origin == BUILT_IN[2],
            "{origin}"
        );
    }
    assert!(origins.allows("https://app.example", None));
    assert_eq!(origins.to_texts(), entries);
    // A page that this gateway itself serves is still its own.
    assert!(origins.allows("http://localhost:3000", Some("localhost:3000")));
    let none = Origins::from_config(&[], false, Vec::new()).expect("none");
    assert!(none.to_texts().is_empty() && none.hosts().next().is_none());
}

#[test]
fn all_kinds_are_listed_as_they_are_applied() {
    let texts = origins(&["Capacitor://localhost/", "null", "file://"]).to_texts();
    assert_eq!(texts[6..], ["capacitor://localhost", "null", "file://"]);
}
