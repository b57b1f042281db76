use super::*;

#[track_caller]
fn check(peer: &str, headers: &[(&'static str, &str)], expected: &str) {
    check_with(ForwardedHeader::Any, peer, headers, expected);
}

#[track_caller]
fn check_with(
    header: ForwardedHeader,
    peer: &str,
    headers: &[(&'static str, &str)],
    expected: &str,
) {
    let trusted = ["10.0.0.0/8".to_owned(), "2001:db8:1::/48".to_owned()];
    let trusted = TrustedProxies::parse(&trusted, header).expect("networks");
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().expect("a value"));
    }
    let found = trusted.client(peer.parse().expect("an address"), &map);
    assert_eq!(found.to_string(), expected, "{peer} {headers:?}");
}

#[test]
fn only_a_trusted_proxy_tells_the_address_of_the_client() {
    let told = ("x-forwarded-for", "203.0.113.9");
    check("192.0.2.1", &[], "192.0.2.1");
    check("192.0.2.1", &[told], "192.0.2.1");
    check(
        "192.0.2.1",
        &[("forwarded", "for=203.0.113.9")],
        "192.0.2.1",
    );
    check("10.1.2.3", &[told], "203.0.113.9");
    check("::ffff:10.1.2.3", &[told], "203.0.113.9");
    check("10.1.2.3", &[], "10.1.2.3");
    check("2001:db8:1::5", &[told], "203.0.113.9");
    check("2001:db8:2::5", &[told], "2001:db8:2::");
}

#[test]
fn what_stands_before_the_first_stranger_is_not_believed() {
    let name = "x-forwarded-for";
    check(
        "10.1.2.3",
        &[(name, "198.51.100.1, 203.0.113.9")],
        "203.0.113.9",
    );
    check(
        "10.1.2.3",
        &[(name, "198.51.100.1, 203.0.113.9, 10.9.9.9")],
        "203.0.113.9",
    );
    check(
        "10.1.2.3",
        &[(name, "198.51.100.1"), (name, "203.0.113.9")],
        "203.0.113.9",
    );
    check("10.1.2.3", &[(name, "10.7.7.7, 10.9.9.9")], "10.7.7.7");
    check("10.1.2.3", &[(name, "203.0.113.9, unknown")], "10.1.2.3");
    check(
        "10.1.2.3",
        &[(name, "203.0.113.9, unknown, 10.9.9.9")],
        "10.9.9.9",
    );
    check("10.1.2.3", &[(name, "")], "10.1.2.3");
}

#[test]
fn both_headers_are_read_in_every_form() {
    check(
        "10.1.2.3",
        &[("x-forwarded-for", "203.0.113.9:4711")],
        "203.0.113.9",
    );
    check(
        "10.1.2.3",
        &[("x-forwarded-for", "[2001:db8:5::7]:4711")],
        "2001:db8:5::",
    );
    let forwarded =
        |value: &str, expected: &str| check("10.1.2.3", &[("forwarded", value)], expected);
    forwarded("for=203.0.113.9;proto=https", "203.0.113.9");
    forwarded("proto=https; For=\"203.0.113.9:4711\"", "203.0.113.9");
    forwarded(
        "for=198.51.100.1, for=\"[2001:db8:5::7]:4711\"",
        "2001:db8:5::",
    );
    forwarded("for=_hidden", "10.1.2.3");
    forwarded("proto=https", "10.1.2.3");
    let agree = [
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9"),
    ];
    check("10.1.2.3", &agree, "203.0.113.9");
    // The proxy writes one of them. The client sent the other.
    let invented = [
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=198.51.100.1"),
    ];
    check("10.1.2.3", &invented, "10.1.2.3");
}

#[test]
fn where_it_is_known_which_header_the_proxy_writes_the_other_one_does_not_count() {
    let by_proxy = "203.0.113.9";
    let by_client = "198.51.100.1";
    for (header, of_proxy, of_client) in [
        (
            ForwardedHeader::XForwardedFor,
            ("x-forwarded-for", by_proxy),
            ("forwarded", "for=198.51.100.1"),
        ),
        (
            ForwardedHeader::Forwarded,
            ("forwarded", "for=203.0.113.9"),
            ("x-forwarded-for", by_client),
        ),
    ] {
        check_with(header, "10.1.2.3", &[of_proxy], by_proxy);
        check_with(header, "10.1.2.3", &[of_client, of_proxy], by_proxy);
        // Without its header, the client is the proxy.
        check_with(header, "10.1.2.3", &[of_client], "10.1.2.3");
        check_with(header, "192.0.2.1", &[of_proxy], "192.0.2.1");
    }
}

#[test]
fn entries_that_are_no_networks_are_refused() {
    for entry in [
        "proxy.example",
        "10.0.0.0/33",
        "10.0.0.0/",
        "::/129",
        "10.0.0.0/-1",
        "10.0.0",
    ] {
        let error =
            TrustedProxies::parse(&[entry.to_owned()], ForwardedHeader::Any).expect_err(entry);
        assert!(error.to_string().starts_with(&format!("`{entry}` is not")));
    }
    let all = TrustedProxies::parse(
        &["0.0.0.0/0".to_owned(), " ".to_owned()],
        ForwardedHeader::Any,
    )
    .expect("networks");
    assert!(all.contains("192.0.2.1".parse().expect("an address")));
    assert!(!all.contains("2001:db8::1".parse().expect("an address")));
    let every =
        TrustedProxies::parse(&["::/0".to_owned()], ForwardedHeader::Any).expect("networks");
    assert!(every.contains("2001:db8::1".parse().expect("an address")));
}
