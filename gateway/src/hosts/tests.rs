use super::*;

fn rules(entries: &[&str]) -> Vec<HostRule> {
    let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
    HostRule::parse_all(&entries).expect("the entries are hosts")
}

#[track_caller]
fn check(entries: &[&str], host: &str, allowed: bool) {
    let hosts = Hosts::new(std::iter::empty(), &rules(entries));
    let named = NamedHost::parse(host);
    let found = named.is_some_and(|named| hosts.allow(&named));
    assert_eq!(found, allowed, "{host}");
}

#[test]
fn only_listed_names_pass_and_addresses_always_do() {
    let entries = ["Gas.Example", " *.internal.example ", ""];
    for host in [
        "localhost",
        "LOCALHOST:3002",
        "gas.example",
        "GAS.EXAMPLE:8443",
        "gw-1.internal.example",
        "127.0.0.1",
        "10.1.2.3:3002",
        "[::1]:3002",
        "[2001:db8::1]",
    ] {
        check(&entries, host, true);
    }
    for host in [
        "",
        "evil.example",
        "gas.example.",
        "gas.example.evil.test",
        "evil-gas.example",
        "internal.example",
        "a.b.internal.example",
        ".internal.example",
        "localhost.evil.test",
        "evil.example@gas.example",
        "gas.example/x",
        "gas.example, evil.example",
        "gas.example evil.example",
        "10.1.2.3.evil.example",
        "gas.example:port",
    ] {
        check(&entries, host, false);
    }
}

#[test]
fn entries_that_are_no_hosts_are_refused() {
    for entry in [
        "*",
        "https://gas.example",
        "gas.example:443",
        "a.*.b",
        "*.10.0.0.1",
        "a/b",
    ] {
        let error = HostRule::parse_all(&[entry.to_owned()]).expect_err(entry);
        let text = error.to_string();
        assert!(text.starts_with(&format!("`{entry}` is not")), "{text}");
    }
    let texts = rules(&["*.Example.com", "10.0.0.1", "[::1]"]);
    let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["*.example.com", "10.0.0.1", "[::1]"]);
}
