use super::*;

fn sender(public_url: &str, headers: &[(&'static str, &str)]) -> Sender {
    let own = OwnPages::new(&public_url.parse().expect("a URL"));
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().expect("a value"));
    }
    own.sender(&map)
}

#[test]
fn only_pages_of_this_service_are_our_own() {
    use Sender::{Foreign, Own, Unknown};
    const HOST: (&str, &str) = ("host", "gas.example.com");
    const FETCH: &str = "sec-fetch-site";
    for (headers, expected) in [
        (&[HOST][..], Unknown),
        (&[HOST, (FETCH, "none")], Unknown),
        (&[HOST, (FETCH, "same-origin")], Own),
        (&[HOST, (FETCH, "same-site")], Foreign),
        (&[HOST, (FETCH, "cross-site")], Foreign),
        (&[HOST, (FETCH, "unknown")], Foreign),
        (&[HOST, ("origin", "https://gas.example.com")], Own),
        (&[HOST, ("origin", "https://gas.example.com:443")], Own),
        // A proxy in front may name another host.
        (
            &[
                ("host", "gateway:3002"),
                ("origin", "https://gas.example.com"),
            ],
            Own,
        ),
        (
            &[
                ("host", "other.example.com"),
                ("origin", "https://other.example.com"),
            ],
            Own,
        ),
        (&[HOST, ("origin", "http://gas.example.com")], Foreign),
        (&[HOST, ("origin", "https://gas.example.com:8443")], Foreign),
        (&[HOST, ("origin", "https://evil.example.com")], Foreign),
        (
            &[HOST, ("origin", "https://gas.example.com.evil.example")],
            Foreign,
        ),
        (&[HOST, ("origin", "capacitor://localhost")], Foreign),
        (&[HOST, ("origin", "null")], Foreign),
        (&[HOST, ("origin", "")], Foreign),
        (
            &[
                HOST,
                ("origin", "https://gas.example.com"),
                (FETCH, "cross-site"),
            ],
            Foreign,
        ),
        (
            &[
                HOST,
                ("origin", "https://evil.example.com"),
                (FETCH, "same-origin"),
            ],
            Foreign,
        ),
        (
            &[
                HOST,
                ("origin", "https://gas.example.com"),
                ("origin", "https://gas.example.com"),
            ],
            Foreign,
        ),
        (&[("origin", "https://evil.example.com")], Foreign),
    ] {
        assert_eq!(
            sender("https://gas.example.com", headers),
            expected,
            "{headers:?}"
        );
    }
    let local = [
        ("host", "127.0.0.1:3003"),
        ("origin", "http://127.0.0.1:3003"),
    ];
    assert_eq!(sender("http://127.0.0.1:3002", &local), Own);
    let other_port = [
        ("host", "127.0.0.1:3003"),
        ("origin", "http://127.0.0.1:3004"),
    ];
    assert_eq!(sender("http://127.0.0.1:3002", &other_port), Foreign);
}
